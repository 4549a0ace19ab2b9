"""Which flavour each resource of a workload gets, and what that takes: nothing, borrowing, or preemption.

Kueue's flavour assigner: the flavours of a resource group are tried in their order; taints and node affinity rule some
out, quota decides about the rest, and `flavorFungibility` when to stop looking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from atoll.base import quantity
from atoll.capacity.queueing.model import (
    NEVER,
    Amounts,
    ClusterQueue,
    Flavor,
    FlavorResource,
    Fungibility,
    PodSet,
    PodSetAssignment,
    ResourceGroup,
    Shape,
    usage_of,
)  # fmt: skip
from atoll.capacity.queueing.placing import fits_flavor
from atoll.capacity.queueing.tree import Node, lowest_fit


class Mode(IntEnum):
    """From worst to best. NO_CANDIDATES: preemption would be allowed, but there is nobody to preempt."""

    NO_FIT = 0
    NO_CANDIDATES = 1
    PREEMPT = 2
    RECLAIM = 3
    FIT = 4


@dataclass(frozen=True, slots=True)
class Oracle:
    """`simulate(node, key, amount)`: what preemption could do for that amount, and the borrowing level after it."""

    simulate: Callable[[Node, FlavorResource, int], tuple[Mode, int]]


@dataclass(slots=True)
class Assignment:
    """What a workload would get. `needs_preemption`: of these there is not enough yet. `why`: what was in the way."""

    mode: Mode = Mode.FIT
    borrowing: int = 0  # the height of the lowest cohort that could hold it; 0: within its own quota
    pod_sets: list[PodSetAssignment] = field(default_factory=list)
    needs_preemption: set[FlavorResource] = field(default_factory=set)
    why: list[str] = field(default_factory=list)
    lacks: dict[FlavorResource, int] = field(default_factory=dict)

    @property
    def usage(self) -> Amounts:
        return usage_of(tuple(self.pod_sets))

    def message(self) -> str:
        return "; ".join(dict.fromkeys(self.why))


@dataclass(slots=True)
class _Choice:
    """Of one resource group for one pod set."""

    mode: Mode
    borrowing: int
    flavor: str
    preempts: set[FlavorResource]


def counts_of(shape: Shape) -> list[int]:
    return [pods.count for pods in shape.pod_sets]


def assign(
    node: Node, shape: Shape, flavors: Mapping[str, Flavor], oracle: Oracle, *, fair: bool, counts: Sequence[int] = ()
) -> Assignment:
    """Of the whole workload; `counts`: of its pod sets, where fewer than asked for are tried."""
    queue = node.queue
    assert queue is not None
    total = Assignment()
    used: Amounts = {}
    for pods, count in zip(shape.pod_sets, counts or counts_of(shape), strict=True):
        requests = {name: amount * count for name, amount in pods.requests.items()}
        if "pods" not in requests and queue.group_of("pods") is not None:
            requests["pods"] = count
        chosen: dict[str, str] = {}
        for resource in sorted(requests):
            if resource in chosen:
                continue
            group = queue.group_of(resource)
            if group is None:
                if requests[resource] == 0:  # nothing is asked of what is not covered
                    continue
                total.mode = Mode.NO_FIT
                total.why.append(f"resource {resource} unavailable in ClusterQueue")
                return total
            asked = {name: requests[name] for name in group.covered if name in requests}
            choice = _Search(node, queue, flavors, oracle, fair, used, total).run(pods, group, asked)
            if choice is None:
                total.mode = Mode.NO_FIT
                return total
            total.mode = min(total.mode, choice.mode)
            total.borrowing = max(total.borrowing, choice.borrowing)
            total.needs_preemption |= choice.preempts
            for name, amount in asked.items():
                chosen[name] = choice.flavor
                key = (choice.flavor, name)
                used[key] = used.get(key, 0) + amount
        usage = {name: amount for name, amount in requests.items() if name in chosen}
        total.pod_sets.append(PodSetAssignment(pods.name, chosen, usage, count))
    return total


class _Search:
    """Over the flavours of one group, for one pod set."""

    def __init__(
        self, node: Node, queue: ClusterQueue, flavors: Mapping[str, Flavor], oracle: Oracle, fair: bool,
        used: Amounts, total: Assignment,
    ) -> None:  # fmt: skip
        self._node = node
        self._queue = queue
        self._flavors = flavors
        self._oracle = oracle
        self._used = used
        self._total = total
        policy = queue.preemption
        self._may_preempt_borrowing = policy.borrow_policy != NEVER or (fair and policy.reclaim != NEVER)

    def run(self, pods: PodSet, group: ResourceGroup, asked: Mapping[str, int]) -> _Choice | None:
        best: _Choice | None = None
        labels = {
            key for name in group.flavors for key in (self._flavors[name].labels if name in self._flavors else ())
        }
        failed: list[str] = []
        for name in group.flavors:
            flavor = self._flavors.get(name)
            why = f"flavor {name} not found" if flavor is None else fits_flavor(pods.template, flavor, labels)
            if not why and flavor is not None and pods.topology is not None and not flavor.topology:
                why = f"flavor {name} does not support TopologyAwareScheduling"
            if why:
                failed.append(why)
                continue
            choice = self._try(name, asked, failed)
            if choice is None:
                continue
            if best is None or _better(choice, best, self._queue.fungibility):
                best = choice
            if _stops(choice, self._queue.fungibility):
                break
        if best is None or best.mode is not Mode.FIT:
            self._total.why.append(f"couldn't assign flavors to pod set {pods.name}: {', '.join(failed)}")
        return best

    def _try(self, name: str, asked: Mapping[str, int], failed: list[str]) -> _Choice | None:
        choice = _Choice(Mode.FIT, 0, name, set())
        for resource, amount in asked.items():
            key = (name, resource)
            wanted = amount + self._used.get(key, 0)
            mode, borrowing = self._quota(key, amount, wanted, failed)
            if mode is Mode.NO_FIT:
                return None
            if mode is not Mode.FIT:
                choice.preempts.add(key)
            choice.mode = min(choice.mode, mode)
            choice.borrowing = max(choice.borrowing, borrowing)
        return choice

    def _quota(self, key: FlavorResource, amount: int, wanted: int, failed: list[str]) -> tuple[Mode, int]:
        node, (flavor, resource) = self._node, key
        most = node.potential(key)
        if wanted > most:
            failed.append(
                f"insufficient quota for {resource} in flavor {flavor}, previously considered podsets requests "
                f"({shown(resource, wanted - amount)}) + current podset request ({shown(resource, amount)}) > "
                f"maximum capacity ({shown(resource, most)})"
            )
            self._total.lacks[key] = wanted - most
            return Mode.NO_FIT, 0
        level, reclaimable = lowest_fit(node, key, wanted)
        available = node.available(key)
        if wanted <= available:
            return Mode.FIT, level
        lacking = wanted - available
        failed.append(
            f"insufficient unused quota for {resource} in flavor {flavor}, {shown(resource, lacking)} more needed"
        )
        self._total.lacks[key] = lacking
        nominal = self._queue.quotas[key].nominal
        if wanted <= nominal or reclaimable or self._may_preempt_borrowing:
            return self._oracle.simulate(node, key, wanted)
        return Mode.NO_FIT, 0


def _stops(choice: _Choice, fungibility: Fungibility) -> bool:
    """Whether no further flavour is looked at."""
    if choice.mode is Mode.FIT:
        return not choice.borrowing or fungibility.stop_at_borrow
    if choice.mode is Mode.NO_CANDIDATES:
        return False
    return fungibility.stop_at_preempt and (not choice.borrowing or fungibility.stop_at_borrow)


def _better(one: _Choice, other: _Choice, fungibility: Fungibility) -> bool:
    if fungibility.borrow_rather:
        return (one.mode, -one.borrowing) > (other.mode, -other.borrowing)
    return (-one.borrowing, one.mode) > (-other.borrowing, other.mode)


def shown(resource: str, amount: int) -> str:
    """An amount as people write it."""
    if resource == "cpu":
        return quantity.from_milli(amount)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return quantity.from_units_binary(amount)
    return str(amount)


def amount_of(resource: str, text: str | int | float) -> int:
    """Raises ValueError."""
    return quantity.milli(text) if resource == "cpu" else quantity.units(text)

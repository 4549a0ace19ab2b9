"""Which flavour each resource of a workload gets, and what that takes: nothing, borrowing, or preemption.

Kueue's flavour assigner: the flavours of a resource group are tried in their order; taints and node affinity rule some
out, quota decides about the rest, and `flavorFungibility` when to stop looking.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from atoll.capacity.queueing.placing import fits_flavor, is_indifferent
from atoll.capacity.queueing.topology_fit import Unplaced
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
    beyond: set[FlavorResource] = field(default_factory=set)  # of these there could never be enough
    unplaced: Unplaced | None = None  # there is quota, or would be after preemption, but no room in the topology

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
    node: Node, shape: Shape, flavors: Mapping[str, Flavor], oracle: Oracle, *, fair: bool, counts: Sequence[int] = (),
    barred: frozenset[str] = frozenset(),
) -> Assignment:  # fmt: skip
    """Of the whole workload; `counts`: of its pod sets, where fewer than asked for are tried; `barred`: flavours that
    are passed over, since their topology has no room. Pod sets of one group get the same flavours."""
    queue = node.queue
    assert queue is not None
    total = Assignment()
    if shape.problem:
        total.mode = Mode.NO_FIT
        total.why.append(shape.problem)
        return total
    used: Amounts = {}
    found: dict[str, PodSetAssignment] = {}
    for group in _groups(shape, counts or counts_of(shape)):
        requests = [_requests(queue, pods, count) for pods, count in group]
        chosen: dict[str, str] = {}
        sums = requests[0] if len(requests) == 1 else _sum(requests)
        for resource in sorted(sums):
            if resource in chosen:
                continue
            covering = queue.group_of(resource)
            if covering is None:
                if sums[resource] == 0:  # nothing is asked of what is not covered
                    continue
                total.mode = Mode.NO_FIT
                total.why.append(f"resource {resource} unavailable in ClusterQueue")
                return total
            asked = {name: sums[name] for name in covering.covered if name in sums}
            search = _Search(node, queue, flavors, oracle, fair, used, total, barred)
            choice = search.run([pods for pods, _ in group], covering, asked)
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
        for (pods, count), own in zip(group, requests, strict=True):
            usage = {name: amount for name, amount in own.items() if name in chosen}
            flavor_of = chosen if len(usage) == len(chosen) else {name: chosen[name] for name in usage}
            found[pods.name] = PodSetAssignment(pods.name, flavor_of, usage, count)
    total.pod_sets = [found[pods.name] for pods in shape.pod_sets]
    return total


def _sum(requests: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for own in requests:
        for name, amount in own.items():
            total[name] = total.get(name, 0) + amount
    return total


def _groups(shape: Shape, counts: Sequence[int]) -> Iterable[list[tuple[PodSet, int]]]:
    """Pod sets that get their flavours together, with their counts: those of one pod set group, else each alone."""
    if len(shape.pod_sets) == 1:
        return [[(shape.pod_sets[0], counts[0])]]
    groups: dict[str, list[tuple[PodSet, int]]] = {}
    for pods, count in zip(shape.pod_sets, counts, strict=True):
        name = f"group/{pods.topology.group}" if pods.topology and pods.topology.group else f"set/{pods.name}"
        groups.setdefault(name, []).append((pods, count))
    return groups.values()


def _requests(queue: ClusterQueue, pods: PodSet, count: int) -> dict[str, int]:
    """Of all pods together."""
    requests = {name: amount * count for name, amount in pods.charged.items()}
    if "pods" not in requests and queue.group_of("pods") is not None:
        requests["pods"] = count
    return requests


class _Search:
    """Over the flavours of one group, for one pod set."""

    def __init__(
        self, node: Node, queue: ClusterQueue, flavors: Mapping[str, Flavor], oracle: Oracle, fair: bool,
        used: Amounts, total: Assignment, barred: frozenset[str],
    ) -> None:  # fmt: skip
        self._node = node
        self._queue = queue
        self._flavors = flavors
        self._oracle = oracle
        self._used = used
        self._total = total
        self._barred = barred
        policy = queue.preemption
        self._may_preempt_borrowing = policy.borrow_policy != NEVER or (fair and policy.reclaim != NEVER)

    def run(self, pod_sets: list[PodSet], group: ResourceGroup, asked: Mapping[str, int]) -> _Choice | None:
        best: _Choice | None = None
        failed: list[str] = []
        for name in group.flavors:
            why = self._why_not(pod_sets[0], name, group)
            for pods in pod_sets[1:]:
                why = why or self._why_not(pods, name, group)
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
            names = ", ".join(pods.name for pods in pod_sets)
            self._total.why.append(f"couldn't assign flavors to pod set {names}: {', '.join(failed)}")
        return best

    def _why_not(self, pods: PodSet, name: str, group: ResourceGroup) -> str:
        """Whatever quota there is."""
        flavor = self._flavors.get(name)
        if flavor is None:
            return f"flavor {name} not found"
        if name in self._barred:
            return f"topology {flavor.topology} of flavor {name} has no room"
        if pods.topology is not None and not flavor.topology:
            return f"flavor {name} does not support TopologyAwareScheduling"
        if is_indifferent(pods.template, flavor):
            return ""
        labels = {key for name in group.flavors if name in self._flavors for key in self._flavors[name].labels}
        return fits_flavor(pods.template, flavor, labels)

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
            self._total.beyond.add(key)
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


@functools.lru_cache(maxsize=4096)
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

"""Which nodes preemption could make room on, looked for on arrays: many nodes at a time, for pods that only want room.

For most pods the one thing on a node that its other pods decide is how much is free. Then taking all less important
pods away, and giving back one after the other what still fits, are sums over lines of numbers (`tenants.py`), the same
for all nodes at once. `search` says for which pods that holds, and None for the others (host ports, affinity, spread,
volumes of one user, plugins with a rule of their own): those are tried node by node (`preemption.py`), with the same
results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.scheduling.arrays import Bools, Floats, Ints, Rows, np
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.matching import everything, label_selector
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import LabelClass, PodInfo
from atoll.scheduling.resources import PODS
from atoll.scheduling.tenants import NOBODY, tenants_of

Object = dict[str, Any]
Cost = tuple[int, int, int, int, float]
"""Budgets broken, the most important victim, the sum of importance, the number of victims, minus the earliest start."""
OFFSET = 1 << 31
"""Added to each priority, so that many victims of negative ones don't look cheap."""
Lacking = tuple[bool, ...]
"""What of a node's room would be enough without its less important pods, and whether it has any."""
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Search:
    """Of nodes in the order asked for: those that would do with their costs, and what the others lack.

    Nodes that lack the same have the same reason against them; None: one of their own.
    """

    nodes: list[str] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    lacking: dict[str, Lacking | None] = field(default_factory=dict)


def search(
    planner: Planner,
    pod: PodInfo,
    evaluation: Evaluation,
    names: Sequence[str],
    budgets: Sequence[Object],
    wanted: int,
    alone: Callable[[str], Cost | None],
) -> Search | None:
    """Look at nodes until `wanted` would do, one of them without breaking a budget; None: not a matter of room alone.

    `alone` gives the cost on one node whose pods a budget speaks of, None where it would not do.
    """
    refusals = evaluation.refusals
    amounts = [part.amounts for part in refusals.filters if part.amounts is not None]
    if (
        refusals.look_around
        or len(amounts) != 1
        or any(not part.static for part in refusals.filters if not part.amounts)
    ):
        return None
    found = Search()
    asking = _Asking(planner, pod, evaluation, amounts[0], budgets)
    calm = 0
    for first in range(0, len(names), _CHUNK):
        for name, cost in asking.costs(names[first : first + _CHUNK], alone):
            found.nodes.append(name)
            found.costs.append(cost)
            calm += cost[0] == 0
            if calm and len(found.nodes) >= wanted:
                return found
    return found if found.nodes else Search(lacking=asking.lacking())


class _Asking:
    """One pod's question to many nodes."""

    def __init__(
        self,
        planner: Planner,
        pod: PodInfo,
        evaluation: Evaluation,
        amounts: Mapping[str, int],
        budgets: Sequence[Object],
    ) -> None:
        self._nodes, self._state = planner.nodes, planner.state
        self._pod = pod
        self._static = [part for part in evaluation.refusals.filters if part.static]
        self._resources = list(amounts)
        self._lines = [self._nodes.resource(name) for name in self._resources]
        self._want = np.array([amounts[name] for name in self._resources], np.int64)
        self._protected = _Protected(budgets)
        self._seen: list[tuple[Sequence[str], Bools, Bools]] = []  # names, what they lack, which are allowed

    def lacking(self) -> dict[str, Lacking | None]:
        """Of all nodes that were asked for, where none would do."""
        found: dict[str, Lacking | None] = {}
        for names, lacking, allowed in self._seen:
            told = (tuple(line) if may else None for line, may in zip(lacking.tolist(), allowed.tolist(), strict=True))
            found.update(zip(names, told, strict=True))
        return found

    def costs(self, names: Sequence[str], alone: Callable[[str], Cost | None]) -> Iterator[tuple[str, Cost]]:
        """Those that would do, and what they would cost."""
        rows = np.array([self._nodes.rows[name] for name in names], np.intp)
        tenants = tenants_of(self._nodes, self._state)
        tenants.refresh(rows)
        kinds = tenants.kinds[rows]
        priorities = tenants.priorities()[kinds]
        asked = tenants.requests(self._resources)[kinds]
        asked[:, :, self._resources.index(PODS)] = 1
        lesser: Bools = (kinds != NOBODY) & (priorities < self._pod.priority)
        free = self._nodes.free[self._lines][:, rows].T - self._rivals(names)
        free += (asked * lesser[:, :, None]).sum(axis=1)
        lacking = np.column_stack([free >= self._want, lesser.any(axis=1)])
        allowed = np.logical_and.reduce([np.ones(len(rows), np.bool_), *(part.allowed(rows) for part in self._static)])
        self._seen.append((names, lacking, allowed))
        fits: Rows = (lacking.all(axis=1) & allowed).nonzero()[0]
        victims = self._victims(asked[fits], lesser[fits], free[fits])
        costs = _costs(victims, priorities[fits], tenants.started[rows[fits]])
        for place, found in zip(fits.tolist(), costs, strict=True):
            name, cost = names[place], found
            if self._protected.any_of(self._state.nodes[name].pods.values(), self._pod.priority):
                cost = alone(name)
            if cost is not None:
                yield name, cost

    def _rivals(self, names: Sequence[str]) -> Ints:
        """What more important pods that were promised room on a node ask for."""
        found = np.zeros((len(names), len(self._resources)), np.int64)
        if not self._state.nominated:
            return found
        for place, name in enumerate(names):
            for rival in self._state.rivals(name, self._pod):
                if rival.uid in self._state.nodes[name].pods:
                    continue
                amounts = {**rival.template.requests, PODS: 1}
                found[place] += [amounts.get(resource, 0) for resource in self._resources]
        return found

    def _victims(self, asked: Ints, lesser: Bools, free: Ints) -> Bools:
        """Who would have to go: the others get back their room, the most important first."""
        victims = np.zeros_like(lesser)
        for place in range(lesser.shape[1]):
            there = lesser[:, place]
            if not there.any():
                continue
            left = free - asked[:, place]
            stays = there & (left >= self._want).all(axis=1)
            victims[:, place] = there & ~stays
            free = np.where(stays[:, None], left, free)
        return victims


def _costs(victims: Bools, priorities: Ints, started: Floats) -> list[Cost | None]:
    """What each node's victims cost; None where there are none. Lines are in order of importance."""
    rows: Rows = np.arange(len(victims))
    first = victims.argmax(axis=1)
    highest = priorities[rows, first]
    top = victims & (priorities == highest[:, None])
    earliest = np.where(top, started, np.inf).min(axis=1, initial=np.inf)
    total = np.where(victims, priorities + OFFSET, 0).sum(axis=1)
    count = victims.sum(axis=1)
    costs = zip(highest.tolist(), total.tolist(), count.tolist(), (-earliest).tolist(), strict=True)
    return [(0, *cost) if cost[2] else None for cost in costs]


class _Protected:
    """Whether any budget speaks of a pod; asked once for each set of labels."""

    def __init__(self, budgets: Sequence[Object]) -> None:
        self._selectors = [
            (budget["metadata"].get("namespace"), label_selector((budget.get("spec") or {}).get("selector")))
            for budget in budgets
        ]
        self._known: dict[LabelClass, bool] = {}

    def any_of(self, pods: Iterable[PodInfo], priority: int) -> bool:
        """Of the pods less important than `priority`."""
        return bool(self._selectors) and any(pod.priority < priority and self._speaks_of(pod.pods) for pod in pods)

    def _speaks_of(self, pods: LabelClass) -> bool:
        found = self._known.get(pods)
        if found is None:
            found = self._known[pods] = any(
                namespace == pods.namespace and matcher is not everything and matcher(pods.labels)
                for namespace, matcher in self._selectors
            )
        return found

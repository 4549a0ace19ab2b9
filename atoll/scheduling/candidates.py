"""Which nodes preemption could make room on, looked for on arrays: many nodes at a time, for pods that only want room.

For most pods the one thing on a node that its other pods decide is how much is free. Then taking all less important
pods away, and giving back one after the other what still fits, are sums over lines of numbers (`tenants.py`), the same
for all nodes at once. `search` says for which pods that holds, and None for the others (host ports, affinity, spread,
volumes of one user, plugins with a rule of their own): those are tried node by node (`preemption.py`), with the same
results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.scheduling.arrays import Bools, Floats, Ints, Rows, np
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.matching import everything, label_selector
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import LabelClass, PodInfo
from atoll.scheduling.resources import PODS
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.tenants import NOBODY, tenants_of

Object = dict[str, Any]
Cost = tuple[int, int, int, int, float]
"""Budgets broken, the most important victim, the sum of importance, the number of victims, minus the earliest start."""
OFFSET = 1 << 31
"""Added to each priority, so that many victims of negative ones don't look cheap."""
_CHUNK = 512  # nodes, at first


@dataclass(frozen=True, slots=True)
class Search:
    """`best`: the node that costs least of those that would do. None would: `alike`, one node for each reason against
    the pod, and how many have it.
    """

    best: str | None = None
    alike: Sequence[tuple[str, int]] = ()


def search(
    planner: Planner,
    pod: PodInfo,
    evaluation: Evaluation,
    rows: Rows,
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
    asking = _Asking(planner, pod, evaluation, amounts[0], budgets, alone)
    found: list[_Candidates] = []
    count, calm, first, size = 0, False, 0, _CHUNK
    while first < len(rows) and not (calm and count >= wanted):
        some = asking.candidates(rows[first : first + size]).until(wanted - count, calm)
        found.append(some)
        count, calm = count + len(some.rows), calm or some.calm
        first, size = first + size, size * 2
    return Search(best=_cheapest(planner.nodes, found)) if count else Search(alike=asking.alike())


@dataclass(slots=True)
class _Candidates:
    """Nodes that would do, and a line for each part of `Cost`."""

    rows: Rows
    costs: Sequence[Ints | Floats]

    @property
    def calm(self) -> bool:
        """Whether any breaks no budget."""
        return bool((self.costs[0] == 0).any())

    def take(self, places: Rows | slice) -> _Candidates:
        return _Candidates(self.rows[places], [line[places] for line in self.costs])

    def until(self, wanted: int, calm: bool) -> _Candidates:
        """So many of them; `calm`: one before broke no budget, else up to the first that does not."""
        first = 0 if calm else next(iter((self.costs[0] == 0).nonzero()[0].tolist()), len(self.rows))
        return self.take(slice(max(wanted, first + (not calm))))


def _cheapest(nodes: Snapshot, found: Sequence[_Candidates]) -> str:
    """Of equal ones the first by name."""
    rows = np.concatenate([some.rows for some in found])
    left: Rows = np.arange(len(rows))
    for lines in zip(*(some.costs for some in found), strict=True):
        values = np.concatenate(lines)[left]
        left = left[values == values.min()]
    best: str = min(nodes.names[row] for row in rows[left].tolist())
    return best


class _Asking:
    """One pod's question to many nodes."""

    def __init__(
        self,
        planner: Planner,
        pod: PodInfo,
        evaluation: Evaluation,
        amounts: Mapping[str, int],
        budgets: Sequence[Object],
        alone: Callable[[str], Cost | None],
    ) -> None:
        self._nodes, self._state = planner.nodes, planner.state
        self._pod = pod
        self._suited = evaluation.suited
        self._resources = list(amounts)
        self._lines = np.array([[self._nodes.resource(name)] for name in self._resources], np.intp)
        self._want = np.array([amounts[name] for name in self._resources], np.int64)
        self._protected = _Protected(budgets)
        self._alone = alone
        self._promised = self._rivals()
        self._seen: list[tuple[Rows, Bools]] = []  # nodes, and what of their room would do

    def alike(self) -> list[tuple[str, int]]:
        """Nodes that lack the same have the same reason; those that are not suited have one of their own."""
        rows = np.concatenate([rows for rows, _ in self._seen])
        lacking = np.concatenate([lacking for _, lacking in self._seen])
        suited = self._suited[rows]
        kinds = lacking[suited] @ (1 << np.arange(lacking.shape[1]))
        _, firsts, counts = np.unique(kinds, return_index=True, return_counts=True)
        names = self._nodes.names
        found = [(names[row], count) for row, count in zip(rows[suited][firsts].tolist(), counts.tolist(), strict=True)]
        return found + [(names[row], 1) for row in rows[~suited].tolist()]

    def candidates(self, rows: Rows) -> _Candidates:
        """Those that would do, and what they would cost."""
        tenants = tenants_of(self._nodes, self._state)
        tenants.refresh(rows)
        kinds = tenants.kinds[rows]
        priorities = tenants.priorities()[kinds]
        asked = tenants.requests(self._resources)[kinds]
        asked[:, :, self._resources.index(PODS)] = 1
        lesser: Bools = (kinds != NOBODY) & (priorities < self._pod.priority)
        free = self._nodes.free[self._lines, rows].T
        if self._promised is not None:
            free = free - self._promised[rows]
        free = free + (asked * lesser[:, :, None]).sum(axis=1)
        lacking = np.column_stack([free >= self._want, lesser.any(axis=1)])
        self._seen.append((rows, lacking))
        fits: Rows = (lacking.all(axis=1) & self._suited[rows]).nonzero()[0]
        victims = self._victims(asked[fits], lesser[fits], free[fits])
        found = _costs(rows[fits], victims, priorities[fits], tenants.started[rows[fits]])
        return self._spared(found) if self._protected.any else found

    def _spared(self, found: _Candidates) -> _Candidates:
        """With what budgets have to say of them."""
        left = []
        for place, row in enumerate(found.rows.tolist()):
            name = self._nodes.names[row]
            if self._protected.speaks_of(self._state.nodes[name].pods.values(), self._pod.priority):
                cost = self._alone(name)
                if cost is None:
                    continue
                for line, part in zip(found.costs, cost, strict=True):
                    line[place] = part
            left.append(place)
        return found.take(np.array(left, np.intp))

    def _rivals(self) -> Ints | None:
        """What more important pods that were promised room on nodes ask for, by row and resource."""
        state = self._state
        if not state.nominated:
            return None
        found = np.zeros((len(self._nodes.present), len(self._resources)), np.int64)
        for name in state.nominated:
            node, row = state.nodes.get(name), self._nodes.rows.get(name)
            if node is None or row is None:
                continue
            for rival in state.rivals(name, self._pod):
                if rival.uid not in node.pods:
                    amounts = {**rival.template.requests, PODS: 1}
                    found[row] += [amounts.get(resource, 0) for resource in self._resources]
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


def _costs(rows: Rows, victims: Bools, priorities: Ints, started: Floats) -> _Candidates:
    """What each node's victims cost, where there are any. Lines are in order of importance."""
    places: Rows = np.arange(len(victims))
    highest = priorities[places, victims.argmax(axis=1)]
    top = victims & (priorities == highest[:, None])
    earliest = np.where(top, started, np.inf).min(axis=1, initial=np.inf)
    total = np.where(victims, priorities + OFFSET, 0).sum(axis=1)
    count = victims.sum(axis=1)
    return _Candidates(rows, [np.zeros_like(count), highest, total, count, -earliest]).take(count.nonzero()[0])


class _Protected:
    """Whether any budget speaks of a pod; asked once for each set of labels."""

    def __init__(self, budgets: Sequence[Object]) -> None:
        self._selectors = [
            (budget["metadata"].get("namespace"), label_selector((budget.get("spec") or {}).get("selector")))
            for budget in budgets
        ]
        self._known: dict[LabelClass, bool] = {}

    @property
    def any(self) -> bool:
        return bool(self._selectors)

    def speaks_of(self, pods: Iterable[PodInfo], priority: int) -> bool:
        """Of any of the pods that are less important than `priority`."""
        return any(pod.priority < priority and self._of(pod.pods) for pod in pods)

    def _of(self, pods: LabelClass) -> bool:
        found = self._known.get(pods)
        if found is None:
            found = self._known[pods] = any(
                namespace == pods.namespace and matcher is not everything and matcher(pods.labels)
                for namespace, matcher in self._selectors
            )
        return found

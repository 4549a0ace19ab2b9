"""What one workload would get as things stand: flavours, places and victims. Pure; all trial moves are undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.capacity.queueing import preemption
from atoll.capacity.queueing.fair import fair_targets
from atoll.capacity.queueing.flavors import Assignment, Mode, Oracle, assign, counts_of
from atoll.capacity.queueing.model import Amounts, FlavorResource, PodSetAssignment, Shape, Workload, usage_of
from atoll.capacity.queueing.preemption import Target, Wish
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.topology_fit import Places, Unplaced
from atoll.capacity.queueing.tree import Node, lowest_fit


@dataclass(slots=True)
class Entry:
    """A head with what was found for it."""

    workload: Workload
    node: Node
    assignment: Assignment
    targets: list[Target]
    given: int = 0  # the version of what was given out by topology when it was found

    @property
    def usage(self) -> Amounts:
        return self.assignment.usage


def find(state: State, node: Node, workload: Workload) -> Entry:
    """Flavours, places and victims for a workload as things stand; with fewer pods where it allows that and must."""
    search = _Finder(state, node, workload)
    entry = search.settle(counts_of(workload.shape))
    if workload.shape.partial and not _useful(entry):
        return _fewer(workload.shape, search.settle) or entry
    return entry


class _Finder:
    """One look at one workload. Searches for victims are remembered: of one resource, the last chose its flavour."""

    def __init__(self, state: State, node: Node, workload: Workload) -> None:
        self._state = state
        self._node = node
        self._workload = workload
        self._searched: dict[tuple[frozenset[FlavorResource], tuple[tuple[FlavorResource, int], ...]], list[Target]]
        self._searched = {}

    def settle(self, counts: list[int]) -> Entry:
        """Where a flavour's topology has no room, the next flavours are looked at before anybody is preempted."""
        queue, barred = self._node.queue, frozenset[str]()
        assert queue is not None
        best = entry = self._attempt(counts, barred)
        while entry.assignment.unplaced is not None and not (best.targets and queue.fungibility.stop_at_preempt):
            more = entry.assignment.unplaced.flavors - barred
            if not more:
                break
            barred |= more
            entry = self._attempt(counts, barred)
            if entry.assignment.mode is Mode.FIT or (entry.targets and not best.targets):
                best = entry
        return best

    def _attempt(self, counts: list[int], barred: frozenset[str]) -> Entry:
        setup = self._state.setup
        flavors, fair = setup.flavors, setup.fair.enabled
        assignment = assign(
            self._node, self._workload.shape, flavors, Oracle(self._simulate), fair=fair, counts=counts, barred=barred
        )
        targets: list[Target] = []
        places = places_of(self._state, self._workload, assignment) if assignment.mode > Mode.NO_CANDIDATES else None
        if Mode.NO_CANDIDATES < assignment.mode < Mode.FIT:
            keys = frozenset(assignment.needs_preemption)
            targets = self._search(Wish(self._workload, self._node, assignment.usage, keys))
        if places is not None and (targets or assignment.mode is Mode.FIT):
            targets = self._placed(assignment, places, targets)
        return Entry(self._workload, self._node, assignment, targets, self._state.given.version)

    def _placed(self, assignment: Assignment, places: Places, targets: list[Target]) -> list[Target]:
        """The victims that make room too. The assignment gets its places, or says why there are none."""
        found = self._without(places, targets)
        if isinstance(found, Unplaced):
            assignment.unplaced = found
            assignment.why.append(str(found.why))
            targets = self._make_room(assignment, places, found) if found.why.count else []
            assignment.mode = Mode.PREEMPT if targets else Mode.NO_FIT
            found = self._without(places, targets)
        if not isinstance(found, Unplaced):
            assignment.pod_sets = found
        return targets

    def _make_room(self, assignment: Assignment, places: Places, unplaced: Unplaced) -> list[Target]:
        """Whoever holds what the unplaced pod sets ask for may have to go (upstream: as if quota lacked)."""
        lacking = [item for item in assignment.pod_sets if item.name in unplaced.names]
        keys = frozenset(assignment.needs_preemption) | usage_of(tuple(lacking)).keys()
        return self._victims(Wish(self._workload, self._node, assignment.usage, keys, places))

    def _without(self, places: Places, targets: list[Target]) -> list[PodSetAssignment] | Unplaced:
        for target in targets:
            places.remove(target.workload)
        found = places.find()
        for target in targets:
            places.add(target.workload)
        return found

    def _search(self, wish: Wish) -> list[Target]:
        asked = wish.keys, tuple(wish.usage.items())
        if asked not in self._searched:
            self._searched[asked] = self._victims(wish)
        return self._searched[asked]

    def _victims(self, wish: Wish) -> list[Target]:
        fair = self._state.setup.fair
        return fair_targets(wish, fair.strategies) if fair.enabled else preemption.targets(wish)

    def _simulate(self, at: Node, key: FlavorResource, amount: int) -> tuple[Mode, int]:
        wish = Wish(self._workload, at, {key: amount}, frozenset((key,)))
        found = self._search(wish)
        if not found:
            return Mode.NO_CANDIDATES, lowest_fit(at, key, amount)[0]
        for target in found:
            wish.take(target)
        level = lowest_fit(at, key, amount)[0]
        preemption.restore(wish, found)
        own = any(target.node is at for target in found)
        return (Mode.PREEMPT if own else Mode.RECLAIM), level


def places_of(state: State, workload: Workload, assignment: Assignment) -> Places | None:
    """None where no flavour has a topology."""
    setup = state.setup
    if not setup.topologies:
        return None
    pod_sets = workload.shape.pod_sets
    return Places(state.given, pod_sets, assignment.pod_sets, setup.flavors, setup.topologies) or None


def _useful(entry: Entry) -> bool:
    return entry.assignment.mode is Mode.FIT or bool(entry.targets)


def _fewer(shape: Shape, attempt: Callable[[list[int]], Entry]) -> Entry | None:
    """The most pods that do, searched by halves between all and the least; all pod sets shrink alike."""
    spare = [pods.count - (pods.count if pods.min_count is None else pods.min_count) for pods in shape.pod_sets]
    low, high = 1, sum(spare)  # how many fewer; `high` is tried first
    best: Entry | None = None
    while low <= high:
        middle = (low + high) // 2
        counts = [pods.count - few * middle // sum(spare) for pods, few in zip(shape.pod_sets, spare, strict=True)]
        entry = attempt(counts)
        if _useful(entry):
            best, high = entry, middle - 1
        else:
            low = middle + 1
    return best

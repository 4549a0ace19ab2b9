"""Who is admitted, and who is preempted for whom: decided on the state, as Kueue's scheduler does cycle by cycle.

A cycle takes the head of each queue, finds flavours (and victims), and goes through them by borrowing, priority and
age, or by fair share. Here cycles follow each other at once, on what the last one took, until nothing more is to be
had: so several heads of one queue are admitted together, and the outcome is that of cycles that wait for each other.
A queue whose head waits for a preemption has no further say until that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from atoll.capacity.queueing import preemption
from atoll.capacity.queueing.fair import fair_targets
from atoll.capacity.queueing.flavors import Assignment, Mode, Oracle, assign, counts_of
from atoll.capacity.queueing.line import Parked, class_of
from atoll.capacity.queueing.model import (
    ANY,
    Admission,
    Amounts,
    FlavorResource,
    Key,
    PodSetAssignment,
    Shape,
    Workload,
    usage_of,
)  # fmt: skip
from atoll.capacity.queueing.preemption import Target, Wish
from atoll.capacity.queueing.shares import tournament
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.topology_fit import Placed, Places, Unplaced, placed
from atoll.capacity.queueing.tree import Node, lowest_fit


@dataclass(frozen=True, slots=True)
class Admit:
    """`workload` has its admission. `checks`: the AdmissionChecks that must still say yes."""

    workload: Workload
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """`victim` makes room for `by`."""

    victim: Workload
    by: Workload
    queue: str  # of the preemptor
    reason: str


@dataclass(slots=True)
class Plan:
    admit: list[Admit] = field(default_factory=list)
    evict: list[Evict] = field(default_factory=list)
    waiting: dict[Key, str] = field(default_factory=dict)  # those looked at and not admitted: why


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


def plan_cycle(state: State, now: float) -> Plan:
    """Decide about all trees in which something changed. What is admitted is taken into `state` at once."""
    plan = Plan()
    state.wake(now)
    changed, state.changed = state.changed, set()
    if state.setup.one_at_a_time and any(_unready(item) for item in state.workloads.values()):
        state.changed = changed
        return plan
    for root in sorted(changed):
        if root in state.trees:
            _Tree(state, state.trees[root], now, plan).run()
        if state.setup.one_at_a_time and plan.admit:
            state.changed |= changed
            break
    return plan


def _unready(workload: Workload) -> bool:
    return workload.admission is not None and not workload.finished and not workload.ready


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


class _Tree:
    """Cycles over the queues of one tree."""

    def __init__(self, state: State, nodes: list[Node], now: float, plan: Plan) -> None:
        self._state = state
        self._nodes = [node for node in nodes if node.name not in state.inactive]
        self._now = now
        self._plan = plan
        self._done: set[str] = set()  # queues that have no further say in this plan
        self._victims: set[Key] = set()
        self._reserved: list[tuple[Node, Amounts]] = []
        self._kept: list[Placed] = []  # the places of those for whom room is being made

    def run(self) -> None:
        while True:
            entries = [entry for node in self._nodes if (entry := self._nominate(node)) is not None]
            if not entries:
                break
            blocked: list[tuple[Node, Amounts]] = []
            for entry in self._in_order(entries):
                self._process(entry, blocked)
                if self._state.setup.one_at_a_time and self._plan.admit:
                    break
            for node, usage in blocked:
                node.remove_all(usage)
            if self._state.setup.one_at_a_time and self._plan.admit:
                break
        for node, usage in self._reserved:
            node.remove_all(usage)
        self._state.given.remove(self._kept)

    def _nominate(self, node: Node) -> Entry | None:
        """The first in line that could be admitted, by itself; those before it that can't are parked."""
        spec, line = node.queue, self._state.lines[node.name]
        assert spec is not None
        while node.name not in self._done:
            head = line.head(lambda local: self._state.past_usage(spec, local), strict=spec.strict)
            if head is None:
                return None
            entry = find(self._state, node, head)
            if entry.assignment.mode is not Mode.NO_FIT:
                return entry
            self._park(entry)
        return None

    def _park(self, entry: Entry) -> None:
        spec, assignment = entry.node.queue, entry.assignment
        assert spec is not None
        message = assignment.message() or "Workload didn't fit"
        line = self._state.lines[entry.node.name]
        line.parked[class_of(entry.workload)] = Parked(message, dict(assignment.lacks))
        self._plan.waiting[entry.workload.key] = message
        if spec.strict:
            self._done.add(entry.node.name)

    def _in_order(self, entries: list[Entry]) -> Iterable[Entry]:
        if self._state.setup.fair.enabled:
            return tournament(entries)
        return sorted(
            entries,
            key=lambda it: (it.assignment.borrowing, -it.workload.priority, it.workload.order_at, it.workload.uid),
        )

    def _process(self, entry: Entry, blocked: list[tuple[Node, Amounts]]) -> None:
        node, usage, targets = entry.node, entry.usage, entry.targets
        if entry.assignment.mode is not Mode.FIT and not targets:
            self._park(entry)
            if node.queue is not None and node.queue.preemption.reclaim != ANY:
                held = _to_reserve(node, usage, entry.assignment.borrowing > 0)
                node.add_all(held)
                blocked.append((node, held))
            return
        if any(target.workload.key in self._victims for target in targets):
            self._wait(entry, "Workload has overlapping preemption targets with another workload")
            return
        if not self._still_placed(entry) or not _fits_after(entry):
            self._plan.waiting[entry.workload.key] = "Workload no longer fits after processing another workload"
            return  # it is looked at again in the next cycle
        if targets:
            self._preempt(entry)
        else:
            self._admit(entry)

    def _still_placed(self, entry: Entry) -> bool:
        """Where others took places meanwhile, it gets others if there are."""
        if entry.given == self._state.given.version or not any(it.topology for it in entry.assignment.pod_sets):
            return True
        places = places_of(self._state, entry.workload, entry.assignment)
        if entry.targets or places is None:
            return False
        found = places.find()
        if isinstance(found, Unplaced):
            return False
        entry.assignment.pod_sets = found
        return True

    def _wait(self, entry: Entry, message: str) -> None:
        self._plan.waiting[entry.workload.key] = message
        self._done.add(entry.node.name)

    def _preempt(self, entry: Entry) -> None:
        for target in entry.targets:
            self._victims.add(target.workload.key)
            if not target.workload.evicted:
                self._plan.evict.append(Evict(target.workload, entry.workload, entry.node.name, target.reason))
        entry.node.add_all(entry.usage)
        self._reserved.append((entry.node, entry.usage))
        places = placed(entry.workload.shape.pod_sets, entry.assignment.pod_sets)
        self._state.given.add(places)
        self._kept += places
        why = entry.assignment.message()
        self._wait(entry, f"{why}. Pending the preemption of {len(entry.targets)} workload(s)".removeprefix(". "))

    def _admit(self, entry: Entry) -> None:
        workload, node = entry.workload, entry.node
        admission = Admission(node.name, tuple(entry.assignment.pod_sets))
        taken = replace(workload, admission=admission, usage=admission.usage(), reserved_at=self._now)
        self._state.put(taken)
        self._state.consumption.admitted(workload.queue_key, workload.asked())
        self._plan.waiting.pop(workload.key, None)
        self._plan.admit.append(Admit(taken, checks_for(self._state, node.name, admission)))


def checks_for(state: State, queue: str, admission: Admission) -> tuple[str, ...]:
    """The AdmissionChecks that hold for the flavours that were assigned."""
    spec = state.setup.queues.get(queue)
    given = {flavor for pods in admission.pod_sets for flavor in pods.flavors.values()}
    return tuple(name for name, only in (spec.checks if spec else ()) if not only or only & given)


def _fits_after(entry: Entry) -> bool:
    """Whether it (still) fits once its victims are gone."""
    wish = Wish(entry.workload, entry.node, entry.usage, frozenset(entry.usage))
    for target in entry.targets:
        wish.take(target)
    try:
        return preemption.fits(wish, True)
    finally:
        preemption.restore(wish, entry.targets)


def _to_reserve(node: Node, usage: Mapping[FlavorResource, int], borrowing: bool) -> Amounts:
    """What is kept from later (lower) entries of the cycle for one that nobody makes room for."""
    held: Amounts = {}
    for key, amount in usage.items():
        quota = node.quotas[key]
        used = node.usage.get(key, 0)
        if borrowing and quota.borrowing is None:
            held[key] = amount
        elif borrowing:
            held[key] = max(0, min(amount, quota.nominal + (quota.borrowing or 0) - used))
        else:
            held[key] = max(0, min(amount, quota.nominal - used))
    return held

"""Who is admitted, and who is preempted for whom: decided on the state, as Kueue's scheduler does cycle by cycle.

A cycle takes the head of each queue, finds flavours (and victims), and goes through them by borrowing, priority and
age, or by fair share. Here cycles follow each other at once, on what the last one took, until nothing more is to be
had: so several heads of one queue are admitted together, and the outcome is that of cycles that wait for each other.
A queue whose head waits for a preemption has no further say until that is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from atoll.capacity.queueing import preemption
from atoll.capacity.queueing.finding import Entry, find, places_of
from atoll.capacity.queueing.flavors import Mode
from atoll.capacity.queueing.line import Parked, class_of
from atoll.capacity.queueing.model import (
    ANY,
    Admission,
    Amounts,
    FlavorResource,
    Key,
    Workload,
)  # fmt: skip
from atoll.capacity.queueing.preemption import Wish
from atoll.capacity.queueing.replacement import replaced
from atoll.capacity.queueing.shares import tournament
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.topology import NoRoom
from atoll.capacity.queueing.topology_fit import Placed, Unplaced, placed
from atoll.capacity.queueing.tree import Node


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


@dataclass(frozen=True, slots=True)
class Broken:
    """`workload` has pods on hosts that failed: it has others in its admission, or else must go: `why`."""

    workload: Workload
    why: str = ""


@dataclass(slots=True)
class Plan:
    admit: list[Admit] = field(default_factory=list)
    evict: list[Evict] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    waiting: dict[Key, str] = field(default_factory=dict)  # those looked at and not admitted: why


def plan_cycle(state: State, now: float) -> Plan:
    """Decide about all trees in which something changed. What is admitted is taken into `state` at once."""
    plan = Plan()
    state.wake(now)
    _mend(state, plan)
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


def _mend(state: State, plan: Plan) -> None:
    """Running workloads get other hosts for those that failed, before anybody new gets room."""
    broken = [state.workloads[key] for key in state.broken]
    for workload in sorted(broken, key=lambda it: (-it.priority, it.reserved_at, it.uid)):
        found = replaced(state, workload)
        if isinstance(found, NoRoom):
            state.put(replace(workload, evicted=True))
            plan.broken.append(Broken(workload, str(found)))
        else:
            mended = replace(workload, admission=found, unhealthy=())
            state.put(mended)
            plan.broken.append(Broken(mended))


def _unready(workload: Workload) -> bool:
    return workload.admission is not None and not workload.finished and not workload.ready


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
        if not self._still_placed(entry) or not _fits_after(entry, usage):
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
        taken = replace(workload, admission=admission, usage=entry.usage, reserved_at=self._now)
        self._state.put(taken)
        self._state.consumption.admitted(workload.queue_key, workload.asked())
        self._plan.waiting.pop(workload.key, None)
        self._plan.admit.append(Admit(taken, checks_for(self._state, node.name, admission)))


def checks_for(state: State, queue: str, admission: Admission) -> tuple[str, ...]:
    """The AdmissionChecks that hold for the flavours that were assigned."""
    spec = state.setup.queues.get(queue)
    given = {flavor for pods in admission.pod_sets for flavor in pods.flavors.values()}
    return tuple(name for name, only in (spec.checks if spec else ()) if not only or only & given)


def _fits_after(entry: Entry, usage: Amounts) -> bool:
    """Whether it (still) fits once its victims are gone."""
    if not entry.targets:
        return all(amount <= entry.node.available(key) for key, amount in usage.items())
    wish = Wish(entry.workload, entry.node, usage, frozenset(usage))
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

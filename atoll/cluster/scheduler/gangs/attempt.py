"""One attempt at a gang: all members that wait are decided together on the planner's snapshot, so nothing is held while
others are missing.

Two things can still be held: room on nodes that preemption has made for the gang, and nodes of members whose fellows
could not be bound (a node went, the scheduler was killed between two bindings). Both are given back when the gang is
not whole within its time-out. A gang that was whole once is never broken up by this: a scheduler knows those that it
found whole when it was started, and that a member which is younger than the bindings of the others replaces one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.base.clock import Clock, parse_rfc3339
from atoll.cluster.scheduler.gangs.book import GangBook
from atoll.cluster.scheduler.gangs.reserve import Reserving
from atoll.cluster.scheduler.queue import SchedulingQueue, Waiting
from atoll.objects.meta import condition, controller_of
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.dra.state import assume_plan, release_plan
from atoll.scheduling.explain import gang_reason
from atoll.scheduling.gang import Gang, Placement, Shortage, plan_gang
from atoll.scheduling.gang_preemption import GangPreemption, plan_gang_preemption
from atoll.scheduling.groups.model import Group, GroupKey, Missing
from atoll.scheduling.groups.placing import Members, is_whole, lacking, short, to_place
from atoll.scheduling.plan import Decision, Planner
from atoll.scheduling.resources import shown

Object = dict[str, Any]
_OVER = ("Succeeded", "Failed")
_SETTLE_SECONDS = 1.0  # members arrive one by one: those that lack fellows are told so only after that


@dataclass(slots=True)
class Outcome:
    """What came of it. `left` are told `reason`; without one they are only put aside until `settled`."""

    key: GroupKey
    placed: list[tuple[Waiting, Decision]] = field(default_factory=list)
    left: list[Waiting] = field(default_factory=list)
    reason: str = ""
    settled: float = 0.0
    again: float | None = None  # when the gang is to be looked at whatever happens
    lacks_room: bool = False  # that others have, and may give back
    preemption: GangPreemption | None = None
    members: list[Waiting] = field(default_factory=list)  # by preemption's placement, in its order
    withdrawn: bool = False  # nominations are void
    released: list[Object] = field(default_factory=list)  # pods of a gang that did not become whole


class Gangs:
    """Attempts at gangs, and what is remembered between them: since when one holds room, and which were whole."""

    def __init__(
        self, book: GangBook, planner: Planner, queue: SchedulingQueue, clock: Clock, helped: Callable[[], None]
    ) -> None:
        """`helped` is called when others than a gang itself may find room."""
        self._reserving = Reserving(planner, clock, helped)
        self.book = book
        self.work = book.work(planner.state)
        self._planner = planner
        self._queue = queue
        self._clock = clock
        self._unbound: dict[GroupKey, set[str]] = {}  # members whose bindings are on the way
        self._whole: set[GroupKey] = set()
        self._promised: dict[GroupKey, float] = {}  # since when nodes are promised to it
        self._partial: dict[GroupKey, float] = {}  # since when a part of it runs

    def attempt(self, waiting: Waiting, budgets: Sequence[Object]) -> Outcome | None:
        """Decide for the pod's gang; None: the pod is to be treated like any other."""
        key = self.book.key(waiting.pod.obj)
        if key is None:
            return None
        outcome = self._attempt(key, waiting, budgets)
        if outcome is None or not outcome.lacks_room:
            self._reserving.over(key)
        return outcome

    def _attempt(self, key: GroupKey, waiting: Waiting, budgets: Sequence[Object]) -> Outcome | None:
        few = self.book.group(key, [waiting.pod.obj])
        if isinstance(few, Group) and few.is_gang and self.book.size(key) < few.least and self._may_settle(waiting):
            return self._settle(key, waiting)  # of thousands that come, none looks at those that have come
        pods = self.book.pods(key)
        group = self.book.group(key, pods)
        if group is None or (isinstance(group, Group) and not group.is_gang and not _asks(waiting.pod.obj)):
            return None
        if isinstance(group, Group) and len(pods) < group.least and self._may_settle(waiting):
            return self._settle(key, waiting)
        members, taken = members_of(pods, self._planner, self._queue, waiting)
        task_of = self.book.task_of(key)
        if isinstance(group, Group) and is_whole(group, members.there, task_of):
            self._partial.pop(key, None)
            if not group.topology.required and not _asks(waiting.pod.obj):
                return None
        if isinstance(group, Missing):
            return self._refuse(key, [waiting], unknown(group))
        lack = short(group, members, task_of)
        if lack:
            return self._too_few(key, group, members, waiting, taken, lack)
        for other in taken:
            if other is not waiting:
                self._queue.take(other)
        gang = to_place(str(key), group, members, task_of, self.book.levels(), self._planner)
        missing = lacking(self._planner, group.resources) if not members.there else {}
        if missing:
            outcome = self._waits_for_room(key, gang, self._refuse(key, taken, not_free(missing)))
            return self._held(key, group, members, outcome)
        try:
            return self._decide(key, group, members, gang, taken, budgets)
        except AllocationError as error:  # of devices
            return self._held(key, group, members, self._refuse(key, taken, error.message))

    def start(self) -> None:
        """Learn from the caches which gangs are whole."""
        for key in self.book.all_keys():
            pods = self.book.pods(key)
            group = self.book.group(key, pods)
            if isinstance(group, Group):
                members, _ = members_of(pods, self._planner, self._queue)
                if is_whole(group, members.there, self.book.task_of(key)):
                    self._whole.add(key)

    def bound(self, key: GroupKey, uid: str) -> None:
        """A member's binding is written; with the last one the gang is whole."""
        waiting = self._unbound.get(key)
        if waiting is not None:
            waiting.discard(uid)
            if not waiting:
                del self._unbound[key]
                self._whole.add(key)

    def prune(self) -> None:
        """Forget gangs that have no pods any more."""
        for key in self._reserving.waiting():
            if not any(self._queue.get(pod["metadata"].get("uid") or "") for pod in self.book.pods(key)):
                self._reserving.over(key)
        for memory in (self._unbound, self._promised, self._partial):
            for key in [key for key in memory if not self.book.pods(key)]:
                del memory[key]
        self._whole = {key for key in self._whole if self.book.pods(key)}

    # decisions

    def _may_settle(self, waiting: Waiting) -> bool:
        return waiting.attempts <= 1 and self._clock.monotonic() - waiting.since < _SETTLE_SECONDS

    def _settle(self, key: GroupKey, waiting: Waiting) -> Outcome:
        return Outcome(key, left=[waiting], settled=waiting.since + _SETTLE_SECONDS)

    def _too_few(
        self, key: GroupKey, group: Group, members: Members, waiting: Waiting, taken: list[Waiting],
        lack: dict[str, int],
    ) -> Outcome:  # fmt: skip
        """Told once no fellow has come for a moment: a thousand arrivals are not a thousand times a thousand words."""
        if self._may_settle(waiting):
            return self._settle(key, waiting)
        for other in taken:
            if other is not waiting:
                self._queue.take(other)
        return self._held(key, group, members, self._refuse(key, taken, too_few(group, members, lack)))

    def _decide(
        self, key: GroupKey, group: Group, members: Members, gang: Gang, taken: list[Waiting],
        budgets: Sequence[Object],
    ) -> Outcome:  # fmt: skip
        by_uid = {item.pod.uid: item for item in taken}
        found = plan_gang(self._planner, gang)
        if isinstance(found, Placement):
            return self._placed(key, gang, found, by_uid)
        preempting = self._victims_leaving(gang)
        preemption = None
        if not preempting:
            preemption = plan_gang_preemption(self._planner, gang, self.work, budgets)
        reason = self._reason(gang, found, preemption, preempting)
        outcome = self._refuse(key, taken, reason)
        if preemption is not None:
            outcome.preemption = preemption
            outcome.reason += ", and is under way"
            outcome.members = [by_uid[pod.uid] for pod in gang.pods[: len(preemption.placement.nodes)]]
        elif not preempting:
            self._waits_for_room(key, gang, outcome)
        return self._held(key, group, members, outcome)

    def _placed(self, key: GroupKey, gang: Gang, found: Placement, by_uid: dict[str, Waiting]) -> Outcome:
        outcome = Outcome(key)
        count = len(found.nodes)
        try:
            for pod, node in zip(gang.pods, found.nodes, strict=False):
                decision = self._planner.chosen(pod, node)
                outcome.placed.append((by_uid[pod.uid], decision))
                if decision.devices is not None:  # its fellows get other ones, or share these
                    assume_plan(self._planner.devices, decision.devices, pod.uid, deciding=True)
        except AllocationError:
            for waiting, decision in outcome.placed:
                if decision.devices is not None:
                    release_plan(self._planner.devices, decision.devices, waiting.pod.uid)
            raise
        outcome.left = [by_uid[pod.uid] for pod in gang.pods[count:]]
        if outcome.left:
            outcome.reason = f"gang {key} runs with {count} of {len(gang.pods)} members: there is no room for more"
        self._unbound.setdefault(key, set()).update(pod.uid for pod in gang.pods[:count])
        self._promised.pop(key, None)
        self._partial.pop(key, None)
        return outcome

    def _reason(self, gang: Gang, found: Shortage, preemption: GangPreemption | None, preempting: int) -> str:
        if preempting:
            return f"waits until {preempting} preempted {'pod is' if preempting == 1 else 'pods are'} gone"
        return gang_reason(self._planner, gang, found, preemption)

    def _victims_leaving(self, gang: Gang) -> int:
        """How many pods leave nodes that were promised to the gang."""
        state = self._planner.state
        names = {name for pod in gang.pods if (name := state.nomination(pod.uid)) is not None}
        nodes = [node for name in names if (node := state.nodes.get(name)) is not None]
        return sum(pod.terminating and pod.priority <= gang.priority for node in nodes for pod in node.pods.values())

    def _waits_for_room(self, key: GroupKey, gang: Gang, outcome: Outcome) -> Outcome:
        """Room may be kept for it."""
        outcome.lacks_room = True
        kept, outcome.again = self._reserving.lacks_room(key, gang)
        if kept:
            outcome.reason += f"; {kept}"
        return outcome

    def _refuse(self, key: GroupKey, left: list[Waiting], reason: str) -> Outcome:
        return Outcome(key, left=left, reason=f"gang {key}: {reason}")

    # what is held, and given back

    def _held(self, key: GroupKey, group: Group, members: Members, outcome: Outcome) -> Outcome:
        """Look again when the time of what it holds is up; then give that back."""
        promised = any(self._planner.state.nomination(item.pod.uid) is not None for item in outcome.left)
        ends = [
            self._end(self._promised, key, group, promised or outcome.preemption is not None),
            self._end(self._partial, key, group, self._is_partial(key, group, members)),
        ]
        now = self._clock.monotonic()
        if ends[0] is not None and ends[0] <= now:
            del self._promised[key]
            outcome.preemption, outcome.withdrawn = None, promised
        if ends[1] is not None and ends[1] <= now:
            del self._partial[key]
            outcome.released = [pod for pod in members.there if _may_release(pod)]
        later = [end for end in (*ends, outcome.again) if end is not None and end > now]
        outcome.again = min(later) if later else None
        return outcome

    def _end(self, since: dict[GroupKey, float], key: GroupKey, group: Group, holds: bool) -> float | None:
        if not holds:
            since.pop(key, None)
            return None
        return since.setdefault(key, self._clock.monotonic()) + group.timeout_seconds

    def _is_partial(self, key: GroupKey, group: Group, members: Members) -> bool:
        """Whether a part of it runs, and never did the whole: known where we placed it ourselves; else only if its
        members were all bound a moment ago, while enough of those that wait were there."""
        if not members.there or key in self._whole:
            return False
        if key in self._partial:
            return True
        alive = {item.uid for item in members.waiting}
        if self._unbound.get(key, set()) & alive:
            return True
        wall, bound = self._clock.wall(), [_bound_at(pod) for pod in members.there]
        fellows = sum(_created_at(item.obj) <= min(bound) for item in members.waiting)
        enough = len(bound) + fellows >= group.least
        return enough and all(wall - since < group.timeout_seconds for since in bound)


def members_of(
    pods: Sequence[Object], planner: Planner, queue: SchedulingQueue, waiting: Waiting | None = None
) -> tuple[Members, list[Waiting]]:
    """A gang's pods as the scheduler sees them, `waiting` among them in any case; and the queue's entries of those
    that wait."""
    found, taken = Members(), []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        if "deletionTimestamp" in metadata or status.get("phase") == "Failed":
            continue
        uid = metadata.get("uid") or ""
        item = queue.get(uid)
        if uid in planner.state.pod_nodes or status.get("phase") == "Succeeded":
            found.there.append(pod)
        elif item is not None and item.place == "gated":
            found.gated += 1
        elif item is not None:
            found.waiting.append(item.pod)
            taken.append(item)
    if waiting is not None and waiting not in taken:  # gone from the cache, but its handler is not called yet
        found.waiting.append(waiting.pod)
        taken.append(waiting)
    return found, taken


# words


def unknown(group: Missing) -> str:
    return f"{group.lack}; {group.change} would let it be tried"


def too_few(group: Group, members: Members, lack: Mapping[str, int]) -> str:
    whom = ", ".join(f"{count} of {task}" if task else str(count) for task, count in lack.items())
    gates = f", {members.gated} more are behind scheduling gates" if members.gated else ""
    return f"{members.count} of at least {group.least} members are there{gates}; {whom} more would let it be tried"


def not_free(missing: Mapping[str, int]) -> str:
    return f"its minResources are not free: {shown(missing)} more would do"


def _asks(pod: Object) -> bool:
    from_template = (pod["metadata"].get("annotations") or {}).keys()
    return any(name.startswith("kueue.x-k8s.io/podset-") for name in from_template)


def _bound_at(pod: Object) -> float:
    since = (condition(pod, "PodScheduled") or {}).get("lastTransitionTime")
    return parse_rfc3339(since) if since else 0.0


def _created_at(pod: Object) -> float:
    return parse_rfc3339(pod["metadata"]["creationTimestamp"])


def _may_release(pod: Object) -> bool:
    """Only what someone makes again: a pod without a controller would be lost."""
    return (pod.get("status") or {}).get("phase") not in _OVER and controller_of(pod) is not None

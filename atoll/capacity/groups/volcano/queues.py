"""Which PodGroups a cycle lets in, which phase each is in, and what queues say of themselves. Pure.

A group that is Pending is let in (Inqueue) when its queue is open, its minResources and those of all that its queue
has let in stay within the capability of the queue and of those above it (`parent`), and the cluster as a whole is large
enough for all that was let in and for what other queues are guaranteed and do not use. Of several queues the one with
the least of its share comes first: share is the largest part of any resource, over the queue's weight. A queue below
its share whose groups find no room takes back from reclaimable queues above theirs: whole groups, the least important
and youngest first, which go back to Pending. Where a queue says what it deserves, that is its share (Volcano's capacity
plugin), by amounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atoll.capacity.groups.volcano import model
from atoll.capacity.groups.volcano.construct import as_quantities
from atoll.capacity.groups.volcano.model import Object
from atoll.objects.meta import is_deleting
from atoll.scheduling import resources

_IN = ("Inqueue", "Running", "Unknown")
_OPEN = ("", "Open")


@dataclass(slots=True)
class Group:
    """A PodGroup with what matters of its pods."""

    obj: Object
    priority: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    alive: int = 0
    used: Counter[str] = field(default_factory=Counter)  # of pods that have nodes

    @property
    def key(self) -> tuple[str, str]:
        metadata = self.obj["metadata"]
        return metadata["namespace"], metadata["name"]

    @property
    def queue(self) -> str:
        return str(self.obj["spec"].get("queue") or "default")

    @property
    def phase(self) -> str:
        return str((self.obj.get("status") or {}).get("phase") or "Pending")

    @property
    def least(self) -> int:
        return int(self.obj["spec"].get("minMember") or 1)

    @property
    def wants(self) -> Counter[str]:
        """What it takes: its minimum, or more where it has more."""
        return Counter(resources.amounts(self.obj["spec"].get("minResources"))) | self.used


@dataclass(slots=True)
class Cycle:
    """Statuses by PodGroup and by queue, and groups whose pods must go."""

    groups: dict[tuple[str, str], Object] = field(default_factory=dict)
    queues: dict[str, Object] = field(default_factory=dict)
    reclaimed: list[Group] = field(default_factory=list)


def read(obj: Object, pods: Sequence[Object]) -> Group:
    found = Group(obj)
    for pod in pods:
        spec = pod.get("spec") or {}
        found.priority = max(found.priority, int(spec.get("priority") or 0))
        phase = model.pod_phase(pod)
        found.running += phase == "Running" and not is_deleting(pod)
        found.succeeded += phase == "Succeeded"
        found.failed += phase == "Failed"
        found.alive += not model.is_over(pod)
        if spec.get("nodeName") and not model.is_over(pod):
            found.used.update(resources.pod_requests(spec))
    return found


def plan_cycle(
    groups: Sequence[Group], queues: Mapping[str, Object], total: Mapping[str, int], asked: Mapping[str, str]
) -> Cycle:
    """`total`: what all nodes have; `asked`: by queue, the action of a command (OpenQueue, CloseQueue)."""
    cycle = Cycle()
    phases = {group.key: _phase(group) for group in groups}
    held: dict[str, Counter[str]] = {}
    for group in groups:
        if phases[group.key] in _IN:
            held.setdefault(group.queue, Counter()).update(group.wants)
    waiting = [group for group in groups if phases[group.key] == "Pending" and group.obj["spec"].get("minMember")]
    reasons: dict[tuple[str, str], str] = {}
    while waiting:
        waiting.sort(
            key=lambda group: (-_importance(group, queues), _share(group.queue, held, queues, total), _rank(group))
        )
        group = waiting.pop(0)
        why = _refused(group, held, queues, total)
        if why:
            reasons[group.key] = why
            continue
        phases[group.key] = "Inqueue"
        held.setdefault(group.queue, Counter()).update(group.wants)
    _reclaim(cycle, groups, phases, reasons, held, queues, total)
    for group in groups:
        cycle.groups[group.key] = _status(group, phases[group.key], reasons.get(group.key, ""))
    for name, queue in queues.items():
        mine = [group for group in groups if group.queue == name]
        cycle.queues[name] = _queue_status(queue, mine, phases, asked.get(name, ""))
    return cycle


def _phase(group: Group) -> str:
    old = group.phase
    if group.succeeded and not group.alive and group.succeeded + group.failed >= group.least:
        return "Completed"
    if group.running + group.succeeded >= group.least and group.running:
        return "Running"
    if old in ("Running", "Unknown"):
        return "Unknown" if group.running else "Inqueue"
    return old if old in ("Inqueue", "Completed") else "Pending"


def _rank(group: Group) -> tuple[int, str, tuple[str, str]]:
    return -group.priority, str(group.obj["metadata"].get("creationTimestamp") or ""), group.key


def _importance(group: Group, queues: Mapping[str, Object]) -> int:
    """Its queue's priority: first in, and last to give back."""
    return int(((queues.get(group.queue) or {}).get("spec") or {}).get("priority") or 0)


def _share(
    queue: str, held: Mapping[str, Counter[str]], queues: Mapping[str, Object], total: Mapping[str, int]
) -> float:
    """The largest part of any resource that the queue holds, over its weight."""
    mine = held.get(queue) or Counter()
    weight = int(((queues.get(queue) or {}).get("spec") or {}).get("weight") or 1)
    return max((value / total[name] for name, value in mine.items() if total.get(name)), default=0.0) / weight


def _refused(
    group: Group, held: Mapping[str, Counter[str]], queues: Mapping[str, Object], total: Mapping[str, int]
) -> str:
    queue = queues.get(group.queue)
    if queue is None:
        return f"queue {group.queue} does not exist"
    state = str((queue.get("status") or {}).get("state") or "")
    if state not in _OPEN:
        return f"queue {group.queue} is {state.lower()}"
    line = _line(group.queue, queues)
    for name in line:
        mine, most = _below(name, held, queues) + group.wants, _amounts(queues, name, "capability")
        over = {key: mine[key] - value for key, value in most.items() if mine[key] > value}
        if over:
            return f"queue {name} would exceed its capability by {resources.shown(over)}"
    everything = sum(held.values(), Counter()) + group.wants + _guaranteed(line, held, queues)
    over = {name: value - total.get(name, 0) for name, value in everything.items() if value > total.get(name, 0)}
    wanted = {name: value for name, value in over.items() if group.wants[name]}
    return f"the cluster lacks {resources.shown(wanted)}" if wanted else ""


def _amounts(queues: Mapping[str, Object], name: str, field: str) -> dict[str, int]:
    """capability, deserved or guarantee of a queue."""
    found = ((queues.get(name) or {}).get("spec") or {}).get(field) or {}
    return resources.amounts(found.get("resource") if field == "guarantee" else found)


def _line(name: str, queues: Mapping[str, Object]) -> list[str]:
    """The queue and those above it; root, which need not exist, is above all."""
    found: list[str] = []
    while name in queues and name not in found:
        found.append(name)
        name = str((queues[name].get("spec") or {}).get("parent") or "")
    return found


def _below(name: str, held: Mapping[str, Counter[str]], queues: Mapping[str, Object]) -> Counter[str]:
    """What the queue holds, with all below it."""
    return sum((value for queue, value in held.items() if name in (queue, *_line(queue, queues))), Counter())


def _guaranteed(line: Sequence[str], held: Mapping[str, Counter[str]], queues: Mapping[str, Object]) -> Counter[str]:
    """What queues beyond the line may still ask for of their guarantees; one below another is in that one's."""
    found: Counter[str] = Counter()
    for name in queues:
        above = _line(name, queues)[1:]
        if name in line or any(item in line or _amounts(queues, item, "guarantee") for item in above):
            continue
        found += Counter(_amounts(queues, name, "guarantee")) - _below(name, held, queues)
    return found


def _within_share(
    name: str, held: Mapping[str, Counter[str]], queues: Mapping[str, Object], total: Mapping[str, int], fair: float
) -> bool:
    deserved = _amounts(queues, name, "deserved")
    if deserved:
        mine = held.get(name) or Counter()
        return all(mine[key] <= value for key, value in deserved.items())
    return _share(name, held, queues, total) <= fair + 1e-9


def _reclaim(
    cycle: Cycle, groups: Sequence[Group], phases: dict[tuple[str, str], str], reasons: dict[tuple[str, str], str],
    held: dict[str, Counter[str]], queues: Mapping[str, Object], total: Mapping[str, int],
) -> None:  # fmt: skip
    """For each group that only the cluster's size keeps out: groups of queues above their share, if those suffice."""
    weights = sum(int((queue.get("spec") or {}).get("weight") or 1) for queue in queues.values())
    fair = 1 / weights if weights else 0.0
    kept_out = [it for it in groups if reasons.get(it.key, "").startswith("the cluster")]
    first_to_go = sorted(sorted(groups, key=_rank, reverse=True), key=lambda it: _importance(it, queues))
    for group in sorted(kept_out, key=lambda it: (-_importance(it, queues), _rank(it))):
        mine = {group.queue: (held.get(group.queue) or Counter()) + group.wants}
        if not _within_share(group.queue, mine, queues, total, fair):
            continue  # it would be above its own
        trial = {name: Counter(value) for name, value in held.items()}
        victims: list[Group] = []
        for victim in first_to_go:
            if phases[victim.key] not in _IN or victim.queue == group.queue or victim in cycle.reclaimed:
                continue
            spec = (queues.get(victim.queue) or {}).get("spec") or {}
            if spec.get("reclaimable") is False or _within_share(victim.queue, trial, queues, total, fair):
                continue
            trial[victim.queue] = trial[victim.queue] - victim.wants
            victims.append(victim)
            if not _refused(group, trial, queues, total):
                break
        if victims and not _refused(group, trial, queues, total):
            held.update(trial)
            held.setdefault(group.queue, Counter()).update(group.wants)
            cycle.reclaimed += victims
            phases[group.key] = "Inqueue"
            del reasons[group.key]
            for victim in victims:
                phases[victim.key] = "Pending"
                reasons[victim.key] = f"queue {group.queue} has taken back its share"


def _status(group: Group, phase: str, reason: str) -> Object:
    old = group.obj.get("status") or {}
    counts = {"running": group.running, "succeeded": group.succeeded, "failed": group.failed}
    kept = {name: value for name, value in old.items() if name not in (*counts, "conditions")}
    found = {**kept, "phase": phase, **{name: value for name, value in counts.items() if value}}
    conditions = [item for item in old.get("conditions") or () if item.get("type") != "Unschedulable"]
    if reason:
        conditions.append({"type": "Unschedulable", "status": "True", "reason": "NotEnqueued", "message": reason})
    if conditions:
        found["conditions"] = conditions
    return found


def _queue_status(queue: Object, groups: Sequence[Group], phases: Mapping[tuple[str, str], str], asked: str) -> Object:
    """A queue that is closed is Closing for as long as it has groups."""
    old = queue.get("status") or {}
    names = {"Pending": "pending", "Inqueue": "inqueue", "Running": "running", "Unknown": "unknown",
             "Completed": "completed"}  # fmt: skip
    found = Counter(names[phases[group.key]] for group in groups)
    used: Counter[str] = sum((group.used for group in groups), Counter())
    kept = {name: value for name, value in old.items() if name not in (*names.values(), "allocated")}
    state = str(old.get("state") or "Open")
    state = {"OpenQueue": "Open", "CloseQueue": "Closing"}.get(asked, state)
    if state in ("Closing", "Closed"):
        state = "Closing" if groups else "Closed"
    return {**kept, "state": state, **found, "allocated": as_quantities(used)}

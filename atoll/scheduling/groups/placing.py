"""From what a group asks for and its pods to the `Gang` that is placed: who comes first, how many at least, near what.

Members that run already count towards the minimum; where all must share a rack, those that come later go to the rack
of those that are there. Pods may ask for a topology of their own (Kueue's annotations): each pod set that does (a
replicated job of a JobSet) is a part of the gang by itself, unless it names a group of pod sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from atoll.kinds import batch, kueue
from atoll.objects import meta
from atoll.scheduling.gang import Gang
from atoll.scheduling.groups.model import Group, Object, Topology
from atoll.scheduling.groups.rank import index, rank
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import HOSTNAME, PodInfo

Hierarchies = Sequence[Sequence[str]]
"""Levels (node labels, wide to narrow) of each known topology."""
_Part = tuple[Topology, str]
"""What pods of one gang ask for, and by which name they ask for it together."""


@dataclass(slots=True)
class Members:
    """A group's pods: those on nodes (or done), and those that could be placed now. `coming`: gated or not seen yet."""

    there: list[Object] = field(default_factory=list)
    waiting: list[PodInfo] = field(default_factory=list)
    gated: int = 0

    @property
    def count(self) -> int:
        return len(self.there) + len(self.waiting)


def short(group: Group, members: Members, task_of: Callable[[Object], str]) -> dict[str, int]:
    """How many members are not there at all (neither on nodes nor waiting), by task ("" for any)."""
    have = Counter(task_of(pod) for pod in members.there) + Counter(task_of(pod.obj) for pod in members.waiting)
    found = {task: least - have[task] for task, least in group.tasks.items() if have[task] < least}
    missing = group.least - members.count
    if missing > sum(found.values()):
        found[""] = missing - sum(found.values())
    return found


def is_whole(group: Group, there: Iterable[Object], task_of: Callable[[Object], str]) -> bool:
    """Whether those on nodes suffice: then members beyond them are pods like any other."""
    have = Counter(task_of(pod) for pod in there)
    return have.total() >= group.least and all(have[task] >= least for task, least in group.tasks.items())


def to_place(
    name: str, group: Group, members: Members, task_of: Callable[[Object], str], levels: Hierarchies, planner: Planner
) -> Gang:
    """The waiting members as a gang, the indispensable ones first; of `least`, what is on nodes is taken off."""
    have = Counter(task_of(pod) for pod in members.there)
    first: list[PodInfo] = []
    later: list[PodInfo] = []
    for pod in sorted(members.waiting, key=lambda item: rank(item.obj)):
        task = task_of(pod.obj)
        needed = have[task] < group.tasks.get(task, 0)
        have[task] += 1
        (first if needed else later).append(pod)
    least = max(group.least - len(members.there), len(first), 1)
    pods = first + later
    least = min(least, len(pods))
    there: dict[_Part, list[Object]] = {}
    for obj in members.there:
        there.setdefault(_part(obj, group.topology), []).append(obj)
    parts: dict[_Part, list[PodInfo]] = {}
    for pod in pods:
        parts.setdefault(_part(pod.obj, group.topology), []).append(pod)
    gangs = [_gang(name, part[0], some, there.get(part, ()), levels, planner) for part, some in parts.items()]
    if len(gangs) > 1:
        gang = Gang(name, pods, parts=sorted(gangs, key=lambda gang: (not gang.required, -len(gang.pods))))
    else:
        gang = replace(gangs[0], least=0 if gangs[0].parts else least)
    return gang if group.priority is None else gang.with_priority(group.priority)


def _part(pod: Object, group: Topology) -> _Part:
    """What a pod asks for itself, with its pod set or its group of them; else what the gang asks for."""
    found, has = meta.annotations(pod), meta.labels(pod)
    size = found.get(kueue.SLICE_SIZE, "")
    slices = (found.get(kueue.SLICE_TOPOLOGY, ""), int(size)) if size.isdigit() and int(size) else ("", 0)
    own = Topology(found.get(kueue.REQUIRED_TOPOLOGY, ""), found.get(kueue.PREFERRED_TOPOLOGY, ""), *slices)
    if not (own.required or own.preferred or own.slice_level):
        return group, ""
    together = found.get(kueue.POD_SET_GROUP)
    pod_set = has.get(kueue.POD_SET_LABEL) or has.get(batch.REPLICATED_JOB, "")
    return own, f"group/{together}" if together else pod_set


def _gang(
    name: str, topology: Topology, pods: Sequence[PodInfo], there: Sequence[Object], known: Hierarchies,
    planner: Planner,
) -> Gang:  # fmt: skip
    """One part; its slices are parts of it. `there`: those of it that are on nodes."""
    asked = [level for level in (topology.required, topology.preferred, topology.slice_level) if level]
    levels = next((tuple(found) for found in known if all(level in found for level in asked)), ())
    if not levels:
        levels = tuple(dict.fromkeys((*asked, HOSTNAME)))
    parts: list[Gang] = []
    if topology.slice_level and topology.slice_size:
        for some, fellows in _slices(topology.slice_size, pods, there):
            within = _within(topology.slice_level, fellows, planner)
            parts.append(Gang(name, some, levels, topology.slice_level, within=within))
    within = _within(topology.required, there, planner)
    return Gang(name, pods, levels, topology.required, topology.preferred, within=within, parts=parts)


def _slices(size: int, pods: Sequence[PodInfo], there: Sequence[Object]) -> list[tuple[list[PodInfo], list[Object]]]:
    """Of each slice those that wait, and those that are on nodes: so many neighbours in rank, wherever they are."""
    everyone = sorted((*(pod.obj for pod in pods), *there), key=rank)
    indices = [index(obj) for obj in everyone]
    if None in indices or len(set(indices)) < len(indices):
        indices = list(range(len(everyone)))
    slice_of = {id(obj): (at or 0) // size for obj, at in zip(everyone, indices, strict=True)}
    waiting: dict[int, list[PodInfo]] = {}
    fellows: dict[int, list[Object]] = {}
    for pod in pods:
        waiting.setdefault(slice_of[id(pod.obj)], []).append(pod)
    for obj in there:
        fellows.setdefault(slice_of[id(obj)], []).append(obj)
    return [(waiting[which], fellows.get(which, [])) for which in sorted(waiting)]


def _within(level: str, there: Iterable[Object], planner: Planner) -> tuple[str, str] | None:
    """Where those that are there are, so that others go to them."""
    where = _domain(level, there, planner)
    return (level, where) if where else None


def _domain(level: str, there: Iterable[Object], planner: Planner) -> str:
    """The value of the required level where most of the members are."""
    if not level:
        return ""
    found: Counter[str] = Counter()
    for pod in there:
        where = planner.state.pod_nodes.get(pod["metadata"].get("uid") or "")
        node = planner.state.nodes.get(where or "")
        if node is not None and level in node.labels:
            found[node.labels[level]] += 1
    return found.most_common(1)[0][0] if found else ""


def lacking(planner: Planner, wanted: Mapping[str, int]) -> dict[str, int]:
    """What of `wanted` (minResources) the cluster's nodes do not have free, all taken together."""
    free: Counter[str] = Counter()
    for node in planner.state.nodes.values():
        for name in wanted:
            free[name] += max(0, node.allocatable.get(name, 0) - node.requested.get(name, 0))
    return {name: value - free[name] for name, value in wanted.items() if value > free[name]}

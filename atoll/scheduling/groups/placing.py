"""From what a group asks for and its pods to the `Gang` that is placed: who comes first, how many at least, near what.

Members that run already count towards the minimum; where all must share a rack, those that come later go to the rack
of those that are there. Pods may ask for a topology of their own (Kueue's annotations): pods that ask for the same
are one part of the gang.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from atoll.objects import meta
from atoll.scheduling.gang import Gang
from atoll.scheduling.groups.model import Group, Object, Topology
from atoll.scheduling.groups.rank import rank
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import HOSTNAME, PodInfo

REQUIRED = "kueue.x-k8s.io/podset-required-topology"
PREFERRED = "kueue.x-k8s.io/podset-preferred-topology"
SLICE_LEVEL = "kueue.x-k8s.io/podset-slice-required-topology"
SLICE_SIZE = "kueue.x-k8s.io/podset-slice-size"
Hierarchies = Sequence[Sequence[str]]
"""Levels (node labels, wide to narrow) of each known topology."""


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
    parts: dict[Topology, list[PodInfo]] = {}
    for pod in pods:
        parts.setdefault(_asked(pod.obj, group.topology), []).append(pod)
    gangs = [_gang(name, topology, some, levels) for topology, some in parts.items()]
    if len(gangs) > 1:
        return Gang(name, pods, parts=sorted(gangs, key=lambda gang: (not gang.required, -len(gang.pods))))
    gang = gangs[0]
    where = _domain(gang.required, members.there, planner)
    return replace(gang, least=0 if gang.parts else least, within=(gang.required, where) if where else None)


def _asked(pod: Object, group: Topology) -> Topology:
    found = meta.annotations(pod)
    size = found.get(SLICE_SIZE, "")
    slices = (found.get(SLICE_LEVEL, ""), int(size)) if size.isdigit() and int(size) else ("", 0)
    own = Topology(found.get(REQUIRED, ""), found.get(PREFERRED, ""), *slices)
    return own if own.required or own.preferred or own.slice_level else group


def _gang(name: str, topology: Topology, pods: Sequence[PodInfo], known: Hierarchies) -> Gang:
    """Slices are parts of it: so many pods each, in rank order, in a domain of their level."""
    asked = [level for level in (topology.required, topology.preferred, topology.slice_level) if level]
    levels = next((tuple(found) for found in known if all(level in found for level in asked)), ())
    if not levels:
        levels = tuple(dict.fromkeys((*asked, HOSTNAME)))
    parts: list[Gang] = []
    if topology.slice_level and topology.slice_size:
        size = topology.slice_size
        chunks = [pods[start : start + size] for start in range(0, len(pods), size)]
        parts = [Gang(name, chunk, levels, topology.slice_level) for chunk in chunks]
    return Gang(name, pods, levels, topology.required, topology.preferred, parts=parts)


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

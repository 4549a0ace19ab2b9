"""All of a group of pods or none, near each other: where the members of a gang go, decided on one snapshot.

Topology levels are node labels from wide to narrow (block, rack, host). A gang may require that all members share a
value of one level, or prefer it: then wider levels are tried, and at last any nodes. Of the domains that have room the
one with the least room is taken, and in it as few narrower domains as will do, the last of them the smallest that
still holds the rest: large holes are kept for large gangs (minimal fragmentation, as Kueue's topology-aware
scheduling). Members get nodes in their order, domain after domain, so that neighbours in rank are neighbours in the
network.

An elastic gang is placed as a whole, or, where that does not fit, with as many members as fit, but not fewer than its
least. Members may differ in shape. Where members look at each other (affinity between pods, topology spread) they
are placed one by one by trial moves, which are taken back if not all find a place. Members that ask for different
topologies, and slices (so many neighbours each, in a domain of their own), are parts: all of them are placed or none.
`filling.py` says who of them gets which node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from atoll.scheduling.arrays import Bools, Ids, Ints, np
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.filling import Groups, by_shape, fill
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.trial import hold_room, place, trial


@dataclass(slots=True, frozen=True)
class Gang:
    """Members in rank order; `least`: how many make sense at all (0: all of them)."""

    name: str
    pods: Sequence[PodInfo]
    levels: Sequence[str] = ()  # node label keys, wide to narrow
    required: str = ""  # the level whose value all members must share
    preferred: str = ""
    least: int = 0
    within: tuple[str, str] | None = None  # a node label and its value: where others of the gang are already
    parts: Sequence[Gang] = ()  # what asks for topologies of its own: all of them are placed, one after the other
    own_priority: int | None = None  # whatever its pods have

    @property
    def priority(self) -> int:
        return max(pod.priority for pod in self.pods) if self.own_priority is None else self.own_priority

    def with_priority(self, priority: int) -> Gang:
        """The same, as important as that; its parts too."""
        parts = [part.with_priority(priority) for part in self.parts]
        return replace(self, parts=parts, own_priority=priority)

    def __post_init__(self) -> None:
        for level in (self.required, self.preferred):
            if level and level not in self.levels:
                raise ValueError(f"gang {self.name}: topology level {level} is none of {', '.join(self.levels)}")
        if not self.pods or not 0 <= self.least <= len(self.pods):
            raise ValueError(f"gang {self.name}: a minimum of {self.least} for {len(self.pods)} members")


@dataclass(slots=True)
class Placement:
    """`nodes[i]` is where the i-th member goes; shorter than the gang where it is elastic. `level`: what they share."""

    nodes: list[str]
    level: str = ""
    domain: str = ""


@dataclass(slots=True)
class Shortage:
    """Why a gang does not fit: the most members that any domain of the level takes, and which domains take so many."""

    level: str
    wanted: int
    most: int
    best: list[str] = field(default_factory=list)


def plan_gang(planner: Planner, gang: Gang) -> Placement | Shortage:
    """Nodes for all members (or enough of them), on the planner's state as it is; the state is left as it was.

    Room that preemption has made for others, of the gang's priority or above, counts as taken.
    """
    with promised_to_others(planner, gang):
        return plan_beside(planner, gang)


@contextmanager
def promised_to_others(planner: Planner, gang: Gang) -> Iterator[None]:
    """Meanwhile they have the room that was promised to them."""
    with trial() as undos:
        mine = {pod.uid for pod in gang.pods}
        for node, nominated in list(planner.state.nominated.items()):
            for pod in list(nominated.values()):
                if pod.priority >= gang.priority and pod.uid not in mine and pod.uid not in planner.state.pod_nodes:
                    undos.append(hold_room(planner, pod, node))
        yield


def plan_beside(planner: Planner, gang: Gang) -> Placement | Shortage:
    """As `plan_gang`, on the state as it is."""
    if gang.parts:
        return _in_parts(planner, gang)
    count = len(gang.pods)
    found = _place(planner, gang, count)
    least = gang.least or count
    if isinstance(found, Placement) or least == count:
        return found
    low, high = least, min(count - 1, max(found.most, least))  # the most that fit: halve the interval
    smaller = _place(planner, gang, low)
    if isinstance(smaller, Shortage):
        return smaller
    while low < high:
        middle = (low + high + 1) // 2
        tried = _place(planner, gang, middle)
        if isinstance(tried, Placement):
            low, smaller = middle, tried
        else:
            high = middle - 1
    return smaller


def _in_parts(planner: Planner, gang: Gang) -> Placement | Shortage:
    """In the smallest domain of a level that the gang allows in which all parts fit."""
    shortage: Shortage | None = None
    for level in tried_levels(gang):
        if not level or gang.within is not None:
            found = _one_after_the_other(planner, gang, gang.within)
            if isinstance(found, Placement):
                return found
            shortage = found
            continue
        groups = by_shape(planner, gang.pods)
        if groups is None:
            return Shortage(level, len(gang.pods), 0)
        column = planner.nodes.label(level)
        ids, names = column.ids[: planner.nodes.size], list(column.values)
        fits = _members_by_domain(groups, [_room(evaluation) for _, evaluation in groups], ids, len(names))
        shortage = _shortage(level, fits, names, len(gang.pods))
        for domain in _candidates(fits, len(gang.pods)):
            found = _one_after_the_other(planner, gang, (level, names[domain]))
            if isinstance(found, Placement):
                return Placement(found.nodes, level, names[domain])
            shortage = found
    assert shortage is not None
    return shortage


def _one_after_the_other(planner: Planner, gang: Gang, within: tuple[str, str] | None) -> Placement | Shortage:
    """Each part whole, given those before it: the first that does not fit says what is short."""
    nodes: dict[str, str] = {}
    with trial() as undos:
        for part in gang.parts:
            bound = within is None or part.within is not None  # to where others of it are already
            found = plan_beside(planner, part if bound else replace(part, within=within))
            if isinstance(found, Shortage):
                return found
            for pod, node in zip(part.pods, found.nodes, strict=True):
                nodes[pod.uid] = node
                try:
                    undos.append(place(planner, pod, node))
                except AllocationError:
                    return Shortage(part.required, len(part.pods), 0)
    return Placement([nodes[pod.uid] for pod in gang.pods])


def _place(planner: Planner, gang: Gang, count: int) -> Placement | Shortage:
    members = gang.pods[:count]
    groups = by_shape(planner, members)
    if groups is None:
        return Shortage(gang.required, count, 0)
    planner.nodes.follow()
    return _in_domains(planner, gang, members, groups)


def _in_domains(planner: Planner, gang: Gang, members: Sequence[PodInfo], groups: Groups) -> Placement | Shortage:
    """Try the levels that the gang allows, the narrowest first; in each the domain with the least room that will do."""
    nodes = planner.nodes
    rooms = [_room(evaluation) for _, evaluation in groups]
    beyond = outside(planner, gang)
    shortage: Shortage | None = None
    for level in tried_levels(gang):
        if level:
            column = nodes.label(level)
            ids, names = column.ids[: nodes.size], list(column.values)
        else:
            ids, names = np.zeros(nodes.size, np.int32), [""]
        if beyond is not None:
            ids = np.where(beyond, np.int32(-1), ids)
        fits = _members_by_domain(groups, rooms, ids, len(names))
        for domain in _candidates(fits, len(members)):
            rows = (ids == domain).nonzero()[0]
            where = fill(planner, gang.levels, groups, rows)
            if where is not None:
                chosen = [nodes.names[where[pod.uid]] for pod in members]
                return Placement(chosen, level, names[domain])
        shortage = _shortage(level, fits, names, len(members))
    assert shortage is not None
    return shortage


def outside(planner: Planner, gang: Gang) -> Bools | None:
    """The rows beyond the domain that the gang is bound to, and those that are kept for another gang."""
    nodes, kept = planner.nodes, planner.reservation
    beyond: Bools | None = None
    if gang.within is not None:
        level, value = gang.within
        column = nodes.label(level)
        beyond = column.ids[: nodes.size] != column.values.get(value, -2)
    if kept is not None and kept.concerns(gang.priority, gang.name):
        beyond = np.zeros(nodes.size, np.bool_) if beyond is None else beyond
        beyond[kept.rows(nodes)] = True
    return beyond


def tried_levels(gang: Gang) -> list[str]:
    """From the preferred level to the required one, or to no level at all."""
    widest = gang.levels.index(gang.required) if gang.required else -1
    start = gang.levels.index(gang.preferred) if gang.preferred else widest
    found = [gang.levels[place] for place in range(max(start, widest), widest - 1, -1) if place >= 0]
    return found if gang.required else [*found, ""]


def _room(evaluation: Evaluation) -> Ints:
    return evaluation.room(evaluation.nodes.all_rows())


def _members_by_domain(groups: Groups, rooms: list[Ints], ids: Ids, domains: int) -> Ints:
    """How many pods each domain has room for; of several shapes, no more of each than there are members."""
    there = ids >= 0
    total = np.zeros(domains, np.int64)
    for (pods, _), room in zip(groups, rooms, strict=True):
        sums = np.zeros(domains, np.int64)
        np.add.at(sums, ids[there], room[there])
        total += sums if len(groups) == 1 else np.minimum(sums, len(pods))
    return total


def _candidates(fits: Ints, wanted: int) -> list[int]:
    """Domains with room enough, the least room first."""
    enough = (fits >= wanted).nonzero()[0]
    return [int(domain) for domain in enough[np.argsort(fits[enough], kind="stable")]]


def _shortage(level: str, fits: Ints, names: list[str], wanted: int) -> Shortage:
    most = min(int(fits.max()), wanted) if len(fits) else 0
    best = [names[place] for place in (fits >= most).nonzero()[0].tolist()] if most else []
    return Shortage(level, wanted, most, best)

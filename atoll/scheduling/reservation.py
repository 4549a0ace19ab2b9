"""Room that is kept for a gang that has waited long, so that small work that keeps coming can't starve it. Pure.

The idea is EASY backfilling's (Lifka, "The ANL/IBM SP scheduling system", 1995; Slurm's sched/backfill, Volcano's sla
plugin): only the first of those that wait has a reservation, and others may go ahead of it where that does not delay
it. Run times are not known here, so the reservation is a set of nodes, not an hour: those where the least work has to
end before the gang fits. Work counts as ending where it ends by itself (restartPolicy Never or OnFailure) or leaves
already; nothing is kept on the strength of servers that would have to stop.

What is chosen goes by amounts, by what nodes themselves refuse (labels, taints) and by devices that claims will have
given back (where members have several kinds of claims, each kind is counted by itself): affinity between pods and ports
are looked at when the gang is placed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atoll.scheduling.arrays import Bools, Ids, Ints, Rows, np
from atoll.scheduling.resources import PODS
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

_MOST_DOMAINS = 64  # that are looked at closely: those with the least work to end


@dataclass(slots=True)
class Reservation:
    """`amounts`: by node, what members ask for there (pods counted too). `leaving`: pods that must end before."""

    gang: str
    priority: int
    amounts: Mapping[str, Mapping[str, int]]
    leaving: int = 0
    devices: frozenset[str] = frozenset()  # nodes on which members have claims: all devices there are kept
    _rows: Rows | None = None
    _kept: Ints | None = None  # the same amounts, by the snapshot's lines, one column a node
    _at: tuple[int, int] = (-1, -1)  # of the snapshot when these were made
    status: Status = field(init=False)

    def __post_init__(self) -> None:
        self.status = Status((f"node(s) were kept for gang {self.gang}, which has waited long",))

    def concerns(self, priority: int, gang: str = "") -> bool:
        """Whether a pod (or gang) of that priority must leave it alone."""
        return priority <= self.priority and gang != self.gang

    def rows(self, nodes: Snapshot) -> Rows:
        self._follow(nodes)
        assert self._rows is not None
        return self._rows

    def barred(self, nodes: Snapshot, requests: Mapping[str, int], claims: bool = False) -> list[int]:
        """Rows where a pod with these requests (and `claims`) would take what is kept: others have room beside it."""
        self._follow(nodes)
        assert self._rows is not None
        assert self._kept is not None
        bars = np.zeros(len(self._rows), np.bool_)
        for name, value in ((PODS, 1), *requests.items()):
            line = nodes.columns.get(name)
            if line is not None and value:
                bars |= nodes.free[line].take(self._rows) - self._kept[line] < value
        if claims and self.devices:
            bars |= np.isin(self._rows, [nodes.rows[name] for name in self.devices if name in nodes.rows])
        found: list[int] = self._rows[bars].tolist()
        return found

    def _follow(self, nodes: Snapshot) -> None:
        at = nodes.changed.end, len(nodes.columns)
        if self._at == at:
            return
        self._at = at
        there = [name for name in self.amounts if name in nodes.rows]
        self._rows = np.array([nodes.rows[name] for name in there], np.intp)
        self._kept = np.zeros((len(nodes.columns), len(there)), np.int64)
        for place, name in enumerate(there):
            for resource, value in self.amounts[name].items():
                self._kept[nodes.columns[resource], place] = value


@dataclass(slots=True)
class Shape:
    """Members that ask for the same: how many, for what, and which rows' nodes would take them; `devices`: how many of
    them each row takes by the devices of their claims, None for members without."""

    count: int
    requests: Mapping[str, int]
    suited: Bools
    devices: Ints | None = None


class Later:
    """What nodes have free once the work on them that ends by itself has ended. Rows as in the snapshot."""

    def __init__(self, nodes: Snapshot) -> None:
        size = nodes.size
        self.free: Ints = nodes.free[:, :size].copy()
        self.leaving: Ints = np.zeros(size, np.int64)  # pods
        for row, node in enumerate(nodes.nodes):
            if node is not None and node.pods:
                self._lift(nodes, row, node)

    def _lift(self, nodes: Snapshot, row: int, node: NodeState) -> None:
        ending = Counter(pod.template for pod in node.pods.values() if pod.terminating or _ends(pod.obj))
        for template, count in ending.items():
            self.free[0, row] += count
            self.leaving[row] += count
            for name, value in template.requests.items():
                self.free[nodes.columns[name], row] += count * value

    def room(self, nodes: Snapshot, shape: Shape) -> Ints:
        """How many members of the shape each row takes."""
        found: Ints = np.maximum(self.free[0], 0)
        for name, value in shape.requests.items():
            line = nodes.columns.get(name)
            if value:
                has = np.zeros_like(found) if line is None else np.maximum(self.free[line], 0)
                found = np.minimum(found, has // value)
        if shape.devices is not None:
            found = np.minimum(found, np.maximum(shape.devices, 0))
        return np.where(shape.suited[: len(found)], found, 0)

    def take(self, nodes: Snapshot, row: int, shape: Shape, count: int) -> None:
        self.free[0, row] -= count
        for name, value in shape.requests.items():
            self.free[nodes.columns[name], row] -= count * value
        if shape.devices is not None:
            shape.devices[row] -= count


def ending(nodes: Snapshot) -> frozenset[str]:
    """The uids of pods that end by themselves, or are leaving."""
    there = (pod for node in nodes.nodes if node is not None for pod in node.pods.values())
    return frozenset(pod.uid for pod in there if pod.terminating or _ends(pod.obj))


def _ends(pod: Mapping[str, object]) -> bool:
    spec = pod.get("spec")
    return isinstance(spec, dict) and spec.get("restartPolicy") in ("Never", "OnFailure")


Taken = list[tuple[int, Shape, int]]
"""Row, whose members, how many."""


def keep(nodes: Snapshot, later: Later, shapes: Sequence[Shape], ids: Ids) -> Taken | None:
    """Rows for all members within one domain (`ids`: each row's; -1: in none), where the least has to end.

    None: no domain has room even then. What is taken is taken off `later`.
    """
    best: tuple[int, int, Taken] | None = None
    for place, rows in enumerate(_domains(nodes, later, shapes, ids)):
        found = _within(nodes, later, shapes, rows)
        if found is not None:
            cost = int(later.leaving[list({row for row, _, _ in found})].sum())
            if best is None or (cost, place) < best[:2]:
                best = cost, place, found
    if best is None:
        return None
    for row, shape, count in best[2]:
        later.take(nodes, row, shape, count)
    return best[2]


def _domains(nodes: Snapshot, later: Later, shapes: Sequence[Shape], ids: Ids) -> Iterator[Rows]:
    """The rows of each domain that may have room, those with the least work to end first."""
    count = int(ids.max(initial=-1)) + 1
    if not count:
        return
    there = ids >= 0
    enough, useful = np.ones(count, np.bool_), np.zeros(len(ids), np.bool_)
    for shape in shapes:
        room, sums = later.room(nodes, shape), np.zeros(count, np.int64)
        np.add.at(sums, ids[there], np.minimum(room[there], shape.count))
        enough &= sums >= shape.count
        useful |= room > 0
    work = np.zeros(count, np.int64)
    np.add.at(work, ids[there], later.leaving[there])
    domains = enough.nonzero()[0]
    for domain in domains[np.argsort(work[domains], kind="stable")][:_MOST_DOMAINS]:
        yield ((ids == domain) & useful).nonzero()[0]


def _within(nodes: Snapshot, later: Later, shapes: Sequence[Shape], rows: Rows) -> Taken | None:
    """Rows of a domain, those first where the fewest pods must end for each member."""
    found: Taken = []
    try:
        for shape in shapes:
            room = later.room(nodes, shape).take(rows)
            order = np.lexsort((-room, later.leaving.take(rows) / np.maximum(room, 1)))
            wanted = shape.count
            for place in order.tolist():
                share = min(wanted, room.item(place))
                if share:
                    row = int(rows[place])
                    later.take(nodes, row, shape, share)
                    found.append((row, shape, share))
                    wanted -= share
                if not wanted:
                    break
            if wanted:
                return None
        return found
    finally:
        for row, shape, count in found:
            later.take(nodes, row, shape, -count)

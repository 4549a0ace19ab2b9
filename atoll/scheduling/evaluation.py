"""What the plugins say about one pod shape on all nodes, remembered; computed again only where a node has changed.

Placing a pod changes one row. Per row the evaluation keeps the sum of the plain scores (`_rank`, `NEVER` where a plain
filter refuses the node), and for scores that are normalised their raw values. A decision then is a few operations on
whole arrays: join what looks around, normalise over what is feasible, add, and take the greatest. Ties go to the node
with the fewest pods, then by the snapshot's order, so equal inputs give equal placements.

A `Board` (board.py) keeps several shapes together and asks about all of them at once where a node has changed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, MutableSequence, Sequence, Set
from dataclasses import dataclass
from typing import Any

from atoll.scheduling.arrays import Bools, Ints, Rows, grown, np
from atoll.scheduling.kept import NEVER, Kept
from atoll.scheduling.plugins.port import UNLIMITED, Around, Devices, Filter, Plugin, Score
from atoll.scheduling.promises import Promised
from atoll.scheduling.refused import KnownReasons, Refused
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

PODS_UNIT = 1 << 20  # more than any node's pods: ranks by score first, then by pods
_FEW = 4  # rows: so few are cheaper one by one than as arrays
_MANY = 32  # rows: for so many the ranks of all are as soon joined again


class Refusals:
    """What the plugins have against nodes for one shape, one node at a time."""

    def __init__(self, nodes: Snapshot, shape: Shape, plugins: Sequence[Plugin]) -> None:
        self.filters: list[Filter] = those(plugin.filter(shape, nodes) for plugin in plugins)
        self.around: list[Around] = those(plugin.around(shape, nodes) for plugin in plugins)

    @property
    def look_around(self) -> bool:
        """Whether other nodes matter: the parts that look around then must be synced."""
        return any(part.refuses for part in self.around)

    def why(self, node: NodeState) -> Status | None:
        """The first reason against a node as it is, or as a variant of it would be; None: it fits."""
        parts: list[Filter | Around] = [*self.filters, *(part for part in self.around if part.refuses)]
        return next((found for part in parts if (found := part.why(node)) is not None), None)


class Evaluation:
    """One shape on one snapshot, by these plugins."""

    def __init__(self, nodes: Snapshot, shape: Shape, plugins: Sequence[Plugin], board: Lines | None = None) -> None:
        """`board`: who keeps the ranks up to date instead."""
        self.nodes = nodes
        self.shape = shape
        self._plugins = plugins
        self._packs = any(plugin.packs for plugin in plugins)
        self._build(board)

    def _build(self, board: Lines | None = None) -> None:
        nodes, shape = self.nodes, self.shape
        self._epoch = nodes.epoch
        self.refusals = Refusals(nodes, shape, self._plugins)
        scores: list[Score] = those(plugin.score(shape, nodes) for plugin in self._plugins)
        given: list[Devices] = those(plugin.devices(shape, nodes) for plugin in self._plugins)
        self._devices = given[-1] if given else None
        self._parts = max((score.parts for score in scores if not score.normalised), default=1)
        plain = [score for score in scores if not score.normalised]
        self._static_filters = [part for part in self.refusals.filters if part.static]
        self._filters = [part for part in self.refusals.filters if not part.static]
        self._static_scores = [score for score in plain if score.static]
        self._scores = [score for score in plain if not score.static]
        self._normalised = [score for score in scores if score.normalised]
        size = len(nodes.present)
        self._unit = PODS_UNIT if board is None else board.unit
        self._static_open: Bools = np.zeros(size, np.bool_) if board is None else board.open
        self._static_sum: Ints = np.zeros(size, np.int64) if board is None else board.sums
        # the sum of scores in units; less than one unit is taken off for pods and, on a board, the order
        self._rank: Ints = np.full(size, NEVER, np.int64) if board is None else board.rank
        self._raw: list[Ints] = [np.zeros(size, np.int64) for _ in self._normalised]
        self._varied = [not score.static for score in self._normalised]  # raw values that are all 0 decide nothing
        self._reasons = KnownReasons(nodes)
        self._rooms: dict[int, int] = {}  # of rows that were asked for one by one
        self.promised = Promised(nodes)
        self._told: tuple[int, Refused] | None = None
        self._kept: Kept | None = None
        self._moved: dict[int, None] = {}  # rows that were looked at again since `_kept`
        self._steady = all(score.static for score in self._normalised) and not self.refusals.look_around
        self._placed, self._changed = nodes.placed.end, nodes.changed.end
        self._update_static(nodes.all_rows())
        if board is None:
            self._update(nodes.all_rows())

    # staying up to date

    def sync(self) -> None:
        """Catch up with the snapshot."""
        nodes = self.nodes
        if self._placed == nodes.placed.end and self._epoch == nodes.epoch:
            return
        placed, changed = nodes.placed.since(self._placed), nodes.changed.since(self._changed)
        if self._epoch != nodes.epoch or placed is None or changed is None:
            self._build()
            return
        self._placed, self._changed = nodes.placed.end, nodes.changed.end
        if len(self._rank) != len(nodes.present):
            self._grow(len(nodes.present))
        if changed:
            self._update_static(_rows(changed))
        rows = dict.fromkeys(placed) if len(placed) <= _MANY else None
        if rows is not None and len(rows) <= _FEW:
            for row in rows:
                self._update_one(row)
            for around in self.refusals.around:
                around.sync()
        else:
            self._update(_rows(placed) if len(placed) < nodes.size else nodes.all_rows())
        if changed or rows is None or len(self._moved) + len(rows) > _MANY:
            self._kept = None
        elif self._kept is not None:
            self._moved |= rows

    def _grow(self, size: int) -> None:
        self._static_open, self._static_sum = grown(self._static_open, size, False), grown(self._static_sum, size, 0)
        self._rank = grown(self._rank, size, NEVER)
        self._raw = [grown(raw, size, 0) for raw in self._raw]
        self._reasons.grow(size)

    def _update_static(self, rows: Rows) -> None:
        """Rows that are new or have another node."""
        found = self.nodes.present[rows]
        for part in self._static_filters:
            if part.costly:
                left = np.flatnonzero(found)
                found[left] = part.allowed(rows[left])
            else:
                found = found & part.allowed(rows)
        total = np.zeros(len(rows), np.int64)
        for score in self._static_scores:
            total += self._factor(score) * score.values(rows)
        self._static_open[rows], self._static_sum[rows] = found, total
        for place, score in enumerate(self._normalised):
            if score.static:
                self._raw[place][rows] = score.values(rows)
                self._varied[place] = bool(self._raw[place].any())

    def _update(self, rows: Rows) -> None:
        """Rows whose pods, or nodes, are not what they were."""
        self._reasons.discard(rows)
        if self._rooms:
            for row in rows.tolist():
                self._rooms.pop(row, None)
                self.promised.discard(row)
        found, total = self._static_open.take(rows), self._static_sum.take(rows)
        for part in self._filters:
            found &= part.allowed(rows)
        for score in self._scores:
            values, factor = score.values(rows), self._factor(score)
            total += values if factor == 1 else factor * values
        total *= PODS_UNIT
        if not self._packs:
            total -= self.nodes.requested[0].take(rows)
        total[~found] = NEVER
        self._rank[rows] = total
        self._update_raw(rows)
        for around in self.refusals.around:
            around.sync()

    def _update_raw(self, rows: Rows) -> None:
        for place, score in enumerate(self._normalised):
            if not score.static:
                self._raw[place][rows] = score.values(rows)

    def _update_one(self, row: int) -> None:
        """The same for one row: numpy's price a call is more than what there is to count."""
        self._reasons.discard(row)
        self._rooms.pop(row, None)
        self.promised.discard(row)
        rank = NEVER
        if self._static_open[row] and all(part.allows(row) for part in self._filters):
            total = self._static_sum.item(row)
            for score in self._scores:
                total += self._factor(score) * score.value(row)
            rank = total * PODS_UNIT - self._pods(row)
        self._rank[row] = rank
        for place, score in enumerate(self._normalised):
            if not score.static:
                self._raw[place][row] = score.value(row)

    def catch_up(self) -> None:
        """Where a board keeps the ranks up to date: the rest."""
        nodes = self.nodes
        placed = nodes.placed.since(self._placed)
        self._placed = nodes.placed.end
        self._kept = None
        self._update_raw(nodes.all_rows() if placed is None else _rows(placed))
        for around in self.refusals.around:
            around.sync()

    @property
    def parts(self) -> int:
        """Of a point, in which scores are counted."""
        return self._parts

    def _factor(self, score: Score) -> int:
        """To bring a score's values to the finest parts of a point that any has."""
        return score.weight * (self._parts // score.parts)

    def _pods(self, row: int) -> int:
        """What is taken off a node's rank for the pods on it."""
        return 0 if self._packs else self.nodes.requested.item(0, row)

    # deciding

    @property
    def suited(self) -> Bools:
        """The rows whose nodes do not refuse the pod themselves (labels, taints), whatever is on them."""
        return self._static_open

    def suited_later(self) -> Bools:
        """The same, whatever devices on them are taken now."""
        if not any(part.passing for part in self._static_filters):
            return self._static_open
        rows = self.nodes.all_rows()
        found: Bools = np.zeros(len(self._static_open), np.bool_)
        found[rows] = self.nodes.present[rows]
        for part in self._static_filters:
            if not part.passing:
                found[rows] &= part.allowed(rows)
        return found

    @property
    def by_rank(self) -> bool:
        """Whether the ranks alone decide."""
        return not self.refusals.around and not any(self._varied)

    def feasible(self) -> Bools:
        """Where the pod fits, by row."""
        found: Bools = self._rank != NEVER
        for part in self.refusals.around:
            if part.refuses:
                found &= part.allowed()
        return found

    def is_open(self, row: int) -> bool:
        """Whether no plain filter refuses the node, as far as is known since the last `sync`."""
        return bool(self._rank[row] != NEVER)

    def best(self, barred: Sequence[int] = ()) -> int | None:
        """The row of the best node other than those barred; None when there is none."""
        if not barred and self.by_rank:
            return self._first(self._rank)
        if not barred:
            return next(self.leaders(), None)
        kept = self._join()
        place = self._first(np.where(np.isin(kept.rows, np.array(barred)), NEVER, kept.ranks), kept.rows)
        return None if place is None else kept.rows.item(place)

    def leaders(self, out: Set[int] = frozenset()) -> Iterator[int]:
        """Rows of the greatest rank, those first that come first; perhaps not all of them. See `Kept.leading` of `out`.

        Many decisions in a row find them on one list. Until the second they are not put in order: then it is the first,
        which may be in `out`.
        """
        kept = self._join()
        kept.leave_out(out)
        if out is self.promised.rows:
            kept.recall(self.promised.dropped())
        places = kept.leading()
        place = next(places, None)
        if place is None and not kept.passed:
            place = self._first(kept.ranks, kept.rows)
            if place is not None and kept.used and kept.sort(place, self.nodes.order):
                places = kept.leading()
                place = next(places, None)
        if place is not None:
            yield kept.rows.item(place)
            yield from (kept.rows.item(other) for other in places)

    def _join(self) -> Kept:
        """The feasible rows and their ranks; those of last time where but a few rows were looked at again."""
        kept, moved, self._moved = self._kept, self._moved, {}
        if kept is not None and self._steady and (not moved or self._rejoined(kept, list(moved))):
            kept.used = True
            return kept
        self._kept = None
        rows = np.flatnonzero(self.feasible())
        if not len(rows):
            return Kept(rows, np.zeros(0, np.int64), np.zeros(0, np.int64))
        normal = self._normal(rows)
        total = self._total(rows, normal)
        ranks = total * PODS_UNIT
        if not self._packs:
            ranks -= self.nodes.requested[0].take(rows)
        kept = self._kept = Kept(rows, ranks, normal)
        return kept

    def _rejoined(self, kept: Kept, moved: list[int]) -> bool:
        """Bring the ranks of these rows up to date; False where others change with them."""
        places, gone = kept.places(moved, self._rank)
        if places is None or (gone and any(self._varied)):
            return False
        if gone and not all(part.leave(gone) for part in self.refusals.around):
            return False
        rows, ranks = kept.rows, self._rank
        totals = [
            (ranks.item(rows.item(place)) + (self._unit - 1)) // self._unit + kept.normal.item(place)
            for place in places
        ]
        for part in self.refusals.around if places else ():
            found = part.rescored(places)
            if found is None:
                return False
            weight = part.weight * self._parts
            totals = [total + weight * score for total, score in zip(totals, found, strict=True)]
        for place in gone:
            kept.rerank(place, NEVER)
        for place, total in zip(places, totals, strict=True):
            kept.rerank(place, total * PODS_UNIT - self._pods(rows.item(place)))
        return True

    def _first(self, ranks: Ints, rows: Rows | None = None) -> int | None:
        """Where the greatest rank is; of several the one that the snapshot's order names first."""
        if not len(ranks):
            return None
        place = int(ranks.argmax())
        most = ranks[place]
        if most == NEVER:
            return None
        equals = (ranks == most).nonzero()[0]
        if len(equals) == 1:
            return place
        names, order = self.nodes.names, self.nodes.order
        of = equals if rows is None else rows[equals]
        first = order.take(of)
        firsts = (first == first.min()).nonzero()[0]
        return int(equals[min(firsts.tolist(), key=lambda item: names[of[item]])])

    def _normal(self, rows: Rows) -> Ints:
        """The sum of the scores that are made 0 to MAX over these rows."""
        total = np.zeros(len(rows), np.int64)
        for score, raw in zip(self._normalised, self._raw, strict=True):
            total += score.weight * self._parts * score.normal(raw.take(rows))
        return total

    def _total(self, rows: Rows, normal: Ints) -> Ints:
        self._kept = None  # what looks around remembers only whom it was asked for last
        total = (self._rank.take(rows) + (self._unit - 1)) // self._unit + normal
        for part in self.refusals.around:
            found = part.scores(rows)
            if found is not None:
                total += part.weight * self._parts * found
        return total

    def totals(self) -> dict[str, int]:
        """The final score of every feasible node (for explaining, and for tests)."""
        rows = np.flatnonzero(self.feasible())
        if not len(rows):
            return {}
        names, totals = self.nodes.names, self._total(rows, self._normal(rows)) // self._parts
        return {names[row]: total for row, total in zip(rows.tolist(), totals.tolist(), strict=True)}

    @property
    def gives_devices(self) -> bool:
        return self._devices is not None

    def devices(self, row: int) -> tuple[int, ...]:
        """Those of the node's own devices that a pod of the shape is given there; it fits the node."""
        return () if self._devices is None else self._devices.of(row)

    def statuses(self) -> Refused:
        """Why each node does not fit; those that do are left out. Shared until the cluster changes."""
        if self._told is not None and self._told[0] == self._placed:
            return self._told[1]
        rows = np.flatnonzero(self.nodes.present & ~self.feasible())
        found = self._reasons.of(rows, self._rank == NEVER, self.refusals.why)
        self._told = (self._placed, found)
        return found

    def room(self, rows: Rows) -> Ints:
        """How many more pods of the shape each row takes, looking at each node by itself."""
        found = np.where(self._rank[rows] != NEVER, UNLIMITED, 0)
        for part in self.refusals.filters:
            np.minimum(found, part.room(rows), out=found)
        return found

    def room_on(self, rows: Sequence[int]) -> list[int]:
        """The same for a few, which are asked for again and again."""
        new = [row for row in rows if row not in self._rooms]
        if new:
            self._rooms.update(zip(new, self.room(np.array(new, np.intp)).tolist(), strict=True))
        return [self._rooms[row] for row in rows]


@dataclass(slots=True)
class Lines:
    """What a board lends to the evaluation of one shape; see there."""

    rank: Ints
    open: Bools
    sums: Ints
    unit: int


def those(parts: Any) -> list[Any]:
    """But None."""
    return [part for part in parts if part is not None]


def _rows(journal: MutableSequence[int]) -> Rows:
    return np.frombuffer(array("q", journal), np.intp)

"""What the plugins say about one pod shape on all nodes, remembered; computed again only where a node has changed.

Placing a pod changes one row. Per row the evaluation keeps whether the plain filters allow it (`_open`) and the sum of
the plain scores (`_sum`), and for scores that are normalised their raw values. A decision then is a few operations on
whole arrays: join what looks around, normalise over what is feasible, add, and take the greatest. Ties go to the node
with the fewest pods, then by the snapshot's order, so equal inputs give equal placements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.scheduling.arrays import Bools, Ints, Rows, grown, np
from atoll.scheduling.plugins.port import UNLIMITED, Around, Filter, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

_PODS = 1 << 20  # more than any node's pods: ranks by score first, then by pods
_NEVER = -(1 << 63)


class Refusals:
    """What the plugins have against nodes for one shape, one node at a time."""

    def __init__(self, nodes: Snapshot, shape: Shape, plugins: Sequence[Plugin]) -> None:
        self.filters: list[Filter] = _those(plugin.filter(shape, nodes) for plugin in plugins)
        self.around: list[Around] = _those(plugin.around(shape, nodes) for plugin in plugins)

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

    def __init__(self, nodes: Snapshot, shape: Shape, plugins: Sequence[Plugin]) -> None:
        self.nodes = nodes
        self.shape = shape
        self._plugins = plugins
        self._build()

    def _build(self) -> None:
        nodes, shape = self.nodes, self.shape
        self._epoch = nodes.epoch
        self.refusals = Refusals(nodes, shape, self._plugins)
        scores: list[Score] = _those(plugin.score(shape, nodes) for plugin in self._plugins)
        self._normalised = [score for score in scores if score.normalised]
        self._plain = [score for score in scores if not score.normalised]
        size = len(nodes.present)
        self._static_open: Bools = np.zeros(size, np.bool_)
        self._static_sum: Ints = np.zeros(size, np.int64)
        self._open: Bools = np.zeros(size, np.bool_)
        self._sum: Ints = np.zeros(size, np.int64)
        self._rank: Ints = np.full(size, _NEVER, np.int64)
        self._raw: list[Ints] = [np.zeros(size, np.int64) for _ in self._normalised]
        self._reasons: dict[int, Status] = {}  # why rows that are not open are not
        self._told: tuple[int, dict[str, Status]] | None = None
        self._placed, self._changed = nodes.placed.end, nodes.changed.end
        self._update(nodes.all_rows(), nodes.all_rows())

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
        if len(self._open) != len(nodes.present):
            self._grow(len(nodes.present))
        self._update(np.array(placed, np.intp), np.array(changed, np.intp))

    def _grow(self, size: int) -> None:
        self._static_open, self._static_sum = grown(self._static_open, size, False), grown(self._static_sum, size, 0)
        self._open, self._sum = grown(self._open, size, False), grown(self._sum, size, 0)
        self._rank = grown(self._rank, size, _NEVER)
        self._raw = [grown(raw, size, 0) for raw in self._raw]

    def _update(self, placed: Rows, changed: Rows) -> None:
        """`changed` rows are new or have another node; `placed` has those and the ones whose pods have changed."""
        if len(changed):
            self._static_open[changed] = self._allowed(changed, self.nodes.present[changed], static=True)
            self._static_sum[changed] = self._scored(changed, np.zeros(len(changed), np.int64), static=True)
            for score, raw in zip(self._normalised, self._raw, strict=True):
                if score.static:
                    raw[changed] = score.values(changed)
        if len(placed):
            if self._reasons:
                for row in placed.tolist():
                    self._reasons.pop(row, None)
            allowed = self._allowed(placed, self._static_open[placed], static=False)
            total = self._scored(placed, self._static_sum[placed], static=False)
            self._open[placed], self._sum[placed] = allowed, total
            self._rank[placed] = np.where(allowed, total * _PODS - self.nodes.requested[0].take(placed), _NEVER)
            for score, raw in zip(self._normalised, self._raw, strict=True):
                if not score.static:
                    raw[placed] = score.values(placed)
            for part in self.refusals.around:
                part.sync()

    def _allowed(self, rows: Rows, found: Bools, *, static: bool) -> Bools:
        for part in self.refusals.filters:
            if part.static is static:
                found = found & part.allowed(rows)
        return found

    def _scored(self, rows: Rows, total: Ints, *, static: bool) -> Ints:
        for score in self._plain:
            if score.static is static:
                total = total + score.weight * score.values(rows)
        return total

    # deciding

    def feasible(self) -> Bools:
        """Where the pod fits, by row."""
        found = self._open
        for part in self.refusals.around:
            if part.refuses:
                found = found & part.allowed()
        return found

    def best(self, barred: Sequence[int] = ()) -> int | None:
        """The row of the best node other than those barred; None when there is none."""
        if not self.refusals.around and not barred and not any(raw.any() for raw in self._raw):
            return self._first(self._rank)
        found = self.feasible()
        if barred:
            found = found.copy()
            found[list(barred)] = False
        rows = np.flatnonzero(found)
        if not len(rows):
            return None
        ranks = self._total(rows) * _PODS - self.nodes.requested[0].take(rows)
        place = self._first(ranks, rows)
        return None if place is None else int(rows[place])

    def _first(self, ranks: Ints, rows: Rows | None = None) -> int | None:
        """Where the greatest rank is; of several the one that the snapshot's order names first."""
        place = int(ranks.argmax()) if len(ranks) else 0
        if not len(ranks) or ranks[place] == _NEVER:
            return None
        equals = np.flatnonzero(ranks == ranks[place])
        if len(equals) == 1:
            return place
        names, order = self.nodes.names, self.nodes.order
        of = equals if rows is None else rows[equals]
        first = np.flatnonzero(order[of] == order[of].min())
        return int(equals[min(first.tolist(), key=lambda item: names[of[item]])])

    def _total(self, rows: Rows) -> Ints:
        total = self._sum.take(rows)
        for score, raw in zip(self._normalised, self._raw, strict=True):
            total += score.weight * score.normal(raw.take(rows))
        for part in self.refusals.around:
            found = part.scores(rows)
            if found is not None:
                total += part.weight * found
        return total

    def totals(self) -> dict[str, int]:
        """The final score of every feasible node (for explaining, and for tests)."""
        rows = np.flatnonzero(self.feasible())
        if not len(rows):
            return {}
        names = self.nodes.names
        return {names[row]: total for row, total in zip(rows.tolist(), self._total(rows).tolist(), strict=True)}

    def statuses(self) -> dict[str, Status]:
        """Why each node does not fit; those that do are left out. Shared until the cluster changes."""
        if self._told is not None and self._told[0] == self._placed:
            return self._told[1]
        nodes, reasons = self.nodes, self._reasons
        found: dict[str, Status] = {}
        for row in np.flatnonzero(nodes.present & ~self.feasible()).tolist():
            node = nodes.nodes[row]
            why = reasons.get(row)
            if why is None and node is not None:
                why = self.refusals.why(node)
                if why is not None and not self._open[row]:
                    reasons[row] = why
            if why is not None:
                found[nodes.names[row]] = why
        self._told = (self._placed, found)
        return found

    def room(self, rows: Rows) -> Ints:
        """How many more pods of the shape each row takes, looking at each node by itself."""
        found = np.where(self._open[rows], UNLIMITED, 0)
        for part in self.refusals.filters:
            np.minimum(found, part.room(rows), out=found)
        return found


def _those(parts: Any) -> list[Any]:
    return [part for part in parts if part is not None]

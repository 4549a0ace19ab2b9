"""Several shapes on one snapshot, kept up to date by the node that has changed: one line a shape, one entry a node.

For those who place pods of many shapes in turn and keep no pod objects: replays of traces. The decisions are those of
an `Evaluation` of each shape, which looks at the changed nodes when its shape is asked for; here all shapes are brought
up to date for one node at a time, and the order of nodes is a part of the ranks, so that the greatest entry of a line
decides. Nodes that join or change build the board anew. It does not say why a pod fits nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Bools, Ints, np
from atoll.scheduling.evaluation import PODS_UNIT, Evaluation, Lines, those
from atoll.scheduling.kept import NEVER
from atoll.scheduling.plugins.port import Many, Plugin
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot


class Board:
    """Several shapes on one snapshot, for those who place pods of many shapes in turn.

    Where a node has changed, each plugin is asked once for all shapes (`Plugin.many`; one that can't say is asked for
    one after the other).
    """

    def __init__(self, nodes: Snapshot, shapes: Sequence[Shape], plugins: Sequence[Plugin]) -> None:
        self.nodes = nodes
        self._shapes = shapes
        self._plugins = plugins
        self._packs = any(plugin.packs for plugin in plugins)
        self._build()

    def _build(self) -> None:
        nodes = self.nodes
        size, several = len(nodes.present), (len(self._shapes), len(nodes.present))
        self._epoch, self._placed, self._changed = nodes.epoch, nodes.placed.end, nodes.changed.end
        first = sorted(range(nodes.size), key=lambda row: (nodes.order[row], nodes.names[row]))
        self._place = [0] * size
        for place, row in enumerate(first):
            self._place[row] = place
        self._bits = size.bit_length()
        self._unit = PODS_UNIT << self._bits
        self._ranks: Ints = np.full(several, NEVER, np.int64)
        self._open: Bools = np.zeros(several, np.bool_)
        self._sums: Ints = np.zeros(several, np.int64)
        self._zero: Ints = np.zeros(len(self._shapes), np.int64)
        # asked first: what a plugin has for one of the shapes may be a part of what it has for all
        self._many: list[Many] = those(self._together(plugin) for plugin in self._plugins)
        self._evaluations = [
            Evaluation(nodes, shape, self._plugins, Lines(rank, open_, sums, self._unit))
            for shape, rank, open_, sums in zip(self._shapes, self._ranks, self._open, self._sums, strict=True)
        ]
        parts = [evaluation.parts for evaluation in self._evaluations]
        self._parts = max(parts, default=1)
        assert all(item == self._parts for item in parts), "scores of some shapes are finer than those of others"
        self._by_rank = [evaluation.by_rank for evaluation in self._evaluations]
        self._plain = bool(self._open[:, nodes.present].all()) and not self._sums.any()
        self._filters = [part.allowed for part in self._many if part.filters]
        self._scores = [(part.values, part.weight * (self._parts // part.parts)) for part in self._many if part.scores]
        for row in nodes.all_rows().tolist():
            self._update(row)

    def _together(self, plugin: Plugin) -> Many | None:
        found = plugin.many(self._shapes, self.nodes)
        if found is None:
            each = OneByOne(plugin, self._shapes, self.nodes)
            return each if each.filters or each.scores else None
        return found

    def sync(self) -> None:
        """Catch up with the snapshot."""
        nodes = self.nodes
        if self._placed == nodes.placed.end and self._epoch == nodes.epoch:
            return
        placed = nodes.placed.since(self._placed)
        if placed is None or self._epoch != nodes.epoch or self._changed != nodes.changed.end:
            self._build()
            return
        self._placed = nodes.placed.end
        for row in placed if len(placed) == 1 else dict.fromkeys(placed):
            self._update(row)

    def _update(self, row: int) -> None:
        found: Bools | None = None if self._plain else self._open[:, row]
        for allowed in self._filters:
            found = allowed(row) if found is None else found & allowed(row)
        ranks: Ints = self._zero if self._plain else self._sums[:, row]
        for values, factor in self._scores:
            value = values(row) if factor == 1 else values(row) * factor
            ranks = value if ranks is self._zero else ranks + value
        off = self._place[row] if self._packs else (int(self.nodes.requested[0, row]) << self._bits) + self._place[row]
        ranks = ranks * self._unit - off
        self._ranks[:, row] = ranks if found is None else np.where(found, ranks, NEVER)

    def best(self, place: int) -> int | None:
        """The row of the best node for the shape in this place; None when there is none."""
        if not self._by_rank[place]:
            self._evaluations[place].catch_up()
            return self._evaluations[place].best()
        line = self._ranks[place]
        row = int(line.argmax())
        return row if line[row] != NEVER else None

    def feasible(self, place: int) -> Bools:
        """Where a pod of the shape fits, by row."""
        return self._evaluations[place].feasible()

    def devices(self, place: int, row: int) -> tuple[int, ...]:
        """Those of the node's own devices that a pod of the shape is given there."""
        return self._evaluations[place].devices(row)


class OneByOne(Many):
    """For a plugin that has nothing to say about many shapes at once."""

    def __init__(self, plugin: Plugin, shapes: Sequence[Shape], nodes: Snapshot) -> None:
        filters = [plugin.filter(shape, nodes) for shape in shapes]
        scores = [plugin.score(shape, nodes) for shape in shapes]
        self._filters = [None if part is None or part.static else part for part in filters]
        self._scores = [None if part is None or part.static or part.normalised else part for part in scores]
        there = those(self._scores)
        self.filters, self.scores = any(self._filters), bool(there)
        self.weight, self.parts = (there[0].weight, there[0].parts) if there else (1, 1)

    def allowed(self, row: int) -> Bools:
        rows = np.array([row], np.intp)
        return np.array([part is None or part.allowed(rows)[0] for part in self._filters], np.bool_)

    def values(self, row: int) -> Ints:
        rows = np.array([row], np.intp)
        return np.array([0 if part is None else part.values(rows)[0] for part in self._scores], np.int64)

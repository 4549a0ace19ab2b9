"""A plugin of which a profile wants only the filter or only the score, or the score at another weight."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Bools, Ints, Rows
from atoll.scheduling.plugins.port import Around, Devices, Filter, Many, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class Chosen(Plugin):
    """`weight` None: the plugin's own."""

    def __init__(self, inner: Plugin, *, filters: bool = True, scores: bool = True, weight: int | None = None) -> None:
        self.name = inner.name
        self.packs = inner.packs and scores
        self._inner = inner
        self._filters = filters
        self._scores = scores
        self._weight = weight

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return self._inner.filter(shape, nodes) if self._filters else None

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        found = self._inner.score(shape, nodes) if self._scores else None
        if found is not None and self._weight is not None:
            found.weight = self._weight
        return found

    def around(self, shape: Shape, nodes: Snapshot) -> Around | None:
        found = self._inner.around(shape, nodes)
        if found is None or not (self._scores or (self._filters and found.refuses)):
            return None
        return _PartAround(found, self._filters, self._scores, self._weight)

    def devices(self, shape: Shape, nodes: Snapshot) -> Devices | None:
        return self._inner.devices(shape, nodes)

    def many(self, shapes: Sequence[Shape], nodes: Snapshot) -> Many | None:
        found = self._inner.many(shapes, nodes)
        return None if found is None else _PartMany(found, self._filters, self._scores, self._weight)


class _PartAround(Around):
    def __init__(self, inner: Around, filters: bool, scores: bool, weight: int | None) -> None:
        self._inner = inner
        self._scores = scores
        self.refuses = filters and inner.refuses
        self.weight = inner.weight if weight is None else weight

    def sync(self) -> None:
        self._inner.sync()

    def allowed(self) -> Bools:
        return self._inner.allowed()

    def scores(self, feasible: Rows) -> Ints | None:
        return self._inner.scores(feasible) if self._scores else None

    def rescored(self, places: Sequence[int]) -> list[int] | None:
        return self._inner.rescored(places) if self._scores else [0] * len(places)

    def leave(self, places: Sequence[int]) -> bool:
        return self._inner.leave(places) if self._scores else True

    def why(self, node: NodeState) -> Status | None:
        return self._inner.why(node)


class _PartMany(Many):
    def __init__(self, inner: Many, filters: bool, scores: bool, weight: int | None) -> None:
        self.filters = inner.filters and filters
        self.scores = inner.scores and scores
        self.parts = inner.parts
        self.weight = inner.weight if weight is None else weight
        self.allowed, self.values = inner.allowed, inner.values  # type: ignore[method-assign]  # no call in between

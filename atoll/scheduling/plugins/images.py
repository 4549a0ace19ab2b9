"""ImageLocality: nodes that have much of the pod's images, less so where few nodes have them."""

from __future__ import annotations

from atoll.scheduling.arrays import Ints, Rows, np
from atoll.scheduling.plugins.port import MAX, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot

_MB = 1024 * 1024
_LEAST, _MOST = 23 * _MB, 1000 * _MB


class ImageLocality(Plugin):
    name = "ImageLocality"

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        if not any(image in nodes.image_nodes for image in shape.template.images):
            return None  # asked again when any node's images change: the snapshot's epoch moves
        return _Score(shape.template.images, nodes)


class _Score(Score):
    static = True

    def __init__(self, images: list[str], nodes: Snapshot) -> None:
        self._nodes = nodes
        self._columns = [nodes.image(image) for image in images if image in nodes.image_nodes]
        self._most = _MOST * len(images)

    def values(self, rows: Rows) -> Ints:
        nodes = self._nodes
        total = np.zeros(len(rows), np.int64)
        for column in self._columns:
            share = nodes.image_nodes.get(column.image, 0) / max(1, len(nodes.rows))
            total += (column.sizes[rows] * share).astype(np.int64)
        return MAX * (np.clip(total, _LEAST, self._most) - _LEAST) // (self._most - _LEAST)

"""VolumeBinding, VolumeZone, VolumeRestrictions: where a pod's claims can be had (`atoll/scheduling/volumes.py`).

What the claims demand is part of the shape, so that a change of a claim or volume makes another shape.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Bools, Rows, np
from atoll.scheduling.plugins.port import Filter, Plugin
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status
from atoll.scheduling.volumes import VolumeNeeds


class VolumeBinding(Plugin):
    name = "VolumeBinding"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.volumes, nodes) if shape.volumes.demanding else None


class _Filter(Filter):
    static = True

    def __init__(self, needs: VolumeNeeds, nodes: Snapshot) -> None:
        self._needs = needs
        self._nodes = nodes

    def allowed(self, rows: Rows) -> Bools:
        nodes = self._nodes.nodes
        found = (node is not None and self.why(node) is None for node in map(nodes.__getitem__, rows.tolist()))
        return np.fromiter(found, np.bool_, len(rows))

    def why(self, node: NodeState) -> Status | None:
        return self._needs.check(node.name, node.labels)

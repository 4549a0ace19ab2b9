"""DynamicResources: where a pod's ResourceClaims can be had (`atoll/scheduling/dra`), and where alternatives of a
request are met best.

A claim or class that is wrong (an expression that fails) is told, as an AllocationError, only where no node will do.
Answers depend on what devices of a node are taken, which `dra/state.py` tells by the snapshot's journal; what may
concern several nodes is part of the shape.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.dra.needs import DeviceNeeds
from atoll.scheduling.plugins.port import MAX, Filter, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

_MOST_PODS = 256  # that `room` counts on one node


class DynamicResources(Plugin):
    name = "DynamicResources"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.devices, nodes) if shape.devices.demanding else None

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return _Preferred(shape.devices, nodes) if shape.devices.has_preferences else None


class _Filter(Filter):
    static = True
    costly = True
    passing = True

    def __init__(self, needs: DeviceNeeds, nodes: Snapshot) -> None:
        self._needs = needs
        self._nodes = nodes

    def allowed(self, rows: Rows) -> Bools:
        nodes = self._nodes.nodes
        found = (node is not None and self._allows(node) for node in map(nodes.__getitem__, rows.tolist()))
        return np.fromiter(found, np.bool_, len(rows))

    def _allows(self, node: NodeState) -> bool:
        try:
            return self.why(node) is None
        except AllocationError:
            return False

    def why(self, node: NodeState) -> Status | None:
        return self._needs.check(node.name, node.labels, node.allocatable)

    def room(self, rows: Rows) -> Ints:
        nodes = self._nodes.nodes
        found = (0 if node is None else self._room(node) for node in map(nodes.__getitem__, rows.tolist()))
        return np.fromiter(found, np.int64, len(rows))

    def _room(self, node: NodeState) -> int:
        return self._needs.room(node.name, node.labels, node.allocatable, _MOST_PODS)


class _Preferred(Score):
    weight = 2
    static = True
    normalised = True

    def __init__(self, needs: DeviceNeeds, nodes: Snapshot) -> None:
        self._needs = needs
        self._nodes = nodes

    def values(self, rows: Rows) -> Ints:
        nodes = self._nodes.nodes
        found = (0 if node is None else self._score(node) for node in map(nodes.__getitem__, rows.tolist()))
        return np.fromiter(found, np.int64, len(rows))

    def _score(self, node: NodeState) -> int:
        return self._needs.score(node.name, node.labels, node.allocatable)

    def normal(self, values: Ints) -> Ints:
        most = int(values.max()) if len(values) else 0
        return values * MAX // most if most else values

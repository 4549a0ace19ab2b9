"""NodePorts: a host port can be had once per node, protocol and address."""

from __future__ import annotations

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.plugins.port import Filter, Plugin
from atoll.scheduling.pod import Port, ports_conflict
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class NodePorts(Plugin):
    name = "NodePorts"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.template.ports, nodes) if shape.template.ports else None


class _Filter(Filter):
    def __init__(self, wanted: list[Port], nodes: Snapshot) -> None:
        self._wanted = wanted
        self._nodes = nodes

    def allowed(self, rows: Rows) -> Bools:
        nodes = self._nodes.nodes
        return np.fromiter((self._free(nodes[row]) for row in rows.tolist()), np.bool_, len(rows))

    def _free(self, node: NodeState | None) -> bool:
        return node is not None and not (node.ports and ports_conflict(self._wanted, node.ports))

    def why(self, node: NodeState) -> Status | None:
        return None if self._free(node) else status.PORTS

    def room(self, rows: Rows) -> Ints:
        return self.allowed(rows).astype(np.int64)

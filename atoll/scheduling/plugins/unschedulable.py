"""NodeUnschedulable: cordoned nodes take no pods but those that tolerate it."""

from __future__ import annotations

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Rows
from atoll.scheduling.plugins.port import Filter, Plugin
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return None if shape.template.tolerates_unschedulable else _Filter(nodes)


class _Filter(Filter):
    static = True

    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes

    def allowed(self, rows: Rows) -> Bools:
        return ~self._nodes.unschedulable[rows]

    def why(self, node: NodeState) -> Status | None:
        return status.UNSCHEDULABLE if node.unschedulable else None

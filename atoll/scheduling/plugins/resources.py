"""NodeResourcesFit: requests must fit; nodes with more CPU and memory left are better (LeastAllocated)."""

from __future__ import annotations

from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.plugins.port import MAX, UNLIMITED, Filter, Plugin, Score
from atoll.scheduling.pod import Template
from atoll.scheduling.resources import CPU, MEMORY, PODS
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import MOST, Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.template, nodes)

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return _LeastAllocated(shape.template, nodes)


def _wanted(template: Template) -> list[tuple[str, int]]:
    return [(name, want) for name, want in template.requests.items() if want > 0 and name != PODS]


class _Filter(Filter):
    def __init__(self, template: Template, nodes: Snapshot) -> None:
        self._wanted = _wanted(template)
        self._nodes = nodes
        pairs = [(nodes.resource(name), min(want, MOST)) for name, want in self._wanted]
        self._lines = [(0, 1), *pairs]  # a pod is one of the node's pods

    def allowed(self, rows: Rows) -> Bools:
        free = self._nodes.free
        found: Bools = free[0].take(rows) >= 1
        for line, want in self._lines[1:]:
            found &= free[line].take(rows) >= want
        return found

    def room(self, rows: Rows) -> Ints:
        free = self._nodes.free
        least = np.full(len(rows), UNLIMITED, np.int64)
        for line, want in self._lines:
            np.minimum(least, free[line].take(rows) // want, out=least)
        return np.maximum(least, 0)

    def why(self, node: NodeState) -> Status | None:
        allocatable, requested = node.allocatable, node.requested
        reasons: list[str] = []
        resolvable = True
        if len(node.pods) + 1 > allocatable.get(PODS, 0):
            reasons.append("Too many pods")
        for name, want in self._wanted:
            have = allocatable.get(name, 0)
            if want > have - requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
                resolvable = resolvable and want <= have
        return Status(tuple(reasons), resolvable) if reasons else None


class _LeastAllocated(Score):
    """The mean of the free shares of CPU and memory; pods that ask for none count as a little."""

    def __init__(self, template: Template, nodes: Snapshot) -> None:
        self._nodes = nodes
        wants = (template.nonzero_cpu, template.nonzero_memory)
        self._lines = [(place, nodes.columns[name], wants[place]) for place, name in enumerate((CPU, MEMORY))]

    def values(self, rows: Rows) -> Ints:
        total = np.zeros(len(rows), np.int64)
        parts = np.zeros(len(rows), np.int64)
        for place, line, want in self._lines:
            have = self._nodes.allocatable[line].take(rows)
            left = have - want - self._nodes.nonzero[place].take(rows)
            there = have > 0
            total += np.where(left > 0, left, 0) * MAX // np.maximum(have, 1)
            parts += there
        return total // np.maximum(parts, 1)

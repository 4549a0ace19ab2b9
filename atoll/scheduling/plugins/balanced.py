"""NodeResourcesBalancedAllocation: better where the pod makes the use of CPU and of memory more alike."""

from __future__ import annotations

from atoll.scheduling.arrays import Floats, Ints, Rows, np
from atoll.scheduling.plugins.port import MAX, Plugin, Score
from atoll.scheduling.resources import CPU, MEMORY
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot


class BalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        requests = shape.template.requests
        cpu, memory = requests.get(CPU, 0), requests.get(MEMORY, 0)
        return _Score(cpu, memory, nodes) if cpu or memory else None


class _Score(Score):
    def __init__(self, cpu: int, memory: int, nodes: Snapshot) -> None:
        self._cpu, self._memory = cpu, memory
        self._nodes = nodes
        self._lines = nodes.columns[CPU], nodes.columns[MEMORY]

    def values(self, rows: Rows) -> Ints:
        cpu, memory = self._lines
        nodes = self._nodes
        have_cpu, have_memory = nodes.allocatable[cpu].take(rows), nodes.allocatable[memory].take(rows)
        used_cpu, used_memory = nodes.requested[cpu].take(rows), nodes.requested[memory].take(rows)
        both = (have_cpu > 0) & (have_memory > 0)
        have_cpu, have_memory = np.maximum(have_cpu, 1), np.maximum(have_memory, 1)
        after = _balance((used_cpu + self._cpu) / have_cpu, (used_memory + self._memory) / have_memory)
        before = _balance(used_cpu / have_cpu, used_memory / have_memory)
        change = np.where(both, after - before, 0)
        return MAX // 2 + ((MAX / 2 + change) / 2).astype(np.int64)


def _balance(cpu: Floats, memory: Floats) -> Ints:
    deviation = np.abs((np.minimum(cpu, 1.0) - np.minimum(memory, 1.0)) / 2)
    return ((1 - deviation) * MAX).astype(np.int64)

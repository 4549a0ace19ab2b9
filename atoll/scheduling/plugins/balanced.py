"""NodeResourcesBalancedAllocation: better where the pod makes the use of CPU and of memory more alike."""

from __future__ import annotations

from atoll.scheduling.arrays import Ints, Rows, np
from atoll.scheduling.plugins.port import MAX, Plugin, Score
from atoll.scheduling.resources import CPU, MEMORY
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot, balance, balance_of


class BalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        requests = shape.template.requests
        cpu, memory = requests.get(CPU, 0), requests.get(MEMORY, 0)
        return _Score(cpu, memory, nodes) if cpu or memory else None


class _Score(Score):
    def __init__(self, cpu: int, memory: int, nodes: Snapshot) -> None:
        self._asked = cpu, memory
        self._column: Ints | None = None
        self._nodes = nodes

    def values(self, rows: Rows) -> Ints:
        if self._column is None:
            self._column = np.array(self._asked, np.int64).reshape(2, 1)
        nodes = self._nodes
        have, used = nodes.allocatable[1:3].take(rows, axis=1), nodes.requested[1:3].take(rows, axis=1)
        whole = have.all()
        some = have if whole else np.maximum(have, 1)
        change = balance((used + self._column) / some) - nodes.balance.take(rows)
        if not whole:
            change[(have == 0).any(axis=0)] = 0
        return MAX // 2 + ((MAX / 2 + change) / 2).astype(np.int64)

    def value(self, row: int) -> int:
        nodes = self._nodes
        have_at, used_at = nodes.allocatable.item, nodes.requested.item
        have = have_at(1, row), have_at(2, row)
        change = 0
        if all(have):
            used = used_at(1, row) + self._asked[0], used_at(2, row) + self._asked[1]
            change = balance_of(used, have) - nodes.balance.item(row)
        return MAX // 2 + int((MAX / 2 + change) / 2)

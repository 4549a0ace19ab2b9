"""TaintToleration: NoSchedule and NoExecute taints keep pods away; PreferNoSchedule ones count against a node.

Nodes have few different sets of taints: each is judged once for a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.matching import tolerates, untolerated
from atoll.scheduling.plugins.port import MAX, Filter, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

Taints = list[dict[str, Any]]


class TaintToleration(Plugin):
    name = "TaintToleration"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.template.tolerations, nodes)

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return _Score(shape.template.tolerations, nodes)


class _Judged:
    """What a judge says of each row's set of taints."""

    def __init__(self, nodes: Snapshot, judge: Callable[[Taints], int]) -> None:
        self._nodes = nodes
        self._judge = judge
        self._table: Ints | None = None

    def of(self, rows: Rows) -> Ints:
        column = self._nodes.taints
        known = 0 if self._table is None else len(self._table)
        if self._table is None or known != len(column.sets):
            new = np.array([self._judge(taints) for taints in column.sets[known:]], np.int64)
            self._table = new if self._table is None else np.concatenate((self._table, new))
        return self._table.take(column.ids.take(rows))


class _Filter(Filter):
    static = True

    def __init__(self, tolerations: Taints, nodes: Snapshot) -> None:
        self._tolerations = tolerations
        self._refused = _Judged(nodes, lambda taints: untolerated(taints, tolerations))

    def allowed(self, rows: Rows) -> Bools:
        allowed: Bools = self._refused.of(rows) == 0
        return allowed

    def why(self, node: NodeState) -> Status | None:
        return status.UNTOLERATED if node.taints and untolerated(node.taints, self._tolerations) else None


class _Score(Score):
    weight = 3
    static = True
    normalised = True

    def __init__(self, tolerations: Taints, nodes: Snapshot) -> None:
        self._tolerations = [item for item in tolerations if item.get("effect") in (None, "", "PreferNoSchedule")]
        self._counts = _Judged(nodes, self._intolerable)

    def _intolerable(self, taints: Taints) -> int:
        return sum(
            taint.get("effect") == "PreferNoSchedule" and not any(tolerates(item, taint) for item in self._tolerations)
            for taint in taints
        )

    def values(self, rows: Rows) -> Ints:
        return self._counts.of(rows)

    def normal(self, values: Ints) -> Ints:
        """Fewer are better."""
        most = values.max()
        return MAX - MAX * values // most if most else np.full_like(values, MAX)

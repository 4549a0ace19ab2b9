"""TaintToleration: NoSchedule and NoExecute taints keep pods away; PreferNoSchedule ones count against a node.

Nodes have few different sets of taints: each is judged once for a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from atoll.scheduling import status
from atoll.scheduling.matching import tolerates, untolerated
from atoll.scheduling.plugins.port import MAX, Filter, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Bools, Ints, Rows, Snapshot, TaintColumn
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

Taints = list[dict[str, Any]]


class TaintToleration(Plugin):
    name = "TaintToleration"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape.template.tolerations, nodes.taints)

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return _Score(shape.template.tolerations, nodes.taints)


def _judged(known: Ints, column: TaintColumn, judge: Callable[[Taints], int]) -> Ints:
    """`judge` of every set of taints; those in `known` are not judged again."""
    if len(known) == len(column.sets):
        return known
    return np.append(known, [judge(taints) for taints in column.sets[len(known) :]]).astype(np.int64)


class _Filter(Filter):
    static = True

    def __init__(self, tolerations: Taints, column: TaintColumn) -> None:
        self._tolerations = tolerations
        self._column = column
        self._refused: Ints = np.zeros(0, np.int64)

    def allowed(self, rows: Rows) -> Bools:
        self._refused = _judged(self._refused, self._column, lambda taints: untolerated(taints, self._tolerations))
        allowed: Bools = self._refused[self._column.ids[rows]] == 0
        return allowed

    def why(self, node: NodeState) -> Status | None:
        return status.UNTOLERATED if node.taints and untolerated(node.taints, self._tolerations) else None


class _Score(Score):
    weight = 3
    static = True
    normalised = True

    def __init__(self, tolerations: Taints, column: TaintColumn) -> None:
        self._tolerations = [item for item in tolerations if item.get("effect") in (None, "", "PreferNoSchedule")]
        self._column = column
        self._counts: Ints = np.zeros(0, np.int64)

    def _intolerable(self, taints: Taints) -> int:
        return sum(
            taint.get("effect") == "PreferNoSchedule" and not any(tolerates(item, taint) for item in self._tolerations)
            for taint in taints
        )

    def values(self, rows: Rows) -> Ints:
        self._counts = _judged(self._counts, self._column, self._intolerable)
        return self._counts[self._column.ids[rows]]

    def normal(self, values: Ints) -> Ints:
        """Fewer are better."""
        most = values.max()
        return MAX - MAX * values // most if most else np.full_like(values, MAX)

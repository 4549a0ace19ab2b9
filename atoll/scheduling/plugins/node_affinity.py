"""NodeAffinity: the node selector and required node affinity, and a score for the preferred one.

A requirement looks at one label only: it is judged once for each value of that label, and then looked up.
"""

from __future__ import annotations

from atoll.scheduling import status
from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.matching import LabelMatcher, NodeTerm
from atoll.scheduling.plugins.port import MAX, Filter, Plugin, Score
from atoll.scheduling.pod import Template
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import LabelColumn, Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class NodeAffinity(Plugin):
    name = "NodeAffinity"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        template = shape.template
        return _Filter(template, nodes) if template.node_selector or template.node_affinity is not None else None

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        preferred = shape.template.preferred_nodes
        return _Score([(weight, _Term(term, nodes)) for weight, term in preferred]) if preferred else None


class _Requirement:
    """`table[id]` is the verdict on each value of the label; the last entry that on nodes without it."""

    def __init__(self, column: LabelColumn, matcher: LabelMatcher) -> None:
        self._column = column
        self._matcher = matcher
        self._table: Bools = np.array([matcher({})])

    def holds(self, rows: Rows) -> Bools:
        column = self._column
        known = len(self._table) - 1
        if known != len(column.values):
            new = [self._matcher({column.key: value}) for value in list(column.values)[known:]]
            self._table = np.concatenate((self._table[:-1], np.array(new, np.bool_), self._table[-1:]))
        return self._table[column.ids[rows]]


class _Term:
    def __init__(self, term: NodeTerm, nodes: Snapshot) -> None:
        self._term = term
        self._nodes = nodes
        self._requirements = [_Requirement(nodes.label(key), matcher) for key, matcher in term.expressions]

    def holds(self, rows: Rows) -> Bools:
        if self._term.empty:
            return np.zeros(len(rows), np.bool_)
        found = np.ones(len(rows), np.bool_)
        for requirement in self._requirements:
            found &= requirement.holds(rows)
        if self._term.fields is not None:
            names = self._nodes.names
            found &= [self._term.fields({"metadata.name": names[row]}) for row in rows]
        return found


class _Filter(Filter):
    static = True

    def __init__(self, template: Template, nodes: Snapshot) -> None:
        self._template = template
        self._equal = [(nodes.label(key), value) for key, value in template.node_selector.items()]
        required = template.node_affinity
        self._terms = None if required is None else [_Term(term, nodes) for term in required.terms]

    def allowed(self, rows: Rows) -> Bools:
        found = np.ones(len(rows), np.bool_)
        for column, value in self._equal:
            found &= column.ids[rows] == column.values.get(value, -2)
        if self._terms is not None:
            any_term = np.zeros(len(rows), np.bool_)
            for term in self._terms:
                any_term |= term.holds(rows)
            found &= any_term
        return found

    def why(self, node: NodeState) -> Status | None:
        return None if self._template.matches_node(node.name, node.labels) else status.NODE_AFFINITY


class _Score(Score):
    weight = 2
    static = True
    normalised = True

    def __init__(self, preferred: list[tuple[int, _Term]]) -> None:
        self._preferred = preferred

    def values(self, rows: Rows) -> Ints:
        """The summed weights of the preferred terms that hold."""
        total = np.zeros(len(rows), np.int64)
        for weight, term in self._preferred:
            total += weight * term.holds(rows)
        return total

    def normal(self, values: Ints) -> Ints:
        most = values.max()
        return MAX * values // most if most else np.zeros_like(values)

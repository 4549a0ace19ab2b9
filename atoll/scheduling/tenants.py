"""The pods of each node as numbers, most important first: what the array search of preemption looks at.

A column beside the snapshot. A node's line is made again when it is asked for after a pod came, went or started; while
nobody preempts, a change costs one entry in a set. Pods of one template ask for the same and have the same priority, so
a place in a line holds the template's number and `Tenants.requests` has the amounts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from atoll.base.clock import parse_rfc3339
from atoll.scheduling.arrays import Ids, Ints, Rows, grown, np
from atoll.scheduling.pod import PodInfo, Template
from atoll.scheduling.snapshot import Column, Snapshot
from atoll.scheduling.state import ClusterState, NodeState

NOBODY = -1
_KEY = "tenants"
_MOST_TEMPLATES = 20_000  # numbered, before all are numbered anew


def tenants_of(nodes: Snapshot, state: ClusterState) -> Tenants:
    """The snapshot's column, attached when first asked for."""
    column = nodes.attached(_KEY)
    if not isinstance(column, Tenants):
        column = Tenants(nodes, state)
        nodes.attach(_KEY, column)
    return column


class Tenants(Column):
    """`kinds[row, place]` numbers a pod's template, NOBODY behind the last; `started` beside it in seconds."""

    def __init__(self, nodes: Snapshot, state: ClusterState) -> None:
        self.kinds: Ids = np.full((0, 4), NOBODY, np.int32)
        self.started = np.zeros((0, 4), np.float64)
        self._nodes = nodes
        self._state = state
        self._position = state.restarted.end
        self._stale: set[int] = set()
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[Template, int] = {}
        self._requests: dict[tuple[str, ...], Ints] = {}
        self._stale.update(self._nodes.rows.values())

    def grow(self, rows: int) -> None:
        self.kinds = grown(self.kinds.T, rows, NOBODY).T
        self.started = grown(self.started.T, rows, 0.0).T

    def write(self, row: int, node: NodeState | None) -> None:
        self._stale.add(row)

    def write_many(self, first: int, nodes: Sequence[NodeState | None]) -> None:
        self._stale.update(range(first, first + len(nodes)))

    def refresh(self, rows: Rows) -> None:
        """Make the lines of these rows true."""
        if len(self._numbers) > _MOST_TEMPLATES:
            self._forget()
        nodes, restarted = self._nodes, self._state.restarted
        names = restarted.since(self._position)
        self._position = restarted.end
        if names is None:
            self._stale.update(nodes.rows.values())
        else:
            self._stale.update(nodes.rows[name] for name in set(names) if name in nodes.rows)
        if self._stale:
            asked = np.zeros(len(nodes.present), np.bool_)
            asked[rows] = True
            stale = np.fromiter(self._stale, np.intp, len(self._stale))
            for row in stale[asked[stale]].tolist():
                self._rebuild(row, nodes.nodes[row])
                self._stale.discard(row)

    def _rebuild(self, row: int, node: NodeState | None) -> None:
        pods = sorted(node.pods.values(), key=importance) if node is not None else []
        width = self.kinds.shape[1]
        if len(pods) > width:
            more = 2 * len(pods)
            self.kinds, self.started = grown(self.kinds, more, NOBODY), grown(self.started, more, 0.0)
            width = more
        numbers = [self._number(pod.template) for pod in pods]
        self.kinds[row] = numbers + [NOBODY] * (width - len(pods))
        self.started[row, : len(pods)] = [started(pod) for pod in pods]

    def _number(self, template: Template) -> int:
        found = self._numbers.get(template)
        if found is None:
            found = self._numbers[template] = len(self._numbers)
        return found

    def priorities(self) -> Ints:
        """By template number; the last entry stands for NOBODY."""
        return self._table(())[:, 0]

    def requests(self, resources: Sequence[str]) -> Ints:
        """Template number × resource; the last line stands for NOBODY."""
        return self._table(tuple(resources))[:, 1:]

    def _table(self, resources: tuple[str, ...]) -> Ints:
        """Priority, then the requests, by template; made longer when there are more templates."""
        known = self._requests.get(resources)
        have = 0 if known is None else len(known) - 1
        if known is not None and have == len(self._numbers):
            return known
        new = [
            [item.priority, *(item.requests.get(name, 0) for name in resources)]
            for item in islice(self._numbers, have, None)
        ]
        lines = [*([] if known is None else known[:-1].tolist()), *new, [0] * (1 + len(resources))]
        found = self._requests[resources] = np.array(lines, np.int64)
        return found


def started(pod: PodInfo) -> float:
    """When a pod was started, in seconds; those that were not come last."""
    text = (pod.obj.get("status") or {}).get("startTime")
    return _seconds(text) if text else float("inf")


@lru_cache(maxsize=4096)
def _seconds(text: str) -> float:
    return parse_rfc3339(text)


def importance(pod: PodInfo) -> tuple[int, float]:
    """More important first: higher priority, then started earlier."""
    return -pod.priority, started(pod)

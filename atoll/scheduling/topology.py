"""Counts of pods per value of a topology key (zone, host …) over the nodes of a snapshot, kept up to date.

The snapshot's journal says which pods came and went where: only rows whose pods matter to the count are looked at.
`totals[id]` goes by the label column's ids; one more entry at the end, always 0, is for nodes without the label, so
that `totals[ids]` is the count at each node.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.scheduling.arrays import Bools, Ints, Rows, grown, np
from atoll.scheduling.counts import Counted
from atoll.scheduling.snapshot import NO_VALUE, Snapshot
from atoll.scheduling.state import NodeState

NO_DOMAIN = 1 << 31  # the least count where there is no domain at all


class Eligible:
    """Which nodes take part in a count: for rows, and for one node."""

    def __init__(self, rows: Callable[[Rows], Bools], node: Callable[[NodeState], bool]) -> None:
        self.rows = rows
        self.node = node


class TopologyCount:
    """For one topology key."""

    def __init__(self, nodes: Snapshot, key: str, counted: Counted, eligible: Eligible | None = None) -> None:
        self.key = key
        self.total = 0
        self._nodes = nodes
        self._counted = counted
        self._eligible = eligible
        self._position = -1

    def sync(self) -> bool:
        """Catch up with the snapshot; True when any count has changed."""
        entries = self._nodes.placed.entries(self._position) if self._position >= 0 else None
        self._position = self._nodes.placed.end
        if entries is None:
            self._fill()
            return True
        moved: list[int] = []
        pods_moved: list[int] = []
        touched = self._counted.touched
        for row, cause in entries:
            if cause is None:
                moved.append(row)
            elif touched(*cause):
                pods_moved.append(row)
        if moved:
            self._grow()
            self._replace(np.array(list(dict.fromkeys(moved)), np.intp))
        changed = [self._recount(row) for row in dict.fromkeys(pods_moved)]
        return bool(moved) or any(changed)

    def _fill(self) -> None:
        size = len(self._nodes.present)
        self.column = self._nodes.label(self.key)
        self.totals: Ints = np.zeros(1, np.int64)
        self.domains: Ints = np.zeros(1, np.int64)  # eligible nodes per value
        self.counts: Ints = np.zeros(size, np.int64)  # per row
        self._values: Ints = np.full(size, NO_VALUE, np.int64)  # the value that each row is counted under
        self.total = 0
        self._grow()
        self._replace(self._nodes.all_rows())

    def _grow(self) -> None:
        size, values = len(self._nodes.present), len(self.column.values) + 1
        if size > len(self.counts):
            self.counts, self._values = grown(self.counts, size, 0), grown(self._values, size, NO_VALUE)
        if values > len(self.totals):  # the last entry stays 0: no row is counted there
            self.totals, self.domains = grown(self.totals, values, 0), grown(self.domains, values, 0)

    def _replace(self, rows: Rows) -> None:
        """Rows with new or changed nodes."""
        old, counts = self._values[rows], self.counts[rows]
        self.total -= int(counts.sum())
        there = old >= 0
        np.subtract.at(self.totals, old[there], counts[there])
        np.subtract.at(self.domains, old[there], 1)
        values = self.column.ids[rows].astype(np.int64)
        if self._eligible is not None and len(rows):
            values[~self._eligible.rows(rows)] = NO_VALUE
        nodes, on = self._nodes.nodes, self._counted.on
        found = [
            on(node) if value >= 0 and (node := nodes[row]) is not None and node.pods else 0
            for row, value in zip(rows.tolist(), values.tolist(), strict=True)
        ]
        counts = np.array(found, np.int64)
        there = values >= 0
        np.add.at(self.totals, values[there], counts[there])
        np.add.at(self.domains, values[there], 1)
        self.counts[rows], self._values[rows] = counts, values
        self.total += int(counts.sum())

    def _recount(self, row: int) -> bool:
        """A row whose pods have changed: whether its count has."""
        value, node = self._values.item(row), self._nodes.nodes[row]
        if value < 0 or node is None:
            return False
        change = self._counted.on(node) - self.counts.item(row)
        if change:
            self.counts[row] += change
            self.totals[value] += change
            self.total += change
        return change != 0

    def least(self, min_domains: int) -> int:
        """The smallest count of any domain; 0 when there are fewer domains than asked."""
        totals = self.totals[self.domains > 0]
        if len(totals) < min_domains:
            return 0
        return int(totals.min()) if len(totals) else NO_DOMAIN

    # one node, as it is or as a variant of it would be

    def of(self, node: NodeState) -> int | None:
        """The node's own contribution; None where it takes no part."""
        if self.key not in node.labels or (self._eligible is not None and not self._eligible.node(node)):
            return None
        return self._counted.on(node)

    def change(self, node: NodeState) -> int:
        """What the variant would add to the count at its value."""
        return (self.of(node) or 0) - int(self.counts[self._nodes.rows[node.name]])

    def at(self, node: NodeState) -> int | None:
        """The count at the node's value; None when it lacks the key."""
        value = node.labels.get(self.key)
        if value is None:
            return None
        return int(self.totals[self.column.values[value]]) + self.change(node)

    def least_with(self, min_domains: int, node: NodeState) -> int:
        change = self.change(node)
        value = self.column.values.get(node.labels.get(self.key, ""), NO_VALUE)
        if not change or value < 0 or not self.domains[value]:
            return self.least(min_domains)
        self.totals[value] += change
        try:
            return self.least(min_domains)
        finally:
            self.totals[value] -= change

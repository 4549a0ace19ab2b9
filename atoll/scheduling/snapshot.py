"""Nodes as arrays: what decisions for any number of pod shapes are computed on.

A row is a node, for as long as it is there; rows of nodes that went are used again. Amounts are int64 in the units of
`resources.py` (milli-CPU, bytes, counts), one line per resource, so that `requested[column]` is one resource over all
nodes; lines 0 to 2 are always pods, CPU and memory. Labels, taints and image sizes are columns of small integers, made
when a plugin first asks for them. Two journals name the rows that have changed, so that whoever remembers something
per row computes only those again: `placed` for any change, `changed` for those of the node itself.

A snapshot follows a `ClusterState` (`follow`). Where there are no pod objects, `charge` counts amounts in the arrays
alone. Amounts above 2^55 (36 PB) count as 2^55: a score then stays within 64 bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from atoll.scheduling.arrays import Bools, Floats, Ints, Rows, grown, np
from atoll.scheduling.resources import CPU, MEMORY, MOST, PODS
from atoll.scheduling.state import ClusterState, Journal, NodeState

NO_VALUE = -1
_FIRST_ROWS = 16
_MANY = 64  # nodes at once that are written line by line instead of node by node


class Column(Protocol):
    """A plugin's own data per node, kept beside the snapshot (`Snapshot.attach`)."""

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""

    def write(self, row: int, node: NodeState | None) -> None:
        """The node in a row has changed or (None) gone."""

    def write_many(self, first: int, nodes: Sequence[NodeState | None]) -> None:
        """As `write` for row after row."""
        for row, node in enumerate(nodes, first):
            self.write(row, node)


class LabelColumn(Column):
    """The values of one label key: `ids[row]` counts through `values`; NO_VALUE where a node lacks the key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.ids = np.zeros(0, np.int32)
        self.values: dict[str, int] = {}

    def grow(self, rows: int) -> None:
        self.ids = grown(self.ids, rows, NO_VALUE)

    def write(self, row: int, node: NodeState | None) -> None:
        value = None if node is None else node.labels.get(self.key)
        self.ids[row] = NO_VALUE if value is None else self.values.setdefault(value, len(self.values))

    def write_many(self, first: int, nodes: Sequence[NodeState | None]) -> None:
        key, values = self.key, self.values
        found = [None if node is None else node.labels.get(key) for node in nodes]
        ids = [NO_VALUE if value is None else values.setdefault(value, len(values)) for value in found]
        self.ids[first : first + len(ids)] = ids


class ImageColumn(Column):
    """The size of one image on each node; 0 where it is not."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.sizes = np.zeros(0, np.int64)

    def grow(self, rows: int) -> None:
        self.sizes = grown(self.sizes, rows, 0)

    def write(self, row: int, node: NodeState | None) -> None:
        self.sizes[row] = 0 if node is None else node.images.get(self.image, 0)


class TaintColumn(Column):
    """Which set of taints a node has: `ids[row]` counts through `sets`."""

    def __init__(self) -> None:
        self.ids = np.zeros(0, np.int32)
        self.sets: list[list[dict[str, Any]]] = [[]]
        self._known: dict[tuple[tuple[object, ...], ...], int] = {(): 0}

    def grow(self, rows: int) -> None:
        self.ids = grown(self.ids, rows, 0)

    def write(self, row: int, node: NodeState | None) -> None:
        if node is None or not node.taints:
            self.ids[row] = 0
            return
        taints = node.taints
        key = tuple((item["key"], item.get("value"), item.get("effect")) for item in taints)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.sets)
            self.sets.append(taints)
        self.ids[row] = found


class Snapshot:
    """All nodes; see the module."""

    def __init__(self, state: ClusterState) -> None:
        self.size = 0  # rows ever used; each array is at least as long
        self.names: list[str] = []
        self.rows: dict[str, int] = {}
        self.nodes: list[NodeState | None] = []  # None in free rows
        self.columns: dict[str, int] = {PODS: 0, CPU: 1, MEMORY: 2}
        self.placed: Journal[int] = Journal(array("q"))
        self.changed: Journal[int] = Journal(array("q"))
        self.epoch = 0  # moves when remembered answers about all rows are void
        self.state = state
        self._position = 0
        self._images_version = -1
        self._free: list[int] = []
        self._static: dict[object, Column] = {}
        self._attached: dict[object, Column] = {}
        self._started = False

    def _start(self) -> None:
        """Make the arrays: not before they are needed (`arrays.py`)."""
        self._started = True
        lines = len(self.columns)
        self.allocatable: Ints = np.zeros((lines, 0), np.int64)
        self.requested: Ints = np.zeros((lines, 0), np.int64)
        self.free: Ints = np.zeros((lines, 0), np.int64)  # allocatable - requested
        self.nonzero: Ints = np.zeros((2, 0), np.int64)  # CPU, memory: pods that ask for none count a little
        self.spare: Ints = np.zeros((2, 0), np.int64)  # allocatable - nonzero
        self.balance: Ints = np.zeros(0, np.int64)  # how alike the used shares of CPU and memory are, 0 to 100
        self.present: Bools = np.zeros(0, np.bool_)
        self.unschedulable: Bools = np.zeros(0, np.bool_)
        self.generation: Ints = np.zeros(0, np.int64)  # moves with each change of a row
        self.order: Floats = np.zeros(0, np.float64)  # how ties are broken, smallest first
        self._versions: Ints = np.zeros(0, np.int64)
        self.taints = TaintColumn()
        self._attach(self._static, "taints", self.taints)

    # asking

    def label(self, key: str) -> LabelColumn:
        column = self._static.get(("label", key))
        if not isinstance(column, LabelColumn):
            column = LabelColumn(key)
            self._attach(self._static, ("label", key), column)
        return column

    def image(self, name: str) -> ImageColumn:
        column = self._static.get(("image", name))
        if not isinstance(column, ImageColumn):
            column = ImageColumn(name)
            self._attach(self._static, ("image", name), column)
        return column

    def attached(self, key: object) -> Column | None:
        return self._attached.get(key)

    def attach(self, key: object, column: Column) -> None:
        """Keep a plugin's column from now on: it is told of each change of a node or of the pods on it."""
        self._attach(self._attached, key, column)

    def _attach(self, columns: dict[object, Column], key: object, column: Column) -> None:
        if not self._started:
            self._start()
        columns[key] = column
        column.grow(len(self.present))
        column.write_many(0, self.nodes)

    def resource(self, name: str) -> int:
        """The line of a resource in `allocatable`, `requested` and `free`."""
        column = self.columns.get(name)
        if column is None:
            column = self.columns[name] = len(self.columns)
            if not self._started:
                return column
            empty = np.zeros((1, len(self.present)), np.int64)
            self.allocatable, self.requested, self.free = (
                np.concatenate((lines, empty)) for lines in (self.allocatable, self.requested, self.free)
            )
        return column

    def all_rows(self) -> Rows:
        return np.arange(self.size, dtype=np.intp)

    # following a state

    def follow(self) -> None:
        """Take up what has changed in the state."""
        if not self._started:
            self._start()
        state = self.state
        if self._images_version != state.images_version:
            self._images_version = state.images_version
            self.epoch += 1
        journal = state.journal
        if self._position == journal.end:
            return
        entries = journal.entries(self._position)
        if entries is None:
            entries = [(name, None) for name in (*self.rows, *state.nodes)]
        self._position = journal.end
        names = dict.fromkeys([name for name, _ in entries])
        fresh: dict[str, NodeState] = {}
        if len(names) >= _MANY and not self._free:
            fresh = {name: state.nodes[name] for name in names if name in state.nodes and name not in self.rows}
            if fresh:
                self._write_many(list(fresh.values()))
        moved: list[NodeState] = []
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                self.remove(name)
            elif len(names) >= _MANY and self._is_known(node):
                moved.append(node)
            elif name not in fresh:
                self._write(node)
        if moved:
            self._write_pods(moved)
        for name, cause in entries:
            row = self.rows.get(name)
            if row is not None and name not in fresh:
                self.placed.add(row, cause)

    @property
    def image_nodes(self) -> Mapping[str, int]:
        """How many nodes have each image."""
        return self.state.image_nodes

    def _write(self, node: NodeState) -> None:
        row = self.rows.get(node.name)
        if row is None:
            row = self._new_row(node.name, node.order[0])
        for name in node.requested:
            if name not in self.columns:
                self.resource(name)
        if self.nodes[row] is not node or self._versions[row] != node.version:
            self.nodes[row] = node
            self._versions[row] = node.version
            self.unschedulable[row] = node.unschedulable
            for name in node.allocatable:
                self.resource(name)
            self._set(self.allocatable, row, node.allocatable)
            for column in self._static.values():
                column.write(row, node)
            self.changed.add(row)
        self._set(self.requested, row, node.requested)
        self.requested[0, row] = len(node.pods)
        self.nonzero[0, row] = min(node.nonzero_cpu, MOST)
        self.nonzero[1, row] = min(node.nonzero_memory, MOST)
        for column in self._attached.values():
            column.write(row, node)
        self._moved(row)

    def _is_known(self, node: NodeState) -> bool:
        """Whether at most its pods are others than before."""
        row = self.rows.get(node.name)
        return row is not None and self.nodes[row] is node and self._versions.item(row) == node.version

    def _write_pods(self, nodes: Sequence[NodeState]) -> None:
        """What is on nodes that are known, one line of all at a time."""
        rows: Rows = np.array([self.rows[node.name] for node in nodes], np.intp)
        for name in sorted({name for node in nodes for name in node.requested}):
            self.resource(name)
        for name, line in self.columns.items():
            self.requested[line, rows] = [min(node.requested.get(name, 0), MOST) for node in nodes]
        self.requested[0, rows] = [len(node.pods) for node in nodes]
        self.nonzero[0, rows] = [min(node.nonzero_cpu, MOST) for node in nodes]
        self.nonzero[1, rows] = [min(node.nonzero_memory, MOST) for node in nodes]
        for column in self._attached.values():
            for row, node in zip(rows.tolist(), nodes, strict=True):
                column.write(row, node)
        self._moved(rows)

    def _write_many(self, nodes: list[NodeState]) -> None:
        """New nodes, one line of all at a time: a tenth of the time of one node after the other."""
        first, last = self.size, self.size + len(nodes)
        if last > len(self.present):
            self._grow(last + last // 8)
        self.size = last
        self.names += [node.name for node in nodes]
        self.nodes += nodes
        self.rows.update(zip(self.names[first:], range(first, last), strict=True))
        for name in sorted({name for node in nodes for name in (*node.allocatable, *node.requested)}):
            self.resource(name)
        for name, line in self.columns.items():
            self.allocatable[line, first:last] = [node.allocatable.get(name, 0) for node in nodes]
            self.requested[line, first:last] = [min(node.requested.get(name, 0), MOST) for node in nodes]
        self.requested[0, first:last] = [len(node.pods) for node in nodes]
        self.nonzero[0, first:last] = [min(node.nonzero_cpu, MOST) for node in nodes]
        self.nonzero[1, first:last] = [min(node.nonzero_memory, MOST) for node in nodes]
        self.present[first:last] = True
        self.unschedulable[first:last] = [node.unschedulable for node in nodes]
        self.order[first:last] = [node.order[0] for node in nodes]
        self._versions[first:last] = [node.version for node in nodes]
        for column in (*self._static.values(), *self._attached.values()):
            column.write_many(first, nodes)
        self._moved(slice(first, last))
        self.changed.reset()
        self.placed.reset()

    def _set(self, lines: Ints, row: int, amounts: Mapping[str, int]) -> None:
        values = [0] * len(lines)
        for name, value in amounts.items():
            values[self.columns[name]] = min(value, MOST)
        lines[:, row] = values

    def _moved(self, row: int | slice | Rows) -> None:
        self.free[:, row] = self.allocatable[:, row] - self.requested[:, row]
        self.spare[:, row] = self.allocatable[1:3, row] - self.nonzero[:, row]
        self.generation[row] += 1
        if not isinstance(row, int):
            self.balance[row] = balance(self.requested[1:3, row] / np.maximum(self.allocatable[1:3, row], 1))
        else:
            used, have = self.requested.item, self.allocatable.item
            self.balance[row] = balance_of((used(1, row), used(2, row)), (have(1, row), have(2, row)))

    def _new_row(self, name: str, order: float) -> int:
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = self.size
            self.size += 1
            self.names.append(name)
            self.nodes.append(None)
            if self.size > len(self.present):
                self._grow(max(_FIRST_ROWS, self.size + self.size // 8))
        self.rows[name] = row
        self.present[row] = True
        self.order[row] = order
        return row

    def _grow(self, rows: int) -> None:
        self.allocatable, self.requested = grown(self.allocatable, rows, 0), grown(self.requested, rows, 0)
        self.free, self.nonzero = grown(self.free, rows, 0), grown(self.nonzero, rows, 0)
        self.spare, self.balance = grown(self.spare, rows, 0), grown(self.balance, rows, 0)
        self.present, self.unschedulable = grown(self.present, rows, False), grown(self.unschedulable, rows, False)
        self.generation, self.order = grown(self.generation, rows, 0), grown(self.order, rows, 0.0)
        self._versions = grown(self._versions, rows, -1)
        for column in (*self._static.values(), *self._attached.values()):
            column.grow(rows)

    def remove(self, name: str) -> None:
        """The node has gone; its row is free."""
        row = self.rows.pop(name, None)
        if row is None:
            return
        self.names[row] = ""
        self.nodes[row] = None
        self.present[row] = False
        self._versions[row] = -1
        self.allocatable[:, row] = self.requested[:, row] = 0
        self.nonzero[:, row] = 0
        for column in (*self._static.values(), *self._attached.values()):
            column.write(row, None)
        self._free.append(row)
        self.changed.add(row)
        self.placed.add(row)
        self._moved(row)

    # arrays without pods

    def line(self, amounts: Mapping[str, int], pods: int = 1) -> Ints:
        """Requests, in the order of the arrays' lines, for `charge`."""
        lines = {self.resource(name): value for name, value in amounts.items()}
        found = np.zeros(len(self.columns), np.int64)
        found[list(lines)] = list(lines.values())
        found[0] = pods
        return found

    def charge(self, row: int, line: Ints, nonzero: Ints | None = None) -> None:
        """Count pods with these requests (`line`) onto a node, in the arrays alone; with `-line` off it.

        For those who keep no pod objects. `nonzero` (CPU, memory) is what LeastAllocated counts, where that scores.
        """
        self.requested[: len(line), row] += line
        self.free[: len(line), row] -= line
        if nonzero is not None:
            self.nonzero[:, row] += nonzero
            self.spare[:, row] -= nonzero
        self.generation[row] += 1
        used, have = self.requested.item, self.allocatable.item
        self.balance[row] = balance_of((used(1, row), used(2, row)), (have(1, row), have(2, row)))
        self.placed.add(row)


def balance(shares: Floats) -> Ints:
    """Of the used shares of CPU and memory (two lines): 100 where they are equal, 0 for all of one alone."""
    np.minimum(shares, 1.0, out=shares)
    deviation = np.abs((shares[0] - shares[1]) / 2)
    found: Ints = ((1 - deviation) * 100).astype(np.int64)
    return found


def balance_of(used: Sequence[int], have: Sequence[int]) -> int:
    """The same for one node."""
    cpu, memory = used[0] / (have[0] or 1), used[1] / (have[1] or 1)
    return int((1 - abs((min(cpu, 1.0) - min(memory, 1.0)) / 2)) * 100)

"""NodeResourcesFit: requests must fit; nodes with more CPU and memory left are better (LeastAllocated)."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.plugins.port import MAX, UNLIMITED, Filter, Many, Plugin, Score
from atoll.scheduling.pod import Template
from atoll.scheduling.resources import MOST, PODS
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return _Filter(shape, nodes)

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return _LeastAllocated(shape.template, nodes)

    def many(self, shapes: Sequence[Shape], nodes: Snapshot) -> Many | None:
        return _Many([shape.template for shape in shapes], nodes)


def _wanted(template: Template) -> list[tuple[str, int]]:
    return [(name, want) for name, want in template.requests.items() if want > 0 and name != PODS]


class _Filter(Filter):
    def __init__(self, shape: Shape, nodes: Snapshot) -> None:
        self._wanted = _wanted(shape.template)
        self._nodes = nodes
        self._delegated = shape.devices.delegated  # where a node has none of these, devices stand for them
        self.amounts = None if self._delegated else {PODS: 1, **dict(self._wanted)}
        pairs = [(nodes.resource(name), want) for name, want in self._wanted]
        self._lines = [(0, 1), *pairs]  # a pod is one of the node's pods
        self._least: Ints | None = None
        self._known: dict[tuple[object, ...], Status] = {}  # one for thousands of nodes that lack the same

    def allowed(self, rows: Rows) -> Bools:
        free = self._nodes.free
        if self._least is None or len(self._least) != len(free):
            self._least = np.full((len(free), 1), -2 * MOST, np.int64)
            for line, want in self._lines:
                self._least[line] = want
        enough = free.take(rows, axis=1) >= self._least
        for line in self._delegated_lines():
            enough[line] |= self._nodes.allocatable[line].take(rows) == 0
        allowed: Bools = np.logical_and.reduce(enough)
        return allowed

    def allows(self, row: int) -> bool:
        at, have = self._nodes.free.item, self._nodes.allocatable.item
        delegated = self._delegated_lines()
        return all(at(line, row) >= want or (line in delegated and not have(line, row)) for line, want in self._lines)

    def _delegated_lines(self) -> list[int]:
        return [self._nodes.resource(name) for name in self._delegated]

    def room(self, rows: Rows) -> Ints:
        free = self._nodes.free
        least = np.full(len(rows), UNLIMITED, np.int64)
        delegated = self._delegated_lines()
        for line, want in self._lines:
            room = free[line].take(rows) // want
            if line in delegated:
                room[self._nodes.allocatable[line].take(rows) == 0] = UNLIMITED
            np.minimum(least, room, out=least)
        return np.maximum(least, 0)

    def why(self, node: NodeState) -> Status | None:
        allocatable, requested = node.allocatable, node.requested
        reasons: list[str] = []
        resolvable = True
        if len(node.pods) + 1 > allocatable.get(PODS, 0):
            reasons.append("Too many pods")
        for name, want in self._wanted:
            have = allocatable.get(name, 0)
            if not have and name in self._delegated:
                continue
            if want > have - requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
                resolvable = resolvable and want <= have
        if not reasons:
            return None
        key = (*reasons, resolvable)
        return self._known.get(key) or self._known.setdefault(key, Status(tuple(reasons), resolvable))


class _Many(Many):
    """Resource × shape: what is asked for, against what one node has free."""

    filters = scores = True

    def __init__(self, templates: Sequence[Template], nodes: Snapshot) -> None:
        self._nodes = nodes
        asked = [{nodes.resource(name): want for name, want in _wanted(template)} for template in templates]
        self._lines = 1 + max((line for lines in asked for line in lines), default=0)
        self._want: Ints = np.full((self._lines, len(templates)), -2 * MOST, np.int64)
        self._want[0] = 1
        for place, lines in enumerate(asked):
            for line, want in lines.items():
                self._want[line, place] = want
        self._nonzero = np.array([(item.nonzero_cpu, item.nonzero_memory) for item in templates], np.int64).T

    def allowed(self, row: int) -> Bools:
        allowed: Bools = np.logical_and.reduce(self._want <= self._nodes.free[: self._lines, row, None])
        return allowed

    def values(self, row: int) -> Ints:
        have = self._nodes.allocatable[1:3, row]
        left = (self._nodes.spare[:, row, None] - self._nonzero).clip(0)
        left *= MAX
        left //= np.maximum(have, 1)[:, None]
        mean: Ints = left.sum(axis=0)
        mean //= max(int(np.count_nonzero(have)), 1)
        return mean


class _LeastAllocated(Score):
    """The mean of the free shares of CPU and memory; pods that ask for none count as a little."""

    def __init__(self, template: Template, nodes: Snapshot) -> None:
        self._nodes = nodes
        self._wants = template.nonzero_cpu, template.nonzero_memory
        self._column: Ints | None = None

    def values(self, rows: Rows) -> Ints:
        if self._column is None:
            self._column = np.array(self._wants, np.int64).reshape(2, 1)
        have = self._nodes.allocatable[1:3].take(rows, axis=1)
        left = self._nodes.spare.take(rows, axis=1) - self._column
        np.maximum(left, 0, out=left)
        left *= MAX
        whole = have.all()
        left //= have if whole else np.maximum(have, 1)
        mean: Ints = left[0] + left[1]
        mean //= 2 if whole else np.maximum(np.count_nonzero(have, axis=0), 1)
        return mean

    def value(self, row: int) -> int:
        have_at, spare_at = self._nodes.allocatable.item, self._nodes.spare.item
        total = counted = 0
        for line, want in enumerate(self._wants):
            have, left = have_at(line + 1, row), spare_at(line, row) - want
            counted += have != 0
            if left > 0:
                total += left * MAX // (have or 1)
        return int(total // (counted or 1))

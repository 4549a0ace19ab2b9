"""The most that an expression may cost, reckoned from its checked tree before it ever runs (cel-go's checker/cost.go).

A size is a `Span`: characters, bytes, elements or entries, at least and at most. Where the expression itself does not
say, `Sizes` tells how large what lies at a path may become; a path begins with a variable and goes on by field names,
`@items`, `@keys` and `@values`. What a CRD may hold depends on these figures: they are upstream's, oddities included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from atoll.cluster.apiserver.expressions.evaluator import LIST_COST, MAP_COST, OBJECT_COST
from atoll.cluster.apiserver.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    ObjectLiteral,
    Select,
)
from atoll.cluster.apiserver.expressions.types import DYN, Signature, Type, unwrap_optional

MOST = 2**64 - 1
_SCALARS = frozenset({"bool", "double", "duration", "int", "timestamp", "uint"})
Path = tuple[str, ...]


class Span(NamedTuple):
    """From … to; sums and products end at `MOST`."""

    least: int
    most: int

    def plus(self, other: Span) -> Span:
        return Span(min(self.least + other.least, MOST), min(self.most + other.most, MOST))

    def times(self, other: Span) -> Span:
        return Span(min(self.least * other.least, MOST), min(self.most * other.most, MOST))

    def scaled(self, factor: float) -> Span:
        """Rounded up, in doubles as cel-go reckons."""
        return Span(*(min(math.ceil(float(end) * factor), MOST) for end in self))

    def joined(self, other: Span) -> Span:
        return Span(min(self.least, other.least), max(self.most, other.most))


def exactly(amount: int) -> Span:
    return Span(amount, amount)


UNKNOWN = Span(0, MOST)
ONE = Span(1, 1)
_NOTHING = Span(0, 0)


class Sizes(Protocol):
    def at(self, path: Path) -> Span | None:
        """How large what lies there may be; None: not known."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A part of a call, its own cost reckoned already."""

    node: Node
    path: Path
    type: Type
    size: Span | None

    def span(self, sizes: Sizes) -> Span:
        return self.size or sizes.at(self.path) or UNKNOWN

    def elements(self, sizes: Sizes) -> Span:
        """Of one element of a list."""
        return (sizes.at((*self.path, "@items")) if self.path else None) or UNKNOWN


class Called(NamedTuple):
    """A call's cost without that of its arguments, unless `whole`; and the size of what it gives."""

    cost: Span
    size: Span | None = None
    whole: bool = False


class CallCost(Protocol):
    def __call__(
        self, overload: Signature, target: Argument | None, arguments: Sequence[Argument], sizes: Sizes
    ) -> Called: ...


@dataclass(frozen=True, slots=True)
class _Entries:
    container: str  # list or map
    key: Span
    value: Span

    def joined(self, other: _Entries) -> _Entries:
        return _Entries(self.container, self.key.joined(other.key), self.value.joined(other.value))


@dataclass(frozen=True, slots=True)
class _Local:
    path: Path
    size: Span | None = None
    entries: _Entries | None = None


def estimate(
    root: Node, types: Mapping[int, Type], overloads: Mapping[int, Sequence[Signature]], sizes: Sizes, calls: CallCost
) -> Span:
    """`types` and `overloads`: by node, as the checker found them."""
    return _Estimate(types, overloads, sizes, calls).cost(root)


class _Estimate:
    def __init__(
        self, types: Mapping[int, Type], overloads: Mapping[int, Sequence[Signature]], sizes: Sizes, calls: CallCost
    ) -> None:
        self._types = types
        self._overloads = overloads
        self._declared = sizes
        self._calls = calls
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Span] = {}
        self._entries: dict[int, _Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> Span:
        if isinstance(node, Identifier):
            return self._identifier(node)
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListLiteral):
            return self._list(node)
        if isinstance(node, MapLiteral):
            return self._map(node)
        if isinstance(node, ObjectLiteral):
            return self._sum(*(self.cost(entry.value) for entry in node.entries), exactly(OBJECT_COST))
        if isinstance(node, Comprehension):
            return self._bind(node) if _is_bind(node) else self._comprehension(node)
        return _NOTHING

    @staticmethod
    def _sum(*costs: Span) -> Span:
        total = _NOTHING
        for cost in costs:
            total = total.plus(cost)
        return total

    def _identifier(self, node: Identifier) -> Span:
        local = self._local(node)
        self._paths[node.id] = (node.name,) if local is None else local.path
        return ONE

    def _select(self, node: Select) -> Span:
        cost = self.cost(node.operand)
        if node.test_only:
            return cost
        if self._type(node.operand).kind in ("map", "struct", "param"):
            cost = cost.plus(ONE)
        self._paths[node.id] = (*self._path(node.operand), node.field)
        return cost

    def _call(self, node: Call) -> Span:
        if node.function == "dyn":
            cost = self.cost(node.arguments[0]).plus(ONE)
            self._copy(node, node.arguments[0])
            return cost
        costs, arguments = [], []
        for item in node.arguments:
            costs.append(self.cost(item))
            arguments.append(self._argument(item))
        if node.function in ("_&&_", "_||_"):
            return Span(costs[0].least, costs[0].plus(costs[1]).most)  # the second may never be looked at
        if node.function == "_?_:_":
            return self._conditional(node, costs, arguments)
        before, target = _NOTHING, None
        if node.target is not None:
            before, target = self.cost(node.target), self._argument(node.target)
        span, size = Span(MOST, 0), None
        for overload in self._overloads.get(node.id) or (None,):
            called = Called(ONE) if overload is None else self._calls(overload, target, arguments, self._declared)
            span = span.joined(called.cost if called.whole else self._sum(called.cost, *costs))
            found = called.size
            if overload is not None and node.function == "_[_]":
                found = self._indexed(node, overload)
            if overload is not None and node.function == "_+_":
                self._concatenated(node)
            if found is not None:
                size = found if size is None else size.joined(found)
            size = size or self._size(node)
        self._remember(node, size)
        return before.plus(span)

    def _conditional(self, node: Call, costs: list[Span], arguments: list[Argument]) -> Span:
        one, two = (item.size or UNKNOWN for item in arguments[1:])
        entries = [self._entries_of(item) for item in node.arguments[1:]]
        if entries[0] is not None and entries[1] is not None:
            self._entries[node.id] = entries[0].joined(entries[1])
        self._remember(node, one.joined(two))
        return costs[0].plus(costs[1].joined(costs[2]))

    def _concatenated(self, node: Call) -> None:
        entries = [self._entries_of(item) for item in node.arguments]
        if len(entries) == 2 and entries[0] is not None and entries[1] is not None:
            self._entries[node.id] = entries[0].joined(entries[1])

    def _indexed(self, node: Call, overload: Signature) -> Span | None:
        kind = overload.parameters[0].kind
        if kind in ("list", "map"):
            self._paths[node.id] = (*self._path(node.arguments[0]), "@items" if kind == "list" else "@values")
        entries = self._entries_of(node.arguments[0])
        return None if entries is None else entries.value

    def _list(self, node: ListLiteral) -> Span:
        cost, sizes = exactly(LIST_COST), Span(MOST if node.elements else 0, 0)
        for item in node.elements:
            cost = cost.plus(self.cost(item))
            sizes = sizes.joined(self._size(item) or UNKNOWN)
        self._entries[node.id] = _Entries("list", ONE, sizes)
        return cost

    def _map(self, node: MapLiteral) -> Span:
        cost, keys = exactly(MAP_COST), Span(MOST if node.entries else 0, 0)
        values = keys
        for entry in node.entries:
            cost = self._sum(cost, self.cost(entry.key), self.cost(entry.value))
            keys = keys.joined(self._size(entry.key) or UNKNOWN)
            values = values.joined(self._size(entry.value) or UNKNOWN)
        self._entries[node.id] = _Entries("map", keys, values)
        return cost

    def _comprehension(self, node: Comprehension) -> Span:
        cost = self.cost(node.range).plus(self.cost(node.initial))
        self._push(node.accumulator, self._as_local(node.initial))
        for name, local in self._variables(node):
            self._push(name, local)
        loop = self.cost(node.condition)
        loop = self.cost(node.step).plus(loop)
        for name in (node.variable, node.variable2) if node.variable2 else (node.variable,):
            self._locals[name].pop()
        cost = cost.plus(self.cost(node.result))
        self._locals[node.accumulator].pop()
        times = self._size(node.range) or UNKNOWN
        if isinstance(node.initial, Constant):
            self._remember(node, self._size(node.initial))
        elif isinstance(node.initial, ListLiteral | MapLiteral):
            self._remember(node, times)
            entries = self._entries_of(node.step)
            if entries is not None:
                self._entries[node.id] = entries
        return cost.plus(times.times(loop))

    def _variables(self, node: Comprehension) -> list[tuple[str, _Local]]:
        entries, path = self._entries_of(node.range), self._path(node.range)
        container = entries.container if entries is not None else self._type(node.range).kind
        key = None if entries is None else entries.key
        value = None if entries is None else entries.value
        of_list = container == "list"
        if node.variable2:
            return [
                (node.variable, _Local((*path, "@indices" if of_list else "@keys"), key)),
                (node.variable2, _Local((*path, "@items" if of_list else "@values"), value)),
            ]
        one = _Local((*path, "@items"), value) if of_list else _Local((*path, "@keys"), key)
        return [(node.variable, one)]

    def _bind(self, node: Comprehension) -> Span:
        cost = self.cost(node.range).plus(self.cost(node.initial))
        self._push(node.accumulator, self._as_local(node.initial))
        cost = cost.plus(self.cost(node.result))
        self._locals[node.accumulator].pop()
        self._copy(node, node.result)
        return cost

    # What is known of nodes

    def _as_local(self, node: Node) -> _Local:
        entries = self._entries_of(node)
        return _Local(self._path(node), self._size(node), entries)

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _local(self, node: Node) -> _Local | None:
        stack = self._locals.get(node.name) if isinstance(node, Identifier) else None
        return stack[-1] if stack else None

    def _type(self, node: Node) -> Type:
        return self._types.get(node.id, DYN)

    def _path(self, node: Node) -> Path:
        local = self._local(node)
        return self._paths.get(node.id, ()) if local is None else local.path

    def _argument(self, node: Node) -> Argument:
        return Argument(node, self._path(node), self._type(node), self._size(node))

    def _remember(self, node: Node, size: Span | None) -> None:
        if size is not None:
            self._sizes[node.id] = size

    def _copy(self, to: Node, source: Node) -> None:
        self._remember(to, self._size(source))
        entries = self._entries_of(source)
        if entries is not None:
            self._entries[to.id] = entries

    def _entries_of(self, node: Node) -> _Entries | None:
        if node.id in self._entries:
            return self._entries[node.id]
        local = self._local(node)
        return None if local is None else local.entries

    def _size(self, node: Node) -> Span | None:
        known = self._sizes.get(node.id) or _written(node)
        if known is not None:
            return known
        declared = self._declared.at(self._path(node))
        if declared is not None:
            self._sizes[node.id] = declared
            return declared
        inner, _ = unwrap_optional(self._type(node))
        if inner.kind in _SCALARS:
            return ONE
        local = self._local(node)
        return None if local is None else local.size


def _written(node: Node) -> Span | None:
    """The size of what stands in the expression itself."""
    if isinstance(node, Constant):
        return exactly(len(node.value)) if isinstance(node.value, str | bytes) else ONE
    if isinstance(node, ListLiteral):
        return exactly(len(node.elements))
    return exactly(len(node.entries)) if isinstance(node, MapLiteral) else None


def _is_bind(node: Comprehension) -> bool:
    """A loop over nothing, which gives its accumulator's start a name: what sortBy() is made to."""
    condition = node.condition
    return (
        isinstance(node.range, ListLiteral)
        and not node.range.elements
        and isinstance(condition, Constant)
        and condition.value is False
    )

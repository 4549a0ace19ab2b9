"""The syntax tree of an expression: parsed by cel-expr-python (the C++ CEL, whose messages are cel-go's), read
from its serialised form (cel.expr.ParsedExpr), with the macros that it does not know expanded here.

Node ids are kept: they say where in the source a node stands.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional

from atoll.cluster.apiserver.expressions.errors import CompileError
from atoll.cluster.apiserver.expressions.values import Uint


@dataclass(slots=True)
class Node:
    id: int


@dataclass(slots=True)
class Constant(Node):
    value: Any


@dataclass(slots=True)
class Identifier(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    operand: Node
    field: str
    test_only: bool


@dataclass(slots=True)
class Call(Node):
    target: Node | None
    function: str
    arguments: list[Node]


@dataclass(slots=True)
class ListLiteral(Node):
    elements: list[Node]
    optional: frozenset[int]


@dataclass(slots=True)
class Entry:
    id: int
    key: Any  # a Node in maps, the field's name in objects
    value: Node
    optional: bool


@dataclass(slots=True)
class MapLiteral(Node):
    entries: list[Entry]


@dataclass(slots=True)
class ObjectLiteral(Node):
    name: str
    entries: list[Entry]


@dataclass(slots=True)
class Comprehension(Node):
    variable: str
    variable2: str
    range: Node
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


@dataclass(frozen=True, slots=True)
class Parsed:
    source: str
    root: Node
    positions: dict[int, int]  # node id → offset in code points

    def error(self, node: int, message: str) -> str:
        """As cel-go shows an error: with the line and a mark under the place."""
        offset = self.positions.get(node, 0)
        before = self.source[:offset]
        line = before.count("\n") + 1
        column = offset - (before.rfind("\n") + 1)
        text = self.source.split("\n")[line - 1].replace("\t", " ")
        marks = "".join("." if ord(character) < 128 else "\uff0e" for character in text[:column])
        mark = "\uff3e" if column < len(text) and ord(text[column]) >= 128 else "^"
        return f"ERROR: <input>:{line}:{column + 1}: {message}\n | {text}\n | {marks}{mark}"


@functools.cache
def _parser() -> Any:
    return cel.NewEnv(variables={}, extensions=[ext_optional.ExtOptional()])


def parse(source: str, binding: bool = False) -> Parsed:
    """`binding`: with cel.bind(name, value, expression), which only some environments have. Raises CompileError."""
    try:
        data = _parser().compile(source, disable_check=True).serialize()
    except RuntimeError as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ").replace(" [INVALID_ARGUMENT]", "").strip()
        raise CompileError(text) from None
    fields = _fields(_one(_fields(data), 2))  # in a google.protobuf.Any
    info = _fields(_one(fields, 3) or b"")
    positions: dict[int, int] = {}
    for entry in info.get(4, ()):
        pair = _fields(entry)
        positions[_one(pair, 1) or 0] = _signed(_one(pair, 2) or 0)
    root = _node(_one(fields, 2))
    return Parsed(source, _Macros(positions, source, binding).expand(root), positions)


def mentions(node: Node, name: str) -> bool:
    """Whether an identifier occurs."""
    if isinstance(node, Identifier):
        return node.name == name
    return any(mentions(child, name) for child in children(node))


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below."""
    if isinstance(node, Select):
        yield node.operand
    elif isinstance(node, Call):
        if node.target is not None:
            yield node.target
        yield from node.arguments
    elif isinstance(node, ListLiteral):
        yield from node.elements
    elif isinstance(node, MapLiteral | ObjectLiteral):
        for entry in node.entries:
            if isinstance(entry.key, Node):
                yield entry.key
            yield entry.value
    elif isinstance(node, Comprehension):
        yield from (node.range, node.initial, node.condition, node.step, node.result)


# The wire format of protobuf, as far as ParsedExpr needs it


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _fields(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 1:
            value, place = data[place : place + 8], place + 8
        elif kind == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        else:
            value, place = data[place : place + 4], place + 4
        found.setdefault(tag >> 3, []).append(value)
    return found


def _one(fields: dict[int, list[Any]], number: int) -> Any:
    values = fields.get(number)
    return values[-1] if values else None


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(data: bytes | None) -> str:
    return (data or b"").decode()


def _node(data: bytes | None) -> Node:
    fields = _fields(data or b"")
    identity = _one(fields, 2) or 0
    if 3 in fields:
        return Constant(identity, _constant(_fields(fields[3][-1])))
    if 4 in fields:
        return Identifier(identity, _text(_one(_fields(fields[4][-1]), 1)))
    if 5 in fields:
        inner = _fields(fields[5][-1])
        return Select(identity, _node(_one(inner, 1)), _text(_one(inner, 2)), bool(_one(inner, 3)))
    if 6 in fields:
        inner = _fields(fields[6][-1])
        target = _node(_one(inner, 1)) if 1 in inner else None
        return Call(identity, target, _text(_one(inner, 2)), [_node(item) for item in inner.get(3, ())])
    if 7 in fields:
        inner = _fields(fields[7][-1])
        return ListLiteral(identity, [_node(item) for item in inner.get(1, ())], frozenset(_packed(inner.get(2, ()))))
    if 8 in fields:
        return _literal(identity, _fields(fields[8][-1]))
    inner = _fields(_one(fields, 9) or b"")
    return Comprehension(
        identity, _text(_one(inner, 1)), _text(_one(inner, 8)), _node(_one(inner, 2)), _text(_one(inner, 3)),
        _node(_one(inner, 4)), _node(_one(inner, 5)), _node(_one(inner, 6)), _node(_one(inner, 7)),
    )  # fmt: skip


def _packed(values: Any) -> Iterator[int]:
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        place = 0
        while place < len(value):
            number, place = _varint(value, place)
            yield number


def _literal(identity: int, inner: dict[int, list[Any]]) -> Node:
    name = _text(_one(inner, 1))
    entries = []
    for data in inner.get(2, ()):
        entry = _fields(data)
        key = _node(_one(entry, 3)) if 3 in entry else _text(_one(entry, 2))
        entries.append(Entry(_one(entry, 1) or 0, key, _node(_one(entry, 4)), bool(_one(entry, 5))))
    return ObjectLiteral(identity, name, entries) if name else MapLiteral(identity, entries)


def _constant(fields: dict[int, list[Any]]) -> Any:
    if 2 in fields:
        return bool(fields[2][-1])
    if 3 in fields:
        return _signed(fields[3][-1])
    if 4 in fields:
        return Uint(fields[4][-1])
    if 5 in fields:
        return struct.unpack("<d", fields[5][-1])[0]
    if 6 in fields:
        return _text(fields[6][-1])
    if 7 in fields:
        return bytes(fields[7][-1])
    return None


_SORTED = "@__sortBy_input__"


def _is_named(node: Node, name: str) -> bool:
    return isinstance(node, Identifier) and node.name == name


class _Macros:
    """Two-variable comprehensions, sortBy and cel.bind, which the parser leaves as calls; literals stand at their
    brace."""

    def __init__(self, positions: dict[int, int], source: str, binding: bool) -> None:
        self._positions = positions
        self._source = source
        self._binding = binding
        self._next = max(positions, default=0) + 1

    def _id(self, at: int) -> int:
        self._next += 1
        self._positions[self._next] = self._positions.get(at, 0)
        return self._next

    def expand(self, node: Node) -> Node:
        if isinstance(node, Select):
            node.operand = self.expand(node.operand)
        elif isinstance(node, Call):
            node.target = self.expand(node.target) if node.target is not None else None
            node.arguments = [self.expand(item) for item in node.arguments]
            return self._macro(node)
        elif isinstance(node, ListLiteral):
            node.elements = [self.expand(item) for item in node.elements]
        elif isinstance(node, MapLiteral | ObjectLiteral):
            if isinstance(node, ObjectLiteral):
                start = self._positions.get(node.id, 0)
                self._positions[node.id] = max(start, self._source.find("{", start))
            for entry in node.entries:
                entry.value = self.expand(entry.value)
                if isinstance(entry.key, Node):
                    entry.key = self.expand(entry.key)
        elif isinstance(node, Comprehension):
            for name in ("range", "initial", "condition", "step", "result"):
                setattr(node, name, self.expand(getattr(node, name)))
        return node

    def _macro(self, call: Call) -> Node:
        names = [item.name for item in call.arguments[:2] if isinstance(item, Identifier)]
        if call.target is None:
            return call
        count = len(call.arguments)
        if call.function == "sortBy" and count == 2 and names[:1] and isinstance(call.arguments[0], Identifier):
            return self._sort_by(call, names[0])
        if self._binding and call.function == "bind" and count == 3 and _is_named(call.target, "cel"):
            return self._bind(call)
        if len(names) < 2:
            return call
        maker = {
            ("all", 3): self._all, ("exists", 3): self._exists, ("existsOne", 3): self._exists_one,
            ("exists_one", 3): self._exists_one, ("transformList", 3): self._list, ("transformList", 4): self._list,
            ("transformMap", 3): self._map, ("transformMap", 4): self._map,
            ("transformMapEntry", 3): self._entries, ("transformMapEntry", 4): self._entries,
        }.get((call.function, count))  # fmt: skip
        return maker(call, names[0], names[1]) if maker else call

    def _call(self, at: int, function: str, *arguments: Node) -> Call:
        return Call(self._id(at), None, function, list(arguments))

    def _accumulated(self, at: int) -> Identifier:
        return Identifier(self._id(at), "@result")

    def _fold(self, call: Call, one: str, two: str, initial: Any, condition: Node, step: Node, result: Node) -> Node:
        assert call.target is not None
        start = initial if isinstance(initial, Node) else Constant(self._id(call.id), initial)
        return Comprehension(call.id, one, two, call.target, "@result", start, condition, step, result)

    def _strictly(self, at: int, negated: bool) -> Node:
        inner: Node = self._accumulated(at)
        if negated:
            inner = self._call(at, "!_", inner)
        return self._call(at, "@not_strictly_false", inner)

    def _all(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        step = self._call(at, "_&&_", self._accumulated(at), call.arguments[2])
        return self._fold(call, one, two, True, self._strictly(at, False), step, self._accumulated(at))

    def _exists(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        step = self._call(at, "_||_", self._accumulated(at), call.arguments[2])
        return self._fold(call, one, two, False, self._strictly(at, True), step, self._accumulated(at))

    def _exists_one(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        more = self._call(at, "_+_", self._accumulated(at), Constant(self._id(at), 1))
        step = self._call(at, "_?_:_", call.arguments[2], more, self._accumulated(at))
        result = self._call(at, "_==_", self._accumulated(at), Constant(self._id(at), 1))
        return self._fold(call, one, two, 0, Constant(self._id(at), True), step, result)

    def _filtered(self, call: Call, step: Node) -> Node:
        if len(call.arguments) == 4:
            return self._call(call.id, "_?_:_", call.arguments[2], step, self._accumulated(call.id))
        return step

    def _list(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        item = ListLiteral(self._id(at), [call.arguments[-1]], frozenset())
        step = self._filtered(call, self._call(at, "_+_", self._accumulated(at), item))
        empty = ListLiteral(self._id(at), [], frozenset())
        return self._fold(call, one, two, empty, Constant(self._id(at), True), step, self._accumulated(at))

    def _map(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        key = Identifier(self._id(at), one)
        step = self._filtered(call, self._call(at, "cel.@mapInsert", self._accumulated(at), key, call.arguments[-1]))
        return self._fold(
            call, one, two, MapLiteral(self._id(at), []), Constant(self._id(at), True), step, self._accumulated(at)
        )

    def _entries(self, call: Call, one: str, two: str) -> Node:
        at = call.id
        step = self._filtered(call, self._call(at, "cel.@mapInsert", self._accumulated(at), call.arguments[-1]))
        return self._fold(
            call, one, two, MapLiteral(self._id(at), []), Constant(self._id(at), True), step, self._accumulated(at)
        )

    def _sort_by(self, call: Call, name: str) -> Node:
        at = call.id
        item = ListLiteral(self._id(at), [call.arguments[1]], frozenset())
        step = self._call(at, "_+_", self._accumulated(at), item)
        empty = ListLiteral(self._id(at), [], frozenset())
        assert call.target is not None
        keys = Comprehension(
            self._id(at), name, "", self._sorted(at), "@result", empty, Constant(self._id(at), True), step,
            self._accumulated(at),
        )  # fmt: skip
        result = Call(self._id(at), self._sorted(at), "@sortByAssociatedKeys", [keys])
        nothing = ListLiteral(self._id(at), [], frozenset())
        return Comprehension(
            call.id, "#unused", "", nothing, _SORTED, call.target, Constant(self._id(at), False), self._sorted(at),
            result,
        )  # fmt: skip

    def _bind(self, call: Call) -> Node:
        at = call.id
        name, value, result = call.arguments
        if not isinstance(name, Identifier):
            told = Parsed(self._source, name, self._positions)
            raise CompileError(told.error(name.id, "cel.bind() variable names must be simple identifiers"))
        nothing = ListLiteral(self._id(at), [], frozenset())
        never = Constant(self._id(at), False)
        return Comprehension(
            at, "#unused", "", nothing, name.name, value, never, Identifier(self._id(at), name.name), result
        )

    def _sorted(self, at: int) -> Identifier:
        return Identifier(self._id(at), _SORTED)

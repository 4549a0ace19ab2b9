"""What of its values a CEL rule reads, so that rules that held for the same inputs need not run again.

Most writes of an object leave what its rules look at as it was, or make it like that of a hundred others. A rule is a
function of what it reads (CRD rules know no clock and no other object), its cost too. `reads_of` finds the fields and
list items that are read; `Reading.key` projects a value onto them. What can't be told apart for certain (an index, a
value that is passed on) counts as read whole; so two values with one key give one outcome.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import orjson

from atoll.cluster.apiserver.expressions.syntax import (
    Call,
    Comprehension,
    Identifier,
    Node,
    Select,
    children,
)

_LONGEST = 1024  # bytes of one value in a key: longer ones are not worth keeping
_MOST_KNOWN = 4096
_ABSENT = None  # orjson gives b"null" for null
_OBJECT = -1  # no length: the key of an object is never that of a list


class TooLong(Exception):
    """A value that is no part of a key."""


class Reading:
    """How one value is read: whole, by its length, by its fields, by its items."""

    __slots__ = ("fields", "items", "length", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.length = False
        self.fields: dict[str, Reading] = {}
        self.items: Reading | None = None

    def field(self, name: str) -> Reading:
        return self.fields.setdefault(name, Reading())

    def item(self) -> Reading:
        if self.items is None:
            self.items = Reading()
        return self.items

    def key(self, value: Any) -> Hashable:
        """The value as far as it is read. Raises TooLong."""
        kind = type(value)
        if kind is str and len(value) <= _LONGEST:
            found: Hashable = value
            return found
        if kind is dict and not (self.whole or self.length) and self.items is None:
            keys: list[Hashable] = [_OBJECT]
            for name, below in self.fields.items():
                if name not in value:
                    keys.append(_ABSENT)
                else:
                    item = value[name]
                    short = type(item) is str and len(item) <= _LONGEST
                    keys.append(item if short else below.key(item))
            return tuple(keys)
        if kind is list and not self.whole and not self.fields:
            if self.items is None:
                return len(value)
            return tuple(map(self.items.key, value))
        try:
            encoded = orjson.dumps(value)
        except TypeError:  # a number over 64 bits
            raise TooLong from None
        if len(encoded) > _LONGEST:
            raise TooLong
        return encoded


def reads_of(roots: Iterable[Node], names: Iterable[str]) -> dict[str, Reading]:
    """How the variables `names` are read by all expressions together."""
    found = {name: Reading() for name in names}
    for root in roots:
        _use(_visit(root, dict(found)))
    return found


class Held:
    """The inputs under which all rules of one place of a schema held."""

    def __init__(self, rules: Iterable[Node]) -> None:
        self._reads = reads_of(rules, ("self", "oldSelf"))
        self._known: set[Hashable] = set()

    def key(self, value: Any, old: Any, has_old: bool) -> Hashable:
        """None: these inputs are not remembered."""
        try:
            before = self._reads["oldSelf"].key(old) if has_old else _ABSENT
            return self._reads["self"].key(value), has_old, before
        except TooLong:
            return None

    def reads(self, field: str) -> bool:
        """Whether a rule may look at this field of its place."""
        return any(place.whole or place.items is not None or field in place.fields for place in self._reads.values())

    def __contains__(self, key: Hashable) -> bool:
        return key in self._known

    def add(self, key: Hashable) -> None:
        if key is None:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(key)


_Scope = dict[str, Reading | None]


def _use(place: Reading | None) -> None:
    """It is passed on: all of it may matter."""
    if place is not None:
        place.whole = True


def _visit(node: Node, scope: _Scope) -> Reading | None:
    """The place whose value the expression gives, if it gives one as it stands."""
    if isinstance(node, Identifier):
        return scope.get(node.name.removeprefix("."))
    if isinstance(node, Select):
        place = _visit(node.operand, scope)
        if place is None:
            return None
        if "__" in node.field:  # perhaps a property of another name
            place.whole = True
            return None
        below = place.field(node.field)
        return None if node.test_only else below
    if isinstance(node, Comprehension):
        _comprehension(node, scope)
        return None
    if isinstance(node, Call) and node.function == "size" and node.target is None and len(node.arguments) == 1:
        place = _visit(node.arguments[0], scope)
        if place is not None:
            place.length = True
        return None
    for child in children(node):
        _use(_visit(child, scope))
    return None


def _comprehension(node: Comprehension, scope: _Scope) -> None:
    over = _visit(node.range, scope)
    _use(_visit(node.initial, scope))
    item = over.item() if over is not None else None
    if item is not None and not node.variable2:
        inner = {**scope, node.variable: item, node.accumulator: None}
    else:
        inner = {**scope, node.variable: None, node.variable2: item, node.accumulator: None}
    for child in (node.condition, node.step, node.result):
        _use(_visit(child, inner))

"""JSON texts with holes: what a mold (`molds`) or a recast (`recasts`) fills, and what a record tells of it later.

A record whose bytes were filled into a form names it as its `origin`: two records of one form differ in nothing but
what is in the holes. `fill` and `read` are each other's inverse. Values are bare: JSON strings without their quotes, in
which nothing is escaped, so that each ends where the quote or backslash of the text behind it stands.

`parse` makes the object of such a record without reading its text: what has no hole in it is shared by all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from atoll.cluster.store.port import Encoded, Object

VERSION = -1  # the hole that the store fills
_SIGN = "\ue000"  # of private use: no text has it that is made a form of
_MARK = re.compile(f"{_SIGN}(-?[0-9]+){_SIGN}")

Build = Callable[[Sequence[str]], Any]


class Form:
    """Compared by identity. `parts` are the texts around the holes; `holes` says which value each of these has."""

    __slots__ = ("_build", "_head", "_head_holes", "_steps", "_tail", "_tail_holes", "_width", "parts", "size")

    def __init__(self, parts: Sequence[bytes], holes: Sequence[int]) -> None:
        """One part more than holes, of which exactly one is VERSION. Raises ValueError for what can't be a form."""
        self.parts = tuple(parts)
        at = holes.index(VERSION)
        texts = [part.replace(b"%", b"%%") for part in parts]
        self._head, self._tail = b"%b".join(texts[: at + 1]), b"%b".join(texts[at + 1 :])
        self._head_holes, self._tail_holes = tuple(holes[:at]), tuple(holes[at + 1 :])
        self._width = max(holes) + 1
        self.size = sum(map(len, parts))  # bytes, without what is in the holes
        self._steps = [(len(part), hole, after[:1]) for part, hole, after in zip(parts, holes, parts[1:], strict=False)]
        self._build = _builder_of(parts, holes)

    def says(self, text: bytes) -> bool:
        """Whether that stands in what is the same for all."""
        return any(text in part for part in self.parts)

    def fill(self, values: Sequence[bytes]) -> Encoded:
        """The object with these values; it remembers where it is from."""
        head = self._head % tuple([values[hole] for hole in self._head_holes])
        return Encoded(head, self._tail % tuple([values[hole] for hole in self._tail_holes]), self)

    def read(self, data: bytes) -> list[bytes]:
        """The values in a text that was filled from this form (b"" for those without a hole), and last its version."""
        values = [b""] * (self._width + 1)
        at = 0
        for size, hole, stop in self._steps:
            at += size
            end = data.index(stop, at)
            values[hole] = data[at:end]
            at = end
        return values

    def parse(self, data: bytes) -> Object:
        """The object of such a text; shared in parts, never to be changed."""
        obj: Object = self._build([value.decode() for value in self.read(data)])
        return obj


def _builder_of(parts: Sequence[bytes], holes: Sequence[int]) -> Build:
    if any(_SIGN.encode() in part for part in parts):
        raise ValueError("a text with the sign that marks holes")
    marks = [f"{_SIGN}{hole}{_SIGN}".encode() for hole in holes]
    text = b"".join([piece for pair in zip(parts, [*marks, b""], strict=True) for piece in pair])
    built = _builder(orjson.loads(text))
    assert built is not None  # there is a version
    return built


def _builder(node: Any) -> Build | None:
    """What makes a node with values in its holes; None where it has none, and is the same for all."""
    if node.__class__ is str:
        return _string(node)
    if node.__class__ is dict:
        return _dict(node)
    if node.__class__ is list:
        return _list(node)
    return None


def _string(node: str) -> Build | None:
    pieces = _MARK.split(node)
    if len(pieces) == 1:
        return None
    if len(pieces) == 3 and not pieces[0] and not pieces[2]:
        return itemgetter(int(pieces[1]))
    texts, numbers = pieces[::2], [int(number) for number in pieces[1::2]]

    def build(values: Sequence[str]) -> str:
        filled = [piece for text, number in zip(texts, numbers, strict=False) for piece in (text, values[number])]
        return "".join(filled) + texts[-1]

    return build


def _list(node: list[Any]) -> Build | None:
    changing = [(place, build) for place, item in enumerate(node) if (build := _builder(item)) is not None]
    if not changing:
        return None

    def build_list(values: Sequence[str]) -> list[Any]:
        new = node.copy()
        for place, build in changing:
            new[place] = build(values)
        return new

    return build_list


def _dict(node: dict[str, Any]) -> Build | None:
    changing = [(key, build) for key, item in node.items() if (build := _builder(item)) is not None]
    names = {key: build for key in node if (build := _string(key)) is not None}
    if names:
        return _dict_of_names(node, names)
    if not changing:
        return None

    def build_dict(values: Sequence[str]) -> dict[str, Any]:
        new = node.copy()
        for key, build in changing:
            new[key] = build(values)
        return new

    return build_dict


def _dict_of_names(node: dict[str, Any], names: dict[str, Build]) -> Build:
    """One whose keys have holes."""
    entries = [(key, names.get(key), item, _builder(item)) for key, item in node.items()]

    def build(values: Sequence[str]) -> dict[str, Any]:
        return {
            key if name is None else name(values): item if inner is None else inner(values)
            for key, name, item, inner in entries
        }

    return build

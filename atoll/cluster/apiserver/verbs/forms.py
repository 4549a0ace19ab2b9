"""JSON texts with holes: what a mold (`molds`) or a recast (`recasts`) fills, and what a record tells of it later.

A record whose bytes were filled into a form names it as its `origin`: two records of one form differ in nothing but
what is in the holes. `fill` and `read` are each other's inverse. Values are bare: JSON strings without their quotes, in
which nothing is escaped, so that each ends where the quote or backslash of the text behind it stands.

`parse` makes the object of such a record without reading its text, but for the first few: what has no hole in it is
shared by all of them, and what has only times in it by those of the same times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from sys import intern
from typing import Any

import orjson

from atoll.cluster.store.port import Encoded, Object

VERSION = -1  # the hole that the store fills
_SIGN = "\ue000"  # of private use: no text has it that is made a form of
_FEW = 16  # texts that are parsed as any other: to write the function for a form takes as long as a hundred of these
_TIMES = 64  # combinations of times for which a part is remembered
_MARK = re.compile(f"{_SIGN}(-?[0-9]+){_SIGN}")
_TIME = re.compile(rb"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ").fullmatch

Build = Callable[[Sequence[str]], Object]


class Form:
    """Compared by identity. `parts` are the texts around the holes; `holes` says which value each of these has."""

    __slots__ = (
        "_all",
        "_build",
        "_head",
        "_head_holes",
        "_holes",
        "_parsed",
        "_steps",
        "_tail",
        "_tail_holes",
        "_times",
        "_width",
        "parts",
        "size",
    )

    def __init__(self, parts: Sequence[bytes], holes: Sequence[int]) -> None:
        """One part more than holes, of which exactly one is VERSION. Raises ValueError for what can't be a form."""
        self.parts = tuple(parts)
        at = holes.index(VERSION)
        texts = [part.replace(b"%", b"%%") for part in parts]
        self._head, self._tail = b"%b".join(texts[: at + 1]), b"%b".join(texts[at + 1 :])
        self._head_holes, self._tail_holes = tuple(holes[:at]), tuple(holes[at + 1 :])
        self._width = max(holes) + 1
        self._all = {*range(self._width), VERSION} == set(holes)  # whether each value has its hole
        self.size = sum(map(len, parts))  # bytes, without what is in the holes
        self._steps = [(len(part), hole, after[:1]) for part, hole, after in zip(parts, holes, parts[1:], strict=False)]
        if any(_SIGN.encode() in part for part in parts):
            raise ValueError("a text with the sign that marks holes")
        self._holes = tuple(holes)
        self._build: Build | None = None
        self._times: tuple[int, ...] = ()  # holes for times, as far as one text has shown; these are worth sharing
        self._parsed = 0

    def says(self, text: bytes) -> bool:
        """Whether that stands in what is the same for all."""
        return any(text in part for part in self.parts)

    def fill(self, values: Sequence[bytes], uid: str = "") -> Encoded:
        """The object with these values, of which `uid` is its own; it remembers where it is from."""
        head = self._head % tuple([values[hole] for hole in self._head_holes])
        tail = self._tail % tuple([values[hole] for hole in self._tail_holes])
        return Encoded(head, tail, self, values[: self._width] if self._all else None, uid)

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

    def parse(self, data: bytes, values: Sequence[bytes] | None = None) -> Object:
        """The object of such a text; shared in parts, never to be changed. `values`: of it, where they are known."""
        build = self._build
        if build is None:
            self._parsed += 1
            if self._parsed <= _FEW:
                obj: Object = orjson.loads(data)
                return obj
            known = self.read(data)
            self._times = tuple(hole for hole in set(self._holes) if _TIME(known[hole]))
            build = self._build = _builder_of(self.parts, self._holes, frozenset(self._times))
        texts = [value.decode() for value in (self.read(data) if values is None else values)]
        for hole in self._times:
            texts[hole] = intern(texts[hole])
        return build(texts)


def _builder_of(parts: Sequence[bytes], holes: Sequence[int], times: frozenset[int]) -> Build:
    """`times`: the holes for times."""
    marks = [f"{_SIGN}{hole}{_SIGN}".encode() for hole in holes]
    text = b"".join([piece for pair in zip(parts, [*marks, b""], strict=True) for piece in pair])
    return _Writer(times).function(orjson.loads(text))


class _Recent:
    """A part that is the same for the same times: many are made in one second."""

    __slots__ = ("_build", "_holes", "_made")

    def __init__(self, build: Build, holes: frozenset[int]) -> None:
        self._build = build
        self._holes = itemgetter(*sorted(holes))
        self._made: dict[Any, Any] = {}

    def __call__(self, values: Sequence[str]) -> Any:
        times = self._holes(values)
        made = self._made.get(times)
        if made is None:
            if len(self._made) >= _TIMES:
                self._made.clear()
            made = self._made[times] = self._build(values)
        return made


class _Writer:
    """Writes the function that makes an object with values in its holes: a third of the time of any that looks at the
    form each time. Its text is made of names and numbers of ours alone, never of an object's."""

    def __init__(self, times: frozenset[int] = frozenset()) -> None:
        self._times = times
        self._names: dict[str, Any] = {}  # what is the same for all
        self._lines: list[str] = []

    def function(self, root: Any) -> Build:
        made = self._value(root)
        assert made is not None  # there is a version
        body = "\n ".join([*self._lines, f"return {made}"])
        exec(compile(f"def build(v):\n {body}", "<form>", "exec"), self._names)
        build: Build = self._names["build"]
        return build

    def _constant(self, value: Any) -> str:
        name = f"c{len(self._names)}"
        self._names[name] = value
        return name

    def _value(self, node: Any) -> str | None:
        """An expression of a node; None where it has no hole, and is the same for all."""
        if node.__class__ is str:
            return self._string(node)
        holes = _holes_in(node) if self._times else frozenset()
        if holes and holes <= self._times:
            return f"{self._constant(_Recent(_Writer().function(node), holes))}(v)"
        if node.__class__ is dict:
            keys = {key: made for key in node if (made := self._string(key)) is not None}
            items = {key: made for key, item in node.items() if (made := self._value(item)) is not None}
            if keys:
                pairs = [
                    f"{keys.get(key) or self._constant(key)}: {items.get(key) or self._constant(item)}"
                    for key, item in node.items()
                ]
                return f"{{{', '.join(pairs)}}}"
            return self._copy(node, items)
        if node.__class__ is list:
            return self._copy(node, {n: made for n, item in enumerate(node) if (made := self._value(item)) is not None})
        return None

    def _copy(self, node: Any, items: dict[Any, str]) -> str | None:
        if not items:
            return None
        target = f"n{len(self._lines)}"
        self._lines.append(f"{target} = {self._constant(node)}.copy()")
        self._lines += [f"{target}[{self._constant(place)}] = {made}" for place, made in items.items()]
        return target

    def _string(self, node: str) -> str | None:
        pieces = _MARK.split(node)
        if len(pieces) == 1:
            return None
        numbers = [f"v[{int(number)}]" for number in pieces[1::2]]
        texts = [self._constant(text) if text else "" for text in pieces[::2]]
        terms = [term for pair in zip(texts, [*numbers, ""], strict=True) for term in pair if term]
        return " + ".join(terms)


def _holes_in(node: Any) -> frozenset[int]:
    if node.__class__ is str:
        return frozenset(map(int, _MARK.findall(node)))
    if node.__class__ is dict:
        return frozenset().union(*map(_holes_in, node), *map(_holes_in, node.values()))
    return frozenset().union(*map(_holes_in, node)) if node.__class__ is list else frozenset()

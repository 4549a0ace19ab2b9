"""JSON texts with holes: what a mold (`molds`) or a recast (`recasts`) fills, and what a record tells of it later.

A record whose bytes were filled into a form names it as its `origin`: two records of one form differ in nothing but
what is in the holes. `fill` and `read` are each other's inverse. Values are bare: JSON strings without their quotes, in
which nothing is escaped, so that each ends where the quote or backslash of the text behind it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.cluster.store.port import Encoded

VERSION = -1  # the hole that the store fills


class Form:
    """Compared by identity. `parts` are the texts around the holes; `holes` says which value each of these has."""

    __slots__ = ("_head", "_head_holes", "_size", "_steps", "_tail", "_tail_holes", "parts")

    def __init__(self, parts: Sequence[bytes], holes: Sequence[int]) -> None:
        """One part more than holes, of which exactly one is VERSION."""
        self.parts = tuple(parts)
        at = holes.index(VERSION)
        texts = [part.replace(b"%", b"%%") for part in parts]
        self._head, self._tail = b"%b".join(texts[: at + 1]), b"%b".join(texts[at + 1 :])
        self._head_holes, self._tail_holes = tuple(holes[:at]), tuple(holes[at + 1 :])
        self._size = max(holes) + 1
        self._steps = [(len(part), hole, after[:1]) for part, hole, after in zip(parts, holes, parts[1:], strict=False)]

    def fill(self, values: Sequence[bytes]) -> Encoded:
        """The object with these values; it remembers where it is from."""
        head = self._head % tuple([values[hole] for hole in self._head_holes])
        return Encoded(head, self._tail % tuple([values[hole] for hole in self._tail_holes]), self)

    def read(self, data: bytes) -> list[bytes]:
        """The values in a text that was filled from this form (and given a version); b"" for those without a hole."""
        values = [b""] * self._size
        at = 0
        for size, hole, stop in self._steps:
            at += size
            end = data.index(stop, at)
            if hole != VERSION:
                values[hole] = data[at:end]
            at = end
        return values

"""The port by which a kernel's log is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from atoll.base.errors import AtollError


class UnreadableLog(AtollError):
    """The machine does not let this process read its kernel's log; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """`position`: where reading goes on after it, of the source's own making. `at`: wall time, seconds."""

    position: str
    at: float
    text: str


class KernelLog(Protocol):
    """One machine's log."""

    def lines(self, after: str = "") -> AsyncGenerator[Line, None]:
        """What the kernel itself has written, oldest first, then what it writes, without end.

        `after`: the position of a line; reading goes on behind it, or with the oldest line that is kept where the
        source does not know it (another boot). What programs write into the log is left out. Raises UnreadableLog.
        """


class FirstLog:
    """The first of some sources that can be read here."""

    def __init__(self, *sources: KernelLog) -> None:
        self._sources = sources

    async def lines(self, after: str = "") -> AsyncGenerator[Line, None]:
        """Implements `KernelLog`. A position is the source's number and its own position."""
        whose, _, own = after.partition(":")
        reasons = []
        for number, source in enumerate(self._sources):
            try:
                async with aclosing(source.lines(own if whose == str(number) else "")) as found:
                    async for line in found:
                        yield replace(line, position=f"{number}:{line.position}")
            except UnreadableLog as error:
                reasons.append(error.message)
        raise UnreadableLog("; ".join(reasons))

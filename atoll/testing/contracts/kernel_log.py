"""The contract of `atoll.cluster.nodes.kernel.port.KernelLog`: what any source of a kernel's log does for a node.

class TestMine(KernelLogContract):
    def machine(self, folder):
        return MyMachine(folder)        # log, write, pretend
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import pytest

from atoll.cluster.nodes.kernel.port import KernelLog, Line

_SECONDS = 20.0


class Machine(Protocol):
    """One whose kernel can be made to speak."""

    @property
    def log(self) -> KernelLog: ...

    def write(self, text: str) -> None:
        """The kernel writes a line."""

    def pretend(self, text: str) -> None:
        """A program writes a line into the kernel's log."""


async def take(log: KernelLog, count: int, after: str = "", then: Callable[[], Any] | None = None) -> list[Line]:
    """So many lines; `then` is called after the first."""
    found: list[Line] = []
    async with asyncio.timeout(_SECONDS), aclosing(log.lines(after)) as lines:
        async for line in lines:
            found.append(line)
            if len(found) == 1 and then is not None:
                then()
            if len(found) == count:
                break
    return found


class KernelLogContract:
    """Subclass it, and give it `machine`."""

    def machine(self, folder: Path) -> Machine:
        """One that has written nothing yet."""
        raise NotImplementedError

    @pytest.fixture
    def given(self, tmp_path: Path) -> Machine:
        return self.machine(tmp_path)

    def test_what_was_written_comes_first_then_what_is_written(self, given: Machine) -> None:
        given.write("one")
        given.write("two: a; b, c")
        found = asyncio.run(take(given.log, 3, then=lambda: given.write("three")))
        assert [line.text for line in found] == ["one", "two: a; b, c", "three"]
        assert len({line.position for line in found}) == 3
        assert all(abs(line.at - time.time()) < _SECONDS for line in found)

    def test_reading_goes_on_behind_a_position(self, given: Machine) -> None:
        for text in ("one", "two", "three"):
            given.write(text)
        first = asyncio.run(take(given.log, 2))
        again = asyncio.run(take(given.log, 1, after=first[1].position))
        assert [line.text for line in again] == ["three"]

    def test_what_programs_write_is_not_the_kernels(self, given: Machine) -> None:
        given.pretend("NVRM: Xid (PCI:0000:01:00): 79")
        given.write("real")
        assert [line.text for line in asyncio.run(take(given.log, 1))] == ["real"]

    def test_it_may_be_read_by_several_and_left_at_any_time(self, given: Machine) -> None:
        given.write("one")

        async def both() -> list[list[Line]]:
            waiting = asyncio.ensure_future(take(given.log, 2))
            await asyncio.sleep(0.2)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return list(await asyncio.gather(take(given.log, 1), take(given.log, 1)))

        assert [[line.text for line in lines] for lines in asyncio.run(both())] == [["one"], ["one"]]

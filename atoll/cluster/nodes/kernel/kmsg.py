"""The kernel's log from /dev/kmsg (Documentation/ABI/testing/dev-kmsg): a record per read, in the kernel's own order.

Only records of the facility "kern" count: what a program writes into the device is marked as its own by the kernel, so
that a container which may write there cannot make its node ill.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from atoll.base.clock import Clock
from atoll.cluster.nodes.kernel.port import Line, UnreadableLog

DEVICE = Path("/dev/kmsg")
_AT_ONCE = 100
_RECORD_BYTES = 8192  # CONSOLE_EXT_LOG_MAX: a record is never longer
_RECORD = re.compile(rb"(\d+),(\d+),(\d+),[^;]*;([^\n]*)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def open_device() -> int:
    """A descriptor that does not block. Raises OSError."""
    return os.open(DEVICE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


class Kmsg:
    """`boot`: names the running kernel. `opened`: makes a descriptor that gives one record for each read."""

    def __init__(self, clock: Clock, boot: str, opened: Callable[[], int] = open_device) -> None:
        self._clock = clock
        self._boot = boot
        self._opened = opened

    async def lines(self, after: str = "") -> AsyncGenerator[Line, None]:
        """Implements `KernelLog`. A position is BOOT/SEQUENCE."""
        boot, _, number = after.partition("/")
        seen = int(number) if boot == self._boot and number.isdigit() else -1
        try:
            handle = self._opened()
        except OSError as error:
            raise UnreadableLog(f"{DEVICE} can't be opened: {error.strerror}") from None
        count = 0
        try:
            while True:
                record = await self._record(handle)
                count += 1
                if count % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # what was kept is thousands of records
                line = self._line(record)
                if line is not None and int(line.position.rpartition("/")[2]) > seen:
                    yield line
        finally:
            os.close(handle)

    async def _record(self, handle: int) -> bytes:
        while True:
            try:
                record = os.read(handle, _RECORD_BYTES)
            except BlockingIOError:
                await _readable(handle)
            except BrokenPipeError:
                continue  # records were overwritten before they were read: it goes on with the oldest there is
            except OSError as error:
                raise UnreadableLog(f"{DEVICE} can't be read: {error.strerror}") from None
            else:
                if not record:
                    raise UnreadableLog(f"{DEVICE} has ended")
                return record

    def _line(self, record: bytes) -> Line | None:
        found = _RECORD.match(record)
        if found is None or int(found[1]) >> 3:  # the facility: 0 is the kernel
            return None
        ago = self._clock.monotonic() - int(found[3]) / 1e6
        text = _ESCAPE.sub(lambda it: bytes([int(it[1], 16)]), found[4]).decode(errors="replace")
        return Line(f"{self._boot}/{int(found[2])}", self._clock.wall() - max(0.0, ago), text)


async def _readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(handle, tell)
    try:
        await ready
    finally:
        loop.remove_reader(handle)

"""The kernel's log from systemd's journal, for those who may not read /dev/kmsg but are of the group adm or
systemd-journal: `journalctl --dmesg --follow --output json` (systemd.journal-fields(7)), a JSON object a line."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from atoll.cluster.nodes.kernel.port import Line, UnreadableLog

_COMMAND = ("journalctl", "--dmesg", "--follow", "--no-tail", "--output", "json", "--quiet")
_LINE_BYTES = 1 << 20
_FIRST_SECONDS = 2.0


class Journal:
    """`command`: journalctl, to which `--after-cursor=…` is added."""

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._command = tuple(command)

    async def lines(self, after: str = "") -> AsyncGenerator[Line, None]:
        """Implements `KernelLog`. A position is the journal's cursor."""
        process = await self._start([f"--after-cursor={after}"] if after else [])
        try:
            assert process.stdout is not None
            while text := await process.stdout.readline():
                line = _line(text)
                if line is not None:
                    yield line
            raise UnreadableLog(f"{self._command[0]} has ended: {await _complaint(process)}")
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self, more: Sequence[str]) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, *more, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=_LINE_BYTES
            )
        except OSError as error:
            raise UnreadableLog(f"{self._command[0]} can't be started: {error.strerror}") from None


async def _complaint(process: Process) -> str:
    assert process.stderr is not None
    try:
        text = (await asyncio.wait_for(process.stderr.read(4096), _FIRST_SECONDS)).decode(errors="replace").strip()
    except TimeoutError:
        text = ""
    return text.splitlines()[-1] if text else "it said nothing"


def _line(text: bytes) -> Line | None:
    """None for what is no line of the kernel's."""
    try:
        entry: Any = json.loads(text)
        message = entry["MESSAGE"]
        if entry.get("_TRANSPORT", "kernel") != "kernel" or entry.get("SYSLOG_FACILITY", "0") != "0":
            return None
        if isinstance(message, list):  # not UTF-8: the journal gives bytes
            message = bytes(message).decode(errors="replace")
        return Line(entry["__CURSOR"], int(entry["__REALTIME_TIMESTAMP"]) / 1e6, message)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

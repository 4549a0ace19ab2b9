"""A program of the user's that acts on machines: one run for each request, JSON on standard input and output.

The protocol is docs/machines.md. A run that ends with another status than 0, says something that is not as it should
be, or takes longer than its time has failed: nothing is concluded from it, and the request is made again later. Which
program that is, is said where the controllers are started, never by an object of the cluster: it has their rights.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from atoll.base.errors import AtollError

VERSION = 1
_MOST_BYTES = 4 << 20
T = TypeVar("T")


class ProgramFailed(AtollError):
    """The program gave no answer that can be used; the message says why."""


class MachineProgram:
    """`command`: the program and its arguments, run in the environment of this process."""

    def __init__(self, command: Sequence[str], timeout_seconds: float = 60.0) -> None:
        self._command = tuple(command)
        self._timeout_seconds = timeout_seconds

    async def ask(self, operation: str, answer: type[T], **request: Any) -> T:
        """One run. Raises ProgramFailed."""
        told = msgspec.json.encode({"version": VERSION, "operation": operation, **request})
        out = await self._run(operation, told)
        try:
            return msgspec.json.decode(out or b"{}", type=answer)
        except (msgspec.DecodeError, ValueError) as error:
            raise ProgramFailed(f"{self._named(operation)}: its answer is not as it should be: {error}") from None

    async def _run(self, operation: str, told: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            raise ProgramFailed(f"{self._named(operation)} can't be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                out, complaint = await _talk(process, told)
                status = await process.wait()
        except TimeoutError:
            raise ProgramFailed(f"{self._named(operation)} took longer than {self._timeout_seconds:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it has started
                await process.wait()
        if len(out) > _MOST_BYTES:
            raise ProgramFailed(f"{self._named(operation)}: its answer is longer than {_MOST_BYTES >> 20} MiB")
        if status:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise ProgramFailed(f"{self._named(operation)} ended with {status}: {lines[-1] if lines else 'no word'}")
        return out.strip()

    def _named(self, operation: str) -> str:
        return f"{self._command[0]} {operation}"


async def _talk(process: Process, told: bytes) -> tuple[bytes, bytes]:
    """What it wrote to standard output and, at least its end, to standard error."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is told
        process.stdin.write(told)
        await process.stdin.drain()
    process.stdin.close()
    out, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
    return out, complaint


async def _read(stream: asyncio.StreamReader) -> bytes:
    """All of it, but no more than is kept: what is longer is read and dropped."""
    kept = b""
    while chunk := await stream.read(1 << 16):
        if len(kept) <= _MOST_BYTES:
            kept += chunk
    return kept

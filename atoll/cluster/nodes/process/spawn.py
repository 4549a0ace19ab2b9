"""Child processes without asyncio's child watchers: a pidfd says when one ends, pipes are read by the loop.

Works on any event loop, needs no thread and no SIGCHLD handler, and lets a child be born in another network
namespace (the one that this thread is in at the moment of the fork).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 65536
CONTROL_TERMINAL = Path(__file__).parent / "inside" / "terminal.py"


class FdReader:
    """The reading end of a pipe or pseudo-terminal."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, _CHUNK)
            except BlockingIOError:
                await self._wait()
            except OSError as error:
                if error.errno in (errno.EIO, errno.EBADF):  # a terminal whose last user has gone
                    return b""
                raise
        return b""

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, _finish, ready)
        try:
            await ready
        finally:
            if self._fd >= 0:
                loop.remove_reader(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class FdWriter:
    """The writing end of a pipe or pseudo-terminal."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Write all. Raises BrokenPipeError once nobody reads."""
        view = memoryview(data)
        while view:
            if self._fd < 0:
                raise BrokenPipeError
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._wait()
            except OSError as error:
                if error.errno == errno.EIO:
                    raise BrokenPipeError from error
                raise

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._fd, _finish, ready)
        try:
            await ready
        finally:
            if self._fd >= 0:
                loop.remove_writer(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@dataclass(slots=True)
class Spawned:
    """A running child."""

    process: subprocess.Popen[bytes]
    exited: asyncio.Future[int]  # see `wait`
    stdin: FdWriter | None
    stdout: FdReader
    stderr: FdReader | None  # None with a terminal: all comes on stdout
    terminal: int = -1

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def wait(self) -> int:
        """Its exit code, 128 + N after signal N. To cancel the wait changes nothing for the child."""
        return await asyncio.shield(self.exited)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def resize(self, width: int, height: int) -> None:
        """Tell the terminal its size."""
        if self.terminal >= 0:
            with suppress(OSError):
                fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1


def spawn(
    argv: Sequence[str],
    *,
    env: dict[str, str],
    stdin: bool = False,
    tty: bool = False,
    control_terminal: bool = True,
    pass_fds: Sequence[int] = (),
    inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Spawned:
    """Start a child in a session of its own, within `inside()`. Raises OSError.

    With `tty` its standard streams are a terminal, which it controls unless `control_terminal` is false (the program
    then takes it itself).
    """
    loop = asyncio.get_running_loop()
    ends = _Ends(stdin, tty)
    try:
        if tty and control_terminal:
            argv = [sys.executable, "-I", "-S", str(CONTROL_TERMINAL), *argv]
        with inside():
            child = subprocess.Popen(
                list(argv), env=env, stdin=ends.child_in, stdout=ends.child_out, stderr=ends.child_err,
                pass_fds=tuple(pass_fds), start_new_session=True, close_fds=True, cwd="/",
            )  # fmt: skip
    except BaseException:
        ends.close_all()
        raise
    ends.close_child()
    exited: asyncio.Future[int] = loop.create_future()
    _watch_exit(loop, child, exited)
    return Spawned(child, exited, ends.stdin, ends.stdout, ends.stderr, ends.terminal)


def _watch_exit(loop: asyncio.AbstractEventLoop, child: subprocess.Popen[bytes], exited: asyncio.Future[int]) -> None:
    handle = os.pidfd_open(child.pid)

    def ended() -> None:
        code = child.poll()
        if code is None:
            return
        loop.remove_reader(handle)
        os.close(handle)
        if not exited.done():
            exited.set_result(128 - code if code < 0 else code)

    loop.add_reader(handle, ended)


class _Ends:
    """Both ends of the child's standard streams."""

    def __init__(self, stdin: bool, tty: bool) -> None:
        self.terminal = -1
        self._child: list[int] = []
        self.stdin: FdWriter | None = None
        self.stderr: FdReader | None = None
        if tty:
            master, slave = os.openpty()
            self.terminal = os.dup(master)
            self.child_in = self.child_out = self.child_err = slave
            self._child = [slave]
            self.stdout = FdReader(master)
            if stdin:
                self.stdin = FdWriter(os.dup(master))
            return
        if stdin:
            self.child_in, mine = os.pipe2(os.O_CLOEXEC)
            self.stdin = FdWriter(mine)
        else:
            self.child_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out, self.child_out = os.pipe2(os.O_CLOEXEC)
        err, self.child_err = os.pipe2(os.O_CLOEXEC)
        self.stdout, self.stderr = FdReader(out), FdReader(err)
        self._child = [self.child_in, self.child_out, self.child_err]

    def close_child(self) -> None:
        for fd in self._child:
            os.close(fd)

    def close_all(self) -> None:
        self.close_child()
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()
        if self.terminal >= 0:
            os.close(self.terminal)

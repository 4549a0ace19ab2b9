"""Forks a command from a supervisor's memory, for a caller that would have to import all of it first.

The supervisor has no threads, no event loop and no keys, so a fork of it is as good as a process that has just finished
importing. Only the process's own user is let in. The fork closes what the supervisor had open, takes over the caller's
settings and streams and runs the command; it is in a session of its own and outlives the supervisor. It refuses, and
the caller starts cold, where it could not become what the caller would be: see `forks.surroundings`, and `is_current`.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import io
import logging
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import atoll
from atoll.app import forks

log = logging.getLogger("atoll.forks")
Command = Callable[[Sequence[str]], int]
"""Carries out a command line; its exit status. Must flush what it prints."""

_PATIENCE_SECONDS = 2.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class ForkServer:
    """`listener` becomes readable when somebody asks; then call `accept`."""

    def __init__(self, folder: Path, command: Command) -> None:
        """Listen in `folder`, which only its owner may enter."""
        self._path = folder / forks.SOCKET
        self._command = command
        self._path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        where = os.open(folder, os.O_PATH)
        try:
            self.listener.bind(
                f"/proc/self/fd/{where}/{forks.SOCKET}"
            )  # a socket's path is short, a folder's may not be
        finally:
            os.close(where)
        self.listener.listen(16)
        self.listener.setblocking(False)

    def accept(self) -> None:
        """Fork for who asks. The child never returns from here."""
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        with connection:
            if not _is_own(connection):
                return
            gc.freeze()
            if os.fork() == 0:
                _run(connection, self._command)

    def warm_up(self) -> None:
        """Load what the own start left to a process of its own, the making of keys; when there is time for it."""
        from atoll.wire import ca  # noqa: F401

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self.listener.close()


def _is_own(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.geteuid())


def _run(connection: socket.socket, command: Command) -> None:
    """The forked process, to its end."""
    code = 1
    try:
        arguments = _prepare(connection)
        if arguments is not None:
            code = command(arguments)
            connection.send(b"exit %d" % code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _prepare(connection: socket.socket) -> list[str] | None:
    """Become the process that the caller asks for; None where that can't be, or the caller has gone."""
    _close_all_but(connection.fileno())
    _reset_signals()
    os.setsid()
    connection.settimeout(_PATIENCE_SECONDS)
    try:
        request = forks.Request.decode(connection.recv(forks.MESSAGE_BYTES))
        why = _refusal(request)
        if not why:
            request.take_over()
    except (OSError, ValueError) as error:
        why = str(error)
    if why:
        log.info("a start is not forked from here: %s", why)
        connection.send(b"no " + why.encode())
        return None
    connection.send(b"pid %d" % os.getpid())
    streams = _streams(connection)
    if not streams:
        return None
    connection.settimeout(None)
    log.info("process %d, forked from here, carries out atoll %s", os.getpid(), " ".join(request.arguments))
    _use(streams)
    _retitle([sys.executable, sys.argv[0], *request.arguments])
    sys.argv[1:] = request.arguments
    return request.arguments


def _streams(connection: socket.socket) -> list[int]:
    """The caller's three, that come with its go; none where it has gone. Raises OSError."""
    space = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    word, ancillary, _, _ = connection.recvmsg(16, space)
    streams = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            streams.frombytes(payload)
    return list(streams) if word == b"go" and len(streams) == 3 else []


def _refusal(request: forks.Request) -> str:
    if request.surroundings != forks.surroundings():
        return "the caller's program, rights, namespaces or limits are others"
    if not is_current(Path(atoll.__file__).parent, forks.LOADED_AT):
        return "its program has changed since it was loaded"
    return ""


def is_current(package: Path, loaded_at: float) -> bool:
    """Whether no source file, and no set of installed packages, has changed since then (ctime: also by what keeps a
    file's mtime)."""
    installed = [Path(item) for item in sys.path if item.endswith(("site-packages", "dist-packages"))]
    if any(item.exists() and item.stat().st_ctime > loaded_at for item in installed):
        return False
    folders = [str(package)]
    while folders:
        folder = folders.pop()
        if os.stat(folder).st_ctime > loaded_at:  # noqa: PTH116
            return False
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        folders.append(entry.path)
                elif entry.stat().st_ctime > loaded_at:
                    return False
    return True


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_all_but(kept: int) -> None:
    """At once: the supervisor's lock and its lines to its children end with it, whatever this process waits for."""
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208
        if descriptor > 2 and descriptor != kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _use(streams: list[int]) -> None:
    """Standard input, output and error are the caller's; what was the supervisor's log is not written any more."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    for handler in list(logging.getLogger().handlers):
        logging.getLogger().removeHandler(handler)
    logging.getLogger().setLevel(logging.WARNING)
    sys.stdin = _text(0, "r", sys.stdin)
    sys.stdout = _text(1, "w", sys.stdout)
    sys.stderr = _text(2, "w", sys.stderr)


def _text(descriptor: int, mode: str, like: TextIO) -> io.TextIOWrapper:
    """As the interpreter opened `like` when it started."""
    assert isinstance(like, io.TextIOWrapper)
    raw = open(descriptor, mode + "b", closefd=False)  # noqa: SIM115
    lines = mode == "w" and (descriptor == 2 or raw.isatty())
    return io.TextIOWrapper(raw, like.encoding, like.errors, line_buffering=lines, write_through=like.write_through)


def _retitle(words: list[str]) -> None:
    """Show the own command line in /proc, where the supervisor's and its environment would stand otherwise.

    The kernel shows the memory in which exec put them (proc(5): stat's fields 48 to 51, one after another). Where the
    words do not fit into the old command line they are shown as one, as far as the memory reaches.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, middle, _, end = (int(item) for item in fields[45:49])
    text = b"\0".join(os.fsencode(word) for word in words) + b"\0"
    if len(text) > middle - start:
        text = text[:-1].replace(b"\0", b" ")[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))

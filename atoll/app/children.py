"""Child processes of the supervisor: forked from its preloaded memory, told apart by name.

A child talks to the supervisor over a socket pair, one JSON object a line: it reports `{"phase": …}`, `{"progress": …}`
and receives instructions. It dies with the supervisor (PR_SET_PDEATHSIG), so a killed fleet leaves no process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

Message = dict[str, Any]
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Child(Struct):
    """A process and what it has said."""

    name: str
    pid: int
    channel: socket.socket
    phase: str = "starting"  # starting, serving, ready, failed, killed, stopped, exited
    info: Message = {}
    buffer: bytes = b""
    started: float = 0.0

    @property
    def alive(self) -> bool:
        return self.phase not in ("killed", "exited", "failed")

    def send(self, message: Message) -> None:
        """Tell the child something; a dead one is not told."""
        with contextlib.suppress(OSError):
            self.channel.sendall(orjson.dumps(message) + b"\n")

    def receive(self) -> list[Message] | None:
        """Reports that have come in; None once the channel is closed."""
        try:
            data = self.channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [orjson.loads(line) for line in lines if line]

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def spawn(name: str, log_file: Path, main: Callable[[socket.socket], None], close: list[int], now: float) -> Child:
    """Fork a child that runs `main(channel)` with its output in `log_file`. `close`: descriptors it must not keep."""
    ours, theirs = socket.socketpair()
    gc.freeze()  # shared pages stay shared: the collector does not touch them
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            for descriptor in close:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            _become(name, log_file, parent)
            main(theirs)
            code = 0
        except SystemExit as error:
            code = int(error.code or 0) if not isinstance(error.code, str) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    theirs.close()
    ours.setblocking(False)
    return Child(name, pid, ours, started=now)


def _become(name: str, log_file: Path, parent: int) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, f"atoll-{name}"[:15].encode(), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)

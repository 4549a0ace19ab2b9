"""Who supervises a fleet: a lock that the supervisor holds as long as it lives, in the file that names it.

For whoever starts and stops a fleet: the kernel lets the lock go when its holder dies, however it dies, so a pid in
the file means something only while the lock is held, whatever program supervises (one that embeds Atoll, too). The file
is `PID` and `START`, a line each; START is the process's start in /proc (0 where there is none), by which a pid left
over from an earlier supervisor is told from the present one's in the moment between its lock and its writing.
The file is never removed but with the fleet's folder: a lock on a removed file would exclude nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.002


class Supervision:
    """The lock of a fleet, held until `end` or the process's death; no child may keep its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, file: Path) -> Supervision | None:
        """Become the supervisor; None where another is."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:  # who only asks holds it for an instant
                os.close(descriptor)
                return None
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n{_started(os.getpid())}\n".encode(), 0)
        return cls(descriptor)

    def end(self) -> None:
        """Nobody supervises from now on."""
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def supervisor_of(file: Path) -> int | None:
    """The pid of the live supervisor, else None."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _lock(descriptor, fcntl.LOCK_SH):
            pid = _named(os.pread(descriptor, 64, 0))
            if pid is not None:
                return pid
            if time.monotonic() > deadline:
                return None
            time.sleep(_PAUSE_SECONDS)  # it holds the lock and has not written yet
        return None
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named(text: bytes) -> int | None:
    """The pid in the file's text, if that process is the one that wrote it."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    pid, start = (int(word) for word in words)
    return pid if _started(pid) == start else None


def _started(pid: int) -> int:
    """When a process began, in the kernel's ticks (proc(5), field 22); 0 where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])

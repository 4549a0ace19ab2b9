"""Disks and clocks that misbehave, at the ports: the store's log file and its clock.

`FaultyLog` stands before the real file: it fails appends, says that the disk is full, or takes its time, as it is told.
`torn` is what a kill in the middle of an append leaves: the real file's bytes with only a part of what was being
written, by the rule that what an append returned for is synced.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.store.log import LogFile, Row

FAILURES = ["disk I/O error", "database or disk is full"]


class FaultyLog:
    """See `atoll.cluster.store.log.Log`. `wait` is called with the seconds that an append takes longer."""

    def __init__(self, path: Path, wait: Callable[[float], None] | None = None) -> None:
        self.file = LogFile(path)
        self._wait = wait
        self.written: list[Row] = []  # since it was opened
        self.failing = 0  # appends that fail from now on; -1: all
        self.failure = FAILURES[0]
        self.delay_seconds = 0.0
        self.deaf = False  # what is written fails after it is on the disk, and so does everything from then on

    def rows(self) -> Iterator[Row]:
        return self.file.rows()

    def oldest(self, before: int, most_bytes: int) -> list[Row]:
        if self.failing:
            raise sqlite3.OperationalError(self.failure)
        return self.file.oldest(before, most_bytes)

    def append(self, row: Row, remove: Iterable[int] = ()) -> None:
        if self.delay_seconds and self._wait is not None:
            self._wait(self.delay_seconds)
        if self.failing:
            self.failing -= self.failing > 0
            raise sqlite3.OperationalError(self.failure)
        self.file.append(row, remove)
        self.written.append(row)
        if self.deaf:
            self.failing = -1
            raise sqlite3.OperationalError("disk I/O error after the write")

    def rollback(self) -> None:
        self.file.rollback()

    def close(self) -> None:
        self.file.close()


def torn(log: FaultyLog, chance: Chance, in_flight: Row | None, folder: Path) -> Path:
    """What a kill leaves, in another folder; `in_flight` is being appended. The old file is closed and removed."""
    source = log.file.path
    wal = source.with_name(source.name + "-wal")
    before = wal.read_bytes() if wal.exists() else b""
    main = source.read_bytes()
    left = before
    if in_flight is not None and not log.failing:
        log.file.append(in_flight)
        after = wal.read_bytes()
        if after[: len(before)] == before and source.read_bytes() == main:
            cut = chance.integer(len(before), len(after))
            left = after[:cut]
            if cut < len(after) and chance.random() < 0.3:  # a block that was promised and holds nothing yet
                left += bytes(min(4096, len(after) - cut))
    target = folder / source.name
    folder.mkdir()
    target.write_bytes(main)
    target.with_name(wal.name).write_bytes(left)
    log.close()
    shutil.rmtree(source.parent)
    return target


class JumpingClock:
    """A clock whose wall time jumps when told; monotonic time does not, as on any machine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = 0.0

    def jump(self, seconds: float) -> None:
        self._offset += seconds

    def wall(self) -> float:
        return self._clock.wall() + self._offset

    def monotonic(self) -> float:
        return self._clock.monotonic()

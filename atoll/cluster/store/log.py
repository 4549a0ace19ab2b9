"""The log file: rows of entries in SQLite (WAL, synchronous=FULL, one owner), and nothing that knows of asyncio.

A row holds the entries of one group commit in one blob, so that a commit is a single statement. Rows are only
appended and, oldest first, removed: an entry of a removed row that is still the newest of its key is written again
(relocated) in the same transaction. Reading therefore takes, for each key, the entry with the highest version. A
deletion's entry may go with its row: whatever it hid was in an older row, or in the same.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from atoll.base.errors import UserError

FORMAT = 1
_APPLICATION_ID = 0x41746F6C  # "Atol"
_PAGE_BYTES = 4096
_ENTRY = struct.Struct(">QBHHHI")  # version, kind, resource, namespace, name and data sizes

ADDED, MODIFIED, DELETED = 1, 2, 3
RELOCATED = 0x80


class Entry(NamedTuple):
    """One change as written; kind may carry RELOCATED."""

    version: int
    kind: int
    resource: str
    namespace: str
    name: str
    data: bytes


class Row(NamedTuple):
    """One group commit. `version` is the newest version given out when it was written; `at` is wall time."""

    number: int
    version: int
    at: float
    entries: bytes


def pack(entry: Entry) -> bytes:
    """The bytes of an entry."""
    resource, namespace, name = entry.resource.encode(), entry.namespace.encode(), entry.name.encode()
    head = _ENTRY.pack(entry.version, entry.kind, len(resource), len(namespace), len(name), len(entry.data))
    return b"".join((head, resource, namespace, name, entry.data))


def unpack(blob: bytes) -> Iterator[Entry]:
    """The entries of a row."""
    at, end = 0, len(blob)
    while at < end:
        version, kind, resource_size, namespace_size, name_size, data_size = _ENTRY.unpack_from(blob, at)
        a = at + _ENTRY.size
        b = a + resource_size
        c = b + namespace_size
        d = c + name_size
        at = d + data_size
        yield Entry(version, kind, blob[a:b].decode(), blob[b:c].decode(), blob[c:d].decode(), blob[d:at])


class LogFile:
    """The open file. Used by one thread at a time. Methods raise sqlite3.Error."""

    def __init__(self, path: Path, *, quota_bytes: int | None = None) -> None:
        """Open or create. Raises UserError: in use by another process, not ours, or of another format."""
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise UserError(f"{path} can't be opened: {error}", hint="is the folder there, and yours?") from None
        try:
            self._prepare(quota_bytes)
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise UserError(
                    f"{path} is in use by another process", hint="stop the cluster that runs on it first"
                ) from None
            raise UserError(f"{path} can't be opened: {error}", hint="is the disk full or read-only?") from None
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise UserError(f"{path} is not a log of Atoll: {error}", hint="move it away to start afresh") from None
        except UserError:
            self._db.close()
            raise

    def _prepare(self, quota_bytes: int | None) -> None:
        run = self._db.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run(f"PRAGMA page_size={_PAGE_BYTES}")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA wal_autocheckpoint=4000")
        run("PRAGMA cache_size=-1000")
        if quota_bytes is not None:
            run(f"PRAGMA max_page_count={max(16, quota_bytes // _PAGE_BYTES)}")
        application, written = (run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application == 0 and written == 0 and run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            run("BEGIN IMMEDIATE")
            run("CREATE TABLE log(number INTEGER PRIMARY KEY, version INTEGER, at REAL, entries BLOB)")
            run(f"PRAGMA application_id={_APPLICATION_ID}")
            run(f"PRAGMA user_version={FORMAT}")
            run("COMMIT")
            return
        if application != _APPLICATION_ID:
            raise UserError(f"{self.path} is not a log of Atoll", hint="move it away to start afresh")
        if written != FORMAT:
            raise UserError(
                f"{self.path} has format {written}; this version of Atoll reads format {FORMAT}",
                hint="use the version of Atoll that wrote it, or move it away to start afresh",
            )
        run("BEGIN IMMEDIATE")  # takes the lock now, not at the first write
        run("COMMIT")

    def rows(self) -> Iterator[Row]:
        """All rows, oldest first. Raises UserError where the file is damaged."""
        try:
            for row in self._db.execute("SELECT number, version, at, entries FROM log ORDER BY number"):
                yield Row(*row)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self.path} is damaged: {error}", hint="restore it from a copy, or move it away to start afresh"
            ) from None

    def oldest(self, before: int, most_bytes: int) -> list[Row]:
        """The oldest rows below a number: at least one if there is any, and a bounded amount."""
        rows: list[Row] = []
        size = 0
        found = self._db.execute(
            "SELECT number, version, at, entries FROM log WHERE number < ? ORDER BY number LIMIT 256", (before,)
        )
        for values in found:
            rows.append(Row(*values))
            size += len(rows[-1].entries)
            if size >= most_bytes:
                break
        found.close()
        return rows

    def append(self, row: Row, remove: Iterable[int] = ()) -> None:
        """Add one row, and remove others, durably and as one."""
        remove = tuple(remove)
        insert = "INSERT INTO log(number, version, at, entries) VALUES (?, ?, ?, ?)"
        if not remove:
            self._db.execute(insert, row)
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(insert, row)
            self._db.executemany("DELETE FROM log WHERE number = ?", [(number,) for number in remove])
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self.rollback()
            raise

    def rollback(self) -> None:
        """After an error: no transaction is left open."""
        if self._db.in_transaction:
            self._db.rollback()

    def close(self) -> None:
        self._db.close()

"""The log file: rows of entries in SQLite (WAL, synchronous=FULL, one owner), and nothing that knows of asyncio.

    log(number INTEGER PRIMARY KEY, version INTEGER, at REAL, entries BLOB, checksum INTEGER)

`number` counts the commits without a gap, `version` is the newest version given out by then, `at` is wall time, and
`checksum` is the CRC-32 of the other four, so that a row that was changed, torn or lost is found when it is read: the
log is then refused whole (LogDamaged), never taken up without it. `repair` mends it, and only when asked.

A row holds the entries of one group commit in one blob, so that a commit is a single statement. Rows are only
appended and, oldest first, removed: an entry of a removed row that is still the newest of its key is written again
(relocated) in the same transaction. Reading therefore takes, for each key, the entry with the highest version. A
deletion's entry may go with its row: whatever it hid was in an older row, or in the same. A FLOOR entry says that
nothing is known of changes before its version: it stands in a log that was restored or mended.

Formats: 1 had no checksums; it is given them when it is opened, in one transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from atoll.base.errors import UserError

FORMAT = 2
_APPLICATION_ID = 0x41746F6C  # "Atol"
_PAGE_BYTES = 4096
_ENTRY = struct.Struct(">QBHHHI")  # version, kind, resource, namespace, name and data sizes
_ROW = struct.Struct(">QQd")  # number, version, at
_COLUMNS = "number, version, at, entries, checksum"
_MOST_ROWS = 1_000_000  # after a damage, a number may be anything
Columns = tuple[int, int, float, bytes, int]

ADDED, MODIFIED, DELETED, FLOOR = 1, 2, 3, 4
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


class Log(Protocol):
    """Where a durable store keeps its rows. Used by one thread at a time; methods raise sqlite3.Error."""

    def rows(self) -> Iterator[Row]:
        """All rows, oldest first. Raises LogDamaged."""

    def oldest(self, before: int, most_bytes: int) -> list[Row]:
        """The oldest rows below a number: at least one if there is any, and a bounded amount. Raises LogDamaged."""

    def append(self, row: Row, remove: Iterable[int] = ()) -> None:
        """Add one row, and remove others, durably and as one."""

    def rollback(self) -> None:
        """After an error: no transaction is left open."""

    def close(self) -> None: ...


class LogDamaged(UserError):
    """A row is not what was written. `good` is the last row before it, None if that was the first."""

    def __init__(self, path: Path, why: str, good: Row | None) -> None:
        upto = f"whole up to version {good.version}" if good else "damaged from its first row on"
        super().__init__(
            f"{path} is damaged: {why}; it is {upto}",
            hint="atoll cluster check NAME says what is lost; restore a snapshot, or give up what follows the damage: "
            "atoll cluster check NAME --truncate",
        )
        self.path = path
        self.why = why
        self.good = good


def checksum(row: Row) -> int:
    """The CRC-32 of a row's values."""
    return zlib.crc32(row.entries, zlib.crc32(_ROW.pack(row.number, row.version, row.at)))


def verified(values: Columns, before: Row | None) -> Row | str:
    """The row of these columns, or what is wrong with it. `before`: the row that was read before it."""
    row = Row(*values[:4])
    try:
        right = checksum(row) == values[4]
    except (struct.error, TypeError):
        right = False
    if not right:
        return f"row {row.number} does not match its checksum"
    if before is not None and row.number != before.number + 1:
        missing = row.number - before.number - 1
        return f"{missing} row(s) after row {before.number} are missing"
    return row


def pack(version: int, kind: int, resource: str, namespace: str, name: str, data: bytes) -> bytes:
    """The bytes of an entry."""
    return head(version, kind, resource, namespace, name, len(data)) + data


def head(version: int, kind: int, resource: str, namespace: str, name: str, size: int) -> bytes:
    """What stands before the data, of so many bytes, in an entry."""
    key = resource.encode(), namespace.encode(), name.encode()
    return _ENTRY.pack(version, kind, *map(len, key), size) + b"".join(key)


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
    """The open file: see Log."""

    def __init__(self, path: Path, *, quota_bytes: int | None = None) -> None:
        """Open or create. Raises UserError: in use by another process, not ours, or of another format."""
        self.path = path
        if not path.exists():
            with suppress(OSError):  # SQLite says it better
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # it holds Secrets
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
            run(
                "CREATE TABLE log(number INTEGER PRIMARY KEY, version INTEGER, at REAL, entries BLOB, checksum INTEGER)"
            )
            run(f"PRAGMA application_id={_APPLICATION_ID}")
            run(f"PRAGMA user_version={FORMAT}")
            run("COMMIT")
            return
        if application != _APPLICATION_ID:
            raise UserError(f"{self.path} is not a log of Atoll", hint="move it away to start afresh")
        if not 1 <= written <= FORMAT:
            raise UserError(
                f"{self.path} has format {written}; this version of Atoll reads format {FORMAT}",
                hint="use the version of Atoll that wrote it, or move it away to start afresh",
            )
        run("BEGIN IMMEDIATE")  # takes the lock now, not at the first write
        if written == 1:
            self._add_checksums()
        run("COMMIT")

    def _add_checksums(self) -> None:
        """Format 1 to 2, within the open transaction: all or nothing."""
        self._db.create_function("row_checksum", 4, lambda *values: checksum(Row(*values)), deterministic=True)
        self._db.execute("ALTER TABLE log ADD COLUMN checksum INTEGER")
        self._db.execute("UPDATE log SET checksum = row_checksum(number, version, at, entries)")
        self._db.execute("PRAGMA user_version=2")

    def rows(self) -> Iterator[Row]:
        """All rows, oldest first. Raises LogDamaged."""
        before: Row | None = None
        try:
            for values in self._db.execute(f"SELECT {_COLUMNS} FROM log ORDER BY number"):
                row = verified(values, before)
                if isinstance(row, str):
                    raise LogDamaged(self.path, row, before)
                yield row
                before = row
        except sqlite3.DatabaseError as error:
            raise LogDamaged(self.path, str(error), before) from None

    def rows_after(self, number: int) -> Iterator[tuple[int, Columns | None]]:
        """(number, columns) of the rows after one, unchecked; None for those that can't be read. For `repair`."""
        try:
            last = int(self._db.execute("SELECT max(number) FROM log").fetchone()[0] or 0)
        except (sqlite3.DatabaseError, TypeError, ValueError):
            return
        for wanted in range(number + 1, min(last, number + _MOST_ROWS) + 1):
            try:
                values = self._db.execute(f"SELECT {_COLUMNS} FROM log WHERE number = ?", (wanted,)).fetchone()
            except sqlite3.DatabaseError:
                values = None
            yield wanted, values

    def about(self) -> dict[str, Any]:
        """What the maker of a copy said of it (see `snapshot`); {} for a log."""
        try:
            found = self._db.execute("SELECT value FROM about").fetchone()
            return dict(json.loads(found[0]))
        except (sqlite3.Error, ValueError, TypeError):
            return {}

    def oldest(self, before: int, most_bytes: int) -> list[Row]:
        """The oldest rows below a number: at least one if there is any, and a bounded amount."""
        rows: list[Row] = []
        size = 0
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM log WHERE number < ? ORDER BY number LIMIT 256", (before,)
        )  # fmt: skip
        for values in found:
            row = verified(values, rows[-1] if rows else None)
            if isinstance(row, str):
                found.close()
                raise LogDamaged(self.path, row, None)  # since it was written: not to be written again as if whole
            rows.append(row)
            size += len(row.entries)
            if size >= most_bytes:
                break
        found.close()
        return rows

    def append(self, row: Row, remove: Iterable[int] = ()) -> None:
        """Add one row, and remove others, durably and as one."""
        remove = tuple(remove)
        insert = f"INSERT INTO log({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
        values = (*row, checksum(row))
        if not remove:
            self._db.execute(insert, values)
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(insert, values)
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

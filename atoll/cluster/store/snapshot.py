"""Copies of a store in one file: taken while it runs, read back into a new one.

A copy is a log in which every object stands once, at its own version, and a FLOOR entry that says that nothing older
is known. It is written beside its place and renamed, so that a file of that name is whole. Its rows carry checksums
like any log's. `about` is what its maker wants to find again (JSON); a log that is no copy has none.

Versions never go back: a store that is made from a copy may have been further than the copy when it was lost, and its
clients remember that. So it begins `BUMP` above it (as etcd's `--bump-revision --mark-compacted` has it), and who
resumes a watch from before is told 410 Expired and lists again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from atoll.base.errors import UserError
from atoll.cluster.store import log as logfile
from atoll.cluster.store.log import Entry, LogDamaged, LogFile, Row
from atoll.cluster.store.port import Key, Record, Store

BUMP = 1_000_000_000
_ROW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects at a version, and what the maker said of it."""

    version: int
    at: float
    entries: tuple[Entry, ...]
    about: dict[str, Any]


def records_of(store: Store) -> list[Record]:
    """Everything durable at this moment: shared, immutable records, so that taking them is quick."""
    return [record for resource in store.resources() for record in store.scan(resource)]


def entries_of(records: Iterable[Record]) -> Iterator[Entry]:
    return (Entry(record.version, logfile.ADDED, *record.key, record.data) for record in records)


def write(path: Path, entries: Iterable[Entry], version: int, at: float, about: dict[str, Any] | None = None) -> int:
    """Write a copy at a version; returns its size. Raises UserError; there is no file then."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file", hint="name a file: a snapshot is written beside it first")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds Secrets
        with closing(LogFile(draft)) as file:
            for row in _rows(entries, version, at):
                file.append(row)
        if about is not None:
            _write_about(draft, about)
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
        return path.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{path} can't be written: {error}", hint="is the folder there, yours, and not full?") from None
    finally:
        for left in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
            with suppress(OSError):
                left.unlink()


def _rows(entries: Iterable[Entry], version: int, at: float) -> Iterator[Row]:
    number, waiting, size = 1, [], 0
    for entry in entries:
        blob = logfile.pack(*entry._replace(kind=logfile.ADDED | logfile.RELOCATED))
        waiting.append(blob)
        size += len(blob)
        if size >= _ROW_BYTES:
            yield Row(number, version, at, b"".join(waiting))
            number, waiting, size = number + 1, [], 0
    waiting.append(logfile.pack(version, logfile.FLOOR, "", "", "", b""))
    yield Row(number, version, at, b"".join(waiting))


def _write_about(path: Path, about: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE about(value BLOB)")
        db.execute("INSERT INTO about VALUES (?)", (orjson.dumps(about),))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Snapshot:
    """A copy, checked whole. Raises UserError: not there, no log of Atoll, or damaged."""
    if not path.is_file():
        raise UserError(f"there is no file {path}", hint="atoll cluster snapshot NAME FILE makes one")
    with closing(LogFile(path)) as file:
        try:
            rows = list(file.rows())
        except LogDamaged as damage:
            raise UserError(f"{path} is damaged: {damage.why}", hint="use another snapshot") from None
        about = file.about()
    if not rows:
        raise UserError(f"{path} is empty", hint="use another snapshot")
    state = replay(entry for row in rows for entry in logfile.unpack(row.entries))
    return Snapshot(max(row.version for row in rows), rows[-1].at, tuple(state.values()), about)


def replay(entries: Iterable[Entry]) -> dict[Key, Entry]:
    """The newest entry of each object that is there, in the order of keys."""
    state: dict[Key, Entry] = {}
    for entry in entries:
        kind = entry.kind & ~logfile.RELOCATED
        key = Key(entry.resource, entry.namespace, entry.name)
        before = state.get(key)
        if kind == logfile.FLOOR or (before is not None and before.version > entry.version):
            continue
        if kind == logfile.DELETED:
            state.pop(key, None)
        else:
            state[key] = entry
    return dict(sorted(state.items()))


def restore(snapshot: Snapshot, path: Path, at: float, bump: int = BUMP) -> int:
    """Make a store's log from a copy; returns the version at which it begins. Raises UserError."""
    if path.exists():
        raise UserError(f"{path} exists already", hint="restore to a new cluster")
    version = snapshot.version + bump
    write(path, snapshot.entries, version, at)
    return version

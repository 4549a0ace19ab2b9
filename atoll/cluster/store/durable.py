"""The store that survives: memory is authoritative for reads, an append-only log makes each write durable.

A write is checked and given its version at once. What was written while a commit was under way goes to the writer
thread as one group, which is the next commit; under load a group waits until it is worth one.
Only after a commit are its writes visible, published and acknowledged. When a commit fails, it and every write that is
pending fail with StorageFailed (each may have been built on one before it), and the store goes on: a later write
succeeds once the disk takes it. Versions of failed writes are not used again.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import orjson
from msgspec import Struct

from atoll.base.clock import Clock
from atoll.cluster.store import log as logfile
from atoll.cluster.store.core import Change, StoreCore
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.log import Entry, Log, LogDamaged, LogFile, Row
from atoll.cluster.store.port import Encoded, Event, Key, Object, Record, StorageFailed
from atoll.cluster.store.records import StoredRecord

log = logging.getLogger(__name__)

_SLOW_SECONDS = 2.0  # a write that takes longer is told by `trouble`
_ROW_BYTES = 1 << 20
_WATCH_PACE_SECONDS = 50e-6  # a watcher's part of a wake: about what it costs the server and the client
_FULL_WRITES = 20  # are worth a commit
_THICK_WRITES = 4  # in the last group: more are about to come
_SLACK_BYTES = 16 << 20  # the log may hold this much that is superseded, beyond as much as is live
_KINDS: dict[str, int] = {"ADDED": logfile.ADDED, "MODIFIED": logfile.MODIFIED, "DELETED": logfile.DELETED}
_TYPES: dict[int, Literal["ADDED", "MODIFIED", "DELETED"]] = {
    logfile.ADDED: "ADDED",
    logfile.MODIFIED: "MODIFIED",
    logfile.DELETED: "DELETED",
}


class _Group(Struct):
    """What is committed together: changes, or the entries of old rows written again; `entries` are in pieces."""

    epoch: int
    changes: list[Change]
    entries: list[bytes]
    size: int
    version: int
    at: float
    remove: list[int] = []
    removed_bytes: int = 0


class _Compact(Struct):
    """Asks the writer for the oldest rows."""

    epoch: int


class DurableStore(StoreCore):
    """See `atoll.cluster.store.port.Store`. Made within a running loop."""

    slack_bytes = _SLACK_BYTES

    def __init__(
        self,
        path: Path,
        clock: Clock,
        history: HistoryLimits | None = None,
        quota_bytes: int | None = None,
        file: Log | None = None,
    ) -> None:
        """Open or create the log (or use the one given) and load it. Raises UserError."""
        super().__init__(clock, history or HistoryLimits(pace_seconds=_WATCH_PACE_SECONDS))
        self._loop = asyncio.get_running_loop()
        self._file = file or LogFile(path, quota_bytes=quota_bytes)
        self._live_bytes = 0
        self._log_bytes = 0
        self._next_row = 1
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        self._epoch = 0
        self._unsent: list[Change] = []
        self._sent: deque[_Group] = deque()
        self._thick = False  # whether it was of many writes
        self._compacting = False
        self._fault = ""  # why the last commit failed
        self._settling: list[asyncio.Future[None]] = []
        self._queue: queue.SimpleQueue[_Group | _Compact | None] = queue.SimpleQueue()
        self._failed_epoch = -1  # the writer's: what it need not try
        self._writer_ended: asyncio.Future[None] = self._loop.create_future()
        self._start_writer()

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        if self._closed:
            raise StorageFailed("the store is closed")
        change = self._check(key, expected, obj, self._loop.create_future())
        self._pending[change.record.key] = change
        if not self._unsent and not self._sent:
            self._send_soon()
        self._unsent.append(change)
        return change.done

    def trouble(self) -> str:
        if self._closed or self._fault:
            return self._fault or "the store is closed"
        slow = bool(self._sent) and self._clock.wall() - self._sent[0].at > _SLOW_SECONDS
        return f"a write is not stored for more than {_SLOW_SECONDS:g} s" if slow else ""

    async def settle(self, key: Key) -> None:
        pending = self._pending.get(key)
        if pending is None:
            return
        while self._version < pending.record.version:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._settling.append(waiter)
            await waiter

    async def close(self) -> None:
        """Commit what is pending, end the writer, close the file."""
        if self._closed:
            return
        self._send()
        self._closed = True
        self._queue.put(None)
        await self._writer_ended
        self._file.close()
        self._close()

    # -- the loop's side

    def _send_soon(self) -> None:
        """At the end of this turn; where writes come thick, once they are a full group or a turn brings no more.

        A commit costs the writer, and the hand-over of the interpreter between the threads, some 300 µs of CPU, for
        one write as for twenty.
        """
        self._loop.call_soon(self._send_when_worth, 0)

    def _send_when_worth(self, before: int) -> None:
        """`before`: how many writes there were a turn ago."""
        writes = len(self._unsent)
        if not self._thick or writes == before or writes >= _FULL_WRITES:
            self._send()
        else:
            self._loop.call_soon(self._send_when_worth, writes)

    def _send(self) -> None:
        if not self._unsent:
            return
        self._thick = len(self._unsent) >= _THICK_WRITES
        changes, self._unsent = self._unsent, []
        entries: list[bytes] = []
        for kind, record, _ in changes:
            data = b"" if kind == "DELETED" else record.data
            entries += (logfile.head(record.version, _KINDS[kind], *record.key, len(data)), data)
        size = sum(map(len, entries))
        group = _Group(self._epoch, changes, entries, size, self._assigned, self._clock.wall())
        self._sent.append(group)
        self._queue.put(group)

    def _committed(self, groups: list[_Group]) -> None:
        self._fault = ""
        changes: list[Change] = []
        for group in groups:
            self._log_bytes += group.size
            if group.remove:
                self._log_bytes -= group.removed_bytes
                self._compacting = False
            else:
                self._sent.popleft()
                changes += group.changes
        pending = self._pending
        for change in changes:
            if pending.get(change.record.key) is change:
                del pending[change.record.key]
        self._apply(changes)
        if self._unsent and not self._sent:
            self._send_soon()
        if self._settling:
            self._settled()
        if not self._compacting and self._log_bytes > 2 * self._live_bytes + self.slack_bytes:
            self._compacting = True
            self._queue.put(_Compact(self._epoch))

    def _failed(self, error: str) -> None:
        """A commit failed: so do all writes that are pending."""
        self._epoch += 1
        self._fault = error
        self._compacting = False
        lost = [change for group in self._sent for change in group.changes] + self._unsent
        self._sent.clear()
        self._unsent = []
        self._pending.clear()
        log.warning("%d writes were not stored: %s", len(lost), error)
        for change in lost:
            if not change.done.done():
                change.done.set_exception(StorageFailed(error))
                change.done.exception()  # retrieved: its writer may be gone
        self._settled(StorageFailed(error))

    def _settled(self, error: StorageFailed | None = None) -> None:
        settling, self._settling = self._settling, []
        for waiter in settling:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _relocate(self, rows: list[Row] | None, epoch: int) -> None:
        """Write again what still lives in the oldest rows, so that they can go. None: never ask again."""
        if rows is None:
            return
        if not rows or epoch != self._epoch:
            self._compacting = False
            return
        self._send()  # what is pending must be in the log before the row that it supersedes goes
        live: list[bytes] = []
        for row in rows:
            for entry in logfile.unpack(row.entries):
                kind = entry.kind & ~logfile.RELOCATED
                if kind == logfile.FLOOR:
                    live.append(logfile.pack(*entry))
                if kind in (logfile.DELETED, logfile.FLOOR):
                    continue
                newest = self.newest(Key(entry.resource, entry.namespace, entry.name))
                if newest is not None and newest.version == entry.version:
                    live.append(logfile.pack(*entry._replace(kind=entry.kind | logfile.RELOCATED)))
        group = _Group(self._epoch, [], live, sum(map(len, live)), self._assigned, rows[-1].at)
        group.remove += [row.number for row in rows]
        group.removed_bytes = sum(len(row.entries) for row in rows)
        self._queue.put(group)

    def _load(self) -> None:
        """Replay the log: the objects, and the history as far back as it is whole and recent.

        A change of an object whose state before it is compacted away can't be told: the history of that resource, and
        of no other, begins after it.
        """
        oldest_wall = self._clock.wall() - self._limits.seconds
        current: dict[Key, StoredRecord] = {}
        events: list[Event] = []
        floors: dict[str, int] = {}
        in_history = False
        for row in self._file.rows():
            if row.number == 1 or (self._next_row > 1 and row.at >= oldest_wall):
                in_history = in_history or row.at >= oldest_wall
            if not in_history:
                self._floor = row.version
            self._assigned = max(self._assigned, row.version)
            self._next_row = row.number + 1
            self._log_bytes += len(row.entries)
            for entry in logfile.unpack(row.entries):
                if entry.kind == logfile.FLOOR:
                    self._floor = max(self._floor, entry.version)
                    events = [event for event in events if event.version > entry.version]
                    continue
                event = self._replay(entry, current)
                if event is None or not in_history:
                    continue
                if event.previous is None and event.type != "ADDED":
                    floors[event.record.key.resource] = event.version
                else:
                    events.append(event)
        self._version = self._assigned
        now = self._clock.monotonic()
        for resource, floor in floors.items():
            self._of(resource, floor)
        for key, record in current.items():
            objects = self._of(key.resource)
            objects.by_key[key] = record
            objects.order.append(key)
            objects.sorted = False
            objects.last_change = max(objects.last_change, record.version)
            self._live_bytes += len(record.data)
        for event in events:
            objects = self._of(event.record.key.resource)
            objects.last_change = max(objects.last_change, event.version)
            if event.version > objects.history.floor:
                objects.history.append(event, now)

    def _replay(self, entry: Entry, current: dict[Key, StoredRecord]) -> Event | None:
        """Bring one entry into `current`; the event that it was, unless it is a relocated one."""
        key = Key(sys.intern(entry.resource), sys.intern(entry.namespace), entry.name)
        before = current.get(key)
        if before is not None:
            key = before.key
        kind = _TYPES[entry.kind & ~logfile.RELOCATED]
        if before is not None and before.version > entry.version:
            return None
        data = entry.data
        if kind == "DELETED":
            current.pop(key, None)
            if before is not None:
                data = _stamped(before.data, entry.version)
        record = StoredRecord(key, entry.version, data, self._parsed)
        if kind != "DELETED":
            current[key] = record
        return None if entry.kind & logfile.RELOCATED else Event(kind, entry.version, record, before)

    # -- the writer's side

    def _start_writer(self) -> None:
        threading.Thread(target=self._write_all, name="store-writer", daemon=True).start()

    def _write_all(self) -> None:
        """The writer thread."""
        item: _Group | _Compact | None = self._queue.get()
        while item is not None:
            following = self._write_next(item)
            item = self._queue.get() if following == "wait" else following
        self._tell(self._ended)

    def _write_next(self, item: _Group | _Compact) -> _Group | _Compact | Literal["wait"] | None:
        """Everything that waits with it is one commit, up to a bounded size; what else was taken from the queue."""
        if item.epoch <= self._failed_epoch:
            return "wait"  # failed with the one before it
        if isinstance(item, _Compact):
            self._tell(self._relocate, self._oldest(), item.epoch)
            return "wait"
        groups, following = self._gather(item)
        error = self._commit(groups)
        if error is None:
            self._tell(self._committed, groups)
        else:
            self._failed_epoch = item.epoch
            self._tell(self._failed, error)
        return following

    def _gather(self, first: _Group) -> tuple[list[_Group], _Group | _Compact | Literal["wait"] | None]:
        groups, size = [first], first.size
        while size < _ROW_BYTES:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(item, _Group) or item.epoch != first.epoch:
                return groups, item
            groups.append(item)
            size += item.size
        return groups, "wait"

    def _commit(self, groups: list[_Group]) -> str | None:
        """Returns what went wrong, if anything."""
        entries = b"".join([entry for group in groups for entry in group.entries])
        row = Row(self._next_row, groups[-1].version, max(group.at for group in groups), entries)
        try:
            self._file.append(row, [number for group in groups for number in group.remove])
        except sqlite3.Error as error:
            self._file.rollback()
            return str(error)
        self._next_row += 1
        return None

    def _oldest(self) -> list[Row] | None:
        try:
            return self._file.oldest(self._next_row - 1, _ROW_BYTES)
        except sqlite3.Error:
            return []
        except LogDamaged as damage:  # all is in memory still: a snapshot taken now is whole
            log.error("%s; it is not compacted: take a snapshot, then restore it", damage.message)
            return None

    def _ended(self) -> None:
        if not self._writer_ended.done():
            self._writer_ended.set_result(None)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _stamped(data: bytes, version: int) -> bytes:
    obj = orjson.loads(data)
    obj["metadata"]["resourceVersion"] = str(version)
    return orjson.dumps(obj)

"""What both stores share: the current objects in memory, their history and watchers, the compare of a write.

`apply` takes changes that are durable, in version order; what is not durable yet lives in `pending`, which writers
compare with and readers do not see.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import orjson

from atoll.base.clock import Clock
from atoll.cluster.store.history import History, HistoryLimits, HistoryWatcher
from atoll.cluster.store.port import Encoded, Event, Key, Object, Record, StaleVersion, TooNew, TooOld
from atoll.cluster.store.records import ParsedObjects, StoredRecord

_PARSED_OBJECTS = 1024
_GONE_KEYS = 1024  # so many are kept at least before they are dropped
_UNLIKE = ("configmaps", "secrets")  # have little in common with others: what was written stays as its object
_PRUNE_SECONDS = 1.0
_PRUNE_CHANGES = 8192  # also after so many: in virtual time a whole fleet's changes fall into one instant


class Change(NamedTuple):
    """A checked write: it has its version; `record` of a deletion is the last state, stamped anew."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    record: StoredRecord
    done: asyncio.Future[Record]


class _Objects:
    """The current objects of one resource."""

    __slots__ = ("by_key", "history", "last_change", "order", "scanned", "sorted")

    def __init__(self, history: History) -> None:
        self.by_key: dict[Key, StoredRecord] = {}
        self.history = history
        self.last_change = 0
        self.order: list[Key] = []  # the keys, sorted when `sorted`; may hold keys that are gone when not
        self.sorted = True
        self.scanned: dict[str | None, list[Record]] = {}  # by namespace, in order: scans since the last change

    def keys(self) -> list[Key]:
        if not self.sorted:
            if len(self.order) != len(self.by_key):
                self._drop_gone()
            self.order.sort()
            self.sorted = True
        return self.order

    def add(self, key: Key) -> None:
        self.order.append(key)
        self.sorted = False
        if len(self.order) > 2 * len(self.by_key) + _GONE_KEYS:
            self._drop_gone()

    def _drop_gone(self) -> None:
        by_key = self.by_key
        self.order = list(dict.fromkeys(key for key in self.order if key in by_key))


class StoreCore:
    """Everything of a Store but how a write becomes durable."""

    def __init__(self, clock: Clock, history: HistoryLimits | None = None, most_parsed: int = _PARSED_OBJECTS) -> None:
        """`most_parsed`: of how many objects the parsed form is kept beside the bytes."""
        self._clock = clock
        self._limits = history or HistoryLimits()
        self._version = 0
        self._assigned = 0  # the newest version given to a write
        self._floor = 0  # history begins after this version, for a resource of which nothing is known
        self._resources: dict[str, _Objects] = {}
        self._pending: dict[Key, Change] = {}
        self._live_bytes = 0
        self._parsed = ParsedObjects(most_parsed)
        self._next_prune = 0.0
        self._next_prune_version = 0
        self._compacted = 0  # older versions than this one can't be listed any more
        self._marks: deque[tuple[float, int]] = deque()  # (time, the version then), one a second at most
        self._closed = False

    @property
    def version(self) -> int:
        return self._version

    def get(self, key: Key) -> StoredRecord | None:
        objects = self._resources.get(key.resource)
        return None if objects is None else objects.by_key.get(key)

    def newest(self, key: Key) -> StoredRecord | None:
        pending = self._pending.get(key)
        if pending is not None:
            return None if pending.type == "DELETED" else pending.record
        return self.get(key)

    async def settle(self, key: Key) -> None:
        """Nothing is ever pending here."""

    def scan(self, resource: str, namespace: str | None = None, at: int | None = None) -> list[Record]:
        if at is not None and at > self._version:
            raise TooNew(f"version {at} has not happened yet, the newest is {self._version}")
        if at is not None and at < self._compact():
            raise TooOld(f"version {at} is older than {self._compacted}")
        objects = self._resources.get(resource)
        if objects is None:
            return []
        if at is not None and objects.history.last_version > at:
            return self._scan_past(objects, namespace, at)
        records = objects.scanned.get(namespace)
        if records is None:
            keys: Sequence[Key] = objects.keys()
            if namespace is not None:
                first, after = (resource, namespace, ""), (resource, namespace + "\0", "")
                keys = keys[bisect_left(keys, first) : bisect_left(keys, after)]
            by_key = objects.by_key
            records = [by_key[key] for key in keys]
            if records:  # what is asked for by namespaces that are not there is not to fill the memory
                objects.scanned[namespace] = records
        return records.copy()

    def _compact(self) -> int:
        """The oldest version that can be listed: the newest one that is compact_seconds old."""
        before = self._clock.monotonic() - self._limits.compact_seconds
        while self._marks and self._marks[0][0] <= before:
            self._compacted = self._marks.popleft()[1]
        return self._compacted

    def _scan_past(self, objects: _Objects, namespace: str | None, at: int) -> list[Record]:
        """The state at a version: the changes since then, undone."""
        undone: dict[Key, Record | None] = {}
        for event in reversed(objects.history.since(at)):
            if namespace is None or event.record.key.namespace == namespace:
                undone[event.record.key] = None if event.type == "ADDED" else event.previous
        state: dict[Key, Record] = {
            key: record
            for key, record in objects.by_key.items()
            if (namespace is None or key.namespace == namespace) and key not in undone
        }
        state.update((key, record) for key, record in undone.items() if record is not None)
        return [state[key] for key in sorted(state)]

    def count(self, resource: str) -> int:
        objects = self._resources.get(resource)
        return 0 if objects is None else len(objects.by_key)

    def last_change(self, resource: str) -> int:
        objects = self._resources.get(resource)
        return 0 if objects is None else objects.last_change

    def resources(self) -> Iterable[str]:
        return [resource for resource, objects in self._resources.items() if objects.by_key]

    def watch(self, resource: str, after: int, namespace: str | None = None) -> HistoryWatcher:
        if after > self._version:
            raise TooNew(f"version {after} has not happened yet, the newest is {self._version}")
        return HistoryWatcher(self._of(resource).history, after, namespace, lambda: self._version)

    def break_watches(self, error: Exception) -> None:
        """As when a server's connections break: who waits for a change gets this error, and may watch again."""
        for objects in self._resources.values():
            objects.history.break_off(error)

    def _of(self, resource: str, floor: int = 0) -> _Objects:
        """`floor`: its history begins only after this version."""
        objects = self._resources.get(resource)
        if objects is None:
            objects = _Objects(History(self._limits, max(self._floor, floor)))
            self._resources[sys.intern(resource)] = objects
        return objects

    def _check(self, key: Key, expected: int, obj: Object | Encoded | None, done: asyncio.Future[Record]) -> Change:
        """Compare with the newest pending state and give the write its version. Raises StaleVersion."""
        current = self.newest(key)
        if (0 if current is None else current.version) != expected or (obj is None and current is None):
            raise StaleVersion(key, current)
        version = self._assigned + 1
        text = str(version)
        if obj is None:
            assert current is not None
            last = current.object
            obj = {**last, "metadata": {**last["metadata"], "resourceVersion": text}}
            kind: Literal["ADDED", "MODIFIED", "DELETED"] = "DELETED"
        else:
            kind = "ADDED" if current is None else "MODIFIED"
        if isinstance(obj, Encoded):
            digits = text.encode()
            data = b"".join((obj.head, digits, obj.tail))
            origin, uid = obj.origin, obj.uid or None
            if obj.values is not None:
                self._parsed.fill(version, (*obj.values, digits))
        else:
            origin = uid = None
            obj["metadata"]["resourceVersion"] = text
            data = bytes(memoryview(orjson.dumps(obj)))  # a copy: orjson's own keeps the room that it wrote in
        self._assigned = version
        if current is not None:
            key = current.key
        else:
            key = Key(sys.intern(key.resource), sys.intern(key.namespace), sys.intern(key.name))
        if origin is None and current is not None:
            self._parsed.follow(version, current)
        if key.resource in _UNLIKE and not isinstance(obj, Encoded):
            self._parsed.put(version, obj)
        return Change(kind, StoredRecord(key, version, data, self._parsed, origin, uid), done)

    def _apply(self, changes: Iterable[Change]) -> None:
        """Durable now: visible, published, acknowledged."""
        now = self._clock.monotonic()
        touched: dict[str, tuple[History, set[str]]] = {}
        done: list[Change] = []
        for change in changes:
            key = change.record.key
            self._set(change.type, change.record, now)
            seen = touched.get(key.resource)
            if seen is None:
                touched[key.resource] = (self._resources[key.resource].history, {key.namespace})
            else:
                seen[1].add(key.namespace)
            done.append(change)
        for change in done:
            if not change.done.done():  # the writer may have been cancelled
                change.done.set_result(change.record)
        for history, namespaces in touched.values():
            history.wake(namespaces)
        if now >= self._next_prune or self._version >= self._next_prune_version:
            self._next_prune = now + _PRUNE_SECONDS
            self._next_prune_version = self._version + _PRUNE_CHANGES
            self._compact()
            self._marks.append((now, self._version))
            for objects in self._resources.values():
                objects.history.prune(now)

    def _set(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], record: StoredRecord, now: float) -> None:
        key, version = record.key, record.version
        objects = self._of(key.resource)
        previous = objects.by_key.get(key)
        if previous is not None:
            self._live_bytes -= len(previous.data)
        if kind == "DELETED":
            del objects.by_key[key]
            objects.sorted = False
        else:
            objects.by_key[key] = record
            self._live_bytes += len(record.data)
            if previous is None:
                objects.add(key)
        objects.last_change = version
        if objects.scanned:
            objects.scanned = {}
        objects.history.append(Event(kind, version, record, previous), now)
        self._version = version

    def _close(self) -> None:
        self._closed = True
        for objects in self._resources.values():
            objects.history.close()

"""Servers with a fault: what the checker must find. Each wraps a port of the sound server; none is a flag in it.

The faults are those that storage systems really had: see etcd's robustness tests, which replant theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from atoll.base.chance import Chance
from atoll.cluster.store import log as logfile
from atoll.cluster.store.core import Change
from atoll.cluster.store.log import Row
from atoll.cluster.store.port import ABSENT, Encoded, Event, Key, Object, Record, StaleVersion, Store, Watcher
from atoll.testing.robustness.faults import FaultyLog
from atoll.testing.robustness.simulated import SimulatedStore


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault: what of SimulatedServer's parts it replaces."""

    name: str
    what: str
    server: Callable[[Chance], dict[str, Any]]


class _Wrapped:
    """A Store that passes everything on; a fault overrides one method."""

    def __init__(self, store: Store, chance: Chance) -> None:
        self.store = store
        self.chance = chance

    @property
    def version(self) -> int:
        return self.store.version

    def get(self, key: Key) -> Record | None:
        return self.store.get(key)

    def newest(self, key: Key) -> Record | None:
        return self.store.newest(key)

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        return self.store.write(key, expected, obj)

    def trouble(self) -> str:
        return self.store.trouble()

    async def settle(self, key: Key) -> None:
        await self.store.settle(key)

    def scan(self, resource: str, namespace: str | None = None, at: int | None = None) -> list[Record]:
        return self.store.scan(resource, namespace, at)

    def count(self, resource: str) -> int:
        return self.store.count(resource)

    def last_change(self, resource: str) -> int:
        return self.store.last_change(resource)

    def resources(self) -> Any:
        return self.store.resources()

    def watch(self, resource: str, after: int, namespace: str | None = None) -> Watcher:
        return self.store.watch(resource, after, namespace)

    async def close(self) -> None:
        await self.store.close()


class _EarlyPublish(SimulatedStore):
    """Watchers and readers see a write before it is on the disk."""

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        done = super().write(key, expected, obj)
        change = self._unsent[-1]
        self._apply((change._replace(done=asyncio.get_running_loop().create_future()),))
        return done

    def _committed(self, groups: list[Any]) -> None:
        mine: list[Change] = [change for group in groups for change in group.changes]
        for group in groups:
            group.changes = []
        super()._committed(groups)
        for change in mine:
            self._pending.pop(change.record.key, None)
            if not change.done.done():
                change.done.set_result(change.record)


class _EarlyAnswer(_Wrapped):
    """A write is acknowledged before it is on the disk."""

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        self.store.write(key, expected, obj)
        answered: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        record = self.store.newest(key)
        if obj is None or record is None:
            return self.store.write(key, expected, obj)
        answered.set_result(record)
        return answered


class _LostCompareAndSwap(_Wrapped):
    """Writers compare with what is durable; a write over one that is pending goes through."""

    def newest(self, key: Key) -> Record | None:
        return self.store.get(key)

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        try:
            return self.store.write(key, expected, obj)
        except StaleVersion as stale:
            if stale.current is None or expected == ABSENT:
                raise
            return self.store.write(key, stale.current.version, obj)


class _ReusedVersion(SimulatedStore):
    """Versions go back over a restart."""

    def _load(self) -> None:
        super()._load()
        self._assigned = self._version = max(0, self._assigned - 3)


class _LosesLastRow(FaultyLog):
    """What the newest commit wrote is not read again."""

    def rows(self) -> Iterator[Row]:
        before: Row | None = None
        for row in super().rows():
            if before is not None:
                yield before
            before = row
        if before is not None:
            yield before._replace(entries=b"")


class _ForgetsDeletions(FaultyLog):
    """What was deleted is there again after a restart."""

    def rows(self) -> Iterator[Row]:
        for row in super().rows():
            kept = [entry for entry in logfile.unpack(row.entries) if entry.kind != logfile.DELETED]
            yield row._replace(entries=b"".join(starmap(logfile.pack, kept)))


class _StaleList(_Wrapped):
    """A list of now is sometimes the list before."""

    def __init__(self, store: Store, chance: Chance) -> None:
        super().__init__(store, chance)
        self._before: dict[tuple[str, str | None], list[Record]] = {}

    def scan(self, resource: str, namespace: str | None = None, at: int | None = None) -> list[Record]:
        found = self.store.scan(resource, namespace, at)
        before = self._before.get((resource, namespace))
        self._before[resource, namespace] = found
        return before if at is None and before is not None and self.chance.random() < 0.3 else found


class _StaleGet(_Wrapped):
    """A read of now is sometimes the version before."""

    def __init__(self, store: Store, chance: Chance) -> None:
        super().__init__(store, chance)
        self._before: dict[Key, Record] = {}

    def get(self, key: Key) -> Record | None:
        found = self.store.get(key)
        before = self._before.get(key)
        if found is not None:
            self._before[key] = found
        return before if before is not None and self.chance.random() < 0.2 else found


class _Watcher:
    """A Watcher that passes everything on."""

    def __init__(self, watcher: Watcher, fault: _WatchFault) -> None:
        self.watcher = watcher
        self.fault = fault
        self.kept: list[Event] = []
        self.first = True

    async def next(self) -> list[Event]:
        while True:
            passed = list(await self.watcher.next())
            events = self.fault.spoil(self, passed)
            if events or not passed:  # none passed: the watcher was nudged
                return events

    def nudge(self) -> None:
        self.watcher.nudge()

    @property
    def version(self) -> int:
        return self.watcher.version

    def close(self) -> None:
        self.watcher.close()


class _WatchFault(_Wrapped):
    """`spoil` changes what a watcher gets."""

    watcher: Callable[..., _Watcher] = _Watcher

    def watch(self, resource: str, after: int, namespace: str | None = None) -> Watcher:
        self.after = after
        return self.watcher(self.store.watch(resource, after, namespace), self)

    def spoil(self, watcher: _Watcher, events: list[Event]) -> list[Event]:
        return events


class _DroppedEvent(_WatchFault):
    def spoil(self, watcher: _Watcher, events: list[Event]) -> list[Event]:
        return [event for event in events if self.chance.random() > 0.1]


class _DoubledEvent(_WatchFault):
    def spoil(self, watcher: _Watcher, events: list[Event]) -> list[Event]:
        return [*events, events[-1]] if self.chance.random() < 0.1 else events


class _ReorderedEvents(_WatchFault):
    """An event is held back until after the next."""

    def spoil(self, watcher: _Watcher, events: list[Event]) -> list[Event]:
        held, watcher.kept = watcher.kept, []
        if not held and self.chance.random() < 0.2:
            watcher.kept = [events.pop()]
        return events[:1] + held + events[1:] if events else held


class _SkippingResume(_WatchFault):
    """A watch that begins in the past leaves out the first change."""

    def watch(self, resource: str, after: int, namespace: str | None = None) -> Watcher:
        watcher = _Watcher(self.store.watch(resource, after, namespace), self)
        watcher.first = after < self.store.version
        return watcher

    def spoil(self, watcher: _Watcher, events: list[Event]) -> list[Event]:
        skip, watcher.first = watcher.first, False
        return events[1:] if skip else events


class _HastyWatcher(_Watcher):
    @property
    def version(self) -> int:
        return self.watcher.version + 1


class _EarlyBookmark(_WatchFault):
    """A bookmark tells a version whose change is still to come."""

    watcher = _HastyWatcher


def _wrapping(kind: Callable[[Store, Chance], Store]) -> Callable[[Chance], dict[str, Any]]:
    return lambda chance: {"wrap": lambda store: kind(store, chance)}


def _opening(kind: Callable[[Path], FaultyLog]) -> Callable[[Chance], dict[str, Any]]:
    return lambda _: {"open_log": kind}


def _storing(kind: type[SimulatedStore]) -> Callable[[Chance], dict[str, Any]]:
    return lambda _: {"make": kind}


PLANTS = {
    plant.name: plant
    for plant in (
        Plant("early-publish", "an event is published before it is durable", _storing(_EarlyPublish)),
        Plant("early-answer", "a write is acknowledged before it is durable", _wrapping(_EarlyAnswer)),
        Plant("lost-compare-and-swap", "a write over an old version goes through", _wrapping(_LostCompareAndSwap)),
        Plant("reused-version", "versions go back over a restart", _storing(_ReusedVersion)),
        Plant("lost-write", "the newest commit is gone after a restart", _opening(_LosesLastRow)),
        Plant("resurrection", "deleted objects are there again after a restart", _opening(_ForgetsDeletions)),
        Plant("stale-list", "a list of now is an old one", _wrapping(_StaleList)),
        Plant("stale-get", "a read of now is an old one", _wrapping(_StaleGet)),
        Plant("dropped-event", "a watch leaves an event out", _wrapping(_DroppedEvent)),
        Plant("doubled-event", "a watch delivers an event twice", _wrapping(_DoubledEvent)),
        Plant("reordered-events", "a watch delivers events out of order", _wrapping(_ReorderedEvents)),
        Plant("early-bookmark", "a bookmark is ahead of events", _wrapping(_EarlyBookmark)),
        Plant("skipping-resume", "a resumed watch leaves out the first event", _wrapping(_SkippingResume)),
    )
}

"""The recent changes of one resource, and the watchers that read along.

A watcher is only a position in this history: any number of slow watchers cost no more memory than the history, which
is bounded by age, count and bytes. One that history has passed gets TooOld.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from math import inf

from msgspec import Struct

from atoll.cluster.store.port import Event, TooOld

_BATCH = 1000
_MARK_SECONDS = 1.0
_MOST_PACE_SECONDS = 0.02


class HistoryLimits(Struct, frozen=True):
    """kube-apiserver keeps about 75 s; the next two bound memory in a burst, for each resource.

    `compact_seconds`: how long a version can be listed exactly (continue tokens), as etcd is compacted each 5 minutes.
    """

    seconds: float = 75.0
    events: int = 65536
    data_bytes: int = 96 << 20
    pace_seconds: float = 0.0  # times the watchers that wait: so far apart they are woken at least; see History.wake
    compact_seconds: float = 300.0


class History:
    """Events in version order; `floor` is the newest version that is no longer in it."""

    def __init__(self, limits: HistoryLimits, floor: int) -> None:
        self.floor = floor
        self.base = 0  # the absolute position of events[0]
        self.events: list[Event] = []
        self.last_version = floor
        self._limits = limits
        self._bytes = 0
        self._dropped = 0  # leading events that are dropped but not yet cut off the list
        self._marks: deque[tuple[float, int]] = deque()  # (time, absolute end position)
        # In the order of waiting, not of hashes: a seed replays.
        self._waiting: dict[str | None, dict[HistoryWatcher, None]] = {}
        self._woken = -inf  # when, by the loop's time
        self._due: set[str] = set()  # namespaces whose watchers are woken next
        self._timer: asyncio.TimerHandle | None = None

    @property
    def end(self) -> int:
        return self.base + len(self.events)

    def append(self, event: Event, now: float) -> None:
        self.events.append(event)
        self.last_version = event.version
        self._bytes += len(event.record.data)
        marks = self._marks
        if marks and now - marks[-1][0] < _MARK_SECONDS:
            marks[-1] = (marks[-1][0], self.end)
        else:
            marks.append((now, self.end))

    def prune(self, now: float) -> None:
        """Drop what is older than the limits."""
        start = self.base + self._dropped
        target = start
        while self._marks and self._marks[0][0] < now - self._limits.seconds:
            target = max(target, self._marks.popleft()[1])
        target = max(target, self.end - self._limits.events)
        excess = self._bytes - self._limits.data_bytes
        position = start
        while position < target or (excess > 0 and position < self.end):
            event = self.events[position - self.base]
            size = len(event.record.data)
            self._bytes -= size
            excess -= size
            self.floor = event.version
            position += 1
        self._dropped = position - self.base
        if self._dropped == len(self.events) or self._dropped > 256 + len(self.events) // 4:
            del self.events[: self._dropped]
            self.base += self._dropped
            self._dropped = 0

    def after(self, version: int) -> int:
        """The position of the first event after a version. Raises TooOld."""
        if version < self.floor:
            raise TooOld(f"version {version} is older than {self.floor}")
        return self.base + bisect_right(self.events, version, key=_version)

    def since(self, version: int) -> list[Event]:
        """The events after a version. Raises TooOld."""
        return self.events[self.after(version) - self.base :]

    def read(self, position: int) -> list[Event]:
        """A bounded batch from a position. Raises TooOld when that is dropped already."""
        start = position - self.base
        if start < self._dropped:
            raise TooOld(f"the watcher was passed by the history, which begins after version {self.floor}")
        return self.events[start : start + _BATCH]

    def wait(self, watcher: HistoryWatcher) -> None:
        self._waiting.setdefault(watcher.namespace, {})[watcher] = None

    def wake(self, namespaces: set[str]) -> None:
        """Wake the waiting watchers of everything, and of these namespaces.

        A change after a quiet time wakes them at once. Many changes in a row are gathered, the longer the more
        watchers there are: waking and writing to one costs the same for one event as for twenty, for the server as
        for the client, and both would do nothing else.
        """
        waiting = self._waiting
        if not waiting:
            return
        pace = self._limits.pace_seconds
        if not pace:
            self._wake_now(namespaces)
            return
        self._due |= namespaces
        if self._timer is None:
            loop = asyncio.get_running_loop()
            seconds = self._woken + min(pace * sum(map(len, waiting.values())), _MOST_PACE_SECONDS) - loop.time()
            if seconds <= 0:
                self._wake_due(loop)
            else:
                self._timer = loop.call_later(seconds, self._wake_due, loop)

    def _wake_due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._woken = loop.time()
        due, self._due = self._due, set()
        self._wake_now(due)

    def _wake_now(self, namespaces: set[str]) -> None:
        waiting = self._waiting
        for namespace in (None, *sorted(namespaces)) if len(namespaces) < len(waiting) else list(waiting):
            if namespace is None or namespace in namespaces:
                for watcher in waiting.pop(namespace, ()):
                    watcher.wake()

    def forget(self, watcher: HistoryWatcher) -> None:
        self._waiting.get(watcher.namespace, {}).pop(watcher, None)

    def break_off(self, error: Exception) -> None:
        """Whoever waits for a change gets this error instead."""
        for watchers in list(self._waiting.values()):
            for watcher in list(watchers):
                watcher.fail(error)

    def close(self) -> None:
        """End all watchers that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watchers in list(self._waiting.values()):
            for watcher in list(watchers):
                watcher.close()


def _version(event: Event) -> int:
    return event.version


class HistoryWatcher:
    """See `atoll.cluster.store.port.Watcher`."""

    __slots__ = ("_closed", "_history", "_nudged", "_position", "_seen", "_store_version", "_waiter", "namespace")

    def __init__(self, history: History, after: int, namespace: str | None, store_version: Callable[[], int]) -> None:
        self.namespace = namespace
        self._history = history
        self._position = history.after(after)
        self._seen = after
        self._store_version = store_version
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._nudged = False

    @property
    def version(self) -> int:
        if self._position == self._history.end:  # kept: a bookmark that was told must not be followed by a lower one
            self._seen = max(self._seen, self._store_version())
        return self._seen

    async def next(self) -> list[Event]:
        while True:
            if self._closed:
                raise asyncio.CancelledError("the watcher was closed")
            if self._nudged:
                self._nudged = False
                return []
            batch = self._history.read(self._position)
            if batch:
                self._position += len(batch)
                self._seen = batch[-1].version
                if self.namespace is not None:
                    batch = [event for event in batch if event.record.key.namespace == self.namespace]
                if batch:
                    return batch
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            self._history.wait(self)
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._history.forget(self)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Who waits in `next` gets this error."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def nudge(self) -> None:
        self._nudged = True
        self.wake()

    def close(self) -> None:
        """A task that waits in `next` is cancelled."""
        self._closed = True
        self._history.forget(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.cancel()

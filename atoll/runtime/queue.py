"""A work queue as client-go's: a key is handed out to one worker at a time, added keys collapse, failures
come back after a delay that grows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from atoll.base.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class QueueObserver(Protocol):
    """Told what a queue does; see `atoll.runtime.queue_metrics`."""

    def added(self, key: Hashable) -> None: ...

    def taken(self, key: Hashable) -> None: ...

    def finished(self, key: Hashable) -> None: ...

    def retried(self) -> None: ...


class WorkQueue(Generic[K]):
    """get() → work → done(); add() while in work means once more afterwards."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(jitter=0.0)
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, tuple[float, asyncio.Handle]] = {}  # uvloop's have no when() where it is near
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.observer: QueueObserver | None = None

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: K) -> None:
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if self.observer is not None:
            self.observer.added(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Add later; an earlier pending timer for the key wins."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer[0] <= when:
                return
            timer[1].cancel()
        self._timers[key] = (when, loop.call_at(when, self._fire, key))

    def add_rate_limited(self, key: K) -> None:
        """Add after the back-off of this key's failures so far."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        if self.observer is not None:
            self.observer.retried()
        self.add_after(key, self._backoff.delay(failures))

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key succeeded: its failures are forgotten."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key. Raises asyncio.CancelledError when the queue is closed."""
        while not self._ready:
            if self._closed:
                raise asyncio.CancelledError
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._working.add(key)
        if self.observer is not None:
            self.observer.taken(key)
        return key

    def done(self, key: K) -> None:
        self._working.discard(key)
        if self.observer is not None:
            self.observer.finished(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        self._closed = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._waiters:
            self._wake()

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

"""A store that lives only in memory: for throw-away clusters and for virtual time. No threads, no files.

A write is durable at once: its future is done when `write` returns.
"""

from __future__ import annotations

import asyncio

from atoll.base.clock import Clock
from atoll.cluster.store.core import StoreCore
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.port import Encoded, Key, Object, Record, StorageFailed

_MOST_PARSED = 16_384  # all controllers read in its process: what they read again is not parsed again


class MemoryStore(StoreCore):
    """See `atoll.cluster.store.port.Store`."""

    def __init__(self, clock: Clock, history: HistoryLimits | None = None) -> None:
        super().__init__(clock, history, _MOST_PARSED)

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        if self._closed:
            raise StorageFailed("the store is closed")
        change = self._check(key, expected, obj, asyncio.get_running_loop().create_future())
        self._apply((change,))
        return change.done

    def trouble(self) -> str:
        return "the store is closed" if self._closed else ""

    async def close(self) -> None:
        if not self._closed:
            self._close()

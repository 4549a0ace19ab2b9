"""Both stores keep the store's contract; the memory one in virtual time too."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from atoll.base.clock import ManualClock, SystemClock
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Store
from atoll.runtime.virtual import run_virtual
from atoll.testing.contracts.store import BoundedHistoryContract, Scenario, StoreContract


class _TickingClock(ManualClock):
    """Each look is a second later, so that the history is pruned at each write."""

    def monotonic(self) -> float:
        self.advance(1.0)
        return super().monotonic()


class TestMemoryStore(StoreContract, BoundedHistoryContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = MemoryStore(SystemClock())
        yield store
        await store.close()

    @asynccontextmanager
    async def opened_bounded(self, events: int) -> AsyncIterator[Store]:
        store = MemoryStore(_TickingClock(), HistoryLimits(seconds=1e9, events=events))
        yield store
        await store.close()


class TestMemoryStoreInVirtualTime(StoreContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = MemoryStore(ManualClock())
        yield store
        await store.close()

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await scenario(store)

        run_virtual(main())


class TestDurableStore(StoreContract, BoundedHistoryContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as folder:
            store = DurableStore(Path(folder) / "log.db", SystemClock())
            yield store
            await store.close()

    @asynccontextmanager
    async def opened_bounded(self, events: int) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as folder:
            limits = HistoryLimits(seconds=1e9, events=events)
            store = DurableStore(Path(folder) / "log.db", _TickingClock(), limits)
            yield store
            await store.close()

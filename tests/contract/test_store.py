"""Both stores keep the store's contract; the memory one in virtual time too."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atoll.base.clock import ManualClock, SystemClock
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Key, Store, TooOld
from atoll.runtime.virtual import run_virtual
from atoll.testing.contracts.store import POD, BoundedHistoryContract, Scenario, StoreContract, put


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


def test_a_version_can_be_listed_for_five_minutes_though_its_resource_rests() -> None:
    async def main() -> None:
        clock = ManualClock()
        store = MemoryStore(clock)
        first = await put(store, POD, n=0)
        token = (await put(store, Key("nodes", "", "n"))).version
        clock.advance(2)
        await put(store, Key("nodes", "", "m"))
        clock.advance(299)
        assert [record.version for record in store.scan("pods", at=token)] == [first.version]
        clock.advance(2)
        with pytest.raises(TooOld):
            store.scan("pods", at=token)
        assert [record.version for record in store.scan("pods", at=store.version)] == [first.version]
        clock.advance(1e6)
        assert [record.version for record in store.scan("pods", at=store.version)] == [first.version]

    asyncio.run(main())

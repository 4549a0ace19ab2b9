"""Watchers are woken at once after a quiet time; changes in a row are gathered for them."""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.base.clock import ManualClock
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import ABSENT, Key
from atoll.runtime.virtual import run_virtual


def write(store: MemoryStore, number: int) -> None:
    key = Key("pods", "default", f"p-{number}")
    metadata: dict[str, Any] = {"name": key.name, "namespace": key.namespace, "uid": str(number)}
    store.write(key, ABSENT, {"metadata": metadata})


def test_changes_in_a_row_are_gathered() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        store = MemoryStore(ManualClock(), HistoryLimits(pace_seconds=0.001))
        watchers = [store.watch("pods", 0) for _ in range(10)]
        batches: list[tuple[int, float]] = []

        async def follow(index: int) -> None:
            seen = 0
            while seen < 4:
                events = await watchers[index].next()
                seen += len(events)
                batches.append((len(events), round(loop.time() - began, 6)))

        tasks = [asyncio.ensure_future(follow(index)) for index in range(10)]
        await asyncio.sleep(0.5)
        began = loop.time()
        for number in range(4):
            write(store, number)
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        assert batches == [(1, 0.0)] * 10 + [(3, 0.01)] * 10

    run_virtual(story())


def test_a_nudged_watcher_has_nothing_once() -> None:
    async def story() -> None:
        store = MemoryStore(ManualClock())
        watcher = store.watch("pods", 0)
        waiting = asyncio.ensure_future(watcher.next())
        await asyncio.sleep(0)
        watcher.nudge()
        assert await waiting == []
        write(store, 1)
        assert len(await watcher.next()) == 1

    asyncio.run(story())

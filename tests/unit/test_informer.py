"""The informer against an API in process: what its cache, handlers and indices promise."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from atoll.base.errors import Gone, Unreachable
from atoll.client.port import Object, WatchEvent
from atoll.kinds.builtin import CONFIGMAPS
from atoll.runtime.informer import Informer, Informers
from atoll.runtime.virtual import run_virtual
from atoll.testing.cluster import TestCluster, new_cluster


def config_map(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


class Troubled:
    """A client whose watches end as told, before they go on as the real one's."""

    def __init__(self, inner: Any, troubles: list[Exception | None]) -> None:
        self._inner = inner
        self.troubles = troubles
        self.lists = 0

    async def list(self, *args: Any, **kwargs: Any) -> Any:
        self.lists += 1
        return await self._inner.list(*args, **kwargs)

    async def watch(self, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        if self.troubles:
            trouble = self.troubles.pop(0)
            if trouble is None:
                return
            raise trouble
        async for event in self._inner.watch(*args, **kwargs):
            yield event


async def started(made: TestCluster, client: Any = None) -> tuple[Informer, list[str], asyncio.Task[None]]:
    informer = Informer(client or made.client, CONFIGMAPS)
    told: list[str] = []

    def note(old: Object | None, new: Object | None) -> None:
        kind = "+" if old is None else "-" if new is None else "~"
        told.append(kind + (new or old or {})["metadata"]["name"])

    informer.add_handler(note)
    task = asyncio.get_running_loop().create_task(informer.run())
    await informer.synced.wait()
    return informer, told, task


def test_the_cache_follows_and_indices_hold() -> None:
    async def main() -> None:
        made = await new_cluster()
        await made.client.create(CONFIGMAPS, config_map("a", team="x"), "default")
        informer, told, task = await started(made)
        informer.add_index("team", lambda obj: [obj["metadata"]["labels"]["team"]])
        made_b = await made.client.create(CONFIGMAPS, config_map("b", team="x"), "default")
        moved = {**made_b, "metadata": {**made_b["metadata"], "labels": {"team": "y"}}}
        await made.client.update(CONFIGMAPS, moved)
        await made.client.delete(CONFIGMAPS, "a", "default")
        await asyncio.sleep(1)
        assert told == ["+a", "+b", "~b", "-a"]
        assert informer.by_index("team", "x") == []
        assert [item["metadata"]["name"] for item in informer.by_index("team", "y")] == ["b"]
        assert informer.index_size("team", "y") == 1
        assert len(informer) == 1
        task.cancel()

    run_virtual(main())


def test_a_lost_watch_resumes_and_a_gone_one_lists_again() -> None:
    async def main() -> None:
        made = await new_cluster()
        client = Troubled(made.client, [None, Unreachable("away"), Gone("too old"), None])
        informer, told, task = await started(made, client)
        await made.client.create(CONFIGMAPS, config_map("a"), "default")
        await asyncio.sleep(30)
        assert told == ["+a"]
        assert client.troubles == []
        assert client.lists == 2
        assert informer.healthy
        task.cancel()

    run_virtual(main())


def test_a_relist_tells_the_difference_and_a_namesake_is_not_the_same() -> None:
    async def main() -> None:
        made = await new_cluster()
        await made.client.create(CONFIGMAPS, config_map("kept"), "default")
        await made.client.create(CONFIGMAPS, config_map("dropped"), "default")
        await made.client.create(CONFIGMAPS, config_map("again"), "default")
        client = Troubled(made.client, [Unreachable("away")] * 6 + [Gone("too old")])
        _, told, task = await started(made, client)
        assert sorted(told) == ["+again", "+dropped", "+kept"]
        told.clear()
        await made.client.delete(CONFIGMAPS, "dropped", "default")
        await made.client.delete(CONFIGMAPS, "again", "default")
        await made.client.create(CONFIGMAPS, config_map("again"), "default")
        await asyncio.sleep(60)
        assert told == ["-dropped", "-again", "+again"]
        task.cancel()

    run_virtual(main())


def test_a_faulty_handler_stops_nothing() -> None:
    async def main() -> None:
        made = await new_cluster()
        informer, told, task = await started(made)
        calls: list[int] = []

        def faulty(old: Object | None, new: Object | None) -> None:
            calls.append(1)
            raise ValueError("ours")

        informer.add_handler(faulty)
        informer.add_handler(lambda old, new: told.append("after"))
        await made.client.create(CONFIGMAPS, config_map("a"), "default")
        await asyncio.sleep(1)
        assert calls == [1]
        assert told == ["+a", "after"]
        task.cancel()

    run_virtual(main())


def test_informers_are_shared_and_can_be_dropped() -> None:
    async def main() -> None:
        made = await new_cluster()
        informers = Informers(made.client)
        one = informers.of(CONFIGMAPS)
        assert informers.of(CONFIGMAPS) is one
        assert informers.of(CONFIGMAPS, label_selector="a=b") is not one
        informers.start()
        await informers.wait_synced()
        await informers.drop(CONFIGMAPS)
        assert informers.of(CONFIGMAPS) is not one
        await informers.stop()

    run_virtual(main())

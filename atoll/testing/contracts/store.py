"""The contract of `atoll.cluster.store.port.Store`: what any implementation must do.

    class TestMine(StoreContract):
        @asynccontextmanager
        async def opened(self):
            store = MyStore()
            yield store
            await store.close()

Each test runs a scenario in a loop of its own (`run`, which a subclass may replace, e.g. by virtual time).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import pytest

from atoll.cluster.store.port import (
    ABSENT,
    Encoded,
    Event,
    Key,
    Object,
    Record,
    StaleVersion,
    Store,
    TooNew,
    TooOld,
    Watcher,
)

Scenario = Callable[[Store], Awaitable[None]]
POD = Key("pods", "default", "a")


def obj(key: Key, **fields: Any) -> Object:
    """A small object for a key."""
    metadata: Object = {"name": key.name, "uid": f"uid-{key.name}", "labels": {"app": key.name}}
    if key.namespace:
        metadata["namespace"] = key.namespace
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata, **fields}


async def put(store: Store, key: Key, **fields: Any) -> Record:
    """Create or replace, unconditionally."""
    newest = store.newest(key)
    return await store.write(key, newest.version if newest else ABSENT, obj(key, **fields))


async def remove(store: Store, key: Key) -> Record:
    newest = store.newest(key)
    assert newest is not None
    return await store.write(key, newest.version, None)


async def collect(watcher: Watcher, count: int) -> list[Event]:
    """The next `count` events."""
    events: list[Event] = []
    while len(events) < count:
        events += await watcher.next()
    return events


def shown(events: list[Event]) -> list[tuple[str, str, int]]:
    return [(event.type, event.record.key.name, event.version) for event in events]


class StoreContract:
    """See the module's docstring."""

    def opened(self) -> AbstractAsyncContextManager[Store]:
        """A fresh, empty store."""
        raise NotImplementedError

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await scenario(store)

        asyncio.run(main())

    def test_a_created_object_is_read_back(self) -> None:
        async def scenario(store: Store) -> None:
            record = await put(store, POD, spec={"n": 1})
            found = store.get(POD)
            assert found is not None and found.version == record.version == store.version
            assert found.key == POD and found.uid == "uid-a" and found.labels == {"app": "a"}
            assert found.object["spec"] == {"n": 1}
            assert found.object["metadata"]["resourceVersion"] == str(record.version)
            assert orjson.loads(found.data) == found.object
            assert store.count("pods") == 1 and list(store.resources()) == ["pods"]

        self.run(scenario)

    def test_an_object_that_is_encoded_already(self) -> None:
        async def scenario(store: Store) -> None:
            head = b'{"metadata":{"uid":"u","labels":{"app":"a"},"resourceVersion":"'
            record = await store.write(POD, ABSENT, Encoded(head, b'"},"spec":{"n":1}}'))
            assert record.data == b'%b%d"},"spec":{"n":1}}' % (head, record.version)
            assert record.uid == "u" and record.labels == {"app": "a"}
            assert record.object["metadata"]["resourceVersion"] == str(record.version)
            with pytest.raises(StaleVersion):
                store.write(POD, ABSENT, Encoded(head, b'"}}'))

        self.run(scenario)

    def test_absent_objects(self) -> None:
        async def scenario(store: Store) -> None:
            assert store.get(POD) is None and store.newest(POD) is None
            assert store.scan("pods") == [] and store.count("pods") == 0 and store.last_change("pods") == 0
            with pytest.raises(StaleVersion) as caught:
                store.write(POD, 7, obj(POD))
            assert caught.value.current is None
            with pytest.raises(StaleVersion):
                store.write(POD, ABSENT, None)

        self.run(scenario)

    def test_versions_grow_by_one_over_all_resources(self) -> None:
        async def scenario(store: Store) -> None:
            first = await put(store, POD)
            second = await put(store, Key("nodes", "", "n"))
            third = await put(store, POD)
            fourth = await remove(store, POD)
            versions = [record.version for record in (first, second, third, fourth)]
            assert versions == list(range(first.version, first.version + 4)) and store.version == versions[-1]
            assert store.last_change("pods") == fourth.version and store.last_change("nodes") == second.version

        self.run(scenario)

    def test_a_write_with_an_old_version_is_refused(self) -> None:
        async def scenario(store: Store) -> None:
            first = await put(store, POD, n=1)
            second = await store.write(POD, first.version, obj(POD, n=2))
            for expected, new in ((first.version, obj(POD)), (ABSENT, obj(POD)), (first.version, None)):
                with pytest.raises(StaleVersion) as caught:
                    store.write(POD, expected, new)
                assert caught.value.current is not None and caught.value.current.version == second.version
            assert store.version == second.version and store.get(POD) is not None

        self.run(scenario)

    def test_writers_compare_with_pending_writes(self) -> None:
        async def scenario(store: Store) -> None:
            first = store.write(POD, ABSENT, obj(POD, n=1))
            newest = store.newest(POD)
            assert newest is not None
            with pytest.raises(StaleVersion):
                store.write(POD, ABSENT, obj(POD))
            second = store.write(POD, newest.version, obj(POD, n=2))
            newest = store.newest(POD)
            assert newest is not None and newest.object["n"] == 2
            third = store.write(POD, newest.version, None)
            assert store.newest(POD) is None
            fourth = store.write(POD, ABSENT, obj(POD, n=4))
            records = await asyncio.gather(first, second, third, fourth)
            assert [record.version for record in records] == sorted(record.version for record in records)
            found = store.get(POD)
            assert found is not None and found.object["n"] == 4

        self.run(scenario)

    def test_what_is_settled_is_durable(self) -> None:
        async def scenario(store: Store) -> None:
            await store.settle(POD)
            for number in range(5):
                newest = store.newest(POD)
                store.write(POD, newest.version if newest else ABSENT, obj(POD, n=number))
            pending = store.newest(POD)
            assert pending is not None
            await store.settle(POD)
            found = store.get(POD)
            assert found is not None and found.version == pending.version <= store.version

        self.run(scenario)

    def test_the_version_of_a_watcher_never_goes_back(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version, "x")
            for _ in range(3):
                before = watcher.version
                record = await put(store, Key("pods", "y", "a"))  # passed over by the watcher when it looks
                await put(store, Key("nodes", "", "n"))
                assert before <= watcher.version <= record.version + 1
                waiting = asyncio.ensure_future(watcher.next())
                await asyncio.sleep(0)
                assert watcher.version == store.version, "idle: all is told"
                waiting.cancel()
                told = watcher.version
                await put(store, Key("pods", "x", "a"))
                assert watcher.version >= told, "not less while the next waits to be taken"
                await watcher.next()

        self.run(scenario)

    def test_an_acknowledged_write_is_visible_and_published(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version)
            for number in range(20):
                record = await put(store, POD, n=number)
                found = store.get(POD)
                assert found is not None and found.version == record.version
                assert shown(await watcher.next())[-1][2] == record.version

        self.run(scenario)

    def test_a_deleted_record_is_the_last_state_with_the_version_of_the_deletion(self) -> None:
        async def scenario(store: Store) -> None:
            start = store.version
            created = await put(store, POD, n=1)
            deleted = await remove(store, POD)
            assert deleted.version == created.version + 1 and deleted.object["n"] == 1
            assert deleted.object["metadata"]["resourceVersion"] == str(deleted.version)
            assert created.object["metadata"]["resourceVersion"] == str(created.version)
            assert store.get(POD) is None and store.count("pods") == 0
            events = await collect(store.watch("pods", start), 2)
            assert shown(events) == [("ADDED", "a", created.version), ("DELETED", "a", deleted.version)]
            assert events[1].previous is not None and events[1].previous.version == created.version

        self.run(scenario)

    def test_a_key_is_its_resource_namespace_and_name(self) -> None:
        async def scenario(store: Store) -> None:
            keys = [Key(r, n, "a") for r in ("pods", "pods.example.com") for n in ("", "x", "x-y", "y")]
            for key in keys:
                await put(store, key)
            assert sorted(store.resources()) == ["pods", "pods.example.com"]
            assert [record.key for record in store.scan("pods", "x")] == [Key("pods", "x", "a")]
            assert all(store.get(key) is not None for key in keys)

        self.run(scenario)

    def test_scans_are_sorted_by_namespace_and_name(self) -> None:
        async def scenario(store: Store) -> None:
            names = [("b", "z"), ("a", "y"), ("b", "a"), ("a-b", "k"), ("a", "a"), ("B", "a")]
            for namespace, name in names:
                await put(store, Key("pods", namespace, name))
            assert [record.key[1:] for record in store.scan("pods")] == sorted(names)
            await remove(store, Key("pods", "a", "y"))
            await put(store, Key("pods", "a", "x"))
            await put(store, Key("pods", "a", "y"))
            assert [record.key.name for record in store.scan("pods", "a")] == ["a", "x", "y"]

        self.run(scenario)

    def test_a_scan_at_a_version_is_that_state(self) -> None:
        async def scenario(store: Store) -> None:
            keys = [Key("pods", namespace, name) for namespace in "xy" for name in "abc"]
            states = {store.version: [(record.key, record.version) for record in store.scan("pods")]}
            for step in range(40):
                key = keys[(step * 7) % len(keys)]
                await (remove(store, key) if store.get(key) is not None and step % 3 == 0 else put(store, key, n=step))
                states[store.version] = [(record.key, record.version) for record in store.scan("pods")]
            for version, state in states.items():
                assert [(record.key, record.version) for record in store.scan("pods", at=version)] == state
                only = [(record.key, record.version) for record in store.scan("pods", "x", at=version)]
                assert only == [item for item in state if item[0].namespace == "x"]
            with pytest.raises(TooNew):
                store.scan("pods", at=store.version + 1)

        self.run(scenario)

    def test_watchers_get_every_change_of_their_resource_in_order(self) -> None:
        async def scenario(store: Store) -> None:
            start = store.version
            watchers = [store.watch("pods", start), store.watch("pods", start)]
            expected = []
            for number in range(30):
                expected.append((await put(store, Key("pods", "default", f"p{number % 4}"), n=number)).version)
                await put(store, Key("nodes", "", "n"), n=number)
            for watcher in watchers:
                assert [event.version for event in await collect(watcher, 30)] == expected

        self.run(scenario)

    def test_a_watcher_begins_after_its_version(self) -> None:
        async def scenario(store: Store) -> None:
            records = [await put(store, POD, n=number) for number in range(5)]
            events = await store.watch("pods", records[2].version).next()
            assert [event.version for event in events] == [records[3].version, records[4].version]
            assert events[0].previous is not None and events[0].previous.version == records[2].version
            with pytest.raises(TooNew):
                store.watch("pods", store.version + 1)

        self.run(scenario)

    def test_a_watcher_of_a_namespace(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version, "x")
            waiting = asyncio.ensure_future(watcher.next())
            await put(store, Key("pods", "y", "a"))
            await asyncio.sleep(0)
            assert not waiting.done()
            record = await put(store, Key("pods", "x", "a"))
            assert shown(await waiting) == [("ADDED", "a", record.version)]

        self.run(scenario)

    def test_a_waiting_watcher_is_woken(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version)
            waiting = asyncio.ensure_future(watcher.next())
            await asyncio.sleep(0)
            assert not waiting.done()
            record = await put(store, POD)
            assert shown(await waiting) == [("ADDED", "a", record.version)]

        self.run(scenario)

    def test_the_version_of_an_idle_watcher_moves_on(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version)
            first = await put(store, POD)
            assert watcher.version < first.version
            await watcher.next()
            assert watcher.version == first.version
            other = await put(store, Key("nodes", "", "n"))
            assert watcher.version == other.version

        self.run(scenario)

    def test_a_closed_watcher_ends_the_task_that_waits(self) -> None:
        async def scenario(store: Store) -> None:
            watcher = store.watch("pods", store.version)
            waiting = asyncio.ensure_future(watcher.next())
            await asyncio.sleep(0)
            watcher.close()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

        self.run(scenario)

    def test_a_writer_that_gives_up_does_not_undo_its_write(self) -> None:
        async def scenario(store: Store) -> None:
            store.write(POD, ABSENT, obj(POD, n=1)).cancel()
            second = await put(store, POD, n=2)
            assert second.object["n"] == 2 and store.count("pods") == 1

        self.run(scenario)

    def test_what_is_not_json_is_refused_and_leaves_nothing(self) -> None:
        async def scenario(store: Store) -> None:
            before = store.version
            with pytest.raises(TypeError):
                store.write(POD, ABSENT, obj(POD, n={1, 2}))
            assert store.newest(POD) is None
            record = await put(store, POD)
            assert record.version == before + 1

        self.run(scenario)

    def test_many_writers_at_once(self) -> None:
        async def scenario(store: Store) -> None:
            start = store.version
            watcher = store.watch("pods", start)

            async def writer(number: int) -> list[int]:
                key = Key("pods", "default", f"p{number}")
                return [(await put(store, key, n=step)).version for step in range(20)]

            versions = await asyncio.gather(*(writer(number) for number in range(30)))
            events = await collect(watcher, 600)
            assert [event.version for event in events] == list(range(start + 1, start + 601))
            assert sorted(version for mine in versions for version in mine) == [event.version for event in events]
            assert store.count("pods") == 30

        self.run(scenario)


class BoundedHistoryContract:
    """For stores that can be opened with a history of `events` changes at most."""

    def opened_bounded(self, events: int) -> AbstractAsyncContextManager[Store]:
        raise NotImplementedError

    def run_bounded(self, events: int, scenario: Scenario) -> None:
        async def main() -> None:
            async with self.opened_bounded(events) as store:
                await scenario(store)

        asyncio.run(main())

    def test_versions_below_the_history_are_too_old(self) -> None:
        async def scenario(store: Store) -> None:
            slow = store.watch("pods", store.version)
            first = await put(store, POD, n=0)
            await fill(store)
            with pytest.raises(TooOld):
                store.watch("pods", first.version)
            with pytest.raises(TooOld):
                store.scan("pods", at=first.version)
            with pytest.raises(TooOld):
                await slow.next()
            assert [event.version for event in await store.watch("pods", store.version - 2).next()] == [
                store.version - 1,
                store.version,
            ]

        async def fill(store: Store) -> None:
            for number in range(2000):
                await put(store, POD, n=number)

        self.run_bounded(50, scenario)


__all__ = ["BoundedHistoryContract", "StoreContract", "collect", "obj", "put", "remove", "shown"]

"""Any sequence of writes, good and stale, against a plain model: both stores, the durable one reopened now and then."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.base.clock import ManualClock
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import ABSENT, Key, StaleVersion, Store
from atoll.testing.contracts.store import obj

KEYS = [Key(resource, namespace, name) for resource in ("pods", "jobs.batch") for namespace in "xy" for name in "ab"]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["put", "remove"]), st.sampled_from(KEYS), st.sampled_from(["right", "absent", "old"])
        ),
        st.tuples(st.sampled_from(["settle", "reopen"]), st.just(KEYS[0]), st.just("")),
    ),
    max_size=40,
)


class Model:
    """What a store must hold: the state at each version."""

    def __init__(self) -> None:
        self.state: dict[Key, tuple[int, Any]] = {}
        self.states: dict[int, dict[Key, tuple[int, Any]]] = {0: {}}
        self.version = 0
        self.log: list[tuple[str, Key, int]] = []

    def expected(self, key: Key, which: str) -> int:
        held = self.state.get(key)
        if which == "absent" or held is None:
            return ABSENT if which != "old" else 10**9
        return held[0] if which == "right" else held[0] - 1

    def write(self, key: Key, expected: int, value: Any) -> bool:
        held = self.state.get(key)
        if (held[0] if held else ABSENT) != expected or (value is None and held is None):
            return False
        self.version += 1
        kind = "DELETED" if value is None else "MODIFIED" if held else "ADDED"
        if value is None:
            del self.state[key]
        else:
            self.state[key] = (self.version, value)
        self.log.append((kind, key, self.version))
        self.states[self.version] = dict(self.state)
        return True


def check(store: Store, model: Model) -> None:
    assert store.version == model.version
    for resource in ("pods", "jobs.batch"):
        for version, state in model.states.items():
            found = {record.key: (record.version, record.object["n"]) for record in store.scan(resource, at=version)}
            assert found == {key: value for key, value in state.items() if key.resource == resource}
        assert store.count(resource) == sum(key.resource == resource for key in model.state)


async def check_watch(store: Store, model: Model) -> None:
    for resource in ("pods", "jobs.batch"):
        expected = [item for item in model.log if item[1].resource == resource]
        if expected:
            events = await store.watch(resource, 0).next()
            assert [(event.type, event.record.key, event.version) for event in events] == expected


async def play(steps: list[tuple[str, Key, str]], path: Path | None) -> None:
    clock = ManualClock()

    def opened() -> Store:
        return MemoryStore(clock) if path is None else DurableStore(path, clock)

    store, model = opened(), Model()
    futures: list[asyncio.Future[Any]] = []
    for number, (step, key, which) in enumerate(steps):
        if step in ("put", "remove"):
            expected = model.expected(key, which)
            value = number if step == "put" else None
            accepted = model.write(key, expected, value)
            try:
                futures.append(store.write(key, expected, None if value is None else obj(key, n=value)))
                assert accepted
            except StaleVersion as stale:
                assert not accepted
                assert (stale.current.version if stale.current else None) == (model.state.get(key) or (None,))[0]
            newest = store.newest(key)
            assert (newest.version if newest else None) == (model.state.get(key) or (None,))[0]
            continue
        await asyncio.gather(*futures)
        check(store, model)
        if step == "reopen" and path is not None:
            await store.close()
            store = opened()
            check(store, model)
    await asyncio.gather(*futures)
    check(store, model)
    await check_watch(store, model)
    await store.close()


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_memory_store_is_its_model(steps: list[tuple[str, Key, str]]) -> None:
    asyncio.run(play(steps, None))


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_the_durable_store_is_its_model(steps: list[tuple[str, Key, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(steps, Path(folder) / "log"))

"""Many creates of one call: what an object comes to is what it comes to by itself, and nothing stands for another."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import AlreadyExists, ServerError
from atoll.client.port import create_all
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.verbs.together import Together
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import EVENTS, NAMESPACES, PODS, SERVICE_ACCOUNTS
from atoll.kinds.resource import Resource

Object = dict[str, Any]
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")


def _pod(name: str = "") -> Object:
    metadata = {"name": name} if name else {"generateName": "web-"}
    return {"metadata": metadata | {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def _event(number: int) -> Object:
    about = {"kind": "Pod", "apiVersion": "v1", "name": f"p{number}", "namespace": "d", "uid": f"u{number}"}
    metadata = {"name": f"p{number}.17", "namespace": "d"}
    return {"metadata": metadata, "involvedObject": about, "reason": "Tried", "message": f"p{number} was tried"}


async def _world() -> LocalClient:
    clock = ManualClock()
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    await bootstrap(assembly)
    client = assembly.client()
    await client.create(NAMESPACES, {"metadata": {"name": "d"}})
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "d")
    return client


def _shape(obj: Object) -> bytes:
    """But for what is drawn for each."""
    kept = {name: value for name, value in obj["metadata"].items() if name not in ("name", "uid", "resourceVersion")}
    text = orjson.dumps({**obj, "metadata": kept})
    volume = obj["spec"]["volumes"][0]["name"] if "spec" in obj else obj["metadata"]["name"].partition(".")[0]
    return text.replace(volume.encode(), b"*").replace(b"u" + volume[1:].encode(), b"*")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry an object: whether its write was begun at once."""
    found: list[bool] = []
    whole = Together.create

    def begin(self: Together, namespace: str, obj: Object) -> Any:
        one = whole(self, namespace, obj)
        found.append(one is not None)
        return one

    monkeypatch.setattr(Together, "create", begin)
    return found


def test_pods_and_events(begun: list[bool]) -> None:
    async def main() -> None:
        client = await _world()
        alone = [await client.create(PODS, _pod(), "d") for _ in range(3)]
        template = _pod()
        names = await create_all(client, PODS, [template] * 20, "d")
        assert all(begun) and len(set(names)) == len(begun) == 20
        made = [await client.get(PODS, str(name), "d") for name in names]
        assert {_shape(pod) for pod in made} == {_shape(alone[-1])}
        assert len({pod["metadata"]["uid"] for pod in made}) == 20
        begun.clear()
        for number in range(3):
            alone.append(await client.create(EVENTS, _event(number), "d"))
        assert await create_all(client, EVENTS, [_event(number) for number in range(3, 9)]) == [
            f"p{number}.17" for number in range(3, 9)
        ]
        assert all(begun)
        events = [await client.get(EVENTS, f"p{number}.17", "d") for number in range(3, 9)]
        assert {_shape(event) for event in events} == {_shape(alone[-1])}

    asyncio.run(main())


def test_one_name_twice(begun: list[bool]) -> None:
    async def main() -> None:
        client = await _world()
        for number in range(3):
            await client.create(PODS, _pod(f"p{number}"), "d")
            await client.create(EVENTS, _event(number), "d")
        made = await create_all(client, PODS, [_pod("a"), _pod("a"), _pod("p0"), _pod("b")], "d")
        assert [one if isinstance(one, str) else type(one) for one in made] == ["a", AlreadyExists, AlreadyExists, "b"]
        told = await create_all(client, EVENTS, [_event(7), _event(7), _event(0)])
        assert [one if isinstance(one, str) else type(one) for one in told] == ["p7.17", AlreadyExists, AlreadyExists]
        assert begun == [
            True,
            False,
            False,
            True,
            False,
            True,
            False,
            False,
            False,
        ]  # all but the first are tried again

    asyncio.run(main())


def test_what_admission_reads_has_changed(begun: list[bool]) -> None:
    async def main() -> None:
        client = await _world()
        for _ in range(3):
            await client.create(PODS, _pod(), "d")
        least = {"limits": [{"type": "Container", "min": {"cpu": "1"}}]}
        await client.create(LIMIT_RANGES, {"metadata": {"name": "l"}, "spec": least}, "d")
        made = await create_all(client, PODS, [_pod()] * 3, "d")
        pods = [await client.get(PODS, str(name), "d") for name in made]
        assert [pod["spec"]["containers"][0]["resources"]["requests"] for pod in pods] == [{"cpu": "1"}] * 3
        assert not any(begun)

    asyncio.run(main())


def test_the_store_is_closed() -> None:
    async def main() -> None:
        client = await _world()
        for _ in range(3):
            await client.create(PODS, _pod(), "d")
        await client._api.store.close()
        assert [type(one) for one in await create_all(client, PODS, [_pod()] * 3, "d")] == [ServerError] * 3

    asyncio.run(main())

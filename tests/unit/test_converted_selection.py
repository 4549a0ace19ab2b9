"""A selector on a custom resource that a webhook converts is compared with the version that is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from atoll.base.errors import ApiError
from atoll.client.port import Client, Object, WatchEvent
from atoll.cluster.apiserver.api import Hooks
from atoll.cluster.apiserver.ports import HookTarget
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster

GROUP = "berths.example.org"
V1 = Resource(GROUP, "v1", "berths", "Berth", False)
V2 = Resource(GROUP, "v2", "berths", "Berth", False)


class Splitter:
    """v1 has `place` ("north:7"), v2 `quay` and `number`. While `broken` it answers nothing that can be used."""

    def __init__(self) -> None:
        self.broken = False

    async def post(self, target: HookTarget, body: bytes, timeout_seconds: float) -> tuple[int, str, bytes]:
        review = orjson.loads(body)
        request = review["request"]
        if self.broken:
            return 500, "text/plain", b"broken"
        converted = [self._converted(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        return 200, "application/json", orjson.dumps(answer)

    @staticmethod
    def _converted(obj: Object, wanted: str) -> Object:
        out = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v2") and "place" in out:
            out["quay"], _, out["number"] = out.pop("place").partition(":")
        elif wanted.endswith("/v1") and "quay" in out:
            out["place"] = f"{out.pop('quay')}:{out.pop('number')}"
        return out


def definition() -> Object:
    def version(name: str, *fields: str) -> Object:
        schema = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
        selectable = [{"jsonPath": f".{field}"} for field in fields]
        return {
            "name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema},
            "selectableFields": selectable,
        }  # fmt: skip

    webhook = {"clientConfig": {"url": "https://splitter.example.org"}, "conversionReviewVersions": ["v1"]}
    return {
        "metadata": {"name": f"berths.{GROUP}"},
        "spec": {
            "group": GROUP, "scope": "Cluster", "names": {"plural": "berths", "kind": "Berth"},
            "versions": [version("v1", "place"), version("v2", "quay", "number")],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    }  # fmt: skip


def berth(name: str, quay: str, number: str) -> Object:
    metadata = {"name": name}
    return {"apiVersion": f"{GROUP}/v2", "kind": "Berth", "metadata": metadata, "quay": quay, "number": number}


async def harbour() -> tuple[Client, Splitter]:
    splitter = Splitter()
    clock = LoopClock(asyncio.get_running_loop())
    client = (await new_cluster(clock=clock, hooks=Hooks(hook_caller=splitter))).client
    await client.create(CUSTOM_RESOURCE_DEFINITIONS, definition())
    await asyncio.sleep(1)
    return client, splitter


async def names(client: Client, resource: Resource, selector: str) -> list[str]:
    return [item["metadata"]["name"] for item in (await client.list(resource, field_selector=selector)).items]


def test_a_watch_sees_what_enters_and_leaves_in_the_version_it_asks_for() -> None:
    async def main() -> None:
        client, _ = await harbour()
        version = (await client.list(V2)).resource_version
        seen: dict[str, list[tuple[str, str, str]]] = {"quay=north": [], "place=north:1": []}

        def told(event: WatchEvent) -> tuple[str, str, str]:
            obj: Any = event.object
            return event.type, obj["metadata"]["name"], obj.get("place") or f"{obj['quay']}/{obj['number']}"

        async def follow(resource: Resource, selector: str) -> None:
            async for event in client.watch(resource, resource_version=version, field_selector=selector):
                if event.type != "BOOKMARK":
                    seen[selector].append(told(event))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follow(V2, "quay=north")), group.create_task(follow(V1, "place=north:1"))]
            await client.create(V2, berth("a", "north", "1"))
            await client.create(V2, berth("b", "south", "1"))
            moved = await client.get(V2, "b")
            await client.update(V2, {**moved, "quay": "north"})
            changed = await client.get(V2, "a")
            await client.update(V2, {**changed, "number": "2"})
            changed = await client.get(V2, "a")
            await client.update(V2, {**changed, "quay": "south"})
            await client.delete(V2, "b")
            await asyncio.sleep(1)
            for task in tasks:
                task.cancel()
        assert seen["quay=north"] == [
            ("ADDED", "a", "north/1"),
            ("ADDED", "b", "north/1"),
            ("MODIFIED", "a", "north/2"),
            ("DELETED", "a", "north/2"),
            ("DELETED", "b", "north/1"),
        ]
        assert seen["place=north:1"] == [
            ("ADDED", "a", "north:1"),
            ("ADDED", "b", "north:1"),
            ("DELETED", "a", "north:1"),
            ("DELETED", "b", "north:1"),
        ]

    run_virtual(main())


def test_a_list_is_by_the_fields_of_the_version_that_is_asked() -> None:
    async def main() -> None:
        client, _ = await harbour()
        for name, quay, number in (("a", "north", "1"), ("b", "north", "2"), ("c", "south", "1")):
            await client.create(V2, berth(name, quay, number))
        assert await names(client, V2, "quay=north,number!=1") == ["b"]
        assert await names(client, V1, "place=south:1") == ["c"]
        with pytest.raises(ApiError, match="field label not supported: quay"):
            await names(client, V1, "quay=north")

    run_virtual(main())


def test_a_selection_asks_the_webhook_only_where_it_looks_beyond_the_name() -> None:
    async def main() -> None:
        client, splitter = await harbour()
        await client.create(V2, berth("a", "north", "1"))
        crd = await client.get(CUSTOM_RESOURCE_DEFINITIONS, f"berths.{GROUP}")
        labels = {"a": "b"}
        await client.update(CUSTOM_RESOURCE_DEFINITIONS, {**crd, "metadata": {**crd["metadata"], "labels": labels}})
        await asyncio.sleep(1)
        splitter.broken = True
        assert await names(client, V2, "metadata.name=other") == []
        with pytest.raises(ApiError, match="conversion webhook for berths"):
            await names(client, V2, "quay=south")

    run_virtual(main())

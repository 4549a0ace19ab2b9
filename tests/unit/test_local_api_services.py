"""APIServices that the API server keeps of itself: what is done when, and what a start puts right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from atoll.client.port import Client, Object
from atoll.cluster.apiserver.aggregation import automanaged
from atoll.cluster.apiserver.aggregation.automanaged import AUTOMANAGED, Step, plan
from atoll.cluster.apiserver.aggregation.autoregister import Autoregister
from atoll.cluster.apiserver.api import Api
from atoll.kinds.builtin import API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster

BATCH = automanaged.built_in([("batch", "v1")])["v1.batch"]
CRD = {
    "metadata": {"name": "boats.kept.example.com"},
    "spec": {
        "group": "kept.example.com",
        "scope": "Cluster",
        "names": {"plural": "boats", "kind": "Boat"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}
CUSTOM = automanaged.custom(CRD)["v1.kept.example.com"]


def managed(api_service: Object, by: str, **spec: int) -> Object:
    labels = {AUTOMANAGED: by} if by else {}
    return {**api_service, "metadata": {**api_service["metadata"], "labels": labels},
            "spec": {**api_service["spec"], **spec}}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "current", "was_there", "synced", "step"),
    [
        (None, None, False, False, Step.NOTHING),
        (BATCH, None, False, False, Step.CREATE),
        (BATCH, None, True, True, Step.NOTHING),
        (CUSTOM, None, True, True, Step.CREATE),
        (BATCH, managed(BATCH, "", versionPriority=1), True, False, Step.NOTHING),
        (CUSTOM, managed(CUSTOM, "", versionPriority=1), True, False, Step.NOTHING),
        (BATCH, managed(BATCH, "onstart", versionPriority=1), True, False, Step.UPDATE),
        (BATCH, managed(BATCH, "onstart", versionPriority=1), False, False, Step.NOTHING),
        (BATCH, managed(BATCH, "onstart", versionPriority=1), True, True, Step.NOTHING),
        (BATCH, managed(BATCH, "true", versionPriority=1), True, True, Step.NOTHING),
        (None, managed(BATCH, "onstart"), True, False, Step.DELETE),
        (None, managed(BATCH, "onstart"), True, True, Step.NOTHING),
        (None, managed(BATCH, "onstart"), False, False, Step.NOTHING),
        (None, managed(CUSTOM, "true"), False, True, Step.DELETE),
        (CUSTOM, managed(CUSTOM, "true", versionPriority=1), False, True, Step.UPDATE),
        (CUSTOM, CUSTOM, True, True, Step.NOTHING),
    ],
)
def test_what_is_done_is_upstreams_table(
    wanted: Object | None, current: Object | None, was_there: bool, synced: bool, step: Step
) -> None:
    name = ((wanted or current) or BATCH)["metadata"]["name"]
    assert plan(wanted, current, at_start={name} if was_there else (), synced=synced) is step


@asynccontextmanager
async def server(api: Api) -> AsyncIterator[None]:
    """The API server's part, from a start to a stop."""
    autoregister = Autoregister(api)
    task = asyncio.create_task(autoregister.run())
    assert not autoregister.complete()
    await asyncio.sleep(1)
    assert autoregister.complete()
    yield
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def names(client: Client, selector: str = "") -> set[str]:
    return {item["metadata"]["name"] for item in (await client.list(API_SERVICES, label_selector=selector)).items}


def test_a_start_puts_right_what_was_changed_between_two_and_removes_what_is_served_no_more() -> None:
    async def main() -> None:
        cluster = await new_cluster(clock=LoopClock(asyncio.get_running_loop()))
        client = cluster.client
        async with server(cluster.api):
            built_in = await names(client, f"{AUTOMANAGED}=onstart")
            assert {"v1.", "v1.apps", "v2.autoscaling"} <= built_in
            assert "v1.apiregistration.k8s.io" not in built_in
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, CRD)
            await asyncio.sleep(1)
            assert await names(client, f"{AUTOMANAGED}=true") == {"v1.kept.example.com"}
            await client.delete(API_SERVICES, "v1.policy")
            await client.patch(API_SERVICES, "v1.batch", {"spec": {"versionPriority": 3}})
        old = managed(BATCH, "onstart")
        old = {
            **old,
            "metadata": {**old["metadata"], "name": "v1beta1.batch"},
            "spec": {**old["spec"], "version": "v1beta1"},
        }
        await client.create(API_SERVICES, old)
        await client.delete(CUSTOM_RESOURCE_DEFINITIONS, "boats.kept.example.com")
        async with server(cluster.api):
            assert await names(client) == built_in
            assert (await client.get(API_SERVICES, "v1.batch"))["spec"] == BATCH["spec"]

    run_virtual(main())

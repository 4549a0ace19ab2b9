"""Kueue's check of capacity that is provisioned, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from multikueue_world import check, condition
from queueing_world import QueueingWorld, job, queueing_world

from atoll.capacity.queueing.provisioning import PROVISIONING_REQUESTS
from atoll.kinds import kueue
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, JOBS, POD_TEMPLATES
from atoll.runtime.virtual import run_virtual


async def provisioning(world: QueueingWorld, **spec: Any) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
               "subresources": {"status": {}}}  # fmt: skip
    names = {"plural": "provisioningrequests", "kind": "ProvisioningRequest"}
    spec_ = {"group": "autoscaling.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
           "metadata": {"name": "provisioningrequests.autoscaling.x-k8s.io"},
           "spec": spec_}  # fmt: skip
    await world.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    config = {"provisioningClassName": "queued", "managedResources": ["cpu"], **spec}
    controller = "kueue.x-k8s.io/provisioning-request"
    await check(world, controller, "ProvisioningRequestConfig", kueue.PROVISIONING_CONFIGS, config)
    await asyncio.sleep(2)


async def asked(world: QueueingWorld) -> list[Any]:
    return (await world.client.list(PROVISIONING_REQUESTS)).items


async def answer(world: QueueingWorld, request: Any, kind: str, **status: Any) -> None:
    said = [{"type": kind, "status": "True", "reason": kind, "message": f"it is {kind}"}]
    name = request["metadata"]["name"]
    new = {**await world.client.get(PROVISIONING_REQUESTS, name, "default"), "status": {"conditions": said, **status}}
    await world.client.update(PROVISIONING_REQUESTS, new, subresource="status")
    await asyncio.sleep(8)


def play(main: Callable[[QueueingWorld], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


def test_capacity_that_is_there_lets_the_job_start_on_it() -> None:
    async def main(world: QueueingWorld) -> None:
        selector = [{"key": "pool", "valueFromProvisioningClassDetail": "poolName"}]
        await provisioning(world, parameters={"zone": "a"}, podSetUpdates={"nodeSelector": selector})
        train = job("train", "q", 1, 3, 60)
        train["metadata"]["annotations"] = {"provreq.kueue.x-k8s.io/maxRunDurationSeconds": "600", "other": "x"}
        await world.apply(train)
        await asyncio.sleep(8)
        assert await world.holding("QuotaReserved") == ["train"] and await world.holding("Admitted") == []
        (request,) = await asked(world)
        assert request["spec"]["parameters"] == {"zone": "a", "maxRunDurationSeconds": "600"}
        assert request["spec"]["podSets"][0]["count"] == 3
        name = request["spec"]["podSets"][0]["podTemplateRef"]["name"]
        template = await world.client.get(POD_TEMPLATES, name, "default")
        assert template["template"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1"}
        await answer(world, request, "Provisioned", provisioningClassDetails={"poolName": "fresh"})
        assert await world.holding("Admitted") == ["train"]
        started = (await world.client.get(JOBS, "train", "default"))["spec"]["template"]
        assert started["spec"]["nodeSelector"]["pool"] == "fresh"
        notes = started["metadata"]["annotations"]
        assert notes["autoscaling.x-k8s.io/consume-provisioning-request"] == request["metadata"]["name"]
        await answer(world, request, "CapacityRevoked")
        await asyncio.sleep(10)
        assert (await world.workloads())["train"]["spec"]["active"] is False
        assert (await world.client.get(JOBS, "train", "default"))["spec"]["suspend"] is True

    play(main)


def test_a_failed_request_is_tried_again_later_and_given_up_in_the_end() -> None:
    async def main(world: QueueingWorld) -> None:
        await provisioning(world, retryStrategy={"backoffLimitCount": 1, "backoffBaseSeconds": 30})
        await world.apply(job("train", "q"))
        await asyncio.sleep(8)
        (first,) = await asked(world)
        await answer(world, first, "Failed")
        assert await world.holding("QuotaReserved") == [], "its quota is free while it waits"
        assert condition((await world.workloads())["train"], "Evicted")["reason"] == "AdmissionCheck"
        assert len(await asked(world)) == 1
        await asyncio.sleep(40)
        second = next(it for it in await asked(world) if it["metadata"]["name"] != first["metadata"]["name"])
        assert second["metadata"]["name"].endswith("-check-2")
        await answer(world, second, "Failed")
        await asyncio.sleep(5)
        assert (await world.workloads())["train"]["spec"]["active"] is False

    play(main)


def test_what_is_not_managed_needs_no_request() -> None:
    async def main(world: QueueingWorld) -> None:
        await provisioning(world, managedResources=["nvidia.com/gpu"])
        await world.apply(job("train", "q"))
        await asyncio.sleep(8)
        assert await world.holding("Admitted") == ["train"] and await asked(world) == []

    play(main)

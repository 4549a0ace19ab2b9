"""Devices that a driver must make ready first (KEP-5007), and what it says of them in the claim's status."""

from __future__ import annotations

import asyncio

from test_device_claims import claims, devices, exactly, gpu, spec_of, template

from atoll.kinds.builtin import RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.runtime.virtual import run_virtual

WAITS = {"bindingConditions": ["dra/ready"], "bindingFailureConditions": ["dra/broken"]}
USE = {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "one"}]}
NOW = "2026-01-01T00:00:00Z"


async def allocated(world):
    """The pod's claim, once it has a device."""

    async def holds():
        return next((found for found in (await claims(world)).values() if found["status"].get("allocation")), None)

    return await world.until(holds)


async def tell(world, claim, kind, **more):
    """As a driver: a condition of the claim's device."""
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    where = {field: result[field] for field in ("driver", "pool", "device")}
    condition = {"type": kind, "status": "True", "reason": "Told", "message": "", "lastTransitionTime": NOW}
    told = {**where, "conditions": [condition], **more}
    status = {**claim["status"], "devices": [told]}
    return await world.client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")


async def unready(world):
    """All devices wait for their driver."""
    for found in (await world.client.list(RESOURCE_SLICES)).items:
        changed = {**found, "spec": {**found["spec"], "devices": [gpu("gpu-0", **WAITS)]}}
        await world.client.update(RESOURCE_SLICES, changed)


def test_a_pod_is_bound_once_its_device_is_ready():
    async def main():
        async with devices(nodes=1, gpus=1) as world:
            await unready(world)
            await template(world, spec_of(exactly()))
            await world.pod("p", spec=USE)
            claim = await allocated(world)
            (result,) = claim["status"]["allocation"]["devices"]["results"]
            assert result["bindingConditions"] == ["dra/ready"] and claim["status"]["allocation"]["allocationTimestamp"]
            await asyncio.sleep(60)
            assert "nodeName" not in (await world.get("p"))["spec"], "it waits for the driver"
            data = {"networkData": {"interfaceName": "ib0", "ips": ["10.0.0.1/24"]}, "data": {"slot": 3}}
            told = await tell(world, claim, "dra/ready", **data)
            await world.phase("p", "Running")
            assert told["status"]["devices"][0]["networkData"]["ips"] == ["10.0.0.1/24"]

    run_virtual(main())


def test_a_device_that_can_not_be_made_ready_is_left_for_another():
    async def main():
        async with devices(nodes=2, gpus=1) as world:
            await unready(world)
            await template(world, spec_of(exactly()))
            await world.pod("p", spec=USE)
            first = await allocated(world)
            await tell(world, first, "dra/broken")

            async def freed():
                found = (await claims(world))[first["metadata"]["name"]]
                return found if found["status"].get("allocation", {}) != first["status"]["allocation"] else None

            await world.until(freed)
            again = await allocated(world)
            assert not again["status"].get("devices"), "what was said of the other device is gone with it"
            await tell(world, again, "dra/ready")
            await world.phase("p", "Running")

    run_virtual(main())


def test_a_driver_that_never_answers_costs_ten_minutes_and_no_device():
    async def main():
        async with devices(nodes=1, gpus=1) as world:
            await unready(world)
            await template(world, spec_of(exactly()))
            await world.pod("p", spec=USE)
            first = await allocated(world)
            since = first["status"]["allocation"]["allocationTimestamp"]
            await asyncio.sleep(640)
            second = await allocated(world)
            assert second["status"]["allocation"]["allocationTimestamp"] > since, "it was given back, and tried again"
            await tell(world, second, "dra/ready")
            await world.phase("p", "Running")

    run_virtual(main())

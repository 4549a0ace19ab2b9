"""Dynamic Resource Allocation as a whole in virtual time: templates, claims, allocation, reservation, release."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from scheduling_world import world

from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.workloads.devicetaints.controller import DeviceTaintEviction
from atoll.cluster.workloads.resourceclaims.controller import ResourceClaimController
from atoll.kinds.builtin import (
    DEVICE_CLASSES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from atoll.runtime.virtual import run_virtual

DRIVER = "gpu.nvidia.com"
BIG = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('100Gi')) >= 0"


def gpu(name, model="H200", memory="141Gi", **fields):
    attributes = {"model": {"string": model}, "driverVersion": {"version": "570.1.0"}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}, **fields}


def slice_of(node, devices, **fields):
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "pool": pool, "nodeName": node, "devices": devices, **fields}
    return {"metadata": {"name": f"{node}-gpus"}, "spec": spec}


def spec_of(*requests, **fields):
    return {"devices": {"requests": list(requests), **fields}}


def exactly(name="gpu", **fields):
    return {"name": name, "exactly": {"deviceClassName": "gpu", **fields}}


def controllers(context):
    return [ResourceClaimController(context), DeviceTaintEviction(context)]


@asynccontextmanager
async def devices(nodes=2, gpus=2, extended=None, previews=False):
    group = SimulatedGroup(nodes, "n", cpu="8")
    async with world(group, more=controllers, previews=previews) as found:
        spec = {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]}
        if extended:
            spec["extendedResourceName"] = extended
        await found.client.create(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": spec})
        for number in range(nodes):
            listed = [gpu(f"gpu-{index}") for index in range(gpus)]
            await found.client.create(RESOURCE_SLICES, slice_of(f"n-{number}", listed))
        yield found


async def template(world, spec, name="one"):
    obj = {"metadata": {"name": name}, "spec": {"spec": spec}}
    await world.client.create(RESOURCE_CLAIM_TEMPLATES, obj, "default")


async def claims(world):
    return {item["metadata"]["name"]: item for item in (await world.client.list(RESOURCE_CLAIMS, "default")).items}


def given(claim):
    results = claim["status"]["allocation"]["devices"]["results"]
    return [(item["pool"], item["device"]) for item in results]


async def freed(world, name):
    """A claim without allocation and finalizer (what deletes it is the garbage collector)."""
    found = (await claims(world))[name]
    return "allocation" not in found["status"] and not found["metadata"].get("finalizers")


def with_template(name="one"):
    return {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": name}]}


def test_a_device_goes_from_pod_to_pod():
    async def scenario():
        async with devices() as world:
            await template(world, spec_of(exactly()))
            for number in range(4):
                await world.pod(f"p{number}", spec=with_template())
                await world.phase(f"p{number}", "Running")
            await world.pod("p4", spec=with_template())
            message = await world.why_not("p4", "allocate")
            assert message == (
                "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, "
                "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
            )
            found = await claims(world)
            assert len(found) == 5
            taken = [device for claim in found.values() if "allocation" in claim["status"] for device in given(claim)]
            assert len(taken) == len(set(taken)) == 4
            first = await world.get("p0")
            (own,) = first["status"]["resourceClaimStatuses"]
            claim = found[own["resourceClaimName"]]
            assert own["resourceClaimName"].startswith("p0-gpu-")
            assert claim["status"]["reservedFor"] == [
                {"resource": "pods", "name": "p0", "uid": first["metadata"]["uid"]}
            ]
            assert claim["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
            assert given(claim)[0][0] == first["spec"]["nodeName"]
            await world.client.delete(PODS, "p0", "default")
            await world.phase("p4", "Running")
            await world.until(lambda: freed(world, own["resourceClaimName"]))

    run_virtual(scenario())


def test_a_finished_pod_frees_its_devices():
    async def scenario():
        async with devices(nodes=1, gpus=1) as world:
            await template(world, spec_of(exactly()))
            await world.pod("short", spec={**with_template(), "restartPolicy": "Never"})
            await world.phase("short", "Running")
            await world.pod("next", spec=with_template())
            await world.why_not("next", "cannot allocate all claims")
            done = {"status": {"phase": "Succeeded"}}
            await world.client.patch(PODS, "short", done, "default", subresource="status")
            await world.phase("next", "Running")
            assert [name for name in await claims(world) if name.startswith("short")] == []

    run_virtual(scenario())


def test_pods_share_a_claim_and_the_last_one_frees_it():
    async def scenario():
        async with devices() as world:
            spec = spec_of(exactly(selectors=[{"cel": {"expression": BIG}}]))
            await world.client.create(RESOURCE_CLAIMS, {"metadata": {"name": "both"}, "spec": spec}, "default")
            uses = {"resourceClaims": [{"name": "gpu", "resourceClaimName": "both"}]}
            await world.pod("a", spec=uses)
            await world.phase("a", "Running")
            await world.pod("b", spec=uses)
            await world.phase("b", "Running")
            claim = (await claims(world))["both"]
            assert {user["name"] for user in claim["status"]["reservedFor"]} == {"a", "b"}
            assert (await world.get("a"))["spec"]["nodeName"] == (await world.get("b"))["spec"]["nodeName"]
            await world.client.delete(PODS, "a", "default")

            async def one_left():
                return len((await claims(world))["both"]["status"].get("reservedFor") or ()) == 1

            await world.until(one_left)
            assert "allocation" in (await claims(world))["both"]["status"]
            await world.client.delete(PODS, "b", "default")

            await world.until(lambda: freed(world, "both"))

    run_virtual(scenario())


def test_a_pod_waits_for_its_claim_its_class_and_its_devices():
    async def scenario():
        async with devices(nodes=1, gpus=0) as world:
            await world.pod("p", spec={"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]})
            spec = spec_of({"name": "gpu", "exactly": {"deviceClassName": "late"}})
            await world.client.create(RESOURCE_CLAIMS, {"metadata": {"name": "mine"}, "spec": spec}, "default")
            await world.why_not("p", "device class late does not exist")
            await world.client.create(DEVICE_CLASSES, {"metadata": {"name": "late"}, "spec": {}})
            await world.why_not("p", "cannot allocate all claims")
            found = await world.client.get(RESOURCE_SLICES, "n-0-gpus")
            await world.client.update(RESOURCE_SLICES, {**found, "spec": {**found["spec"], "devices": [gpu("gpu-0")]}})
            await world.phase("p", "Running")

    run_virtual(scenario())


def test_an_expression_that_fails_is_told_and_the_pod_runs_once_it_is_mended():
    async def scenario():
        async with devices(nodes=1) as world:
            bad = {"selectors": [{"cel": {"expression": "device.attributes['gpu.nvidia.com'].absent == 1"}}]}
            await world.client.create(DEVICE_CLASSES, {"metadata": {"name": "bad"}, "spec": bad})
            await template(world, spec_of({"name": "gpu", "exactly": {"deviceClassName": "bad"}}))
            await world.pod("p", spec=with_template())
            message = await world.why_not("p", "CEL")
            assert message.endswith("class bad: selector #0: CEL runtime error: no such key: absent")
            found = await world.client.get(DEVICE_CLASSES, "bad")
            await world.client.update(DEVICE_CLASSES, {**found, "spec": {}})
            await world.phase("p", "Running")

    run_virtual(scenario())


def test_extended_resources_are_had_from_devices():
    async def scenario():
        async with devices(nodes=1, gpus=2, extended="nvidia.com/gpu") as world:
            asks = {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}
            await world.pod("p", spec={"containers": [{"name": "c", "image": "i", "resources": asks}]})
            pod = await world.phase("p", "Running")
            (claim,) = (await claims(world)).values()
            told = pod["status"]["extendedResourceClaimStatus"]
            assert told["resourceClaimName"] == claim["metadata"]["name"]
            assert told["requestMappings"] == [
                {"containerName": "c", "resourceName": "nvidia.com/gpu", "requestName": "container-0-request-0"}
            ]
            assert len(given(claim)) == 2
            await world.pod("q", spec={"containers": [{"name": "c", "image": "i", "resources": asks}]})
            await world.why_not("q", "cannot allocate all claims")
            await world.client.delete(PODS, "p", "default")
            await world.phase("q", "Running")
            await world.until(lambda: freed(world, claim["metadata"]["name"]))

    run_virtual(scenario())


def test_a_pod_that_names_its_node_starts_only_with_its_claims():
    """Nobody schedules it: the claim is allocated by hand, the controller reserves it, the node starts the pod."""

    async def scenario():
        async with devices(nodes=1, gpus=1) as world:
            await world.client.create(
                RESOURCE_CLAIMS, {"metadata": {"name": "mine"}, "spec": spec_of(exactly())}, "default"
            )
            uses = {"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}], "nodeName": "n-0"}
            await world.pod("p", spec=uses)
            await asyncio.sleep(30)
            assert (await world.get("p"))["status"]["phase"] == "Pending"
            result = {"request": "gpu", "driver": DRIVER, "pool": "n-0", "device": "gpu-0"}
            patch = {"status": {"allocation": {"devices": {"results": [result]}}}}
            await world.client.patch(RESOURCE_CLAIMS, "mine", patch, "default", subresource="status")
            await world.phase("p", "Running")
            assert [user["name"] for user in (await claims(world))["mine"]["status"]["reservedFor"]] == ["p"]

    run_virtual(scenario())


def test_a_device_that_falls_ill_drives_its_users_away():
    """The one that tolerates it for a minute stays a minute; the next pod gets another device."""

    async def scenario():
        async with devices(nodes=1, gpus=2) as world:
            patient = [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
            await template(world, spec_of(exactly()))
            await template(world, spec_of(exactly(tolerations=patient)), "patient")
            await world.pod("leaves", spec=with_template())
            await world.phase("leaves", "Running")
            await world.pod("stays", spec=with_template("patient"))
            await world.phase("stays", "Running")
            found = await world.client.get(RESOURCE_SLICES, "n-0-gpus")
            sick = {"key": "xid", "value": "79", "effect": "NoExecute"}
            listed = [{**item, "taints": [sick]} for item in found["spec"]["devices"]]
            await world.client.update(RESOURCE_SLICES, {**found, "spec": {**found["spec"], "devices": listed}})
            tainted = world.clock.monotonic()

            async def names():
                return {item["metadata"]["name"] for item in (await world.client.list(PODS, "default")).items}

            async def one_left():
                return await names() == {"stays"}

            async def none_left():
                return not await names()

            await world.until(one_left)
            assert world.clock.monotonic() - tainted < 5
            await world.until(none_left)
            assert 59 <= world.clock.monotonic() - tainted < 65  # the time of a taint has whole seconds
            (event,) = [
                item for item in await world.events("DeviceTaintManagerEviction") if "leaves" in item["message"]
            ]
            assert event["message"] == "Marking for deletion Pod default/leaves"
            await world.pod("next", spec=with_template())
            await world.why_not("next", "cannot allocate all claims")

    run_virtual(scenario())

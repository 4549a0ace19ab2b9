"""Pods with ResourceClaims on nodes that are still to come: the pool whose nodes will have the devices is the one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from health_world import HealthWorld, health_world

from atoll.app.gpus import run_gpu_agents
from atoll.capacity import names
from atoll.cluster.gpus.inventory import Inventory
from atoll.kinds.builtin import DEVICE_CLASSES, NODES, PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.objects.meta import labels
from atoll.runtime.virtual import run_virtual

L4 = "{name: l4, max: 9, node: {cpu: 96, memory: 1Ti, gpu: L4, gpus: 4}, pricePerHour: 8}"
H100 = "{name: h100, max: 9, node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8}, pricePerHour: 98}"
BIG = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('{}')) >= 0"
GPU_CLASS = {
    "metadata": {"name": "gpu.nvidia.com"},
    "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}]},
}
Main = Callable[[HealthWorld], Awaitable[None]]


def play(main: Main, *, agents: bool = True, seed: int = 1) -> None:
    async def whole() -> None:
        async with health_world(parts=("autoscale",), seed=seed) as world:
            own: list[asyncio.Task[None]] = []
            if agents:
                work = run_gpu_agents(world.assembly, world.informers, Inventory(world.informers))
                own.append(asyncio.create_task(work))
            await asyncio.sleep(2)  # the default service account
            await world.client.create(DEVICE_CLASSES, GPU_CLASS)
            try:
                await main(world)
            finally:
                for task in own:
                    task.cancel()

    run_virtual(whole())


async def template(world: HealthWorld, name: str, memory: str, count: int = 1) -> None:
    exactly = {
        "deviceClassName": "gpu.nvidia.com", "count": count,
        "selectors": [{"cel": {"expression": BIG.format(memory)}}],
    }  # fmt: skip
    spec = {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}
    await world.client.create(RESOURCE_CLAIM_TEMPLATES, {"metadata": {"name": name}, "spec": spec}, "default")


async def pod(world: HealthWorld, name: str, claim: str, *, shared: bool = False) -> None:
    field = "resourceClaimName" if shared else "resourceClaimTemplateName"
    container = {"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}
    spec = {"containers": [container], "resourceClaims": [{"name": "gpu", field: claim}]}
    await world.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")


async def pools(world: HealthWorld) -> Counter[str]:
    nodes = (await world.client.list(NODES)).items
    return Counter(labels(it)[names.POOL_LABEL] for it in nodes if names.MACHINE in labels(it))


def test_the_cheapest_pool_whose_nodes_will_have_the_devices_grows() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{L4}, {H100}]")
        await template(world, "large", "70Gi")
        await template(world, "small", "20Gi")
        await pod(world, "big", "large")
        await pod(world, "little", "small")
        for name in ("big", "little"):
            await world.running_within(name, 900)
        assert await pools(world) == {"h100": 1}, "the little one has a GPU of the large node"
        await asyncio.sleep(300)
        assert await pools(world) == {"h100": 1}

    play(main)


def test_a_gang_with_claims_gets_as_many_nodes_as_its_devices_fill() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{H100}]")
        await template(world, "half", "70Gi", 4)
        for number in range(5):
            await pod(world, f"p{number}", "half")
        for number in range(5):
            await world.running_within(f"p{number}", 900)
        assert await pools(world) == {"h100": 3}
        for number in range(5):
            await world.client.delete(PODS, f"p{number}", "default")
        await world.until(lambda: gone(world), 3600)

    play(main)


async def gone(world: HealthWorld) -> bool:
    return not await pools(world)


def test_pods_that_share_a_claim_come_to_one_node() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{H100}]")
        request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 8}}
        body = {"metadata": {"name": "all"}, "spec": {"devices": {"requests": [request]}}}
        await world.client.create(RESOURCE_CLAIMS, body, "default")
        for number in range(3):
            await pod(world, f"p{number}", "all", shared=True)
        for number in range(3):
            await world.running_within(f"p{number}", 900)
        assert await pools(world) == {"h100": 1}

    play(main)


def test_devices_that_no_pool_has_make_no_node_and_are_told() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{L4}, {H100}]")
        await template(world, "huge", "200Gi")
        await template(world, "many", "20Gi", 16)
        await pod(world, "a", "huge")
        await pod(world, "b", "many")
        await asyncio.sleep(1200)
        assert not await pools(world)
        told = {it["message"] for it in await world.events("NotTriggeredScaleUp")}
        assert any("would not have the devices of its claims" in text for text in told), told

    play(main)


DECLARED = """
{name: fpga, max: 9, node: {cpu: 16, memory: 64Gi, resourceSlices: [
  {driver: gpu.nvidia.com, devices: [{name: f0, capacity: {memory: {value: 80Gi}}}]}]}}
"""


def test_a_pool_whose_nodes_turn_out_to_lack_what_it_declares_makes_no_second_one_in_vain() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{DECLARED}]")
        await template(world, "large", "70Gi")
        await pod(world, "a", "large")
        made: set[str] = set()
        world.informers.of(NODES).add_handler(lambda old, new: made.add((new or old)["metadata"]["name"]))
        await asyncio.sleep(4 * 3600)
        assert len(made) == 1 and not await pools(world), "it came, had nothing, and went"

    play(main, agents=False)


def test_a_driver_that_takes_its_time_is_waited_for() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{DECLARED}]")
        await template(world, "large", "70Gi")
        for name in ("a", "b"):
            await pod(world, name, "large")

        def drive(old: Any, new: Any) -> None:
            if old is None and new is not None and names.MACHINE in labels(new):
                drivers.append(asyncio.create_task(publish(world, new["metadata"]["name"])))

        drivers: list[asyncio.Task[None]] = []
        world.informers.of(NODES).add_handler(drive)
        for name in ("a", "b"):
            await world.running_within(name, 1200)
        assert await pools(world) == {"fpga": 2}

    play(main, agents=False)


async def publish(world: HealthWorld, node: str) -> None:
    await asyncio.sleep(120)
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    device = {"name": "f0", "capacity": {"memory": {"value": "80Gi"}}}
    spec = {"driver": "gpu.nvidia.com", "nodeName": node, "pool": pool, "devices": [device]}
    await world.client.create(RESOURCE_SLICES, {"metadata": {"name": f"{node}-0"}, "spec": spec})


@pytest.mark.parametrize("name", ["gpu: X9, gpus: 1", "gpu: H100, gpus: 8, labels: {nvidia.com/mig.config: all-9g}"])
def test_a_type_of_gpu_that_nobody_knows_is_told_at_the_settings(name: str) -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{{name: a, max: 3, node: {{{name}}}}}]")
        await asyncio.sleep(60)
        (told,) = await world.events("InvalidConfiguration")
        assert "autoscale.yaml: pool 'a': unknown" in told["message"], told["message"]

    play(main)

"""GPU nodes in virtual time: what they advertise, MIG and time slicing, faults, claims, and agents that are killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gpu_world import GpuWorld, gpu_world

from atoll.app.fleetspec import NodeGroup
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.manager import DeviceManager
from atoll.cluster.gpus.model import ANNOTATION
from atoll.cluster.gpus.node_devices import GpuNodeDevices
from atoll.cluster.gpus.simulated import SimulatedDevices
from atoll.cluster.gpus.slices import ANNOTATION as DRA
from atoll.cluster.gpus.slices import HELD_TAINT
from atoll.kinds.builtin import NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.objects.gpu_faults import ANNOTATION as FAULTS
from atoll.objects.gpu_faults import GpuFault, format_faults
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual

EIGHT = NodeGroup(1, names=("n",), gpus="h100:8")
TWO = NodeGroup(1, names=("n",), gpus="a100-40gb:2")
SLICED = """
version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 3}]
"""


def play(main: Callable[[GpuWorld], Awaitable[None]], *groups: NodeGroup) -> None:
    async def whole() -> None:
        async with gpu_world(*groups) as world:
            await main(world)

    run_virtual(whole())


def test_a_node_advertises_from_its_first_moment_and_needs_no_second_write() -> None:
    async def main(world: GpuWorld) -> None:
        await world.until(world.devices)
        await asyncio.sleep(5)
        node = await world.node("n")
        assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
        assert await world.allocatable("n") == {"nvidia.com/gpu": "8"}
        managers = {entry["manager"] for entry in node["metadata"].get("managedFields", ())}
        assert "gpu-node-agents" not in managers
        assert sorted(await world.devices()) == [f"gpu-{index}" for index in range(8)]

    play(main, EIGHT)


def test_a_node_that_someone_else_declares_gpus_on() -> None:
    async def main(world: GpuWorld) -> None:
        await world.annotate("plain-0", ANNOTATION, '[{"type": "l4", "count": 2}]')
        await world.offers("plain-0", {"nvidia.com/gpu": "2"})
        (item,) = (await world.client.list(RESOURCE_SLICES)).items
        assert item["metadata"]["ownerReferences"][0]["name"] == "plain-0"
        await world.annotate("plain-0", ANNOTATION, '[{"type": "l5", "count": 2}]')
        (told,) = await world.until(lambda: world.warnings("GPUConfiguration"))
        assert "unknown GPU type 'l5'" in told

    play(main, NodeGroup(1, names=("plain-0",)))


def test_pods_get_devices_of_their_own_and_give_them_back() -> None:
    async def main(world: GpuWorld) -> None:
        for name, count in (("a", 2), ("b", 3), ("c", 3)):
            await world.pod(name, count)
        for name in "abc":
            await world.phase(name, "Running")
        before = await world.given()
        assert {name: len(ids) for name, ids in before.items()} == {"a": 2, "b": 3, "c": 3}
        await world.client.delete(PODS, "b", "default")
        await world.pod("d", 3)
        await world.phase("d", "Running")
        after = await world.given()
        assert after["d"] == before["b"] and after["a"] == before["a"]

    play(main, EIGHT)


def test_a_pod_that_comes_past_the_scheduler_is_refused_what_is_gone() -> None:
    async def main(world: GpuWorld) -> None:
        await world.pod("a", 2)
        await world.phase("a", "Running")
        await world.pod("b", 1, nodeName="n")
        refused = await world.phase("b", "Failed")
        assert refused["status"]["reason"] == "UnexpectedAdmissionError"
        assert "Requested: 1, Available: 0" in refused["status"]["message"]

    play(main, TWO)


def test_mig_waits_for_the_gpus_to_be_free() -> None:
    async def main(world: GpuWorld) -> None:
        await world.configure("plugin", default="version: v1\nflags: {migStrategy: mixed}")
        await world.pod("a", 1)
        await world.phase("a", "Running")
        await world.label("n", {"nvidia.com/mig.config": "all-balanced"})
        (told,) = await world.until(lambda: world.warnings("MIGConfigPending"))
        assert "GPU 0 is in use by default/a" in told
        assert (await world.node("n"))["metadata"]["labels"]["nvidia.com/mig.config.state"] == "pending"
        await world.client.delete(PODS, "a", "default")
        await world.offers(
            "n", {"nvidia.com/mig-1g.5gb": "4", "nvidia.com/mig-2g.10gb": "2", "nvidia.com/mig-3g.20gb": "2"}
        )
        await world.pod("m", 2, "nvidia.com/mig-2g.10gb")
        await world.phase("m", "Running")
        assert all(item.startswith("MIG-") for item in (await world.given())["m"])
        assert "gpu-0-mig-2g10gb-14-2" in await world.devices()
        await world.client.delete(PODS, "m", "default")
        await world.label("n", {"nvidia.com/mig.config": "all-disabled"})
        await world.offers("n", {"nvidia.com/gpu": "2"})
        labels = (await world.node("n"))["metadata"]["labels"]
        assert not [key for key in labels if key.startswith("nvidia.com/mig-")]
        assert labels["nvidia.com/mig.config.state"] == "success"

    play(main, TWO)


def test_a_mig_configuration_that_can_not_be_had() -> None:
    async def main(world: GpuWorld) -> None:
        await world.label("n", {"nvidia.com/mig.config": "all-1g.10gb.xl"})
        (told,) = await world.until(lambda: world.warnings("MIGConfigFailed"))
        assert "unknown MIG configuration" in told
        assert (await world.node("n"))["metadata"]["labels"]["nvidia.com/mig.config.state"] == "failed"
        assert await world.allocatable("n") == {"nvidia.com/gpu": "2"}

    play(main, TWO)


def test_time_slices_are_spread_and_counted() -> None:
    async def main(world: GpuWorld) -> None:
        await world.configure("slicing", shared=SLICED, other="version: v1")
        await world.label("n", {"nvidia.com/device-plugin.config": "shared"})
        await world.offers("n", {"nvidia.com/gpu.shared": "6"})
        for number in range(6):
            await world.pod(f"p{number}", 1, "nvidia.com/gpu.shared")
            await world.phase(f"p{number}", "Running")
        given = await world.given()
        gpus = [next(iter(given[f"p{number}"])).partition("::")[0] for number in range(6)]
        assert [gpus.count(item) for item in sorted(set(gpus))] == [3, 3]
        assert gpus[0] != gpus[1]
        await world.client.delete(PODS, "p0", "default")
        await world.client.delete(PODS, "p1", "default")
        await world.pod("two", 2, "nvidia.com/gpu.shared")
        refused = await world.phase("two", "Failed")
        assert "maximum request size for shared resources is 1" in refused["status"]["message"]

    play(main, TWO)


def test_mps_gives_parts_of_a_gpu_one_at_a_time_and_tells_containers_where_its_daemon_is() -> None:
    async def main(world: GpuWorld) -> None:
        text = "version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [1]}]}}"
        await world.configure("mps", default=text)
        await world.offers("n", {"nvidia.com/gpu": "5"})
        found = await world.client.get(NODES, "n")
        assert found["metadata"]["labels"]["nvidia.com/gpu.sharing-strategy"] == "mps"
        for number in range(5):
            await world.pod(f"p{number}", 1)
            await world.phase(f"p{number}", "Running")
        informers = Informers(world.client)
        inventory = Inventory(informers)
        informers.start()
        await inventory.synced()
        port, clock = SimulatedDevices(lambda: inventory.survey("n")), LoopClock(asyncio.get_running_loop())
        devices = GpuNodeDevices("n", port, inventory, DeviceManager(inventory), clock)
        told = [devices.access(pod, "c").env for pod in (await world.client.list(PODS, "default")).items]
        own = [next(iter(ids)) for ids in (await world.given()).values()]
        assert sum("::" in item for item in own) == 4 and len({item.partition("::")[0] for item in own}) == 2
        pipes = [env.get("CUDA_MPS_PIPE_DIRECTORY") for env in told]
        assert sorted(pipes, key=str) == ["/mps/nvidia.com/gpu/pipe"] * 4 + [None]
        await informers.stop()

    play(main, TWO)


def test_a_fault_takes_a_gpu_out_and_shows_in_its_pod() -> None:
    async def main(world: GpuWorld) -> None:
        await world.pod("a", 1)
        running = await world.phase("a", "Running")
        await world.annotate("n", FAULTS, format_faults([GpuFault("xid", 79, 0)]))
        await world.offers("n", {"nvidia.com/gpu": "1"})

        async def unhealthy() -> bool:
            pod = await world.client.get(PODS, "a", "default")
            (resource,) = pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
            return resource["resources"][0]["health"] == "Unhealthy"

        await world.until(unhealthy)
        assert (await world.devices())["gpu-0"]["taints"][0]["value"] == "79"
        await world.annotate("n", FAULTS, None)
        await world.offers("n", {"nvidia.com/gpu": "2"})
        assert "taints" not in (await world.devices())["gpu-0"]
        now = await world.client.get(PODS, "a", "default")
        assert now["status"]["containerStatuses"] == running["status"]["containerStatuses"]

    play(main, TWO)


def test_what_a_claim_has_the_plugin_does_not_give_and_the_other_way_round() -> None:
    async def main(world: GpuWorld) -> None:
        await world.pod("a", 1)
        await world.phase("a", "Running")
        request = {"name": "r", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
        claim = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}}
        await world.client.create(RESOURCE_CLAIMS, claim, "default")

        async def tainted() -> bool:
            return "taints" in (await world.devices())["gpu-0"]

        await world.until(tainted)
        (taint,) = (await world.devices())["gpu-0"]["taints"]
        assert (taint["key"], taint["effect"]) == (HELD_TAINT, "NoSchedule")
        result = {"request": "r", "driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-1"}
        status = {"allocation": {"devices": {"results": [result]}}}
        await world.client.patch(RESOURCE_CLAIMS, "c", {"status": status}, "default", subresource="status")
        await world.offers("n", {"nvidia.com/gpu": "1"})
        await world.pod("b", 1, nodeName="n")
        await world.phase("b", "Failed")
        await world.client.delete(RESOURCE_CLAIMS, "c", "default")
        await world.offers("n", {"nvidia.com/gpu": "2"})
        assert "taints" not in (await world.devices())["gpu-0"]

    play(main, TWO)


def test_a_pod_whose_claim_has_what_the_plugin_gave_out_is_refused() -> None:
    async def main(world: GpuWorld) -> None:
        await world.pod("a", 2)
        await world.phase("a", "Running")
        request = {"name": "r", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
        claim = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}}
        await world.client.create(RESOURCE_CLAIMS, claim, "default")
        result = {"request": "r", "driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-1"}
        status = {"allocation": {"devices": {"results": [result]}}}
        await world.client.patch(RESOURCE_CLAIMS, "c", {"status": status}, "default", subresource="status")
        container = {"name": "c", "image": "i", "resources": {"claims": [{"name": "g"}]}}
        spec = {
            "nodeName": "n",
            "containers": [container],
            "resourceClaims": [{"name": "g", "resourceClaimName": "c"}],
        }
        await world.client.create(PODS, {"metadata": {"name": "b"}, "spec": spec}, "default")
        refused = await world.phase("b", "Failed")
        assert refused["status"]["reason"] == "UnexpectedAdmissionError"
        assert "GPU 1, which the device plugin has given to default/a" in refused["status"]["message"]

    play(main, TWO)


def test_partitions_are_published_where_a_node_wants_them() -> None:
    async def main(world: GpuWorld) -> None:
        await world.annotate("n", DRA, "partitions")

        async def published() -> bool:
            return "gpu-1-mig-3g20gb-9-4" in await world.devices()

        await world.until(published)
        pools = [item["spec"]["pool"] for item in (await world.client.list(RESOURCE_SLICES)).items]
        assert len({pool["generation"] for pool in pools}) == 1 and len(pools) == pools[0]["resourceSliceCount"]
        await world.annotate("n", DRA, "none")
        await world.until(lambda: gone(world))

    async def gone(world: GpuWorld) -> bool:
        return not await world.devices()

    play(main, TWO)


def test_an_unknown_plugin_configuration_leaves_the_default_and_is_told() -> None:
    async def main(world: GpuWorld) -> None:
        await world.label("n", {"nvidia.com/device-plugin.config": "nope"})
        (told,) = await world.until(lambda: world.warnings("GPUConfiguration"))
        assert "no ConfigMap in gpu-operator has that key" in told
        assert await world.allocatable("n") == {"nvidia.com/gpu": "2"}

    play(main, TWO)


@pytest.mark.parametrize("share", range(3))
def test_killed_at_every_turn_no_device_is_given_twice_and_none_changes_hands(share: int) -> None:
    """Node, agents and scheduler are killed before turn n of the loop, for many n, and started again a moment later."""

    def once(kill_at: int | None) -> int:
        turns = 0

        async def main() -> None:
            nonlocal turns
            async with gpu_world(TWO) as world:
                loop: Any = asyncio.get_running_loop()
                restarts: set[asyncio.Task[None]] = set()
                seen: dict[str, set[str]] = {}

                async def restart() -> None:
                    await world.kill()
                    await asyncio.sleep(0.05)
                    await world.start()

                def turn() -> None:
                    nonlocal turns
                    turns += 1
                    if turns == kill_at:
                        restarts.add(loop.create_task(restart()))

                loop.on_turn = turn
                await world.pod("a", 1)
                await world.pod("b", 1)
                await world.label("n", {"nvidia.com/mig.config": "all-1g.5gb"})
                for name in "ab":
                    await world.phase(name, "Running")
                    for pod, ids in (await world.given()).items():
                        assert seen.setdefault(pod, ids) == ids
                await world.client.delete(PODS, "a", "default")
                await world.pod("c", 1)
                await world.client.delete(PODS, "b", "default")
                loop.on_turn = None
                await asyncio.gather(*restarts)
                await world.phase("c", "Running")
                await world.given()

        run_virtual(main())
        return turns

    total = once(None)
    assert total >= 8
    for kill_at in range(1 + share, total + 1, 3):
        once(kill_at)


def test_a_node_that_goes_takes_its_slices_along() -> None:
    async def main(world: GpuWorld) -> None:
        await world.until(world.devices)
        await world.client.delete(NODES, "n")

        async def gone() -> bool:
            return not (await world.client.list(RESOURCE_SLICES)).items

        await world.until(gone)

    play(main, TWO)

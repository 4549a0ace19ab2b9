"""A cluster with GPU nodes in virtual time: wired as a real one, whose parts can be killed and begun anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.controllers import running_cluster
from atoll.app.fleetspec import ClusterSpec, NodeGroup
from atoll.base.chance import Chance
from atoll.cluster.gpus.allotment import held
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, RESOURCE_SLICES
from atoll.runtime.virtual import LoopClock

Object = dict[str, Any]


class GpuWorld:
    """What a test acts on."""

    def __init__(self, assembly: Assembly, spec: ClusterSpec) -> None:
        self.assembly = assembly
        self.client = assembly.client()
        self._spec = spec
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()

        async def live() -> None:
            async with running_cluster(self.assembly, self._spec) as running:
                await running.nodes_ready(sum(group.count for group in self._spec.simulated))
                ready.set()
                await asyncio.Event().wait()

        self._life = asyncio.create_task(live())
        await ready.wait()

    async def kill(self) -> None:
        """Everything but the API ends where it is."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
            self._life = None

    async def until(self, holds: Callable[[], Awaitable[Any]], seconds: float = 120.0) -> Any:
        """Wait (virtually) until `await holds()` gives something true, and return it."""
        async with asyncio.timeout(seconds):
            while not (found := await holds()):
                await asyncio.sleep(0.25)
            return found

    async def node(self, name: str) -> Object:
        return await self.client.get(NODES, name)

    async def allocatable(self, name: str) -> dict[str, str]:
        """NVIDIA's resources that are not used up."""
        found = (await self.node(name))["status"]["allocatable"]
        return {key: value for key, value in found.items() if key.startswith("nvidia.com/") and value != "0"}

    async def offers(self, name: str, wanted: dict[str, str]) -> None:
        async def holds() -> bool:
            return await self.allocatable(name) == wanted

        await self.until(holds)

    async def label(self, name: str, labels: dict[str, str | None]) -> None:
        await self.client.patch(NODES, name, {"metadata": {"labels": labels}})

    async def annotate(self, name: str, annotation: str, value: str | None) -> None:
        await self.client.patch(NODES, name, {"metadata": {"annotations": {annotation: value}}})

    async def configure(self, name: str, **data: str) -> None:
        namespace = {"metadata": {"name": "gpu-operator"}}
        if not any(item["metadata"]["name"] == "gpu-operator" for item in (await self.client.list(NAMESPACES)).items):
            await self.client.create(NAMESPACES, namespace)
        config_map = {"metadata": {"name": name, "namespace": "gpu-operator"}, "data": data}
        await self.client.create(CONFIGMAPS, config_map, "gpu-operator")

    async def pod(self, name: str, count: int, resource: str = "nvidia.com/gpu", **spec: Any) -> None:
        container = {"name": "c", "image": "i", "resources": {"limits": {resource: str(count)}}}
        obj = {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}
        await self.client.create(PODS, obj, "default")

    async def phase(self, name: str, phase: str) -> Object:
        async def holds() -> Any:
            found = await self.client.get(PODS, name, "default")
            return found if found["status"].get("phase") == phase else None

        found: Object = await self.until(holds)
        return found

    async def given(self) -> dict[str, set[str]]:
        """Pod → ids that it holds; an id that two hold is a failure."""
        pods = (await self.client.list(PODS, "default")).items
        found = {pod["metadata"]["name"]: held(pod) for pod in pods if held(pod)}
        twice = [item for item, count in Counter(item for ids in found.values() for item in ids).items() if count > 1]
        assert not twice, f"given twice: {twice}"
        return found

    async def devices(self) -> dict[str, Object]:
        """Of all slices, by name."""
        slices = (await self.client.list(RESOURCE_SLICES)).items
        return {device["name"]: device for item in slices for device in item["spec"].get("devices", ())}

    async def warnings(self, reason: str) -> list[str]:
        return [item["message"] for item in (await self.client.list(EVENTS)).items if item["reason"] == reason]


@asynccontextmanager
async def gpu_world(*groups: NodeGroup) -> AsyncIterator[GpuWorld]:
    """Running, all nodes Ready."""
    clock, chance = LoopClock(asyncio.get_running_loop()), Chance(11)
    assembly = assemble(MemoryStore(clock), clock, chance, ApiOptions())
    await bootstrap(assembly)
    world = GpuWorld(assembly, ClusterSpec("bed", simulated=groups))
    await world.start()
    try:
        yield world
    finally:
        await world.kill()

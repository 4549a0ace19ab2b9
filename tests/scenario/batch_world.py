"""A cluster with gangs in virtual time: API, controllers, scheduler, simulated nodes, the batch kinds' controllers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.batch import make_batch
from atoll.app.fleetspec import ClusterSpec
from atoll.app.queueing import make_queueing
from atoll.app.scheduling import make_scheduler
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.nodes.simulated.nodes import SimulatedNodes
from atoll.cluster.nodes.simulated.overlay import RESOURCE, LeaseOverlay
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.all import full_controllers
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import (
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    SERVICES,
)
from atoll.objects.meta import condition
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock

Object = dict[str, Any]
_KINDS = (
    batch.JOB_SETS, batch.LEADER_WORKER_SETS, batch.POD_GROUPS, batch.VOLCANO_JOBS, batch.VOLCANO_POD_GROUPS,
    batch.VOLCANO_COMMANDS, batch.VOLCANO_QUEUES, kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES, kueue.RESOURCE_FLAVORS,
    JOBS, PODS, PRIORITY_CLASSES, SERVICES, NAMESPACES,
)  # fmt: skip
KINDS = {(it.api_version, it.kind): it for it in _KINDS}


class BatchWorld:
    """`kill` ends the scheduler and the batch controllers at once; `start` makes new ones, with their own informers."""

    def __init__(self, assembly: Assembly, clock: LoopClock, spec: ClusterSpec) -> None:
        self.assembly, self.clock, self.spec = assembly, clock, spec
        self.client = assembly.client()
        self._informers: Informers | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        assembly = self.assembly
        informers = self._informers = Informers(assembly.client())
        clock, chance = assembly.clock, assembly.chance
        scheduler = make_scheduler(assembly, informers, self.spec)
        controllers = make_batch(assembly.controller_client, informers, clock, chance, self.spec)
        if self.spec.queueing:
            controllers += make_queueing(assembly.controller_client, informers, clock, chance, job_sets=True).runnables
        informers.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(part.run()) for part in (scheduler, *controllers)]

    def kill(self) -> None:
        """Whatever they were awaiting."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._informers is not None:
            await self._informers.stop()

    async def apply(self, *objects: Object) -> list[Object]:
        made = []
        for obj in objects:
            resource = KINDS[obj["apiVersion"], obj["kind"]]
            space = obj["metadata"].get("namespace", "default") if resource.namespaced else None
            made.append(await self.client.create(resource, obj, space))
        return made

    async def apply_file(self, path: Path) -> None:
        await self.apply(*filter(None, yaml.safe_load_all(path.read_text())))

    async def until(self, holds: Callable[[], Awaitable[Any]], seconds: float = 300.0) -> Any:
        """Wait in virtual time until `await holds()` gives something true, and return it."""
        end = self.clock.monotonic() + seconds
        while True:
            found = await holds()
            if found:
                return found
            assert self.clock.monotonic() < end, "it did not come to that"
            await asyncio.sleep(0.25)

    async def pods(self, **labels: str) -> list[Object]:
        chosen = ",".join(f"{name.replace('__', '/').replace('_', '-')}={value}" for name, value in labels.items())
        return sorted(
            (await self.client.list(PODS, label_selector=chosen or None)).items, key=lambda it: it["metadata"]["name"]
        )

    async def running(self, prefix: str) -> list[str]:
        """Names of running pods."""
        return [
            pod["metadata"]["name"]
            for pod in await self.pods()
            if pod["metadata"]["name"].startswith(prefix) and pod["status"].get("phase") == "Running"
        ]

    async def nodes_of(self, prefix: str) -> dict[str, str]:
        """Pod to node, of those that have one and are neither leaving nor done."""
        return {
            pod["metadata"]["name"]: pod["spec"]["nodeName"]
            for pod in await self.pods()
            if pod["metadata"]["name"].startswith(prefix)
            and pod["spec"].get("nodeName")
            and "deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        }

    async def why(self, name: str, namespace: str = "default") -> str:
        """What PodScheduled=False says."""
        found = condition(await self.client.get(PODS, name, namespace), "PodScheduled") or {}
        return str(found.get("message", "")) if found.get("status") == "False" else ""

    async def events(self, reason: str) -> list[Object]:
        return [item for item in (await self.client.list(EVENTS)).items if item["reason"] == reason]


@asynccontextmanager
async def batch_world(*groups: SimulatedGroup, seed: int = 1, **flags: Any) -> AsyncIterator[BatchWorld]:
    """All nodes are Ready and free of taints."""
    spec = ClusterSpec("w", batch=True, **flags)
    clock, chance = LoopClock(asyncio.get_running_loop()), Chance(seed, "cluster")
    assembly = assemble(
        MemoryStore(clock),
        clock,
        chance,
        ApiOptions(batch=True, queueing=spec.queueing, workload_api=spec.workload_api),
    )
    handler_of(assembly)  # raw requests: the garbage collector asks what there is
    kinds = [*batch.custom_resource_definitions(), *(kueue.custom_resource_definitions() if spec.queueing else ())]
    await bootstrap(assembly, kinds)
    client = assembly.client()
    informers = Informers(client)
    nodes = SimulatedNodes(client, informers, clock, chance, groups=groups)
    parts = [*full_controllers(assembly.controller_client, informers, clock, chance), nodes]
    assembly.api.overlay(RESOURCE, LeaseOverlay(clock))
    informers.start()
    tasks = [asyncio.create_task(part.run()) for part in parts]
    world = BatchWorld(assembly, clock, spec)
    try:
        await nodes.ready.wait()

        for node in (await client.list(NODES)).items:  # no node controller runs here
            if node["spec"].get("taints"):
                await client.patch(NODES, node["metadata"]["name"], {"spec": {"taints": None}})
        await asyncio.sleep(1)
        world.start()
        yield world
    finally:
        await world.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await informers.stop()


def pod_group(name: str, least: int, **spec: Any) -> Object:
    """The coscheduling plugin's."""
    spec = {"minMember": least, **spec}
    return {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": {"name": name}, "spec": spec}


def member(group: str, number: int, cpu: str = "1", **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    annotations = spec.pop("annotations", {})
    metadata = {"name": f"{group}-{number}", "labels": {batch.POD_GROUP_LABEL: group}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def gang_job(name: str, pods: int, cpu: str = "1", seconds: int = 20, **spec: Any) -> Object:
    """A Job whose pods are of the PodGroup of its name, and end by themselves."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    template = {
        "metadata": {"labels": {batch.POD_GROUP_LABEL: name}, "annotations": {"atoll.dev/run-seconds": str(seconds)}},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"parallelism": pods, "completions": pods, "template": template},
    }

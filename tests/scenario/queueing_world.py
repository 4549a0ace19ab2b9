"""A cluster with queueing in virtual time: the scenario cluster, Kueue's kinds, and the queues' controllers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from scenario_cluster import ScenarioCluster

from atoll.app.queueing import Queueing, make_queueing
from atoll.base.metrics import Metrics
from atoll.kinds import kueue
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, JOBS, NAMESPACES, PODS, STATEFUL_SETS
from atoll.runtime.informer import Informers

KINDS = {
    it.kind: it
    for it in (kueue.CLUSTER_QUEUES, kueue.COHORTS, kueue.LOCAL_QUEUES, kueue.RESOURCE_FLAVORS, kueue.WORKLOADS)
} | {
    it.kind: it
    for it in (kueue.WORKLOAD_PRIORITY_CLASSES, kueue.ADMISSION_CHECKS, JOBS, PODS, NAMESPACES, STATEFUL_SETS)
}


class QueueingWorld:
    """`restart` replaces the queues' controllers by new ones, with informers of their own."""

    def __init__(self, cluster: ScenarioCluster) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.queueing: Queueing | None = None
        self._informers: Informers | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []

    def start(self, metrics: Metrics | None = None, connect: Callable[[str], Any] | None = None) -> None:
        assembly = self.cluster.assembly
        self._informers = Informers(assembly.client())
        client_for, clock, chance = assembly.controller_client, assembly.clock, assembly.chance
        self.queueing = make_queueing(client_for, self._informers, clock, chance, metrics=metrics, connect=connect)
        self._informers.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(item.run(), name=item.name) for item in self.queueing.runnables]

    def kill(self) -> None:
        """At once: whatever they were awaiting; their watches end with them."""
        for task in self._tasks:
            task.cancel()
        if self._informers is not None:
            self._ending.append(asyncio.get_running_loop().create_task(self._informers.stop()))
            self._informers = None

    async def stop(self) -> None:
        self.kill()
        await asyncio.gather(*self._tasks, *self._ending, return_exceptions=True)

    async def apply(self, *objects: Any) -> list[Any]:
        made = []
        for obj in objects:
            resource = KINDS[obj["kind"]]
            space = obj["metadata"].get("namespace", "default") if resource.namespaced else None
            made.append(await self.client.create(resource, obj, space))
        return made

    async def apply_file(self, path: Path) -> None:
        await self.apply(*filter(None, yaml.safe_load_all(path.read_text())))

    async def workloads(self) -> dict[str, Any]:
        """By the name of the owner."""
        items = (await self.client.list(kueue.WORKLOADS)).items
        return {item["metadata"]["ownerReferences"][0]["name"]: item for item in items}

    async def holding(self, kind: str) -> list[str]:
        """Owners of the workloads whose condition of that type is True."""
        found = []
        for name, item in (await self.workloads()).items():
            conditions = (item.get("status") or {}).get("conditions") or ()
            if any(it["type"] == kind and it["status"] == "True" for it in conditions):
                found.append(name)
        return sorted(found)


@asynccontextmanager
async def queueing_world(seed: int = 1) -> AsyncIterator[QueueingWorld]:
    cluster = ScenarioCluster(seed, queueing=True)
    await cluster.start()
    for crd in kueue.custom_resource_definitions():
        await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    await asyncio.sleep(1)
    world = QueueingWorld(cluster)
    world.start()
    try:
        yield world
        assert cluster.spoiled() == []
    finally:
        await world.stop()
        await cluster.stop()


def setup(name: str, cpu: int, *, cohort: str = "", **spec: Any) -> list[Any]:
    """A ClusterQueue of cpu and its LocalQueue of the same name."""
    api = {"apiVersion": f"{kueue.GROUP}/{kueue.VERSION}"}
    flavor = {"name": "default-flavor", "resources": [{"name": "cpu", "nominalQuota": cpu}]}
    queue = {"resourceGroups": [{"coveredResources": ["cpu"], "flavors": [flavor]}], "namespaceSelector": {}, **spec}
    if cohort:
        queue["cohortName"] = cohort
    return [
        {**api, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": queue},
        {**api, "kind": "LocalQueue", "metadata": {"name": name}, "spec": {"clusterQueue": name}},
    ]


FLAVOR = {
    "apiVersion": f"{kueue.GROUP}/{kueue.VERSION}",
    "kind": "ResourceFlavor",
    "metadata": {"name": "default-flavor"},
}


def job(name: str, queue: str, cpu: int = 1, pods: int = 1, seconds: int = 5, **labels: str) -> Any:
    """Its pods end by themselves after `seconds`."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {kueue.QUEUE_LABEL: queue, **labels}},
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "template": {
                "metadata": {"annotations": {"scenario/exit-code": "0", "scenario/run-seconds": str(seconds)}},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }

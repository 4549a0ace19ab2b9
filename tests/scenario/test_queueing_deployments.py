"""Deployments that name a queue, in virtual time: each pod waits for quota by itself."""

from __future__ import annotations

import asyncio
from typing import Any

from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.kinds import kueue
from atoll.kinds.builtin import DEPLOYMENTS, PODS
from atoll.runtime.virtual import run_virtual

API = f"{kueue.GROUP}/{kueue.VERSION}"


def service(name: str, replicas: int, **labels: str) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "labels": {kueue.QUEUE_LABEL: "q", **labels}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


async def pods(world: QueueingWorld, name: str) -> tuple[int, int]:
    """(running, gated)."""
    items = (await world.client.list(PODS, label_selector=f"app={name}")).items
    living = [it for it in items if "deletionTimestamp" not in it["metadata"]]
    running = sum(1 for it in living if it["status"].get("phase") == "Running")
    return running, sum(1 for it in living if it["spec"].get("schedulingGates"))


def test_each_pod_of_a_deployment_waits_for_quota() -> None:
    async def main() -> None:
        async with queueing_world() as world:
            for name, value in (("low", 1), ("high", 9)):
                made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
                await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)
            policy = {"withinClusterQueue": "LowerPriority"}
            await world.apply(FLAVOR, *setup("q", 2, preemption=policy))
            await world.client.create(DEPLOYMENTS, service("web", 3, **{kueue.PRIORITY_CLASS_LABEL: "low"}), "default")
            await asyncio.sleep(10)
            assert await pods(world, "web") == (2, 1)
            (one, *_) = (await world.client.list(kueue.WORKLOADS)).items
            assert one["spec"]["priority"] == 1 and one["spec"]["podSets"][0]["count"] == 1
            await world.apply(job("urgent", "q", 2, seconds=20, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
            await asyncio.sleep(12)
            assert "urgent" in await world.holding("Admitted")
            assert await pods(world, "web") == (0, 3), "both went, and wait again"
            await asyncio.sleep(40)
            assert await pods(world, "web") == (2, 1)
            await world.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, "default")
            await asyncio.sleep(15)
            assert await pods(world, "web") == (1, 0)
            queue = await world.client.get(kueue.CLUSTER_QUEUES, "q")
            assert (queue["status"]["admittedWorkloads"], queue["status"]["pendingWorkloads"]) == (1, 0)
            await world.client.delete(DEPLOYMENTS, "web", "default")
            await asyncio.sleep(30)
            queue = await world.client.get(kueue.CLUSTER_QUEUES, "q")
            assert queue["status"]["reservingWorkloads"] == 0

    run_virtual(main())


def test_a_deployment_that_names_no_queue_is_left_alone() -> None:
    async def main() -> None:
        async with queueing_world() as world:
            await world.apply(FLAVOR, *setup("q", 1))
            plain = service("web", 2)
            del plain["metadata"]["labels"]
            made = await world.client.create(DEPLOYMENTS, plain, "default")
            assert kueue.POD_PARENT not in (made["spec"]["template"]["metadata"].get("annotations") or {})
            await asyncio.sleep(5)
            assert await pods(world, "web") == (2, 0)

    run_virtual(main())

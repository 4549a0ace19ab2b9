"""What has finalizers of the queues still goes: a JobSet's Workload, a namespace with evicted groups."""

from __future__ import annotations

import asyncio

import pytest
from batch_world import batch_world
from queueing_world import FLAVOR, QueueingWorld, job, setup
from test_queueing_finalizers import API, classes, holds, member, play

from atoll.base.errors import NotFound
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import NAMESPACES, PODS
from atoll.runtime.virtual import run_virtual

REQUEST = {"resources": {"requests": {"cpu": "1"}}}


def test_a_job_set_whose_workload_is_deleted_stops_and_queues_again() -> None:
    async def main() -> None:
        async with batch_world(SimulatedGroup(2, "n", cpu="8"), queueing=True) as world:
            await world.apply(FLAVOR, *setup("q", 2))
            template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", **REQUEST}]},
                        "metadata": {"annotations": {"atoll.dev/run-seconds": "20"}}}  # fmt: skip
            inner = {"parallelism": 2, "completions": 2, "template": template}
            jobs = [{"name": "work", "replicas": 1, "template": {"spec": inner}}]
            metadata = {"name": "set", "labels": {kueue.QUEUE_LABEL: "q"}}
            await world.client.create(
                JOB_SETS,
                {"apiVersion": JOB_SETS.api_version, "kind": "JobSet", "metadata": metadata,
                 "spec": {"replicatedJobs": jobs}},
                "default",
            )  # fmt: skip
            await asyncio.sleep(6)
            (old,) = (await world.client.list(kueue.WORKLOADS)).items
            assert holds(old, "Admitted") and len(await world.running("set-")) == 2
            await world.client.delete(kueue.WORKLOADS, old["metadata"]["name"], "default")
            await asyncio.sleep(15)
            (new,) = (await world.client.list(kueue.WORKLOADS)).items
            assert new["metadata"]["uid"] != old["metadata"]["uid"] and holds(new, "Admitted")
            await asyncio.sleep(60)
            (new,) = (await world.client.list(kueue.WORKLOADS)).items
            assert holds(new, "Finished")

    run_virtual(main())


def test_a_namespace_goes_with_groups_that_wait_run_or_were_evicted() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        await world.apply(FLAVOR, *setup("q", 2, preemption={"withinClusterQueue": "LowerPriority"}))
        await world.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        local = {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": "q"}, "spec": {"clusterQueue": "q"}}
        await world.client.create(kueue.LOCAL_QUEUES, local, "team")
        await asyncio.sleep(1)
        for group in ("evicted", "waits"):
            for name in ("a", "b"):
                await world.client.create(PODS, member(f"{group}-{name}", group, 2, 100), "team")
            await asyncio.sleep(3)
        await world.apply(job("urgent", "q", 1, 2, 100, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(8)
        assert holds(await world.client.get(kueue.WORKLOADS, "evicted", "team"), kueue.WAITS_FOR_PODS)
        await world.client.delete(NAMESPACES, "team")
        await asyncio.sleep(40)
        with pytest.raises(NotFound):
            await world.client.get(NAMESPACES, "team")

    play(main)

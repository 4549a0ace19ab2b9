"""Kueue's topology-aware scheduling in virtual time, on simulated nodes in racks with the real scheduler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world
from queueing_world import setup

from atoll.base.errors import Invalid
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import NODES, PODS
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

RACK, HOST = "cloud.provider.com/topology-rack", "kubernetes.io/hostname"
API = f"{kueue.GROUP}/{kueue.VERSION}"
RACKS = [SimulatedGroup(2, rack, cpu="4", labels={RACK: rack, "pool": "gpu"}) for rack in ("a", "b")]
LOWER = {"preemption": {"withinClusterQueue": "LowerPriority"}}


def play(main: Any, *groups: SimulatedGroup) -> None:
    async def whole() -> None:
        async with batch_world(*(groups or RACKS), queueing=True) as world:
            await racks(world)
            await main(world)

    run_virtual(whole())


async def racks(world: BatchWorld) -> None:
    """A queue `q` with quota to spare, whose pods are placed by racks and hosts; two priorities."""
    levels = [{"nodeLabel": RACK}, {"nodeLabel": HOST}]
    topology = {"apiVersion": API, "kind": "Topology", "metadata": {"name": "racks"}, "spec": {"levels": levels}}
    await world.client.create(kueue.TOPOLOGIES, topology)
    flavor = {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": "default-flavor"},
              "spec": {"nodeLabels": {"pool": "gpu"}, "topologyName": "racks"}}  # fmt: skip
    await world.apply(flavor, *setup("q", 100, **LOWER))
    for name, value in (("low", 1), ("high", 9)):
        made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)
    await asyncio.sleep(1)


def template(cpu: int, seconds: int, **annotations: str) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": str(cpu)}}}
    notes = {"atoll.dev/run-seconds": str(seconds), **annotations}
    return {"metadata": {"annotations": notes}, "spec": {"restartPolicy": "Never", "containers": [container]}}


def indexed(
    name: str, pods: int, cpu: int = 1, seconds: int = 600, priority: str = "low", **asked: str
) -> dict[str, Any]:
    """A Job with ranks; `asked`: its topology annotations, one rack by default."""
    notes = {getattr(kueue, key): value for key, value in asked.items()} or {kueue.REQUIRED_TOPOLOGY: RACK}
    labels = {kueue.QUEUE_LABEL: "q", kueue.PRIORITY_CLASS_LABEL: priority}
    spec = {"parallelism": pods, "completions": pods, "completionMode": "Indexed", "backoffLimit": 100,
            "template": template(cpu, seconds, **notes)}  # fmt: skip
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}, "spec": spec}


async def workload(world: BatchWorld, owner: str) -> Any:
    items = (await world.client.list(kueue.WORKLOADS)).items
    return next(item for item in items if item["metadata"]["ownerReferences"][0]["name"] == owner)


async def holds(world: BatchWorld, owner: str, kind: str) -> bool:
    return (condition(await workload(world, owner), kind) or {}).get("status") == "True"


async def hosts(world: BatchWorld, prefix: str) -> list[str]:
    """Of the pods that run."""
    return sorted((await world.nodes_of(prefix)).values())


def test_a_rack_is_cleared_for_who_may_preempt_though_there_is_quota() -> None:
    async def main(world: BatchWorld) -> None:
        for number in range(4):
            await world.apply(indexed(f"old{number}", 3))
            await asyncio.sleep(2)
        assert await hosts(world, "old") == sorted(["a-0", "a-1", "b-0", "b-1"] * 3)
        await world.apply(indexed("gang", 5, priority="high", seconds=30))
        await asyncio.sleep(15)
        assert await hosts(world, "gang") == ["b-0"] + ["b-1"] * 4
        evicted = [name for name in ("old0", "old1", "old2", "old3") if not await holds(world, name, "Admitted")]
        assert evicted == ["old3"], "the latest of the lowest; the other three stay"
        message = condition(await workload(world, evicted[0]), "QuotaReserved")["message"]
        assert message == 'topology "racks" allows to fit only 2 out of 3 pod(s)'
        await asyncio.sleep(60)
        assert await holds(world, "gang", "Finished") and await holds(world, evicted[0], "Admitted")

    play(main)


def test_a_leader_and_its_workers_come_into_one_rack() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(indexed("fill", 3))
        await asyncio.sleep(3)
        notes = {kueue.REQUIRED_TOPOLOGY: RACK, kueue.POD_SET_GROUP: "pipeline"}

        def role(name: str, pods: int) -> Any:
            spec = {"parallelism": pods, "completions": pods, "template": template(1, 600, **notes)}
            return {"name": name, "template": {"spec": spec}}

        made = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
                "metadata": {"name": "train", "labels": {kueue.QUEUE_LABEL: "q"}},
                "spec": {"replicatedJobs": [role("leader", 1), role("workers", 5)]}}  # fmt: skip
        await world.apply(made)
        await asyncio.sleep(8)
        assert {host[0] for host in await hosts(world, "train")} == {"b"}, "rack a has room for five, not for six"
        assert len(await hosts(world, "train")) == 6
        made["metadata"]["name"] = "apart"
        other = role("workers", 1)
        other["template"]["spec"]["template"]["metadata"]["annotations"][kueue.REQUIRED_TOPOLOGY] = HOST
        made["spec"]["replicatedJobs"] = [role("leader", 1), other]
        with pytest.raises(Invalid, match="all of group pipeline must ask for the same level"):
            await world.client.create(JOB_SETS, made, "default")

    play(main)


def test_roles_of_a_job_set_that_ask_for_a_rack_may_have_one_each() -> None:
    """Kueue places pod sets one by one; the scheduler asks no more of their gang."""

    async def main(world: BatchWorld) -> None:
        spec = {"parallelism": 6, "completions": 6, "template": template(1, 600, **{kueue.REQUIRED_TOPOLOGY: RACK})}
        roles = [{"name": name, "template": {"spec": spec}} for name in ("actors", "learners")]
        made = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
                "metadata": {"name": "train", "labels": {kueue.QUEUE_LABEL: "q"}},
                "spec": {"replicatedJobs": roles}}  # fmt: skip
        await world.apply(made)

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 12

        await world.until(all_of_them)
        racks = [{host[0] for host in await hosts(world, f"train-{role}")} for role in ("actors", "learners")]
        assert sorted(racks, key=sorted) == [{"a"}, {"b"}]

    play(main)


# -- hosts that fail

WIDE = [SimulatedGroup(3, rack, cpu="4", labels={RACK: rack, "pool": "gpu"}) for rack in ("a", "b")]


async def by_rank(world: BatchWorld, job: str) -> dict[str, str]:
    """Hosts of the pods that run."""
    index = "batch.kubernetes.io/job-completion-index"
    return {
        pod["metadata"]["labels"][index]: pod["spec"]["nodeName"]
        for pod in await world.pods()
        if pod["metadata"]["name"].startswith(f"{job}-")
        and pod["status"].get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
    }


async def moved(world: BatchWorld, job: str, pods: int) -> None:
    """Off a-0. A Job makes pods anew after a back-off that grows with those that failed."""

    async def all_there() -> bool:
        found = (await by_rank(world, job)).values()
        return len(found) == pods and "a-0" not in found

    await world.until(all_there, 900)


async def drain(world: BatchWorld, node: str) -> None:
    await world.client.patch(NODES, node, {"spec": {"unschedulable": True}})
    for pod in await world.pods():
        if pod["spec"].get("nodeName") == node:
            await world.client.delete(PODS, pod["metadata"]["name"], "default")


@pytest.mark.parametrize("how", ["gone", "drained"])
def test_pods_of_a_failed_host_get_another_one_of_their_rack_and_keep_their_ranks(how: str) -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(indexed("train", 8))
        await asyncio.sleep(5)
        before = await by_rank(world, "train")
        assert before == dict(zip("01234567", ["a-0"] * 4 + ["a-1"] * 4, strict=True))
        uids = {pod["metadata"]["uid"] for pod in await world.pods() if pod["spec"].get("nodeName") == "a-1"}
        if how == "gone":
            await world.client.delete(NODES, "a-0")
        else:
            await drain(world, "a-0")
        await moved(world, "train", 8)
        assert await by_rank(world, "train") == before | dict.fromkeys("0123", "a-2")
        stayed = {pod["metadata"]["uid"] for pod in await world.pods() if pod["spec"].get("nodeName") == "a-1"}
        assert stayed == uids, "the others run on"
        found = await workload(world, "train")
        assert "unhealthyNodes" not in found["status"] and not await holds(world, "train", "Evicted")
        assert await world.events("NodesReplaced")

    play(main, *WIDE)


def test_without_another_host_in_the_rack_the_job_starts_anew_elsewhere() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(indexed("train", 8))
        await asyncio.sleep(3)
        await world.apply(indexed("other", 4))
        await asyncio.sleep(3)
        assert set(await hosts(world, "other")) == {"a-2"}, await by_rank(world, "train")
        await asyncio.sleep(5)
        await drain(world, "a-0")
        await moved(world, "train", 8)
        found = await workload(world, "train")
        assert condition(found, "Evicted")["message"].startswith("Previously: A node of its pods failed: there is no")
        assert found["status"]["schedulingStats"]["evictions"][0]["reason"] == "NodeFailures"
        assert sorted((await by_rank(world, "train")).values()) == ["b-0"] * 4 + ["b-1"] * 4
        assert await holds(world, "other", "Admitted")

    play(main, *WIDE)


def test_pods_that_wait_for_a_host_that_failed_are_made_anew() -> None:
    async def main(world: BatchWorld) -> None:
        taint = {"key": "maintenance", "effect": "NoSchedule"}
        filler = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler"},
                  "spec": {"nodeName": "a-0", "tolerations": [{"operator": "Exists"}],
                           "containers": [{"name": "c", "image": "i"}]}}  # fmt: skip
        await world.apply(filler)
        await world.apply(indexed("train", 6))
        await world.until(lambda: by_rank(world, "train"))
        await asyncio.sleep(3)
        await world.client.patch(NODES, "a-0", {"spec": {"taints": [taint]}})
        victims = [pod["metadata"]["name"] for pod in await world.pods() if pod["spec"].get("nodeName") == "a-0"]
        await asyncio.sleep(5)
        assert set((await by_rank(world, "train")).values()) == {"a-0", "a-1"}, "those that run stay where they are"
        for name in victims:
            if name != "filler":
                await world.client.delete(PODS, name, "default")
        await moved(world, "train", 6)
        assert sorted((await by_rank(world, "train")).values()) == ["a-1"] * 2 + ["a-2"] * 4
        assert await holds(world, "train", "Admitted")

    play(main, *WIDE)

"""StatefulSets and LeaderWorkerSets that name a queue, in virtual time: their pods get quota as groups."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world
from queueing_world import FLAVOR, setup
from turns import killed_before

from atoll.base.errors import Invalid
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import kueue
from atoll.kinds.batch import LEADER_WORKER_SETS
from atoll.kinds.builtin import DEPLOYMENTS, PODS, STATEFUL_SETS
from atoll.objects.meta import condition, copy, is_deleting
from atoll.runtime.virtual import run_virtual

API = f"{kueue.GROUP}/{kueue.VERSION}"
NODES = [SimulatedGroup(2, f"r{rack}", cpu="8", labels={"rack": f"r{rack}", "pool": "cpu"}) for rack in range(2)]
SHARES = 8


def play(main: Any) -> None:
    async def whole() -> None:
        async with batch_world(*NODES, queueing=True) as world:
            await main(world)

    run_virtual(whole())


def template(app: str, **notes: str) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"metadata": {"labels": {"app": app}, "annotations": notes}, "spec": spec}


def stateful(name: str, replicas: int, queue: str = "q", **more: Any) -> Any:
    labels = {kueue.QUEUE_LABEL: queue, **more.pop("labels", {})} if queue else {}
    spec = {"replicas": replicas, "serviceName": name, "selector": {"matchLabels": {"app": name}},
            "template": template(name, **more.pop("notes", {})), **more}  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "labels": labels}, "spec": spec}


def leaders(name: str, replicas: int, size: int, leader: bool = True, **more: Any) -> Any:
    inner = {"size": size, "workerTemplate": template(name), **({"leaderTemplate": template(name)} if leader else {})}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "labels": {kueue.QUEUE_LABEL: "q"}},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": inner, **more},
    }  # fmt: skip


async def queues(world: BatchWorld, cpu: int, **spec: Any) -> None:
    await world.apply(FLAVOR, *setup("q", cpu, **spec))
    for name, value in (("low", 1), ("high", 9)):
        made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)
    await asyncio.sleep(1)


async def pods(world: BatchWorld, app: str) -> tuple[list[str], list[str]]:
    """(running, gated)."""
    items = [it for it in await world.pods(app=app) if not is_deleting(it)]
    running = [it["metadata"]["name"] for it in items if it["status"].get("phase") == "Running"]
    return running, [it["metadata"]["name"] for it in items if it["spec"].get("schedulingGates")]


async def workloads(world: BatchWorld) -> list[Any]:
    return list((await world.client.list(kueue.WORKLOADS)).items)


async def admitted(world: BatchWorld) -> list[tuple[str, int]]:
    """(owner, pods) of each that is."""
    found = []
    for item in await workloads(world):
        if (condition(item, "Admitted") or {}).get("status") == "True" and not is_deleting(item):
            count = sum(pods["count"] for pods in item["status"]["admission"]["podSetAssignments"])
            found.append((item["metadata"]["ownerReferences"][0]["name"], count))
    return sorted(found)


async def scale(world: BatchWorld, resource: Any, name: str, replicas: int) -> None:
    found = copy(await world.client.get(resource, name, "default", subresource="scale"))
    found["spec"]["replicas"] = replicas
    await world.client.update(resource, found, subresource="scale")


# -- StatefulSets


def test_a_stateful_set_gets_quota_for_all_its_pods_or_none() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 3)
        await world.client.create(STATEFUL_SETS, stateful("web", 3), "default")
        await asyncio.sleep(2)
        await world.client.create(STATEFUL_SETS, stateful("other", 2), "default")
        await asyncio.sleep(20)
        assert await admitted(world) == [("web", 3)]
        assert await pods(world, "web") == (["web-0", "web-1", "web-2"], [])
        assert await pods(world, "other") == ([], ["other-0"]), "in order: the next comes once that one is ready"
        pod = await world.client.get(PODS, "web-2", "default")
        tags, notes = pod["metadata"]["labels"], pod["metadata"]["annotations"]
        assert (tags[kueue.QUEUE_LABEL], tags[kueue.POD_INDEX_LABEL], notes[kueue.POD_GROUP_TOTAL]) == ("q", "2", "3")
        assert notes[kueue.POD_PARENT] == "statefulset" and "finalizers" not in pod["metadata"]
        (web,) = [it for it in await workloads(world) if it["metadata"]["name"] == tags[kueue.POD_GROUP_LABEL]]
        assert condition(web, "PodsReady")["status"] == "True"
        await world.client.delete(PODS, "web-1", "default")
        await asyncio.sleep(10)
        assert await pods(world, "web") == (["web-0", "web-1", "web-2"], []), "it has its quota: it is let go at once"
        await world.client.delete(STATEFUL_SETS, "web", "default")
        await asyncio.sleep(20)
        assert await admitted(world) == [("other", 2)]
        assert await pods(world, "other") == (["other-0", "other-1"], [])

    play(main)


def test_scaled_to_zero_it_gives_its_quota_back_and_queues_again() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 3)
        await world.client.create(STATEFUL_SETS, stateful("web", 3), "default")
        await asyncio.sleep(10)
        with pytest.raises(Invalid, match="3 may only become 0 while it is queued: scale to 0, then to 2"):
            await scale(world, STATEFUL_SETS, "web", 2)
        await scale(world, STATEFUL_SETS, "web", 0)
        with pytest.raises(Invalid, match="scaling down is still in progress"):
            await scale(world, STATEFUL_SETS, "web", 2)
        await asyncio.sleep(15)
        assert await workloads(world) == [] and await pods(world, "web") == ([], [])
        queue = await world.client.get(kueue.CLUSTER_QUEUES, "q")
        assert queue["status"]["reservingWorkloads"] == 0
        await scale(world, STATEFUL_SETS, "web", 2)
        await asyncio.sleep(10)
        assert await admitted(world) == [("web", 2)]
        assert await pods(world, "web") == (["web-0", "web-1"], [])

    play(main)


def test_a_preempted_stateful_set_waits_with_gated_pods_and_comes_back() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 3, preemption={"withinClusterQueue": "LowerPriority"})
        low = {"labels": {kueue.PRIORITY_CLASS_LABEL: "low"}, "podManagementPolicy": "Parallel"}
        await world.client.create(STATEFUL_SETS, stateful("web", 3, **low), "default")
        await asyncio.sleep(10)
        high = stateful("urgent", 2, labels={kueue.PRIORITY_CLASS_LABEL: "high"})
        await world.client.create(STATEFUL_SETS, high, "default")
        await asyncio.sleep(20)
        assert await admitted(world) == [("urgent", 2)]
        assert await pods(world, "web") == ([], ["web-0", "web-1", "web-2"])
        await world.client.delete(STATEFUL_SETS, "urgent", "default")
        await asyncio.sleep(20)
        assert await admitted(world) == [("web", 3)]
        assert await pods(world, "web") == (["web-0", "web-1", "web-2"], [])

    play(main)


def test_what_decides_about_quota_is_fixed_while_it_runs_and_an_image_is_not() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 2)
        await world.apply(*setup("p", 2))
        await world.client.create(STATEFUL_SETS, stateful("web", 2), "default")
        await asyncio.sleep(10)

        async def change(spec: Any = None, queue: Any = "q") -> None:
            metadata = {"labels": {kueue.QUEUE_LABEL: queue}}
            await world.client.patch(STATEFUL_SETS, "web", {"metadata": metadata, "spec": spec or {}}, "default")

        def container(image: str, cpu: str) -> Any:
            both = {"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}}
            return {"template": {"spec": {"containers": [both]}}}

        with pytest.raises(Invalid, match="immutable while it runs: scale it to 0 first"):
            await change(queue="p")
        with pytest.raises(Invalid, match="can't be removed"):
            await change(queue=None)
        with pytest.raises(Invalid, match="requests and what decides about nodes are immutable"):
            await change(container("i", "2"))
        before = {it["metadata"]["uid"] for it in await workloads(world)}
        await change(container("new", "1"))
        await asyncio.sleep(30)
        assert {it["spec"]["containers"][0]["image"] for it in await world.pods(app="web")} == {"new"}
        assert {it["metadata"]["uid"] for it in await workloads(world)} == before
        await scale(world, STATEFUL_SETS, "web", 0)
        await asyncio.sleep(10)
        await change({"replicas": 1, **container("i", "2")}, queue="p")
        await asyncio.sleep(10)
        assert await pods(world, "web") == (["web-0"], [])
        (item,) = await workloads(world)
        assert item["status"]["admission"]["clusterQueue"] == "p"

    play(main)


def test_a_queue_that_was_wrong_can_be_put_right_while_it_waits() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 2)
        await world.client.create(STATEFUL_SETS, stateful("web", 2, queue="wrong"), "default")
        await asyncio.sleep(5)
        assert await admitted(world) == []
        metadata = {"labels": {kueue.QUEUE_LABEL: "q"}}
        await world.client.patch(STATEFUL_SETS, "web", {"metadata": metadata}, "default")
        await asyncio.sleep(10)
        assert await admitted(world) == [("web", 2)]
        assert await pods(world, "web") == (["web-0", "web-1"], [])

    play(main)


def test_a_workload_that_is_deleted_stops_its_stateful_set_which_queues_again() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 2)
        await world.client.create(STATEFUL_SETS, stateful("web", 2, podManagementPolicy="Parallel"), "default")
        await asyncio.sleep(5)
        await world.client.create(STATEFUL_SETS, stateful("next", 1), "default")
        await asyncio.sleep(2)
        (web,) = [it for it in await workloads(world) if it["metadata"]["ownerReferences"][0]["name"] == "web"]
        await world.client.delete(kueue.WORKLOADS, web["metadata"]["name"], "default")
        await asyncio.sleep(20)
        assert await admitted(world) == [("next", 1)], "it was first"
        assert await pods(world, "web") == ([], ["web-0", "web-1"])

    play(main)


def test_one_without_a_queue_is_left_alone() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 1)
        made = await world.client.create(STATEFUL_SETS, stateful("web", 2, queue=""), "default")
        assert kueue.POD_PARENT not in (made["spec"]["template"]["metadata"].get("annotations") or {})
        await asyncio.sleep(10)
        assert await pods(world, "web") == (["web-0", "web-1"], [])
        with pytest.raises(Invalid, match="can't be given to one that runs"):
            label = {"metadata": {"labels": {kueue.QUEUE_LABEL: "q"}}}
            await world.client.patch(STATEFUL_SETS, "web", label, "default")
        assert (await world.client.list(DEPLOYMENTS)).items == []

    play(main)


def test_its_pods_get_places_of_one_rack_in_the_order_of_their_ranks() -> None:
    async def main(world: BatchWorld) -> None:
        levels = [{"nodeLabel": "rack"}, {"nodeLabel": "kubernetes.io/hostname"}]
        topology = {"apiVersion": API, "kind": "Topology", "metadata": {"name": "racks"}, "spec": {"levels": levels}}
        await world.client.create(kueue.TOPOLOGIES, topology)
        await world.apply({**FLAVOR, "spec": {"nodeLabels": {"pool": "cpu"}, "topologyName": "racks"}}, *setup("q", 20))
        await asyncio.sleep(1)
        wish = {kueue.REQUIRED_TOPOLOGY: "rack"}
        await world.client.create(STATEFUL_SETS, stateful("web", 10, notes=wish), "default")
        await world.until(lambda: ten_run(world))
        nodes = await world.nodes_of("web-")
        assert len({node.rpartition("-")[0] for node in nodes.values()}) == 1, "one rack"
        in_order = [nodes[f"web-{rank}"] for rank in range(10)]
        assert in_order == sorted(in_order) and in_order.count(in_order[0]) in (2, 8)

    async def ten_run(world: BatchWorld) -> bool:
        return len((await pods(world, "web"))[0]) == 10

    play(main)


# -- LeaderWorkerSets


@pytest.mark.parametrize("leader", [True, False])
def test_each_group_of_a_leader_worker_set_gets_quota_by_itself(leader: bool) -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 7)
        await world.apply(leaders("s", 3, 3, leader))
        await asyncio.sleep(20)
        assert await admitted(world) == [("s", 3), ("s", 3)]
        assert len(await workloads(world)) == 3
        running, gated = await pods(world, "s")
        assert len(running) == 6 and len(gated) == 3
        sets = {tuple(it["name"] for it in item["spec"]["podSets"]) for item in await workloads(world)}
        assert sets == ({("leader", "worker")} if leader else {("main",)})
        await scale(world, LEADER_WORKER_SETS, "s", 2)
        await asyncio.sleep(15)
        assert len(await workloads(world)) == 2
        await scale(world, LEADER_WORKER_SETS, "s", 0)
        await asyncio.sleep(15)
        assert await workloads(world) == [] and await pods(world, "s") == ([], [])
        await scale(world, LEADER_WORKER_SETS, "s", 2)
        await asyncio.sleep(15)
        assert await admitted(world) == [("s", 3), ("s", 3)] and len((await pods(world, "s"))[0]) == 6

    play(main)


def test_workers_that_wait_for_their_leader_are_let_go_when_they_come() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 3)
        await world.apply(leaders("s", 1, 3, startupPolicy="LeaderReady"))
        await asyncio.sleep(20)
        assert await pods(world, "s") == (["s-0", "s-0-1", "s-0-2"], [])
        await world.client.delete(PODS, "s-0-1", "default")
        await asyncio.sleep(30)
        assert await pods(world, "s") == (["s-0", "s-0-1", "s-0-2"], []), "the group is made anew, with its quota"
        assert len(await workloads(world)) == 1

    play(main)


def test_a_leader_worker_set_is_updated_within_its_quota() -> None:
    async def main(world: BatchWorld) -> None:
        await queues(world, 6)
        rolling = {"type": "RollingUpdate", "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0}}
        await world.apply(leaders("s", 2, 3, False, rolloutStrategy=rolling))
        await asyncio.sleep(15)
        lws = copy(await world.client.get(LEADER_WORKER_SETS, "s", "default"))
        worker = lws["spec"]["leaderWorkerTemplate"]["workerTemplate"]
        worker["spec"]["containers"][0]["image"] = "new"
        lws = copy(await world.client.update(LEADER_WORKER_SETS, lws))
        await asyncio.sleep(60)
        images = {it["spec"]["containers"][0]["image"] for it in await world.pods(app="s")}
        assert images == {"new"} and len((await pods(world, "s"))[0]) == 6
        lws = copy(await world.client.get(LEADER_WORKER_SETS, "s", "default"))
        lws["spec"]["leaderWorkerTemplate"]["size"] = 4
        with pytest.raises(Invalid, match="3 is immutable while it is queued"):
            await world.client.update(LEADER_WORKER_SETS, lws)

    play(main)


# -- killed


async def preempted(world: BatchWorld) -> None:
    low = {"labels": {kueue.PRIORITY_CLASS_LABEL: "low"}}
    await world.client.create(STATEFUL_SETS, stateful("web", 2, **low), "default")
    await asyncio.sleep(6)
    urgent = leaders("urgent", 1, 2)
    urgent["metadata"]["labels"][kueue.PRIORITY_CLASS_LABEL] = "high"
    await world.apply(urgent)
    await asyncio.sleep(12)
    await scale(world, LEADER_WORKER_SETS, "urgent", 0)
    await asyncio.sleep(12)


async def never_more_than(world: BatchWorld, most: int) -> None:
    async for _ in world.client.watch(PODS, resource_version="0"):
        running = [
            it["metadata"]["name"] for it in await world.pods() if it["spec"].get("nodeName") and not is_deleting(it)
        ]
        assert len(running) <= most, running


def once(kill_at: int | None) -> int:
    async def main() -> int:
        async with batch_world(*NODES, queueing=True) as world:
            await queues(world, 2, preemption={"withinClusterQueue": "LowerPriority"})
            watching = asyncio.create_task(never_more_than(world, 2))
            with killed_before(kill_at, world.kill, world.start) as turns:
                await preempted(world)
            await asyncio.sleep(5)
            assert not watching.done(), watching.exception()
            watching.cancel()
            assert await admitted(world) == [("web", 2)], kill_at
            assert await pods(world, "web") == (["web-0", "web-1"], []), kill_at
            assert len(await workloads(world)) == 1
        return turns.count

    return run_virtual(main())


@pytest.mark.parametrize("share", range(SHARES))
def test_groups_keep_within_quota_and_come_back_wherever_the_controllers_die(share: int) -> None:
    total = once(None)
    assert total > 100
    for kill_at in range(1 + share, total, SHARES):
        once(kill_at)

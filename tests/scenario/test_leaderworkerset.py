"""LeaderWorkerSet in virtual time: groups, restarts as one, rolling updates, scaling, placement, kills anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world

from atoll.base.errors import Invalid
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import builtin
from atoll.kinds.batch import LEADER_WORKER_SETS
from atoll.kinds.builtin import CONTROLLER_REVISIONS, PODS, SERVICES, STATEFUL_SETS
from atoll.objects.meta import copy
from atoll.runtime.virtual import run_virtual

PREFIX = "leaderworkerset.sigs.k8s.io"
RACKS = [SimulatedGroup(2, f"r{rack}", cpu="4", labels={"net/rack": f"r{rack}"}) for rack in range(3)]


def play(main: Any) -> None:
    async def whole() -> None:
        async with batch_world(*RACKS) as world:
            await main(world)

    run_virtual(whole())


def template(image: str = "one") -> Any:
    container = {"name": "c", "image": image, "resources": {"requests": {"cpu": "1"}}}
    return {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}


def lws(replicas: int = 2, size: int = 3, image: str = "one", name: str = "s", **more: Any) -> Any:
    inner = {"size": size, "workerTemplate": template(image), **more.pop("inner", {})}
    metadata = {"name": name, "annotations": more.pop("annotations", {})}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": metadata,
        "spec": {"replicas": replicas, "leaderWorkerTemplate": inner, **more},
    }  # fmt: skip


async def get(world: BatchWorld, name: str = "s") -> Any:
    return copy(await world.client.get(LEADER_WORKER_SETS, name, "default"))


async def ready(world: BatchWorld, count: int, updated: int | None = None) -> bool:
    status = (await get(world)).get("status") or {}
    return status.get("readyReplicas") == count and updated in (None, status.get("updatedReplicas"))


async def says(world: BatchWorld, kind: str) -> bool:
    found = ((await get(world)).get("status") or {}).get("conditions") or ()
    return any(item["type"] == kind and item["status"] == "True" for item in found)


async def uids(world: BatchWorld) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.pods()}


def test_groups_names_addresses_and_labels() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws())
        await world.until(lambda: ready(world, 2))
        assert await world.running("s-") == ["s-0", "s-0-1", "s-0-2", "s-1", "s-1-1", "s-1-2"]
        pod = await world.client.get(PODS, "s-1-2", "default")
        labels = pod["metadata"]["labels"]
        assert {name: labels[f"{PREFIX}/{name}"] for name in ("name", "group-index", "worker-index")} == {
            "name": "s", "group-index": "1", "worker-index": "2",
        }  # fmt: skip
        leader = await world.client.get(PODS, "s-1", "default")
        assert labels[f"{PREFIX}/group-key"] == leader["metadata"]["labels"][f"{PREFIX}/group-key"]
        variables = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
        assert variables == {
            "LWS_LEADER_ADDRESS": "s-1.s.default", "LWS_GROUP_SIZE": "3", "LWS_WORKER_INDEX": "2",
        }  # fmt: skip
        assert (await world.client.get(SERVICES, "s", "default"))["spec"]["clusterIP"] == "None"
        workers = await world.client.get(STATEFUL_SETS, "s-1", "default")
        assert workers["metadata"]["ownerReferences"][0]["kind"] == "Pod"
        status = (await get(world))["status"]
        assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 2, 2)
        assert status["hpaPodSelector"] == f"{PREFIX}/name=s,{PREFIX}/worker-index=0"
        assert await says(world, "Available")
        assert not await says(world, "Progressing")

    play(main)


def test_a_group_restarts_as_one() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws())
        await world.until(lambda: ready(world, 2))
        before = await uids(world)
        await world.client.delete(PODS, "s-0-2", "default")
        await asyncio.sleep(5)
        await world.until(lambda: ready(world, 2))
        after = await uids(world)
        assert {name for name in before if before[name] != after[name]} == {"s-0", "s-0-1", "s-0-2"}
        plain = lws(name="t", replicas=1, inner={"restartPolicy": "None"})
        await world.apply(plain)
        await world.until(lambda: all_run(world, "t-", 3))
        before = await uids(world)
        await world.client.delete(PODS, "t-0-2", "default")
        await asyncio.sleep(10)
        after = await uids(world)
        assert {name for name in before if before[name] != after[name]} == {"t-0-2"}

    play(main)


async def all_run(world: BatchWorld, prefix: str, count: int) -> bool:
    return len(await world.running(prefix)) == count


def test_workers_wait_for_a_ready_leader() -> None:
    async def main(world: BatchWorld) -> None:
        leader = template()
        leader["spec"]["nodeSelector"] = {"net/rack": "none"}
        await world.apply(lws(1, 3, startupPolicy="LeaderReady", inner={"leaderTemplate": leader}))
        await asyncio.sleep(10)
        assert set(await uids(world)) == {"s-0"}
        await world.client.patch(builtin.NODES, "r1-0", {"metadata": {"labels": {"net/rack": "none"}}})
        await world.until(lambda: ready(world, 1))
        assert len(await uids(world)) == 3

    play(main)


@pytest.mark.parametrize(
    ("config", "least", "most"), [({"maxUnavailable": 1}, 2, 3), ({"maxUnavailable": 0, "maxSurge": 1}, 3, 4)]
)
def test_a_rolling_update_keeps_groups_available(config: Any, least: int, most: int) -> None:
    async def main(world: BatchWorld) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdateConfiguration": config}
        await world.apply(lws(3, 2, rolloutStrategy=strategy))
        await world.until(lambda: ready(world, 3, 3))
        obj = await get(world)
        obj["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template("two")
        page = await world.client.list(LEADER_WORKER_SETS)
        await world.client.update(LEADER_WORKER_SETS, obj)
        seen = await statuses_until_settled(world, page.resource_version, 3)
        assert min(status["readyReplicas"] for status in seen) == least
        assert max(status["replicas"] for status in seen) == most
        images = {pod["spec"]["containers"][0]["image"] for pod in await world.pods()}
        assert images == {"two"}
        kept = (await world.client.list(CONTROLLER_REVISIONS, label_selector=f"{PREFIX}/name=s")).items
        own = [item for item in kept if item["metadata"]["ownerReferences"][0]["kind"] == "LeaderWorkerSet"]
        assert len(own) == 1

    play(main)


async def statuses_until_settled(world: BatchWorld, since: str, replicas: int) -> list[Any]:
    """Each status that is written, up to the end of the update."""
    found: list[Any] = []
    async for event in world.client.watch(LEADER_WORKER_SETS, "default", resource_version=since):
        status = event.object["status"]
        if not found and event.object["metadata"]["generation"] == status["observedGeneration"] == 1:
            continue
        found.append(status)
        if event.object["metadata"]["generation"] != status["observedGeneration"]:
            continue
        changing = any(it["type"] == "UpdateInProgress" and it["status"] == "True" for it in status["conditions"])
        if not changing and status["updatedReplicas"] == status["replicas"] == replicas == status["readyReplicas"]:
            return found
    raise AssertionError("the watch ended")


def test_a_partition_keeps_old_groups_as_they_were_even_when_they_restart() -> None:
    async def main(world: BatchWorld) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdateConfiguration": {"partition": 1, "maxUnavailable": 1}}
        await world.apply(lws(2, 2, rolloutStrategy=strategy))
        await world.until(lambda: ready(world, 2, 2))
        obj = await get(world)
        obj["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template("two")
        await world.client.update(LEADER_WORKER_SETS, obj)
        await asyncio.sleep(30)
        await world.until(lambda: ready(world, 2, 1))
        await world.client.delete(PODS, "s-0-1", "default")
        await asyncio.sleep(30)
        await world.until(lambda: ready(world, 2, 1))
        images = {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in await world.pods()}
        assert images == {"s-0": "one", "s-0-1": "one", "s-1": "two", "s-1-1": "two"}

    play(main)


def test_it_scales() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws(1, 2))
        await world.until(lambda: ready(world, 1))
        for count in (3, 1):
            await world.client.patch(LEADER_WORKER_SETS, "s", {"spec": {"replicas": count}}, "default")
            await world.until(lambda count=count: ready(world, count))
            await world.until(lambda count=count: all_run(world, "s-", 2 * count))

    play(main)


def test_each_group_in_a_rack_of_its_own_and_services_of_their_own() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws(2, 4, annotations={f"{PREFIX}/exclusive-topology": "net/rack"},
                              networkConfig={"subdomainPolicy": "UniquePerReplica"}))  # fmt: skip
        await world.until(lambda: ready(world, 2))
        where = await world.nodes_of("s-")
        racks = [{node[:2] for pod, node in where.items() if pod.split("-")[1] == str(group)} for group in range(2)]
        assert [len(found) for found in racks] == [1, 1]
        assert racks[0] != racks[1]
        assert (await world.client.get(SERVICES, "s-1", "default"))["spec"]["selector"][f"{PREFIX}/group-index"] == "1"
        pod = await world.client.get(PODS, "s-1-3", "default")
        assert pod["spec"]["subdomain"] == "s-1"

    play(main)


def test_a_group_that_does_not_fit_waits_as_one() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws(2, 16))
        await asyncio.sleep(10)
        held = [len([pod for pod in await world.nodes_of("s-") if pod.split("-")[1] == str(n)]) for n in range(2)]
        assert sorted(held) == [0, 16]
        waiting = "s-1-3" if held[0] else "s-0-3"
        assert f"gang default/s-{waiting[2]}: needs room for 16 pods of 1 cpu" in await world.why(waiting)

    play(main)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"inner": {"subGroupPolicy": {"subGroupSize": 5}}}, "5 is more than the size, 3"),
        ({"rolloutStrategy": {"rollingUpdateConfiguration": {"maxUnavailable": 0}}}, "must not be 0 when maxSurge is"),
        ({"name": "1s"}, "must be a DNS label"),
    ],
)  # fmt: skip
def test_mistakes_are_refused(more: Any, words: str) -> None:
    async def main(world: BatchWorld) -> None:
        with pytest.raises(Invalid, match=words):
            await world.apply(lws(**more))

    play(main)


@pytest.mark.parametrize("share", range(3))
def test_controllers_may_be_killed_at_any_await(share: int) -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(lws(2, 2))
        for steps in range(share, 90, 9):
            await steps_then_restart(world, steps)
        await world.until(lambda: ready(world, 2, 2))
        obj = await get(world)
        obj["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template("two")
        await world.client.update(LEADER_WORKER_SETS, obj)
        for steps in range(share, 120, 12):
            await steps_then_restart(world, steps)
        await asyncio.sleep(5)
        await world.until(lambda: ready(world, 2, 2))
        images = {pod["spec"]["containers"][0]["image"] for pod in await world.pods()}
        assert images == {"two"}

    play(main)


async def steps_then_restart(world: BatchWorld, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.stop()
    world.start()

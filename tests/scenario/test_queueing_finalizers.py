"""What is in use stays: a deleted Workload's quota until its job rests, a group's deleted pods until they are replaced.

In virtual time; the last two with the controllers killed at every turn of the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup
from turns import killed_before

from atoll.base.errors import NotFound
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import JOBS, PODS
from atoll.objects.meta import condition, is_deleting
from atoll.runtime.virtual import run_virtual

API = f"{kueue.GROUP}/{kueue.VERSION}"
SHARES = 4


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


def member(name: str, group: str, total: int, seconds: int = 20, code: str = "0", **notes: str) -> Any:
    said = {"scenario/exit-code": code, "scenario/run-seconds": str(seconds), kueue.POD_GROUP_TOTAL: str(total)}
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": 1}}}
    metadata = {
        "name": name,
        "labels": {kueue.QUEUE_LABEL: "q", kueue.POD_GROUP_LABEL: group},
        "annotations": {**said, **notes},
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def classes(world: QueueingWorld) -> None:
    for name, value in (("low", 1), ("high", 9)):
        made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)


def holds(obj: Any, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


async def pods_of(world: QueueingWorld, group: str) -> dict[str, Any]:
    found = await world.client.list(PODS, label_selector=f"{kueue.POD_GROUP_LABEL}={group}")
    return {pod["metadata"]["name"]: pod for pod in found.items}


async def group_of(world: QueueingWorld, name: str) -> Any:
    return await world.client.get(kueue.WORKLOADS, name, "default")


def runs(pod: Any) -> bool:
    over = pod["status"].get("phase") in ("Succeeded", "Failed")
    return bool(pod["spec"].get("nodeName")) and not over and not is_deleting(pod)


async def never_more_than(world: QueueingWorld, most: int) -> None:
    """Pods on nodes that have not ended and were not told to, after each change of one."""
    async for _ in world.client.watch(PODS, resource_version="0"):
        running = [pod["metadata"]["name"] for pod in (await world.client.list(PODS)).items if runs(pod)]
        assert len(running) <= most, running


# -- Workloads


async def delete_the_first(world: QueueingWorld) -> None:
    """Its job runs, another waits for its quota."""
    await world.apply(job("first", "q", 1, 2, 12))
    await asyncio.sleep(4)
    await world.apply(job("second", "q", 1, 2, 5))
    await asyncio.sleep(2)
    workload = (await world.workloads())["first"]
    await world.client.delete(kueue.WORKLOADS, workload["metadata"]["name"], "default")


async def seen_leaving(world: QueueingWorld) -> list[str]:
    """How the first job was while its Workload was leaving, and when it was gone."""
    found: list[str] = []
    async for event in world.client.watch(kueue.WORKLOADS, resource_version="0"):
        if event.object["metadata"]["ownerReferences"][0]["name"] != "first":
            continue
        first = await world.client.get(JOBS, "first", "default")
        if event.type == "DELETED":
            assert first["spec"]["suspend"] and not first["status"].get("active")
            return [*found, "at rest"]
        if is_deleting(event.object):
            assert await world.holding("QuotaReserved") == ["first"]
            found += ["admitted" if holds(event.object, "Admitted") else "?"]
            while not first["spec"]["suspend"]:
                await asyncio.sleep(0)
                first = await world.client.get(JOBS, "first", "default")
            found += ["suspended"]
    return found


def test_a_deleted_workload_keeps_its_quota_until_its_job_rests() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2))
        watching = asyncio.create_task(never_more_than(world, 2))
        seeing = asyncio.create_task(seen_leaving(world))
        await delete_the_first(world)
        await asyncio.sleep(5)
        assert seeing.result() == ["admitted", "suspended", "at rest"]
        assert await world.holding("QuotaReserved") == ["second"], "the other was there before the new one"
        await asyncio.sleep(60)
        assert await world.holding("Finished") == ["first", "second"]
        assert not watching.done()
        watching.cancel()

    play(main)


def test_a_workload_that_waits_or_is_over_is_deleted_at_once() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 1))
        await world.apply(job("runs", "q", 1, 1, 5))
        await asyncio.sleep(2)
        await world.apply(job("waits", "q", 1, 1, 5))
        await asyncio.sleep(1)
        before = await world.workloads()
        await world.client.delete(kueue.WORKLOADS, before["waits"]["metadata"]["name"], "default")
        await asyncio.sleep(1)
        after = await world.workloads()
        assert after["waits"]["metadata"]["uid"] != before["waits"]["metadata"]["uid"]
        await asyncio.sleep(30)
        assert await world.holding("Finished") == ["runs", "waits"]
        await world.client.delete(kueue.WORKLOADS, before["runs"]["metadata"]["name"], "default")
        await asyncio.sleep(1)
        assert list(await world.workloads()) == ["waits"]

    play(main)


@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
def test_a_job_that_is_deleted_goes_with_its_workload(propagation: str) -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 1))
        await world.apply(job("gone", "q", 1, 1, 100))
        await asyncio.sleep(3)
        await world.apply(job("next", "q", 1, 1, 5))
        await world.client.delete(JOBS, "gone", "default", options=DeleteOptions(propagation=propagation))
        await asyncio.sleep(15)
        assert list(await world.workloads()) == ["next"]
        assert await world.holding("Admitted") == ["next"]
        assert [it["metadata"]["name"] for it in (await world.client.list(JOBS)).items] == ["next"]

    play(main)


def test_a_pod_group_goes_with_its_workload() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2))
        await world.apply(member("a", "pair", 2, 100), member("b", "pair", 2, 100))
        await asyncio.sleep(4)
        await world.apply(job("next", "q", 1, 2, 5))
        await world.client.delete(kueue.WORKLOADS, "pair", "default")
        await asyncio.sleep(1)
        assert await world.holding("QuotaReserved") == ["a"], "its pods still stop"
        await asyncio.sleep(10)
        assert await pods_of(world, "pair") == {} and list(await world.workloads()) == ["next"]
        assert await world.holding("Admitted") == ["next"]

    play(main)


# -- pods of groups


def test_a_pod_that_failed_stays_until_another_has_its_place() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2))
        await world.apply(member("a", "pair", 2, 5, code="1"), member("b", "pair", 2, 60))
        await asyncio.sleep(10)
        await world.client.delete(PODS, "a", "default")
        await asyncio.sleep(3)
        assert sorted(await pods_of(world, "pair")) == ["a", "b"]
        lacking = condition(await group_of(world, "pair"), kueue.WAITS_FOR_PODS)
        assert lacking is not None and lacking["status"] == "True" and "lacks 1" in lacking["message"]
        await world.apply(member("a2", "pair", 2, 5))
        await asyncio.sleep(3)
        assert sorted(await pods_of(world, "pair")) == ["a2", "b"]
        group = await group_of(world, "pair")
        assert not holds(group, kueue.WAITS_FOR_PODS)
        assert {owner["name"] for owner in group["metadata"]["ownerReferences"]} >= {"a2", "b"}
        await asyncio.sleep(60)
        assert condition(await group_of(world, "pair"), "Finished")["message"] == "Pods succeeded: 2/2."
        await world.client.delete(PODS, "b", "default")
        await asyncio.sleep(3)
        assert sorted(await pods_of(world, "pair")) == ["a2"]

    play(main)


def test_a_failure_is_seen_though_the_pod_was_deleted() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2))
        final = {kueue.RETRIABLE_IN_GROUP: "false"}
        await world.apply(member("a", "pair", 2, 60, **final), member("b", "pair", 2, 10))
        await asyncio.sleep(3)
        await world.client.delete(PODS, "a", "default")
        await asyncio.sleep(20)
        over = condition(await group_of(world, "pair"), "Finished")
        assert over is not None and (over["reason"], over["message"]) == ("Failed", "Pods succeeded: 1/2.")
        assert sorted(await pods_of(world, "pair")) == ["b"]

    play(main)


@pytest.mark.parametrize("runs_already", [True, False])
def test_a_group_that_is_deleted_as_a_whole_goes(runs_already: bool) -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2 if runs_already else 1))
        await world.apply(member("a", "pair", 2, 100), member("b", "pair", 2, 100))
        await asyncio.sleep(4)
        await world.client.delete(PODS, "a", "default")
        await asyncio.sleep(4)
        assert sorted(await pods_of(world, "pair")) == ["a", "b"]
        await world.client.delete(PODS, "b", "default")
        await asyncio.sleep(20)
        assert await pods_of(world, "pair") == {} and await world.workloads() == {}
        queue = await world.client.get(kueue.CLUSTER_QUEUES, "q")
        assert (queue["status"]["reservingWorkloads"], queue["status"]["pendingWorkloads"]) == (0, 0)

    play(main)


def test_an_evicted_group_gets_no_quota_before_its_pods_are_replaced() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        await world.apply(FLAVOR, *setup("q", 2, preemption={"withinClusterQueue": "LowerPriority"}))
        await world.apply(member("a", "pair", 2, 30), member("b", "pair", 2, 30))
        await asyncio.sleep(4)
        await world.apply(job("urgent", "q", 1, 2, 5, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(20)
        assert await world.holding("Finished") == ["urgent"]
        group = await group_of(world, "pair")
        assert holds(group, "Evicted") and holds(group, kueue.WAITS_FOR_PODS) and not holds(group, "QuotaReserved")
        assert sorted(await pods_of(world, "pair")) == ["a", "b"]
        await world.apply(member("a2", "pair", 2, 5), member("b2", "pair", 2, 5))
        await asyncio.sleep(20)
        again = await group_of(world, "pair")
        assert again["metadata"]["uid"] == group["metadata"]["uid"] and holds(again, "Finished")
        assert sorted(await pods_of(world, "pair")) == ["a2", "b2"]

    play(main)


def test_a_group_may_be_admitted_by_its_first_pod_and_never_ends_when_it_serves() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2))
        notes = {kueue.POD_GROUP_FAST: "true", kueue.POD_GROUP_SERVING: "true"}
        await world.apply(member("a", "pair", 2, 5, **notes))
        await asyncio.sleep(3)
        group = await group_of(world, "pair")
        assert holds(group, "Admitted") and group["status"]["admission"]["podSetAssignments"][0]["count"] == 2
        assert runs((await pods_of(world, "pair"))["a"])
        await world.apply(member("b", "pair", 2, 5, **notes))
        await asyncio.sleep(20)
        group = await group_of(world, "pair")
        assert {pod["status"]["phase"] for pod in (await pods_of(world, "pair")).values()} == {"Succeeded"}
        assert holds(group, "Admitted") and not holds(group, "Finished") and "reclaimablePods" not in group["status"]

    play(main)


# -- killed


async def two_jobs(world: QueueingWorld) -> None:
    await delete_the_first(world)
    while await world.holding("Finished") != ["first", "second"]:
        await asyncio.sleep(1)


async def a_group_is_preempted_and_replaced(world: QueueingWorld) -> None:
    await classes(world)
    await world.apply(member("a", "pair", 2, 30), member("b", "pair", 2, 30))
    await asyncio.sleep(4)
    await world.apply(job("urgent", "q", 1, 2, 5, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
    while any(not is_deleting(pod) for pod in (await pods_of(world, "pair")).values()):
        await asyncio.sleep(1)
    assert sorted(await pods_of(world, "pair")) == ["a", "b"], "they stay until they are replaced"
    await world.apply(member("a2", "pair", 2, 5), member("b2", "pair", 2, 5))
    while len(await world.holding("Finished")) < 2:
        await asyncio.sleep(1)
    group = await group_of(world, "pair")
    assert condition(group, "Finished")["message"] == "Pods succeeded: 2/2."
    await asyncio.sleep(3)
    assert sorted(await pods_of(world, "pair")) == ["a2", "b2"]
    with pytest.raises(NotFound):
        await world.client.get(PODS, "a", "default")


def once(scenario: Any, kill_at: int | None) -> int:
    async def main() -> int:
        async with queueing_world() as world:
            await world.apply(FLAVOR, *setup("q", 2, preemption={"withinClusterQueue": "LowerPriority"}))
            await asyncio.sleep(1)
            watching = asyncio.create_task(never_more_than(world, 2))
            with killed_before(kill_at, world.kill, world.start) as turns:
                async with asyncio.timeout(900):
                    await scenario(world)
            assert not watching.done(), watching.exception()
            watching.cancel()
        return turns.count

    return run_virtual(main())


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("scenario", [two_jobs, a_group_is_preempted_and_replaced])
def test_nothing_runs_beyond_quota_or_is_lost_wherever_the_controllers_die(scenario: Any, share: int) -> None:
    total = once(scenario, None)
    assert total > 100
    for kill_at in range(1 + share, total, SHARES):
        once(scenario, kill_at)

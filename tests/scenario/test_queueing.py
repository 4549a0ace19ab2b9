"""Kueue's kinds in virtual time: published manifests, borrowing, preemption, checks, time-outs, kills anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup
from turns import killed_before

from atoll.base.errors import Invalid
from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS, EVENTS, JOBS, NAMESPACES, PODS
from atoll.runtime.virtual import run_virtual

INPUTS = Path(__file__).parents[3] / "shared" / "inputs" / "kueue"
SHARES = 8
published = pytest.mark.skipif(not INPUTS.is_dir(), reason="the published manifests are not on this machine")


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


async def finished(world: QueueingWorld, *names: str, seconds: float = 300) -> None:
    async def holds() -> bool:
        return set(names) <= set(await world.holding("Finished"))

    await world.cluster.until(holds, seconds)


def condition(workload: Any, kind: str) -> Any:
    return next((it for it in (workload.get("status") or {}).get("conditions") or () if it["type"] == kind), {})


@published
def test_a_pod_that_succeeded_and_is_deleted_still_counts_for_its_group() -> None:
    def member(name: str, seconds: int) -> Any:
        notes = {"scenario/exit-code": "0", "scenario/run-seconds": str(seconds), kueue.POD_GROUP_TOTAL: "2"}
        marks = {kueue.QUEUE_LABEL: "q", kueue.POD_GROUP_LABEL: "pair"}
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": 1}}}
        metadata = {"name": name, "labels": marks, "annotations": notes}
        spec = {"restartPolicy": "Never", "containers": [container]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    async def main() -> None:
        async with queueing_world() as world:
            await world.apply(FLAVOR, *setup("q", 2))
            await world.apply(member("short", 5), member("long", 60))
            await asyncio.sleep(20)
            group = await world.client.get(kueue.WORKLOADS, "pair", "default")
            (done,) = group["status"]["reclaimablePods"]
            assert done["count"] == 1
            await world.client.delete(PODS, "short", "default")
            await world.apply(job("next", "q", 1, 1, 5))  # the quota of the one that is done is free
            await asyncio.sleep(5)
            assert "next" in await world.holding("Admitted")
            await world.apply(member("extra", 5))
            await asyncio.sleep(10)
            names = [it["metadata"]["name"] for it in (await world.client.list(PODS)).items]
            assert "extra" not in names, "the group has its two: one too many is deleted, as upstream"
            assert "short" in names, "a pod that is deleted stays until its group is over"
            await asyncio.sleep(45)
            group = await world.client.get(kueue.WORKLOADS, "pair", "default")
            assert condition(group, "Finished")["message"] == "Pods succeeded: 2/2."
            left = await world.client.list(PODS, label_selector=f"{kueue.POD_GROUP_LABEL}=pair")
            assert [it["metadata"]["name"] for it in left.items] == ["long"]

    run_virtual(main())


def test_the_published_job_and_pod_group_run_to_their_end() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply_file(INPUTS / "single-clusterqueue-setup.yaml")
        (made,) = await world.apply(job("first", "user-queue", 3, 3))
        assert made["spec"]["suspend"] is True
        await asyncio.sleep(1)
        await world.apply_file(INPUTS / "kueue-pod-group.yaml")
        await asyncio.sleep(3)
        assert await world.holding("Admitted") == ["first"]
        gated = [it for it in (await world.client.list(PODS)).items if it["spec"].get("schedulingGates")]
        assert len(gated) == 2
        group = next(
            it for it in (await world.client.list(kueue.WORKLOADS)).items if it["metadata"]["name"] == "sample-group"
        )
        assert group["spec"]["podSets"][0]["count"] == 2
        assert (
            "insufficient unused quota for cpu in flavor default-flavor, 6 more needed"
            in condition(group, "QuotaReserved")["message"]
        )
        queue = await world.client.get(kueue.CLUSTER_QUEUES, "cluster-queue")
        assert (queue["status"]["pendingWorkloads"], queue["status"]["admittedWorkloads"]) == (1, 1)
        assert queue["status"]["flavorsUsage"][0]["resources"][0] == {"name": "cpu", "total": "9", "borrowed": "0"}
        await finished(world, "first")
        await asyncio.sleep(4)
        pods = [
            it for it in (await world.client.list(PODS)).items if it["metadata"]["labels"].get(kueue.POD_GROUP_LABEL)
        ]
        assert [it["status"]["phase"] for it in pods] == ["Running"] * 2
        for pod in pods:
            await world.client.update(
                PODS, {**pod, "status": {**pod["status"], "phase": "Succeeded"}}, subresource="status"
            )
        await finished(world, pods[0]["metadata"]["name"])
        local = await world.client.get(kueue.LOCAL_QUEUES, "user-queue", "default")
        await asyncio.sleep(2)
        local = await world.client.get(kueue.LOCAL_QUEUES, "user-queue", "default")
        assert (local["status"]["reservingWorkloads"], local["status"]["pendingWorkloads"]) == (0, 0)

    play(main)


@published
def test_the_quick_start() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply_file(INPUTS / "quick-start-setup.yaml")
        await world.apply_file(INPUTS / "quick-start-job.yaml")
        await world.apply_file(INPUTS / "sample-job.yaml")
        await asyncio.sleep(5)
        assert len(await world.holding("PodsReady")) == 2
        reasons = {it["reason"] for it in (await world.client.list(EVENTS)).items}
        assert {"CreatedWorkload", "QuotaReserved", "Admitted", "Started"} <= reasons

    play(main)


async def two_teams(world: QueueingWorld) -> None:
    policy = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}
    await world.apply(
        FLAVOR, *setup("a", 4, cohort="all", preemption=policy), *setup("b", 4, cohort="all", preemption=policy)
    )


def test_a_team_borrows_and_gives_back() -> None:
    async def main(world: QueueingWorld) -> None:
        await two_teams(world)
        await world.apply(job("big", "a", 2, 4, 60))
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == ["big"]
        await world.apply(job("own", "b", 4, 1, 10))
        await asyncio.sleep(2)
        big = (await world.workloads())["big"]
        assert condition(big, "Evicted")["reason"] == "Preempted"
        assert condition(big, "Preempted")["reason"] == "InCohortReclamation"
        await asyncio.sleep(8)
        assert await world.holding("Admitted") == ["own"]
        big = (await world.workloads())["big"]
        assert condition(big, "QuotaReserved")["status"] == "False"
        assert "admission" not in big["status"]
        stopped = await world.client.get(JOBS, "big", "default")
        assert stopped["spec"]["suspend"] is True
        await finished(world, "own", "big")
        running = [it for it in (await world.client.list(PODS)).items if it["status"]["phase"] == "Running"]
        assert not running

    play(main)


def test_flavours_put_their_labels_in_and_eviction_takes_them_out() -> None:
    async def main(world: QueueingWorld) -> None:
        flavor = {
            **FLAVOR,
            "spec": {"nodeLabels": {"type": "spot"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
        }
        await world.apply(flavor, *setup("a", 4))
        await world.apply(job("w", "a", 1, 1, 600))
        await asyncio.sleep(3)
        spec = (await world.client.get(JOBS, "w", "default"))["spec"]
        assert spec["template"]["spec"]["nodeSelector"] == {"type": "spot"}
        assert spec["template"]["spec"]["tolerations"][0]["key"] == "spot"
        await world.client.patch(kueue.CLUSTER_QUEUES, "a", {"spec": {"stopPolicy": "HoldAndDrain"}})
        await asyncio.sleep(10)
        spec = (await world.client.get(JOBS, "w", "default"))["spec"]
        assert spec["suspend"] is True
        assert "nodeSelector" not in spec["template"]["spec"]
        assert "tolerations" not in spec["template"]["spec"]
        assert condition((await world.workloads())["w"], "Evicted")["reason"] == "ClusterQueueStopped"
        await world.client.patch(kueue.CLUSTER_QUEUES, "a", {"spec": {"stopPolicy": "None"}})
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == ["w"]

    play(main)


def test_an_admission_check_says_yes_and_no() -> None:
    async def main(world: QueueingWorld) -> None:
        check = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "AdmissionCheck", "metadata": {"name": "look"},
                 "spec": {"controllerName": "example.com/look"}}  # fmt: skip
        strategy = {"admissionChecks": [{"name": "look"}]}
        await world.apply(FLAVOR, check, *setup("a", 4, admissionChecksStrategy=strategy), job("w", "a", 1, 1, 600))
        await asyncio.sleep(2)
        queue = await world.client.get(kueue.CLUSTER_QUEUES, "a")
        assert condition(queue, "Active")["reason"] == "AdmissionCheckInactive"
        active = {
            "type": "Active",
            "status": "True",
            "reason": "Active",
            "message": "",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }
        made = await world.client.get(kueue.ADMISSION_CHECKS, "look")
        await world.client.update(
            kueue.ADMISSION_CHECKS, {**made, "status": {"conditions": [active]}}, subresource="status"
        )
        await asyncio.sleep(2)
        assert await world.holding("QuotaReserved") == ["w"]
        assert await world.holding("Admitted") == []
        for state, admitted in (("Ready", ["w"]), ("Rejected", [])):
            workload = (await world.workloads())["w"]
            states = [{**it, "state": state} for it in workload["status"]["admissionChecks"]]
            changed = {**workload, "status": {**workload["status"], "admissionChecks": states}}
            await world.client.update(kueue.WORKLOADS, changed, subresource="status")
            await asyncio.sleep(10)
            assert await world.holding("Admitted") == admitted
        workload = (await world.workloads())["w"]
        assert workload["spec"]["active"] is False
        assert (await world.client.get(JOBS, "w", "default"))["spec"]["suspend"] is True

    play(main)


def test_pods_that_are_not_ready_in_time_go_back_later_and_later() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.client.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        )
        text = (
            "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nwaitForPodsReady:\n  timeout: 20s\n"
            "  requeuingStrategy: {backoffBaseSeconds: 30, backoffLimitCount: 1}\n"
        )
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kueue-manager-config"},
                  "data": {"controller_manager_config.yaml": text}}  # fmt: skip
        await world.client.create(CONFIGMAPS, config, "kueue-system")
        slow = job("slow", "a", 1)
        slow["spec"]["template"]["metadata"]["annotations"] = {"scenario/never-ready": "yes"}
        await world.apply(FLAVOR, *setup("a", 4), slow)
        await asyncio.sleep(30)
        workload = (await world.workloads())["slow"]
        assert condition(workload, "Evicted")["reason"] == "PodsReadyTimeout"
        assert condition(workload, "Requeued")["status"] == "False"
        assert workload["status"]["requeueState"]["count"] == 1
        await asyncio.sleep(35)
        assert await world.holding("Admitted") == ["slow"]
        await asyncio.sleep(30)
        assert (await world.workloads())["slow"]["spec"]["active"] is False

    play(main)


def test_partial_admission_runs_with_fewer_pods() -> None:
    async def main(world: QueueingWorld) -> None:
        elastic = job("elastic", "a", 1, 6, 5)
        elastic["metadata"]["annotations"] = {kueue.MIN_PARALLELISM: "2"}
        await world.apply(FLAVOR, *setup("a", 4), elastic)
        await asyncio.sleep(3)
        assert (await world.client.get(JOBS, "elastic", "default"))["spec"]["parallelism"] == 4
        await finished(world, "elastic")

    play(main)


def test_mistakes_are_refused_with_what_to_do() -> None:
    async def main(world: QueueingWorld) -> None:
        def cohort(name: str, parent: str = "") -> Any:
            spec = {"parentName": parent} if parent else {}
            return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Cohort", "metadata": {"name": name}, "spec": spec}

        await world.apply(cohort("x", "y"), cohort("y", "z"))
        with pytest.raises(Invalid, match="z → x → y → z"):
            await world.apply(cohort("z", "x"))
        (queue, _) = setup("a", 4, cohort="all")
        resources = queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]
        resources["lendingLimit"] = 9
        with pytest.raises(Invalid, match="lendingLimit: 9 is more than the nominal quota, 4"):
            await world.apply(queue)
        labels = {kueue.QUEUE_LABEL: "a", kueue.POD_GROUP_LABEL: "g"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels},
               "spec": {"containers": [{"name": "c", "image": "i"}]}}  # fmt: skip
        with pytest.raises(Invalid, match="must be the number of the group's pods"):
            await world.apply(pod)
        pods = {"count": 3, "minCount": 1, "template": {"spec": {"containers": []}}}
        bad = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "metadata": {"name": "w"},
               "spec": {"podSets": [{**pods, "name": name} for name in "ab"]}}  # fmt: skip
        with pytest.raises(Invalid, match="at most one podSet can use minCount"):
            await world.apply(bad)

    play(main)


def test_where_a_real_kueue_runs_ours_is_off() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("a", 4))
        await world.client.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        )
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kueue-controller-manager"},
                  "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}  # fmt: skip
        await world.client.create(DEPLOYMENTS, theirs, "kueue-system")
        await asyncio.sleep(1)
        await world.apply(job("w", "a"))
        await asyncio.sleep(5)
        assert (await world.client.get(JOBS, "w", "default"))["spec"]["suspend"] is False
        assert await world.workloads() == {}

    play(main)


def reserved_cpu(workloads: list[Any]) -> int:
    """Of all that have quota and are not over."""
    unfinished = [item for item in workloads if not condition(item, "Finished")]
    holding = [item for item in unfinished if condition(item, "QuotaReserved").get("status") == "True"]
    return sum(int(it["resourceUsage"]["cpu"]) for w in holding for it in w["status"]["admission"]["podSetAssignments"])


async def small_scenario(world: QueueingWorld) -> None:
    await two_teams(world)
    await world.apply(job("big", "a", 2, 4, 30))
    await asyncio.sleep(4)
    await world.apply(job("own", "b", 4, 1, 5), job("late", "a", 3, 1, 5))


async def watched(world: QueueingWorld) -> int:
    """Play to the end; at every change of a Workload what is reserved is within quota. Returns the admissions."""
    admissions = 0
    seen: dict[str, str] = {}
    events = world.client.watch(kueue.WORKLOADS, resource_version="0")
    async for event in events:
        items = (await world.client.list(kueue.WORKLOADS)).items
        assert reserved_cpu(items) <= 8
        obj = event.object
        admission = (obj.get("status") or {}).get("admission")
        at = condition(obj, "QuotaReserved").get("lastTransitionTime", "") if admission else ""
        uid = obj["metadata"]["uid"]
        admissions += bool(at and seen.get(uid, "") != at)
        seen[uid] = at
        if len(items) == 3 and all(condition(it, "Finished").get("status") == "True" for it in items):
            return admissions
    raise AssertionError("the watch ended")


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_turn_nothing_is_lost_or_admitted_beyond_quota(share: int) -> None:
    """The controllers are killed before turn n of the loop, for every n, and started again a moment later."""

    def once(kill_at: int | None) -> int:
        async def main() -> int:
            async with queueing_world() as world:
                watching = asyncio.create_task(watched(world))
                with killed_before(kill_at, world.kill, world.start) as turns:
                    await small_scenario(world)
                    async with asyncio.timeout(600):
                        assert await watching == 4, "big twice, since it was preempted; the others once"
                for name in ("big", "own", "late"):
                    found = await world.client.get(JOBS, name, "default")
                    assert any(it["type"] == "Complete" for it in found["status"]["conditions"]), name
            return turns.count

        return run_virtual(main())

    total = once(None)
    assert total > 100
    for kill_at in range(1 + share, total, SHARES):
        once(kill_at)

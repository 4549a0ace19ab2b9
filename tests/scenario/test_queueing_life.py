"""A Workload's life beside quota, in virtual time: stopped queues, time limits, changed priorities, reactivation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, JOBS, NAMESPACES
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

API = f"{kueue.GROUP}/{kueue.VERSION}"


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


async def the(world: QueueingWorld, name: str) -> Any:
    return (await world.workloads())[name]


async def activate(world: QueueingWorld, name: str, active: bool) -> None:
    found = await the(world, name)
    await world.client.update(kueue.WORKLOADS, {**found, "spec": {**found["spec"], "active": active}})


async def classes(world: QueueingWorld) -> None:
    for name, value in (("low", 1), ("high", 9)):
        made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)


@pytest.mark.parametrize("resource", [kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES], ids=lambda it: it.kind)
@pytest.mark.parametrize("policy", ["Hold", "HoldAndDrain"])
def test_a_stopped_queue_lets_run_or_drains_and_takes_reservations_back(resource: Any, policy: str) -> None:
    async def main(world: QueueingWorld) -> None:
        check = {"apiVersion": API, "kind": "AdmissionCheck", "metadata": {"name": "look"},
                 "spec": {"controllerName": "example.com/look"}}  # fmt: skip
        (made,) = await world.apply(check)
        active = {"type": "Active", "status": "True", "reason": "Active", "message": "",
                  "lastTransitionTime": "2024-01-01T00:00:00Z"}  # fmt: skip
        await world.client.update(
            kueue.ADMISSION_CHECKS, {**made, "status": {"conditions": [active]}}, subresource="status"
        )
        await world.apply(FLAVOR, *setup("q", 4, admissionChecksStrategy={"admissionChecks": [{"name": "look"}]}))
        await world.apply(job("runs", "q", seconds=60))
        await asyncio.sleep(3)
        found = await the(world, "runs")
        ready = [{**it, "state": "Ready"} for it in found["status"]["admissionChecks"]]
        said = {**found, "status": {**found["status"], "admissionChecks": ready}}
        await world.client.update(kueue.WORKLOADS, said, subresource="status")
        await world.apply(job("reserves", "q"))
        await asyncio.sleep(3)
        assert (await world.holding("QuotaReserved"), await world.holding("Admitted")) == (
            ["reserves", "runs"],
            ["runs"],
        )
        space = "default" if resource.namespaced else None
        await world.client.patch(resource, "q", {"spec": {"stopPolicy": policy}}, space)
        await asyncio.sleep(10)
        kept = ["runs"] if policy == "Hold" else []
        assert (await world.holding("QuotaReserved"), await world.holding("Admitted")) == (kept, kept)
        reason = "ClusterQueueStopped" if resource is kueue.CLUSTER_QUEUES else "LocalQueueStopped"
        assert (condition(await the(world, "reserves"), "Evicted") or {})["reason"] == reason
        queue = await world.client.get(resource, "q", space)
        assert (condition(queue, "Active") or {})["reason"] == "Stopped"
        await world.client.patch(resource, "q", {"spec": {"stopPolicy": "None"}}, space)
        await asyncio.sleep(5)
        assert await world.holding("QuotaReserved") == ["reserves", "runs"]

    play(main)


def test_time_that_was_run_before_an_eviction_counts_until_it_is_activated_anew() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        limited = job("limited", "q", 2, seconds=900, **{kueue.PRIORITY_CLASS_LABEL: "low"})
        limited["metadata"]["labels"]["kueue.x-k8s.io/max-exec-time-seconds"] = "60"
        policy = {"withinClusterQueue": "LowerPriority"}
        await world.apply(FLAVOR, *setup("q", 2, preemption=policy), limited)
        await asyncio.sleep(40)
        await world.apply(job("urgent", "q", 2, seconds=30, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(20)
        assert await world.holding("Admitted") == ["urgent"]
        past = (await the(world, "limited"))["status"]["accumulatedPastExecutionTimeSeconds"]
        assert 38 <= past <= 48
        await asyncio.sleep(20)
        assert "limited" in await world.holding("Admitted")
        await asyncio.sleep(40)
        found = await the(world, "limited")
        assert found["spec"]["active"] is False and "limited" not in await world.holding("Admitted")
        assert "MaximumExecutionTimeExceeded" in condition(found, "Evicted")["reason"]
        await activate(world, "limited", True)
        await asyncio.sleep(5)
        found = await the(world, "limited")
        assert "accumulatedPastExecutionTimeSeconds" not in found["status"]
        assert condition(found, "DeactivationTarget") is None
        await asyncio.sleep(40)
        assert "limited" in await world.holding("Admitted"), "it has its whole time again"

    play(main)


def test_who_is_activated_anew_does_not_wait_for_an_old_back_off() -> None:
    async def main(world: QueueingWorld) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        await world.client.create(NAMESPACES, space)
        text = (
            "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nwaitForPodsReady:\n  timeout: 10s\n"
            "  requeuingStrategy: {backoffBaseSeconds: 600, backoffLimitCount: 5}\n"
        )
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kueue-manager-config"},
                  "data": {"controller_manager_config.yaml": text}}  # fmt: skip
        await world.client.create(CONFIGMAPS, config, "kueue-system")
        slow = job("slow", "q")
        slow["spec"]["template"]["metadata"]["annotations"] = {"scenario/never-ready": "yes"}
        await world.apply(FLAVOR, *setup("q", 4), slow)
        await asyncio.sleep(20)
        assert (await the(world, "slow"))["status"]["requeueState"]["count"] == 1
        assert await world.holding("Admitted") == []
        await activate(world, "slow", False)
        await asyncio.sleep(5)
        await activate(world, "slow", True)
        await asyncio.sleep(5)
        found = await the(world, "slow")
        assert await world.holding("Admitted") == ["slow"], found["status"]
        assert "requeueState" not in found["status"]

    play(main)


def test_a_running_job_may_be_given_another_priority() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        policy = {"withinClusterQueue": "LowerPriority"}
        await world.apply(FLAVOR, *setup("q", 2, preemption=policy))
        await world.apply(job("first", "q", 2, seconds=300, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(3)
        await world.apply(job("second", "q", 2, seconds=300, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == ["first"]
        running = await world.client.get(JOBS, "first", "default")
        labels = {**running["metadata"]["labels"], kueue.PRIORITY_CLASS_LABEL: "low"}
        await world.client.update(JOBS, {**running, "metadata": {**running["metadata"], "labels": labels}})
        await asyncio.sleep(15)
        spec = (await the(world, "first"))["spec"]
        assert (spec["priority"], spec["priorityClassRef"]["name"]) == (1, "low")
        assert await world.holding("Admitted") == ["second"], "the first is lower now"

    play(main)

"""Pods get nodes, or are told why not; more important ones push others out."""

from __future__ import annotations

from scheduling_world import world

from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds.builtin import NODES, PODS, PRIORITY_CLASSES
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

SMALL = SimulatedGroup(2, "small", cpu="2", zones=("a", "b"))


def test_a_pod_runs():
    async def main():
        async with world(SMALL) as cluster:
            await cluster.pod("p", spec={"nodeSelector": {"topology.kubernetes.io/zone": "b"}})
            pod = await cluster.phase("p", "Running")
            assert pod["spec"]["nodeName"] == "small-1"
            assert condition(pod, "PodScheduled")["status"] == "True"
            assert condition(pod, "Ready")["status"] == "True"
            assert pod["status"]["podIP"]
            [event] = await cluster.until(lambda: cluster.events("Scheduled"))
            assert event["message"] == "Successfully assigned default/p to small-1"

    run_virtual(main())


def test_why_not_then_a_node_comes():
    async def main():
        async with world(SMALL) as cluster:
            await cluster.pod("p", cpu="4")
            message = await cluster.why_not("p")
            assert message == (
                "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, "
                "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
            )
            [event] = await cluster.until(lambda: cluster.events("FailedScheduling"))
            assert event["message"] == message
            await cluster.simulated.add([SimulatedGroup(1, "big", cpu="8")])
            assert (await cluster.phase("p", "Running"))["spec"]["nodeName"] == "big-0"

    run_virtual(main())


def test_reasons_are_counted_and_sorted():
    async def main():
        async with world(SMALL) as cluster:
            await cluster.client.patch(NODES, "small-0", {"spec": {"unschedulable": True}})
            await cluster.pod("filler", cpu="1900m")
            await cluster.phase("filler", "Running")
            await cluster.pod("p", cpu="1")
            assert await cluster.why_not("p", "Insufficient") == (
                "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. "
                "no new claims to deallocate, preemption: 0/2 nodes are available: "
                "1 No preemption victims found for incoming pod, "
                "1 Preemption is not helpful for scheduling."
            )
            await cluster.client.delete(PODS, "filler", "default")
            await cluster.phase("p", "Running")

    run_virtual(main())


def test_preemption():
    async def main():
        async with world(SMALL) as cluster:
            await cluster.client.create(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 1000})
            await cluster.client.create(PRIORITY_CLASSES, {"metadata": {"name": "low"}, "value": 10})
            meek = {"metadata": {"name": "meek"}, "value": 1000, "preemptionPolicy": "Never"}
            await cluster.client.create(PRIORITY_CLASSES, meek)
            for number in range(2):
                await cluster.pod(f"low-{number}", cpu="1500m", spec={"priorityClassName": "low"})
                await cluster.phase(f"low-{number}", "Running")
            await cluster.pod("meek", cpu="1", spec={"priorityClassName": "meek"})
            assert (await cluster.why_not("meek")).endswith("preemption: not eligible due to preemptionPolicy=Never.")
            await cluster.pod("high", cpu="1", spec={"priorityClassName": "high"})
            await cluster.phase("high", "Running")
            left = [item["metadata"]["name"] for item in (await cluster.client.list(PODS, "default")).items]
            assert len([name for name in left if name.startswith("low")]) == 1
            [event] = await cluster.until(lambda: cluster.events("Preempted"))
            assert event["involvedObject"]["name"].startswith("low-")

    run_virtual(main())


def test_scheduling_gates_and_other_schedulers():
    async def main():
        async with world(SMALL) as cluster:
            await cluster.pod("gated", spec={"schedulingGates": [{"name": "example.com/wait"}]})
            await cluster.pod("other", spec={"schedulerName": "someone-else"})
            await cluster.pod("last")
            await cluster.phase("last", "Running")
            assert not (await cluster.get("gated"))["spec"].get("nodeName")
            assert not (await cluster.get("other"))["spec"].get("nodeName")
            await cluster.client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, "default")
            await cluster.phase("gated", "Running")

    run_virtual(main())


def test_same_seed_same_placement():
    async def main():
        async with world(SimulatedGroup(5, "n", zones=("a", "b"))) as cluster:
            for number in range(12):
                await cluster.pod(f"p{number}", labels={"app": "x"})
            for number in range(12):
                await cluster.phase(f"p{number}", "Running")
            items = (await cluster.client.list(PODS, "default")).items
            return {item["metadata"]["name"]: item["spec"]["nodeName"] for item in items}

    assert run_virtual(main()) == run_virtual(main())

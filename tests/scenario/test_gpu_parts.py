"""Pods share GPUs through the API: devices are given at binding, come back, and survive the scheduler's death."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from scheduling_world import world

from atoll.base.chance import Chance
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.scheduler.scheduler import Scheduler
from atoll.kinds.builtin import PODS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import run_virtual
from atoll.scheduling.devices.annotations import COUNT, INDEX, MILLI, MODEL
from atoll.scheduling.plugins.profile import profiles_of

GPUS = SimulatedGroup(2, "gpu", cpu="32", pods="500", resources={COUNT: "2"}, labels={MODEL: "T4"})


def sharing(score="ProspectScore"):
    plugins = {
        "filter": {"enabled": [{"name": "Open-Gpu-Share"}]},
        "score": {"disabled": [{"name": "*"}], "enabled": [{"name": score}]},
    }
    profile = {"schedulerName": "sharing", "plugins": plugins}
    document = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
    return profiles_of({**document, "profiles": [profile]}, Chance(1))


def asking(milli, count=1):
    return {"spec": {"schedulerName": "sharing"}, "annotations": {MILLI: str(milli), COUNT: str(count)}}


async def given_out(cluster):
    """Milli by (node, device), of the pods that have a node; each of them has its devices."""
    found = Counter()
    for pod in (await cluster.client.list(PODS, "default")).items:
        node, annotations = pod["spec"].get("nodeName"), pod["metadata"].get("annotations") or {}
        if node and MILLI in annotations:
            devices = annotations[INDEX].split("-")
            assert len(set(devices)) == int(annotations[COUNT])
            for device in devices:
                found[node, device] += int(annotations[MILLI])
    return found


@pytest.mark.parametrize("score", ["FGDScore", "ProspectScore", "RandomScore"])
def test_devices_are_given_full_and_come_back(score):
    async def main():
        async with world(GPUS, profiles=sharing(score)) as cluster:
            for number in range(10):
                await cluster.pod(f"p{number}", **asking(400))
            running = [await cluster.phase(f"p{number}", "Running") for number in range(8)]
            await cluster.why_not("p9", "2 Insufficient alibabacloud.com/gpu-milli")
            assert set((await given_out(cluster)).values()) == {800}
            await cluster.pod("plain", spec={"schedulerName": "default-scheduler"})
            await cluster.phase("plain", "Running")
            gone = running[3]["metadata"]["name"]
            await cluster.client.delete(PODS, gone, "default")
            taken = running[3]["spec"]["nodeName"], running[3]["metadata"]["annotations"][INDEX]

            async def replaced():
                pods = (await cluster.client.list(PODS, "default")).items
                there = [pod for pod in pods if pod["metadata"]["name"] in ("p8", "p9") and pod["spec"].get("nodeName")]
                return there or None

            [next_one] = await cluster.until(replaced)
            assert (next_one["spec"]["nodeName"], next_one["metadata"]["annotations"][INDEX]) == taken

    run_virtual(main())


def test_a_more_important_pod_takes_a_whole_device():
    async def main():
        async with world(SimulatedGroup(1, "gpu", cpu="32", resources={COUNT: "1"}), profiles=sharing()) as cluster:
            await cluster.pod("low", **asking(600))
            await cluster.phase("low", "Running")
            high = asking(1000)
            high["spec"] = {**high["spec"], "priority": 10}
            await cluster.client.create(*priority_class())
            high["spec"]["priorityClassName"] = "high"
            await cluster.pod("high", **high)
            pod = await cluster.phase("high", "Running")
            assert pod["metadata"]["annotations"][INDEX] == "0"
            assert await given_out(cluster) == {("gpu-0", "0"): 1000}

    run_virtual(main())


def priority_class():
    from atoll.kinds.builtin import PRIORITY_CLASSES

    return PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 10}


@pytest.mark.parametrize("after", [0.0, 0.001, 0.01, 0.1, 1.0])
def test_a_scheduler_that_is_killed_gives_no_device_twice(after):
    """Another takes over while bindings are under way."""

    async def main():
        async with world(GPUS) as cluster:

            async def scheduler():
                informers = Informers(cluster.client)
                informers.start()
                made = Scheduler(cluster.client, informers, cluster.clock, Chance(3), name="x", profiles=sharing())
                try:
                    await made.run()
                finally:
                    await informers.stop()

            first = asyncio.create_task(scheduler())
            for number in range(12):
                await cluster.pod(f"p{number}", **asking((300, 500, 1000)[number % 3]))
            await asyncio.sleep(after)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            second = asyncio.create_task(scheduler())
            await asyncio.sleep(60)
            found = await given_out(cluster)
            assert max(found.values()) <= 1000 and sum(found.values()) >= 3000
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)

    run_virtual(main())

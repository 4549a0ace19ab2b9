"""Quota counts what pods will ask for, which is more than their template says: limits, a LimitRange's defaults."""

from __future__ import annotations

import asyncio
from typing import Any

from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.capacity.queueing.explain import explain
from atoll.kinds.builtin import CONFIGMAPS, LIMIT_RANGES, NAMESPACES, RESOURCE_CLAIM_TEMPLATES
from atoll.runtime.virtual import run_virtual


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


def with_resources(name: str, resources: Any) -> Any:
    made = job(name, "q", 1, 1)
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    return made


def used(workload: Any) -> Any:
    return workload["status"]["admission"]["podSetAssignments"][0]["resourceUsage"]


def test_limits_take_quota() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 4))
        await world.apply(*(with_resources(name, {"limits": {"cpu": "3"}}) for name in ("a", "b")))
        await asyncio.sleep(3)
        found = await world.workloads()
        admitted = await world.holding("Admitted")
        assert len(admitted) == 1
        assert used(found[admitted[0]]) == {"cpu": "3"}

    play(main)


def test_a_limit_range_that_comes_later_counts_for_those_that_wait() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 4), with_resources("first", {"requests": {"cpu": "4"}}))
        await asyncio.sleep(2)
        await world.apply(with_resources("second", {"requests": {"memory": "1Mi"}}))
        await world.apply(with_resources("large", {"requests": {"cpu": "3"}}))
        await asyncio.sleep(2)
        assert await world.holding("Admitted") == ["first"]
        limits = [{"type": "Container", "defaultRequest": {"cpu": "2"}, "default": {"cpu": "2"}, "max": {"cpu": "2"}}]
        range_ = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "lr"}, "spec": {"limits": limits}}
        await world.client.create(LIMIT_RANGES, range_, "default")
        await asyncio.sleep(70)  # what it waits for is told anew after a minute
        found = await world.workloads()
        assert found["second"]["status"]["resourceRequests"][0]["resources"] == {"cpu": "2", "memory": "1Mi"}
        said = next(it for it in found["large"]["status"]["conditions"] if it["type"] == "QuotaReserved")["message"]
        assert "didn't satisfy LimitRange constraints" in said
        assert "cpu is above the maximum of 2" in said
        assert world.queueing is not None
        state = world.queueing.queues.state
        rows = {item.owners[0]: explain(state, item) for item in state.workloads.values() if item.pending}
        assert rows["large"].cheapest == "ask for what the namespace's LimitRanges allow"
        assert rows["second"].cheapest == "let spec.resourceGroups of ClusterQueue q cover memory"

    play(main)


CONFIG = """
apiVersion: config.kueue.x-k8s.io/v1beta2
kind: Configuration
resources: {deviceClassMappings: [{name: gpus, deviceClassNames: [gpu.example.com]}]}
"""


def test_devices_take_quota_once_their_template_is_there() -> None:
    async def main(world: QueueingWorld) -> None:
        queue, local = setup("q", 4)
        flavor = queue["spec"]["resourceGroups"][0]["flavors"][0]
        queue["spec"]["resourceGroups"][0]["coveredResources"].append("gpus")
        flavor["resources"].append({"name": "gpus", "nominalQuota": 3})
        await world.client.create(NAMESPACES, {"metadata": {"name": "kueue-system"}})
        config = {"metadata": {"name": "kueue-manager-config"}, "data": {"controller_manager_config.yaml": CONFIG}}
        await world.client.create(CONFIGMAPS, config, "kueue-system")
        jobs = [job(name, "q", 1, 1, seconds=600) for name in ("a", "b")]
        for made in jobs:
            spec = made["spec"]["template"]["spec"]
            spec["resourceClaims"] = [{"name": "g", "resourceClaimTemplateName": "two"}]
        await world.apply(FLAVOR, queue, local, *jobs)
        await asyncio.sleep(3)
        assert await world.holding("Admitted") == []
        exactly = {"deviceClassName": "gpu.example.com", "count": 2}
        template = {"spec": {"spec": {"devices": {"requests": [{"name": "g", "exactly": exactly}]}}}}
        await world.client.create(RESOURCE_CLAIM_TEMPLATES, {**template, "metadata": {"name": "two"}}, "default")
        await asyncio.sleep(3)
        admitted = await world.holding("Admitted")
        assert len(admitted) == 1
        assert used((await world.workloads())[admitted[0]]) == {"cpu": "1", "gpus": "2"}

    play(main)

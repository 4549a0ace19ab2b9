"""The pod collector acts on what is gone, and on nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

from scenario_cluster import ScenarioCluster, cluster

from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common.context import Options
from atoll.kinds.builtin import NODES, PODS
from atoll.runtime.virtual import run_virtual


def pod(name: str, *, gated: bool = False, **annotations: str) -> Object:
    spec: Object = {"containers": [{"name": "c", "image": "i"}]}
    if gated:
        spec["schedulingGates"] = [{"name": "wait"}]
    metadata = {"name": name, "annotations": {f"scenario/{key}": value for key, value in annotations.items()}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def names(made: ScenarioCluster) -> list[str]:
    return [item["metadata"]["name"] for item in (await made.client.list(PODS, "default")).items]


async def phases(made: ScenarioCluster) -> list[str]:
    return [item["status"]["phase"] for item in (await made.client.list(PODS, "default")).items]


def in_virtual_time(test: Any, **options: Any) -> None:
    async def main() -> None:
        async with cluster(nodes=2, options=Options(**options)) as made:
            await asyncio.sleep(2.0)  # the service account comes
            await test(made)

    run_virtual(main())


def test_pods_of_a_node_that_is_gone_go_after_forty_seconds_and_those_of_one_that_came_back_stay() -> None:
    async def test(made: ScenarioCluster) -> None:
        for number in range(4):
            await made.client.create(PODS, pod(f"p{number}"), "default")
        await made.until(lambda: running(made, 4))
        for name in ("node-0", "node-1"):
            await made.client.delete(NODES, name)
        began = made.clock.monotonic()
        back: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
        await made.client.create(NODES, back)
        await made.until(lambda: left(made, ["p1", "p3"]))
        assert 40 <= made.clock.monotonic() - began <= 81
        await made.until(lambda: made.clock.monotonic() > began + 300)
        assert await names(made) == ["p1", "p3"]

    in_virtual_time(test)


def test_a_pod_deleted_before_it_was_placed_goes_at_once() -> None:
    async def test(made: ScenarioCluster) -> None:
        held = pod("held", gated=True)
        held["metadata"]["finalizers"] = ["x.io/hold"]
        await made.client.create(PODS, held, "default")
        await made.client.create(PODS, pod("kept", gated=True), "default")
        await made.client.delete(PODS, "held", "default", options=DeleteOptions(grace_period_seconds=30))
        await made.client.patch(PODS, "held", {"metadata": {"finalizers": None}}, "default")
        await made.until(lambda: left(made, ["kept"]), 5.0)

    in_virtual_time(test)


def test_pods_that_are_deleted_leave_a_node_that_is_out_of_service() -> None:
    async def test(made: ScenarioCluster) -> None:
        for number in range(2):
            await made.client.create(PODS, pod(f"p{number}"), "default")
        await made.until(lambda: running(made, 2))
        made.runner.stop()
        for number in range(2):
            await made.client.delete(PODS, f"p{number}", "default")
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await made.client.patch(NODES, "node-0", {"spec": {"taints": [taint]}})
        await made.until(lambda: left(made, ["p1"]), 45.0)
        await asyncio.sleep(120.0)
        assert await names(made) == ["p1"]

    in_virtual_time(test)


def test_ended_pods_beyond_the_threshold_go_oldest_first() -> None:
    async def test(made: ScenarioCluster) -> None:
        for number in range(5):
            short = {"exit-code": "0", "run-seconds": "1"}
            await made.client.create(PODS, pod(f"p{number}", **short), "default")
            await made.until(lambda want=number + 1: ended(made, want), 30.0)
        await made.client.create(PODS, pod("alive"), "default")
        await made.until(lambda: left(made, ["alive", "p3", "p4"]), 60.0)

    in_virtual_time(test, terminated_pod_threshold=2)


async def running(made: ScenarioCluster, count: int) -> bool:
    return (await phases(made)).count("Running") == count


async def ended(made: ScenarioCluster, count: int) -> bool:
    return (await phases(made)).count("Succeeded") >= min(count, 2)


async def left(made: ScenarioCluster, wanted: list[str]) -> bool:
    return await names(made) == wanted

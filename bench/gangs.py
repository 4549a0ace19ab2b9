"""A gang through the API: 1,000 pods that must share one block of 7,500 nodes, from the last pod's create to all bound.

A cluster as `atoll cluster create --batch` makes it, with simulated nodes posted over the API. The pods are created one
by one by 16 clients; nothing of the gang can be decided before the last of them is there.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import orjson

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.kinds.builtin import NODES, PODS
from bench import load
from bench.figure import Figure, percentile
from bench.live import GPU_NODES, gpu_node
from bench.scheduler_perf import CLIENTS, POD_GROUPS, pod
from bench.targets import NAMESPACE, Target, ours

Object = dict[str, Any]
MEMBERS, RUNS, GOAL_SECONDS = 1_000, 3, 2.0
BLOCK, GPU = "cloud.provider.com/topology-block", "nvidia.com/gpu"
_LIMIT_SECONDS = 60.0


def member(gang: str, number: int) -> Object:
    more = {
        "labels": {"scheduling.x-k8s.io/pod-group": gang},
        "annotations": {"kueue.x-k8s.io/podset-required-topology": BLOCK},
    }
    return pod(f"{gang}-{number}", more=more, requests={GPU: "2"}, limits={GPU: "2"})


async def measure(target: Target) -> list[tuple[float, float]]:
    """Of each run: seconds from the last create until all are bound, and until all are Running."""
    client = HttpClient(target.admin, clock=SystemClock(), field_manager="bench")
    try:
        bodies = [orjson.dumps(gpu_node(number)) for number in range(GPU_NODES)]
        joined = await load.run(
            target.bench, load.post(target.bench, "/api/v1/nodes", bodies.__getitem__), GPU_NODES, CLIENTS
        )
        assert set(joined.statuses) == {201}, joined.statuses
        while not await _settled(client):
            await asyncio.sleep(0.5)
        return [await _gang(target, client, f"gang-{number}") for number in range(RUNS)]
    finally:
        await client.close()


async def _settled(client: HttpClient) -> bool:
    nodes = (await client.list(NODES)).items
    return not any((node.get("spec") or {}).get("taints") for node in nodes)


async def _gang(target: Target, client: HttpClient, name: str) -> tuple[float, float]:
    group = {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": {"name": name}}
    await client.create(POD_GROUPS, {**group, "spec": {"minMember": MEMBERS}}, NAMESPACE)
    version = (await client.list(PODS, NAMESPACE)).resource_version
    watch = asyncio.create_task(_until_bound_and_running(client, version))
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    bodies = [orjson.dumps(member(name, number)) for number in range(MEMBERS)]
    done = await load.run(target.bench, load.post(target.bench, path, bodies.__getitem__), MEMBERS, CLIENTS)
    assert set(done.statuses) == {201}, done.statuses
    created = time.perf_counter()
    bound, running = await asyncio.wait_for(watch, _LIMIT_SECONDS)
    return bound - created, running - created


async def _until_bound_and_running(client: HttpClient, version: str) -> tuple[float, float]:
    without, running, bound = MEMBERS, 0, 0.0
    seen: set[str] = set()
    async with aclosing(client.watch(PODS, NAMESPACE, resource_version=version)) as events:
        async for event in events:
            if event.type == "BOOKMARK":
                continue
            name = event.object["metadata"]["name"]
            if event.object["spec"].get("nodeName") and name not in seen:
                seen.add(name)
                without -= 1
                bound = bound if without else time.perf_counter()
            if (event.object.get("status") or {}).get("phase") == "Running" and f"{name} runs" not in seen:
                seen.add(f"{name} runs")
                running += 1
                if running == MEMBERS:
                    return bound, time.perf_counter()
    raise RuntimeError("the watch ended")


def run() -> list[Figure]:
    with ours("--nodes", "0", "--simulated", "0", "--batch") as target:
        times: list[tuple[float, float]] = load.execute(measure(target))
    bound = sorted(seconds for seconds, _ in times)
    running = percentile([seconds for _, seconds in times], 0.5)
    median = percentile(bound, 0.5)
    return [
        Figure(
            "a gang of 1,000 pods over 7,500 nodes, one block required, live", "1–2 s (decided)",
            f"{median:.2f} s", f"≤ {GOAL_SECONDS:g} s", median <= GOAL_SECONDS,
            f"median of {RUNS}, {bound[0]:.2f} to {bound[-1]:.2f} s, from the answer to the last pod's create to the "
            f"event of the last binding; all Running after {running:.2f} s; {MEMBERS:,} pods of two GPUs, created by "
            f"{CLIENTS} clients on the same cores; 15 blocks of 500 nodes of eight GPUs; the real figure is published",
        )
    ]  # fmt: skip

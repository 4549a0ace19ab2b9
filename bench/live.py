"""Through the API until Ready on large fleets: 5,000 nodes, and 7,500 nodes of eight GPUs each that are filled.

Nothing is taken out of the way: each pod is made by its ReplicaSet's controller, admitted, stored, decided, bound, told
of in an Event, and made Ready by its simulated node's status patch.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from atoll.base.clock import SystemClock
from atoll.base.errors import AtollError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.kinds.builtin import DEPLOYMENTS, NODES
from bench import fleet, nodes, replicas
from bench.figure import Figure, compared
from bench.targets import ours, real_workload

NODE_COUNT, PODS = 5_000, 5_000
REAL_RATE = 99.0
REAL_LEASE_SECONDS = 4_800  # with leases of 40 s kwok's renewals take both cores, and its nodes are lost
GPU_NODES, GPUS, LOTS = 7_500, 8, 12
GOAL_SECONDS, GOAL_BYTES = 60.0, 2 << 30
_CLIENTS = 32
_GPU = "nvidia.com/gpu"
_TIMEOUT_SECONDS = 400

Object = dict[str, Any]
T = TypeVar("T")


def gpu_node(number: int) -> Object:
    """A node as its device plugin and feature discovery would show it; a simulated kubelet takes it up."""
    amounts = {"cpu": "192", "memory": "2Ti", "pods": "110", _GPU: str(GPUS)}
    labels = {
        "nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": str(GPUS), "nvidia.com/gpu.memory": "81559", "kubernetes.io/hostname": f"gpu-{number}",
        "cloud.provider.com/topology-block": f"b{number // 500}",
        "cloud.provider.com/topology-rack": f"r{number // 20}",
    }  # fmt: skip
    return {
        "metadata": {"name": f"gpu-{number}", "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def lot(number: int) -> Object:
    """A Deployment of the pods of a twelfth of the fleet, one GPU each."""
    made = fleet.deployment(f"lot-{number}", GPU_NODES * GPUS // LOTS)
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {_GPU: "1"}, "requests": {"cpu": "8", "memory": "64Gi"}}
    return made


async def fill(access: Access) -> tuple[float, float]:
    """(seconds until all nodes were joined, until all pods were Ready), from the first request."""
    client = HttpClient(access, clock=SystemClock(), field_manager="bench")
    slots = asyncio.Semaphore(_CLIENTS)

    async def join(number: int) -> None:
        async with slots:
            await client.create(NODES, gpu_node(number))

    try:
        started = time.perf_counter()
        await asyncio.gather(*(join(number) for number in range(GPU_NODES)))
        joined = time.perf_counter() - started
        page = await client.list(DEPLOYMENTS, "bench")
        for number in range(LOTS):
            await client.create(DEPLOYMENTS, lot(number), "bench")
        await _all_ready(client, page.resource_version, GPU_NODES * GPUS)
        return joined, time.perf_counter() - started
    finally:
        await client.close()


async def _all_ready(client: HttpClient, version: str, wanted: int) -> None:
    ready: dict[str, int] = {}
    while True:
        with suppress(AtollError):
            async for event in client.watch(DEPLOYMENTS, "bench", resource_version=version):
                version = event.object["metadata"]["resourceVersion"]
                if event.type == "BOOKMARK":
                    continue
                ready[event.object["metadata"]["name"]] = (event.object.get("status") or {}).get("readyReplicas") or 0
                if sum(ready.values()) == wanted:
                    return


async def rate(access: Access) -> float:
    """Pods a second from creating a Deployment until all of it is Ready."""
    client = HttpClient(access, clock=SystemClock(), field_manager="bench")
    try:
        await nodes.settled(client, NODE_COUNT)
    finally:
        await client.close()
    return PODS / await replicas.deploy(access, NODE_COUNT, PODS)


def _measured(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, _TIMEOUT_SECONDS))


def run() -> list[Figure]:
    """The real side takes six minutes: it runs only where asked for by the environment."""
    if os.environ.get(replicas.REAL_FLAG):
        with real_workload(NODE_COUNT, REAL_LEASE_SECONDS) as target:
            theirs = _measured(rate(target.admin))
        shown, basis = f"{theirs:,.0f} pods/s", "both in this run; kwok's leases last 80 minutes"
    else:
        theirs = REAL_RATE
        shown = f"{REAL_RATE:,.0f} pods/s (before)"
        basis = f"the real side measured before on such a machine, not in this run ({replicas.REAL_FLAG}=1 runs it)"
    with ours("--nodes", "0", "--simulated", str(NODE_COUNT)) as target:
        mine = _measured(rate(target.admin))
    with ours("--nodes", "0", "--simulated", "0") as target:
        joined, seconds = _measured(fill(target.admin))
        memory = target.memory_bytes()
    total = GPU_NODES * GPUS
    return [
        compared(
            "through the API to Ready, 5,000 nodes", shown, f"{mine:,.0f} pods/s", mine / theirs, 20,
            f"one Deployment of {PODS:,}, one shape, from its create until all are Ready, on nodes that all "
            f"controllers are done with; {basis}",
        ),
        Figure(
            "7,500 nodes of eight GPUs joined, 60,000 GPU pods Ready", "kwok: 5,000 nodes < 60 s",
            f"{seconds:.0f} s, {memory / 1e9:.2f} GB", "≤ 60 s, ≤ 2 GiB",
            seconds <= GOAL_SECONDS and memory <= GOAL_BYTES,
            f"{LOTS} Deployments, {total:,} pods of one GPU each, every GPU taken; the nodes were posted over the API, "
            f"{_CLIENTS} at once, in {joined:.0f} s, which counts; memory is the summed PSS of all processes at the "
            "end; the real figure is a published one",
        ),
    ]  # fmt: skip

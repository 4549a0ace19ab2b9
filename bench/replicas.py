"""A Deployment of 5,000 replicas over 1,000 simulated nodes until all are Ready, with events."""

from __future__ import annotations

import asyncio
import os
import time

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.kinds.builtin import DEPLOYMENTS
from bench import fleet
from bench import nodes as cluster_nodes
from bench.figure import Figure, compared
from bench.targets import Target, ours, real_workload

REPLICAS, NODE_COUNT = 5_000, 1_000
REAL_SECONDS, REAL_MEGABYTES = 50.0, 1_450
REAL_FLAG = "ATOLL_BENCH_REAL_REPLICAS"


async def deploy(access: Access, nodes: int = NODE_COUNT, replicas: int = REPLICAS) -> float:
    """Seconds from creating a Deployment, on so many nodes that are Ready, until all of it is Ready."""
    client = HttpClient(access, clock=SystemClock(), field_manager="bench")
    try:
        await cluster_nodes.ready(client, nodes)
        page = await client.list(DEPLOYMENTS, "bench")
        started = time.perf_counter()
        await client.create(DEPLOYMENTS, fleet.deployment("large", replicas), "bench")
        version = page.resource_version
        while True:  # a server may end a watch at any time
            async for event in client.watch(DEPLOYMENTS, "bench", resource_version=version):
                if (event.object.get("status") or {}).get("readyReplicas") == replicas:
                    return time.perf_counter() - started
                version = event.object["metadata"]["resourceVersion"]
    finally:
        await client.close()


def measure(target: Target) -> tuple[float, float, float]:
    """(seconds, CPU seconds of all its processes meanwhile, their summed PSS in MB)."""
    before = target.cpu_seconds()
    seconds = asyncio.run(asyncio.wait_for(deploy(target.admin), 300))
    return seconds, target.cpu_seconds() - before, target.memory_bytes() / 1e6


def run() -> list[Figure]:
    """The real side takes minutes: it runs only where asked for by the environment."""
    if os.environ.get(REAL_FLAG):
        with real_workload(NODE_COUNT) as target:
            theirs, _, megabytes = measure(target)
        real, basis = f"{theirs:.1f} s, {megabytes:,.0f} MB", "both in this run"
    else:
        theirs = REAL_SECONDS
        real = f"{REAL_SECONDS:.0f} s, {REAL_MEGABYTES:,} MB (before)"
        basis = f"the real side measured before on another two-core machine, not in this run ({REAL_FLAG}=1 runs it)"
    with ours("--nodes", "0", "--simulated", str(NODE_COUNT)) as target:
        mine, cpu, memory = measure(target)
    return [
        compared(
            "Deployment of 5,000 replicas over 1,000 simulated nodes, all Ready",
            real,
            f"{mine:.1f} s, {memory:,.0f} MB",
            theirs / mine,
            15,
            f"apiserver, etcd, controller-manager, scheduler and kwok; {basis}; "
            f"ours took {cpu:.1f} s of CPU time on all cores in all",
        )
    ]

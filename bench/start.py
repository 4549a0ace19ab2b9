"""A cluster, from exec until it is ready to serve: cold, beside one that runs, and to its first pod as a process."""

from __future__ import annotations

import asyncio
import statistics
import time

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.kinds.builtin import PODS
from bench.figure import Figure, compared, within
from bench.targets import NAMESPACE, ours, real, real_available

TIMES = 5
FIRST_POD_SECONDS = 1.0
_POD = {
    "metadata": {"name": "first"},
    "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "600"]}]},
}


async def first_pod(access: Access) -> float:
    """Seconds from creating a pod until it runs, as a process."""
    client = HttpClient(access, clock=SystemClock())
    try:
        started = time.perf_counter()
        made = await client.create(PODS, _POD, NAMESPACE)
        version = made["metadata"]["resourceVersion"]
        async for event in client.watch(PODS, NAMESPACE, resource_version=version):
            if (event.object.get("status") or {}).get("phase") == "Running":
                return time.perf_counter() - started
        raise RuntimeError("the watch ended")
    finally:
        await client.close()


def _with_first_pod() -> float:
    with ours("--nodes", "1") as target:
        return target.start_seconds + asyncio.run(asyncio.wait_for(first_pod(target.admin), 60))


def _start(forked: bool) -> float:
    with ours(forked=forked) as target:
        return target.start_seconds


def _real_start() -> float:
    with real() as target:
        return target.start_seconds


def run() -> list[Figure]:
    theirs = statistics.median([_real_start() for _ in range(TIMES)]) if real_available() else None
    cold = statistics.median([_start(False) for _ in range(TIMES)])
    forked = statistics.median([_start(True) for _ in range(TIMES)])
    pod = statistics.median([_with_first_pod() for _ in range(TIMES)])
    shown = f"{theirs:.2f} s" if theirs else "not built"
    until = "etcd and kube-apiserver until /readyz"
    return [
        compared(
            "an empty cluster ready to serve",
            shown,
            f"{cold:.2f} s",
            theirs / cold if theirs else None,
            10,
            f"median of {TIMES}; {until}, `atoll cluster create --api-only` to its end",
        ),
        compared(
            "the same beside a running cluster",
            shown,
            f"{forked:.2f} s",
            theirs / forked if theirs else None,
            15,
            f"median of {TIMES}; {until}; from exec to the command's end, which a fork of the running cluster's"
            " supervisor carries out",
        ),
        within(
            "cold until the first pod runs as a process",
            "-",
            f"{pod:.2f} s",
            pod,
            FIRST_POD_SECONDS,
            f"≤ {FIRST_POD_SECONDS:g} s",
            f"median of {TIMES}; `atoll cluster create --nodes 1` with controllers and scheduler, then from creating"
            " a pod until its status is Running",
        ),
    ]

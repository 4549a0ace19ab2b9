"""scheduler_perf's DRA case (SteadyStateClusterResourceClaimTemplate, 500 nodes of 10 devices): pods a second that get
a claim from a template, a device and a node, ten at a time, each deleted once it is bound; with no device in use
before, and with half of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.client.port import Client, DeleteOptions
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.apiserver.ports import User
from atoll.cluster.scheduler.scheduler import USER, Scheduler
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.resourceclaims.controller import ResourceClaimController
from atoll.kinds.builtin import (
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICE_ACCOUNTS,
)
from atoll.runtime.informer import Informers
from bench.figure import Figure

NODE_COUNT, DEVICES, AT_ONCE, SECONDS = 500, 10, 10, 10.0
DRIVER = "test-driver.cdi.k8s.io"
CASES = (("none in use", 0, 64), ("half of them in use", 2_500, 70))
_EXACTLY = {"deviceClassName": "test-class"}
_CLAIM = {"devices": {"requests": [{"name": "req-0", "exactly": _EXACTLY}]}}


async def _cluster(client: Client, taken: int) -> None:
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
    await client.create(DEVICE_CLASSES, {"metadata": {"name": "test-class"}, "spec": {"selectors": [selector]}})
    template = {"metadata": {"name": "test"}, "spec": {"spec": _CLAIM}}
    await client.create(RESOURCE_CLAIM_TEMPLATES, template, "default")
    amounts = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    for number in range(NODE_COUNT):
        name = f"scheduler-perf-dra-{number}"
        await client.create(NODES, {"metadata": {"name": name}, "status": {"allocatable": amounts}})
        await client.patch(NODES, name, {"spec": {"taints": None}})
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        devices = [{"name": f"device-{index}"} for index in range(DEVICES)]
        spec = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": devices}
        await client.create(RESOURCE_SLICES, {"metadata": {"name": name}, "spec": spec})
    for number in range(taken):
        body = {"metadata": {"name": f"init-{number}"}, "spec": _CLAIM}
        claim = await client.create(RESOURCE_CLAIMS, body, "default")
        pool, device = f"scheduler-perf-dra-{number % NODE_COUNT}", f"device-{number // NODE_COUNT}"
        result = {"request": "req-0", "driver": DRIVER, "pool": pool, "device": device}
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [pool]}]}
        allocation = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}
        await client.update(RESOURCE_CLAIMS, {**claim, "status": {"allocation": allocation}}, subresource="status")


def _pod(name: str) -> dict[str, Any]:
    container = {"name": "pause", "image": "pause", "resources": {"claims": [{"name": "resource"}]}}
    claims = [{"name": "resource", "resourceClaimTemplateName": "test"}]
    return {"metadata": {"name": name}, "spec": {"containers": [container], "resourceClaims": claims}}


async def _steady(client: Client, informers: Informers) -> float:
    """Pods bound a second."""
    bound: dict[str, asyncio.Event] = {}

    def changed(_: Any, new: Any) -> None:
        if new is not None and (new.get("spec") or {}).get("nodeName") and new["metadata"]["name"] in bound:
            bound[new["metadata"]["name"]].set()

    informers.of(PODS).add_handler(changed)
    end = time.perf_counter() + SECONDS
    options = DeleteOptions(grace_period_seconds=0)

    async def worker(place: int) -> int:
        count = 0
        while time.perf_counter() < end:
            name = f"test-dra-{place}-{count}"
            bound[name] = asyncio.Event()
            await client.create(PODS, _pod(name), "default")
            await bound[name].wait()
            del bound[name]
            await client.delete(PODS, name, "default", options=options)
            count += 1
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*(worker(place) for place in range(AT_ONCE)))
    return sum(counts) / (time.perf_counter() - started)


async def _measured(taken: int) -> float:
    clock, chance = SystemClock(), Chance(1)
    assembly = assemble(MemoryStore(clock), clock, chance, ApiOptions())
    await bootstrap(assembly)
    client = assembly.client()
    await _cluster(client, taken)
    informers = Informers(client)
    scheduler = assembly.client(User(USER, ("system:authenticated",)), "kube-scheduler")
    context = Context(assembly.controller_client, informers, clock, chance)
    parts = [
        Scheduler(scheduler, informers, clock, chance, selectors=CelSelectors()),
        ResourceClaimController(context),
    ]
    informers.start()
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        await informers.wait_synced()
        return await _steady(client, informers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await informers.stop()


def run() -> list[Figure]:
    found = []
    for title, taken, floor in CASES:
        rate = asyncio.run(_measured(taken))
        found.append(
            Figure(
                f"devices: pods/s with a claim each, {NODE_COUNT} nodes of {DEVICES} devices, {title}",
                f"scheduler_perf's floor {floor}/s",
                f"{rate:,.0f}/s",
                f"≥ {floor}/s",
                rate >= floor,
                f"{AT_ONCE} pods at a time for {SECONDS:.0f} s, each created, bound and deleted; claims from a"
                " template; API in memory, scheduler and claim controller in one process, without garbage"
                " collection; the floor is upstream's published one (SteadyStateClusterResourceClaimTemplate)",
                rate / floor,
            )
        )
    return found

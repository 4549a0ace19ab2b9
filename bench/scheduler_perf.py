"""The workloads of kube-scheduler's own benchmark (test/integration/scheduler_perf), through our API and scheduler.

Shapes, counts and floors ("threshold", pods a second below which upstream's CI fails) are those of its
performance-config.yaml files, where the basis does not say otherwise. Upstream runs the scheduler against API server
and etcd in one process, with nodes that no kubelet serves. Here it is a cluster as `atoll cluster create` makes it:
pods come over TLS, all is durable, controllers run, and simulated kubelets start each pod while others are decided. It
begins once the controllers are done with the new nodes, which upstream's has none of.
A rate is pods over the time from the first create to the last binding.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import orjson

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.kinds.builtin import PODS, PRIORITY_CLASSES
from atoll.kinds.resource import Resource
from bench import load, nodes
from bench.figure import Figure
from bench.targets import NAMESPACE, Target, ours

Object = dict[str, Any]
CLIENTS, CHURN_SECONDS, LIMIT_SECONDS = 16, 0.2, 120.0
ZONE, HOST, RACK = "topology.kubernetes.io/zone", "kubernetes.io/hostname", "example.com/rack"
POD_GROUPS = Resource("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup")
_OTHERS = 1_000_000  # numbers of those that come before
MERGE = "application/merge-patch+json"
EXTENDED, GANG, RACK_NODES, CROWDED = "example.com/gpu", 50, 25, 40_000


def pod(name: str, cpu: str = "100m", memory: str = "500Mi", more: Object | None = None, **spec: Any) -> Object:
    requests = {"cpu": cpu, "memory": memory, **spec.pop("requests", {})}
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10"}
    container["resources"] = {"requests": requests, "limits": spec.pop("limits", {})}
    metadata = {"name": name, "labels": {}, **(more or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def default_pod(number: int) -> Object:
    return pod(f"default-{number}")


def apart(number: int) -> Object:
    """SchedulingPodAntiAffinity: no two on a node."""
    term = {"labelSelector": {"matchLabels": {"color": "green"}}, "topologyKey": HOST}
    rule = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return pod(f"apart-{number}", more={"labels": {"color": "green"}}, affinity=rule)


def spread(number: int) -> Object:
    """TopologySpreading: over three zones."""
    rule = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    rule["labelSelector"] = {"matchLabels": {"color": "blue"}}
    return pod(f"spread-{number}", more={"labels": {"color": "blue"}}, topologySpreadConstraints=[rule])


def low(number: int) -> Object:
    """PreemptionAsync: four leave a tenth of the CPU of a node (16 here, 4 upstream: requests are four times its)."""
    return pod(f"low-{number}", cpu="3600m", terminationGracePeriodSeconds=0)


def small(number: int) -> Object:
    return pod(f"small-{number}", cpu="400m")


def high(number: int) -> Object:
    return pod(f"high-{number}", cpu="12", priorityClassName="high")


def on_one_node(number: int) -> Object:
    """SchedulingDaemonset: a node by its name."""
    field = {"key": "metadata.name", "operator": "In", "values": ["bench-sim-0"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    rule = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return pod(f"daemon-{number}", cpu="1m", memory="1Mi", affinity=rule)


def extended(number: int) -> Object:
    """SchedulingWithExtendedResource."""
    amount = {EXTENDED: "1"}
    return pod(f"extended-{number}", requests=amount, limits=amount)


def member(number: int) -> Object:
    """Of a gang that wants one rack."""
    group = f"gang-{number // GANG}"
    more = {
        "labels": {"scheduling.x-k8s.io/pod-group": group},
        "annotations": {"kueue.x-k8s.io/podset-required-topology": RACK},
    }
    return pod(f"{group}-{number % GANG}", more=more)


def zone(number: int) -> Object:
    return {"metadata": {"labels": {ZONE: f"moon-{number % 3}"}}}


def rack(number: int) -> Object:
    return {"metadata": {"labels": {RACK: f"rack-{number // RACK_NODES}"}}}


def advertised(number: int) -> Object:
    amounts = {EXTENDED: "4"}
    return {"status": {"capacity": amounts, "allocatable": amounts}}


def crowded(number: int) -> Object | None:
    amounts = {"pods": str(CROWDED), "cpu": "1000", "memory": "1000Gi"}
    return {"status": {"capacity": amounts, "allocatable": amounts}} if number == 0 else None


@dataclass(frozen=True)
class Workload:
    """`measured` pods after `prepared` others. `churn`: pods that come besides, five a second."""

    name: str
    floor: str
    least: float
    pod: Callable[[int], Object]
    measured: int
    before: Callable[[int], Object] = default_pod
    prepared: int = 0
    nodes: int = 5_000
    node: Callable[[int], Object | None] = lambda number: None
    churn: Callable[[int], Object] | None = None
    gangs: int = 0
    note: str = ""


WORKLOADS: Sequence[Workload] = (
    Workload("basic", "680", 680, default_pod, 10_000, prepared=1_000),
    Workload("anti-affinity", "60", 60, apart, 2_000, before=apart, prepared=1_000),
    Workload("topology spread", "460", 460, spread, 5_000, prepared=5_000, node=zone),
    Workload(
        "preemption", "570", 570, small, 5_000, before=low, prepared=20_000, churn=high,
        note="the rate is of small pods that fit, while five a second come that must push three others out",
    ),
    Workload(
        "daemonset-like", "1,100", 1_100, on_one_node, 15_000, nodes=15_000, node=crowded,
        note="30,000 pods upstream",
    ),
    Workload("extended resources", "180", 180, extended, 5_000, node=advertised),
    Workload(
        "gangs in one rack each", "492–975", 492, member, 5_000, node=rack, gangs=5_000 // GANG,
        note=f"PodGroups of {GANG} that each require one rack of {RACK_NODES} nodes; upstream's workloads with gangs "
        "and topology differ among each other",
    ),
)  # fmt: skip


async def measure(target: Target, work: Workload) -> float:
    """Pods bound a second."""
    client = HttpClient(target.admin, clock=SystemClock(), field_manager="bench")
    try:
        await nodes.settled(client, work.nodes)
        await _patch_nodes(target, work)
        await client.create(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 10})
        for number in range(work.gangs):
            body = {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup"}
            body |= {"metadata": {"name": f"gang-{number}"}, "spec": {"minMember": GANG}}
            await client.create(POD_GROUPS, body, NAMESPACE)
        if work.prepared:
            await _placed(target, client, lambda number: work.before(_OTHERS + number), work.prepared)
        churn = asyncio.create_task(_churn(client, work.churn)) if work.churn else None
        seconds = await _placed(target, client, work.pod, work.measured)
        if churn is not None:
            churn.cancel()
            with suppress(asyncio.CancelledError):
                await churn
        return work.measured / seconds
    finally:
        await client.close()


async def _patch_nodes(target: Target, work: Workload) -> None:
    requests = []
    for number in range(work.nodes):
        patch = work.node(number)
        if patch is not None:
            path = f"/api/v1/nodes/bench-sim-{number}{'/status' if 'status' in patch else ''}"
            requests.append(load.send("PATCH", target.bench, path, MERGE, orjson.dumps(patch)))
    if requests:
        done = await load.run(target.bench, requests.__getitem__, len(requests), CLIENTS)
        assert set(done.statuses) == {200}, done.statuses


async def _placed(target: Target, client: HttpClient, make: Callable[[int], Object], count: int) -> float:
    """Seconds from the first create until so many pods of that make have a node."""
    page = await client.list(PODS, NAMESPACE)
    names = {make(number)["metadata"]["name"] for number in range(count)}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    started = time.perf_counter()
    watch = asyncio.create_task(_until_bound(client, page.resource_version, names))
    done = await load.run(
        target.bench, load.post(target.bench, path, lambda number: orjson.dumps(make(number))), count, CLIENTS
    )
    assert set(done.statuses) == {201}, done.statuses
    return await asyncio.wait_for(watch, LIMIT_SECONDS) - started


async def _until_bound(client: HttpClient, version: str, names: set[str]) -> float:
    async with aclosing(client.watch(PODS, NAMESPACE, resource_version=version)) as events:
        async for event in events:
            if event.type != "BOOKMARK" and event.object["spec"].get("nodeName"):
                names.discard(event.object["metadata"]["name"])
                if not names:
                    return time.perf_counter()
    raise RuntimeError("the watch ended")


async def _churn(client: HttpClient, make: Callable[[int], Object]) -> None:
    number = 0
    while True:
        await client.create(PODS, make(number), NAMESPACE)
        number += 1
        await asyncio.sleep(CHURN_SECONDS)


def run() -> list[Figure]:
    return [_figure(work) for work in WORKLOADS]


def _figure(work: Workload) -> Figure:
    flags = ("--batch",) if work.gangs else ()
    with ours("--nodes", "0", "--simulated", str(work.nodes), *flags) as target:
        rate: float = load.execute(measure(target, work))
    before = f" after {work.prepared:,} others" if work.prepared else ""
    return Figure(
        f"scheduler_perf: {work.name}, {work.nodes:,} nodes, pods/s",
        f"{work.floor}/s (floor of upstream's CI)",
        f"{rate:,.0f}/s",
        f"≥ {work.least:,.0f}/s",
        rate >= work.least,
        f"{work.measured:,} pods{before}, {CLIENTS} clients on the same cores, first create to last binding"
        f"{'; ' + work.note if work.note else ''}; the floor is published, of upstream's machine, not measured here",
    )

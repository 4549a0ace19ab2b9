"""The scheduling core alone: decisions a second on a snapshot, and a gang in one block of a large data centre."""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import Any

from atoll.base.chance import Chance
from atoll.scheduling.gang import Gang, Placement, plan_gang
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from bench.figure import Figure, within

NODES, SHAPES, PLACEMENTS, PER_SECOND = 5_000, 200, 20_000, 10_000
GANG_NODES, GANG_PODS, BLOCK_NODES, RACK_NODES, GANG_SECONDS = 7_500, 1_000, 500, 20, 0.050
REAL_CORE = "kube-scheduler 306–810 pods/s (with its API)"
REAL_GANG = "1–2 s; Volcano stalls 2.2–2.8 s"
BLOCK, RACK, HOST = "example.com/block", "example.com/rack", "kubernetes.io/hostname"


def cluster(nodes: int) -> Planner:
    """Three kinds of nodes in ten zones, blocks and racks; a twentieth of them tainted."""
    planner = Planner(Chance(1))
    for number in range(nodes):
        name = f"node-{number:05}"
        labels = {HOST: name, "topology.kubernetes.io/zone": f"zone-{number % 10}", "disk": ("ssd", "hdd")[number % 2]}
        labels |= {BLOCK: f"block-{number // BLOCK_NODES:02}", RACK: f"rack-{number // RACK_NODES:03}"}
        cores = (32, 64, 96)[number % 3]
        have = {"cpu": str(cores), "memory": f"{4 * cores}Gi", "pods": "110", "nvidia.com/gpu": "8"}
        taints = [{"key": "dedicated", "value": "team", "effect": "NoSchedule"}] if number % 20 == 0 else []
        planner.state.set_node(
            {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}, "status": {"allocatable": have}}
        )
    return planner


def pod(planner: Planner, number: int, requests: dict[str, str], **spec: Any) -> PodInfo:
    body = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}], **spec}
    metadata = {"name": f"p{number}", "namespace": "bench", "uid": f"u{number}"}
    return planner.pod({"metadata": metadata, "spec": body})


def shapes() -> list[tuple[dict[str, str], dict[str, Any]]]:
    """No two ask for the same; a fifth select by label, a tenth tolerate the taint."""
    found = []
    for number in range(SHAPES):
        requests = {"cpu": f"{100 + 7 * number}m", "memory": f"{128 + 16 * number}Mi"}
        spec: dict[str, Any] = {"nodeSelector": {"disk": "ssd"}} if number % 5 == 0 else {}
        if number % 10 == 1:
            spec["tolerations"] = [{"key": "dedicated", "operator": "Exists"}]
        found.append((requests, spec))
    return found


def placements() -> float:
    """Placements a second, all shapes having been seen before."""
    planner, kinds = cluster(NODES), shapes()
    draw = random.Random(7)
    order = [*range(SHAPES), *(draw.randrange(SHAPES) for _ in range(PLACEMENTS))]
    pods = [pod(planner, number, kinds[kind][0], **kinds[kind][1]) for number, kind in enumerate(order)]
    for item in pods[:SHAPES]:
        _place(planner, item)
    started = time.perf_counter()
    for item in pods[SHAPES:]:
        _place(planner, item)
    return PLACEMENTS / (time.perf_counter() - started)


def _place(planner: Planner, item: PodInfo) -> None:
    decision = planner.decide(item)
    assert decision.node is not None
    planner.state.place(item, decision.node)


def gang() -> float:
    """Seconds until the gang is decided; the first time that anything is asked of this snapshot."""
    planner = cluster(GANG_NODES)
    pods = [pod(planner, number, {"nvidia.com/gpu": "2", "cpu": "4"}) for number in range(GANG_PODS)]
    gc.collect()
    started = time.perf_counter()
    found = plan_gang(planner, Gang("train", pods, (BLOCK, RACK, HOST), required=BLOCK))
    seconds = time.perf_counter() - started
    assert isinstance(found, Placement)
    blocks = {planner.state.nodes[name].labels[BLOCK] for name in found.nodes}
    assert len(found.nodes) == GANG_PODS and len(blocks) == 1
    return seconds


def run() -> list[Figure]:
    rate = placements()
    gangs = [gang() for _ in range(6)][1:]  # the first loads numpy
    seconds = statistics.median(gangs)
    return [
        Figure(
            f"scheduling core: placements/s on a snapshot, {NODES:,} nodes, {SHAPES} pod shapes",
            REAL_CORE,
            f"{rate:,.0f}/s",
            f"≥ {PER_SECOND:,}/s",
            rate >= PER_SECOND,
            f"{PLACEMENTS:,} pods one after the other, each on the best of all nodes (no sampling) and placed on the"
            f" snapshot before the next, shapes drawn at random, each shape seen once before; one core; without API"
            f" and bindings, which the real figure (published) has",
        ),
        within(
            f"a gang of {GANG_PODS:,} pods over {GANG_NODES:,} nodes, one block required, decided",
            REAL_GANG,
            f"{seconds * 1000:.0f} ms",
            seconds,
            GANG_SECONDS,
            f"≤ {GANG_SECONDS * 1000:.0f} ms",
            f"median of {len(gangs)}, {min(gangs) * 1000:.0f} to {max(gangs) * 1000:.0f} ms; from node objects that"
            f" were never looked at: the arrays are built within it; {GANG_NODES // BLOCK_NODES} blocks of"
            f" {BLOCK_NODES // RACK_NODES} racks of {RACK_NODES} nodes of 8 GPUs, two a pod; the real figures are"
            " published ones",
        ),
    ]

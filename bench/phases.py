"""The phases that GKE published for very large clusters, decided on a snapshot of the scheduling core.

One training job fills every node; then 50,000 nodes train and 15,000 serve (twice that at 130,000 nodes); inference
grows to all nodes in ten steps, and gang preemption picks which whole gangs go; inference shrinks back and training
resumes. Decided is: each pod has a node (or has lost it), placed on the snapshot before the next pod or gang. There is
no API server in it: no bindings, no leases.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence

from atoll.base.chance import Chance
from atoll.scheduling.gang import Gang, Placement, plan_gang
from atoll.scheduling.gang_preemption import plan_gang_preemption
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.units import Work
from bench.figure import Figure, within

SIZES = (65_000, 130_000)
PER_SECOND, GIGABYTES, MINUTES = 5_000, 8.0, 15.0
_GANG = 500  # pods of one training job, once they share the fleet
_STEPS = 10  # in which inference grows
_SERVING_SHARE = 15 / 65
_RACK, _BLOCK, _HOST = "example.com/rack", "example.com/block", "kubernetes.io/hostname"


class Fleet:
    """Nodes with room for one pod each, and what is on them."""

    def __init__(self, nodes: int) -> None:
        self.planner = Planner(Chance(1))
        self._made = 0
        have = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}
        for number in range(nodes):
            name = f"node-{number:06}"
            labels = {_HOST: name, _RACK: f"rack-{number // 20:05}", _BLOCK: f"block-{number // 500:04}"}
            node = {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": have}}
            self.planner.state.set_node(node)

    def pods(self, count: int, name: str, priority: int) -> list[PodInfo]:
        resources = {"requests": {"nvidia.com/gpu": "8", "cpu": "32"}}
        spec = {"priority": priority, "containers": [{"name": "c", "image": "i", "resources": resources}]}
        found = []
        for _ in range(count):
            self._made += 1
            metadata = {"name": f"{name}-{self._made}", "namespace": "bench", "uid": f"u{self._made}"}
            found.append(self.planner.pod({"metadata": metadata, "spec": spec}))
        return found

    def train(self, pods: Sequence[PodInfo]) -> None:
        """All or nothing."""
        found = plan_gang(self.planner, Gang("train", pods, (_BLOCK, _RACK, _HOST)))
        assert isinstance(found, Placement) and len(found.nodes) == len(pods)
        for pod, node in zip(pods, found.nodes, strict=True):
            self.planner.state.place(pod, node)

    def serve(self, pods: Sequence[PodInfo]) -> None:
        """One by one."""
        for pod in pods:
            decision = self.planner.decide(pod)
            assert decision.node is not None
            self.planner.state.place(pod, decision.node)

    def grow(self, pods: Sequence[PodInfo], gangs: Sequence[Sequence[PodInfo]]) -> int:
        """Room is made by whole gangs, as many as it takes; how many pods went."""
        names = {pod.uid: f"train-{number}" for number, gang in enumerate(gangs) for pod in gang}
        found = plan_gang_preemption(
            self.planner, Gang("grow", pods), Work(self.planner.state, lambda pod: names.get(pod.uid, "")), ()
        )
        assert found is not None
        gone = [pod for unit in found.units for pod, _ in unit.pods]
        self.stop(gone)
        for pod, node in zip(pods, found.placement.nodes, strict=True):
            self.planner.state.place(pod, node)
        return len(gone)

    def stop(self, pods: Sequence[PodInfo]) -> None:
        for pod in pods:
            self.planner.state.lift(pod.uid)


def phases(nodes: int) -> dict[str, float]:
    """Phase → pods decided in a second (placed and evicted ones)."""
    fleet = Fleet(nodes)
    rates: dict[str, float] = {}

    def timed(name: str, started: float, decided: int) -> None:
        rates[name] = decided / (time.perf_counter() - started)

    whole = fleet.pods(nodes, "pretrain", 0)
    started = time.perf_counter()
    fleet.train(whole)
    timed("one job fills all", started, nodes)

    serving = int(nodes * _SERVING_SHARE)
    gangs = [fleet.pods(_GANG, "train", 0) for _ in range((nodes - serving) // _GANG)]
    inference = fleet.pods(serving, "serve", 100)
    started = time.perf_counter()
    fleet.stop(whole)
    fleet.serve(inference)
    for gang in gangs:
        fleet.train(gang)
    timed("training and inference", started, nodes + serving + len(gangs) * _GANG)

    more = fleet.pods(len(gangs) * _GANG, "grow", 100)
    started = time.perf_counter()
    evicted = sum(fleet.grow(more[number::_STEPS], gangs) for number in range(_STEPS))
    timed("inference grows, gangs go", started, len(more) + evicted)
    assert evicted == len(more)  # whole gangs, and none too many

    started = time.perf_counter()
    fleet.stop(more)
    for gang in gangs:
        fleet.train(gang)
    timed("training resumes", started, 2 * len(more))
    return rates


def run() -> list[Figure]:
    figures = []
    for nodes in SIZES:
        started = time.perf_counter()
        rates = phases(nodes)
        minutes = (time.perf_counter() - started) / 60
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        slowest = min(rates, key=lambda name: rates[name])
        shown = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
        figures.append(
            Figure(
                f"GKE's phases at {nodes:,} nodes, decided on a snapshot: the slowest phase",
                "65,000 pods in 150 s; 1,000 pods/s at 130,000 nodes (published, API included)",
                f"{rates[slowest]:,.0f} pods/s",
                f"≥ {PER_SECOND:,}/s",
                rates[slowest] >= PER_SECOND,
                f"{shown}; pods placed and evicted a second, one core, without API; all of it {minutes:.1f} minutes",
            )
        )
        figures.append(
            within(
                f"the same at {nodes:,} nodes: memory",
                "—",
                f"{memory:.1f} GB",
                memory,
                GIGABYTES,
                f"≤ {GIGABYTES:.0f} GiB in ≤ {MINUTES:.0f} minutes",
                "the process's largest resident size so far",
            )
        )
    return figures

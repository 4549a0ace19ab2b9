"""One run of the procedure by which Weng et al. (USENIX ATC 2023) compare policies on the OpenB trace.

All pods, shuffled by the seed, then clones of uniformly drawn pods until more than 1.3 times the fleet's GPUs are asked
for. Nothing departs. Each pod has one attempt; one that fits nowhere is dropped and counts as arrived. Ties between
nodes fall by one permutation per seed. A result at p percent is the mean over all arrivals whose share of the fleet's
GPU that has arrived rounds to p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.chance import Chance
from atoll.scheduling.board import Board
from atoll.scheduling.devices.annotations import COUNT, MILLI, MODEL
from atoll.scheduling.devices.fragmentation import Fragmentation
from atoll.scheduling.devices.gpus import gpus_of
from atoll.scheduling.devices.model import WHOLE, Machine, Request
from atoll.scheduling.devices.typical import typical
from atoll.scheduling.plugins.gpu_scores import RANDOM
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.profile import gpu_profile
from atoll.scheduling.pod import Templates
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import ClusterState
from atoll.simulate.openb.trace import Trace

SEEDS = range(42, 52)
PERCENTS = (50, 80, 90, 95, 100, 110, 120, 130)
FRAGMENTATION_PERCENTS = (95,)
ARRIVALS = 1.3
"""How often the fleet's GPUs are asked for in all."""

_PODS_PER_NODE = 10_000  # more than there are: the procedure knows no such limit

# by the names under which the results are published: the score plugin. Ours last
POLICIES: Mapping[str, str] = {
    "01-Random": "RandomScore",
    "02-DotProd": "DotProductScore",
    "03-GpuClustering": "GpuClusteringScore",
    "04-GpuPacking": "GpuPackingScore",
    "05-BestFit": "BestFitScore",
    "06-FGD": "FGDScore",
    "07-Atoll": "ProspectScore",
}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run: percent arrived → percent of the fleet's GPUs. `placed` pods of those that arrived."""

    allocated: dict[int, float]
    fragmented: dict[int, float]
    arrived: int
    placed: int


def arrivals(pods: Sequence[Request], capacity_milli: int, chance: Chance) -> list[Request]:
    """The pods in the order in which they come."""
    found = list(pods)
    chance.shuffle(found)
    milli = sum(pod.gpu_milli for pod in found)
    while milli <= ARRIVALS * capacity_milli:
        pod = pods[chance.integer(0, len(pods) - 1)]
        found.append(pod)
        milli += pod.gpu_milli
    return found


class Contest:
    """A trace and one policy, for any number of runs, one after the other: what is learned of states serves all."""

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace = trace
        self.requests = list(dict.fromkeys(trace.pods))
        self.shapes = [_shape(request) for request in self.requests]
        places = {request: place for place, request in enumerate(self.requests)}
        self.place = {id(pod): places[pod] for pod in trace.pods}  # to hash a request takes as long as to decide
        self.mix = typical(trace.pods)
        self._plugins = None if POLICIES[name] == RANDOM else gpu_profile(POLICIES[name], Chance(0), trace.pods)

    def plugins(self, chance: Chance) -> tuple[Plugin, ...]:
        """RandomScore draws from this chance."""
        return gpu_profile(RANDOM, chance) if self._plugins is None else self._plugins


def run(contest: Contest, seed: int) -> Result:
    """One seed."""
    chance = Chance(seed, "openb")
    trace, place_of = contest.trace, contest.place
    capacity = trace.gpus * WHOLE
    pods = arrivals(trace.pods, capacity, chance.stream("arrivals"))
    nodes = fleet(trace.machines, chance.stream("ties"))
    gpus = gpus_of(nodes)
    lines = [nodes.line(shape.template.requests) for shape in contest.shapes]
    board = Board(nodes, contest.shapes, contest.plugins(chance.stream("policy")))
    fragments = _Fragments(Fragmentation(gpus, contest.mix), nodes.size)
    allocated: dict[int, list[int]] = {percent: [] for percent in PERCENTS}
    fragmented: dict[int, list[float]] = {percent: [] for percent in FRAGMENTATION_PERCENTS}
    arrived = used = placed = 0
    for pod in pods:
        arrived += pod.gpu_milli
        place = place_of[id(pod)]
        board.sync()
        row = board.best(place)
        if row is not None:
            gpus.charge(row, pod, board.devices(place, row))
            nodes.charge(row, lines[place])
            placed += 1
            used += pod.gpu_milli
            fragments.changed.add(row)
        percent = round(100 * arrived / capacity)
        if percent in allocated:
            allocated[percent].append(used)
        if percent in fragmented:
            fragmented[percent].append(fragments.total())
    return Result(_means(allocated, capacity), _means(fragmented, capacity), len(pods), placed)


def fleet(machines: Iterable[Machine], chance: Chance) -> Snapshot:
    """The empty nodes as the core sees them; ties fall by an order drawn from chance."""
    state = ClusterState(chance)
    for machine in machines:
        allocatable = {
            "cpu": f"{machine.cpu_milli}m",
            "memory": f"{machine.memory_mib}Mi",
            "pods": str(_PODS_PER_NODE),
            COUNT: str(machine.devices),
        }
        metadata = {"name": machine.name, "labels": {MODEL: machine.model}}
        state.set_node({"metadata": metadata, "status": {"allocatable": allocatable}})
    nodes = Snapshot(state)
    nodes.follow()
    return nodes


def pod_object(request: Request, name: str) -> dict[str, Any]:
    """A pod that asks for it, as users write them."""
    requests = {"cpu": f"{request.cpu_milli}m", "memory": f"{request.memory_mib}Mi"}
    annotations = {}
    if request.count:
        annotations = {MILLI: str(request.milli), COUNT: str(request.count), MODEL: "|".join(sorted(request.models))}
    return {
        "metadata": {"name": name, "uid": name, "namespace": "default", "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "main", "resources": {"requests": requests}}]},
    }


def _shape(request: Request) -> Shape:
    template = Templates().pod(pod_object(request, "pod")).template
    return Shape((template,), template)


class _Fragments:
    """The sum of F over all nodes, computed again for the changed ones when it is asked for."""

    def __init__(self, measure: Fragmentation, rows: int) -> None:
        self._measure = measure
        self._of = [0.0] * rows
        self.changed = set(range(rows))

    def total(self) -> float:
        for row in self.changed:
            self._of[row] = self._measure.of(row)
        self.changed.clear()
        return sum(self._of)


def _means(values: Mapping[int, Sequence[float]], capacity: int) -> dict[int, float]:
    return {percent: 100 * sum(found) / len(found) / capacity for percent, found in values.items() if found}


def mean(results: Iterable[Mapping[int, float]], percents: Iterable[int]) -> dict[int, float | None]:
    """Over the seeds; None where no arrival came to that percent, as where pods ask for a large part of the fleet."""
    given = list(results)
    found: dict[int, float | None] = {}
    for percent in percents:
        values = [item[percent] for item in given if percent in item]
        found[percent] = sum(values) / len(values) if values else None
    return found

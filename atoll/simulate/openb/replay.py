"""One run of the procedure by which Weng et al. (USENIX ATC 2023) compare policies on the OpenB trace.

All pods, shuffled by the seed, then clones of uniformly drawn pods until more than 1.3 times the fleet's GPUs are asked
for. Nothing departs. Each pod has one attempt; one that fits nowhere is dropped and counts as arrived. Ties between
nodes fall by one permutation per seed. A result at p percent is the mean over all arrivals whose share of the fleet's
GPU that has arrived rounds to p.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from atoll.base.chance import Chance
from atoll.scheduling.devices.board import Board
from atoll.scheduling.devices.fragmentation import Fragmentation
from atoll.scheduling.devices.model import WHOLE, Request
from atoll.scheduling.devices.policies.closed import BestFit, DotProduct
from atoll.scheduling.devices.policies.clustering import Clustering
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.packing import Packing
from atoll.scheduling.devices.policies.port import Policy
from atoll.scheduling.devices.policies.prospect import COVERED_PERCENT, Prospect
from atoll.scheduling.devices.policies.uniform import Uniform
from atoll.scheduling.devices.pool import Kinds, Pool
from atoll.scheduling.devices.typical import typical
from atoll.simulate.openb.trace import Trace

SEEDS = range(42, 52)
PERCENTS = (50, 80, 90, 95, 100, 110, 120, 130)
FRAGMENTATION_PERCENTS = (95,)
ARRIVALS = 1.3
"""How often the fleet's GPUs are asked for in all."""

Make = Callable[[Kinds, Sequence[Request], Pool], Policy]

# by the names under which the results are published; ours last
POLICIES: Mapping[str, Make] = {
    "01-Random": lambda kinds, pods, fleet: Uniform(kinds),
    "02-DotProd": lambda kinds, pods, fleet: DotProduct(kinds),
    "03-GpuClustering": lambda kinds, pods, fleet: Clustering(kinds),
    "04-GpuPacking": lambda kinds, pods, fleet: Packing(kinds),
    "05-BestFit": lambda kinds, pods, fleet: BestFit(kinds),
    "06-FGD": lambda kinds, pods, fleet: Descent(kinds, typical(pods), fleet.models),
    "07-Atoll": lambda kinds, pods, fleet: Prospect(kinds, typical(pods, COVERED_PERCENT), fleet),
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


def policy_for(trace: Trace, name: str) -> Policy:
    """For any number of runs on this trace, one after the other."""
    fleet = Pool(trace.machines)
    return POLICIES[name](Kinds(trace.pods, fleet.models), trace.pods, fleet)


def run(trace: Trace, policy: Policy, seed: int) -> Result:
    """One policy, one seed."""
    chance = Chance(seed, "openb")
    pool = Pool(trace.machines)
    kinds = policy.kinds
    capacity = trace.gpus * WHOLE
    pods = arrivals(trace.pods, capacity, chance.stream("arrivals"))
    order = list(range(len(pool)))
    chance.stream("ties").shuffle(order)
    policy.begin(pool, chance.stream("policy"))
    board = Board(pool, kinds, policy, order)
    fragments = _Fragments(Fragmentation(pool, typical(trace.pods)), len(pool))
    allocated: dict[int, list[int]] = {percent: [] for percent in PERCENTS}
    fragmented: dict[int, list[float]] = {percent: [] for percent in FRAGMENTATION_PERCENTS}
    arrived = used = placed = 0
    for pod in pods:
        arrived += pod.gpu_milli
        found = board.place(kinds.index[pod])
        if found is not None:
            placed += 1
            used += pod.gpu_milli
            fragments.changed.add(found[0])
        percent = round(100 * arrived / capacity)
        if percent in allocated:
            allocated[percent].append(used)
        if percent in fragmented:
            fragmented[percent].append(fragments.total())
    return Result(_means(allocated, capacity), _means(fragmented, capacity), len(pods), placed)


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

"""GPU placement: what is kept up to date and remembered equals what is computed anew, and the plain definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from gpu_fleet import FILTERS, Placing, gpus, scored
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.base.chance import Chance
from atoll.scheduling.board import Board
from atoll.scheduling.devices.annotations import COUNT, MEMORY, MILLI
from atoll.scheduling.devices.fragmentation import Fragmentation
from atoll.scheduling.devices.gpus import Gpus, gpus_of
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.prospect import POOLING, RETURNS, SIZE, STEPS, USABLE, Prospect
from atoll.scheduling.devices.typical import Mix, typical
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.plan import Planner
from atoll.scheduling.plugins.gpu_scores import GPU_SCORES, RANDOM, gpu_score
from atoll.scheduling.plugins.gpu_share import GpuShare
from atoll.scheduling.plugins.profile import profiles_of
from atoll.scheduling.shape import Shape
from atoll.simulate.openb.replay import fleet, pod_object

MODELS = ("A", "B")

requests = st.builds(
    Request,
    st.sampled_from([0, 1_000, 4_000, 9_000]),
    st.sampled_from([0, 100]),
    st.just(1),
    st.sampled_from([50, 320, 500, 810, 1000]),
    st.sampled_from([frozenset(), frozenset("A"), frozenset("AB")]),
)
plain = st.builds(Request, st.sampled_from([1_000, 8_000]), st.sampled_from([0, 100]))
several = st.builds(
    Request, st.sampled_from([0, 8_000]), st.just(0), st.sampled_from([2, 3]), st.sampled_from([400, 1000])
)
machines = st.lists(
    st.tuples(
        st.sampled_from([8_000, 20_000]), st.sampled_from([300, 900]), st.integers(1, 4), st.sampled_from(MODELS)
    ),
    min_size=1,
    max_size=4,
).map(lambda items: [Machine(f"n{row}", *item) for row, item in enumerate(items)])
pods = st.lists(st.one_of(requests, requests, plain, several), min_size=1, max_size=30)


SCORES = [name for name in GPU_SCORES if name != RANDOM]


def plugins_of(name: str, expected: list[Request]):
    return (*FILTERS, gpu_score(name, Chance(1), expected))


@given(machines, pods, st.sampled_from(SCORES))
def test_incremental_equals_from_scratch(nodes: list[Machine], arrivals: list[Request], name: str) -> None:
    """A board, evaluations that look at changed rows, and both made anew say the same after any placements."""
    snapshot, _ = gpus(nodes)
    plugins = plugins_of(name, arrivals)
    placing = Placing(snapshot, arrivals, plugins)
    kept = [Evaluation(snapshot, item, plugins_of(name, arrivals)) for item in placing.shapes]
    for pod in arrivals:
        kept[placing.kinds.index(pod)].sync()
        before = [evaluation.best() for evaluation in kept if not evaluation.sync()]
        found = placing.place(pod)
        assert (found[0] if found else None) == before[placing.kinds.index(pod)]
    placing.board.sync()
    fresh = plugins_of(name, arrivals)
    anew = Board(snapshot, placing.shapes, fresh)
    for place, item in enumerate(placing.shapes):
        kept[place].sync()
        alone = Evaluation(snapshot, item, fresh)
        feasible = alone.feasible().tolist()
        for other in (placing.board, anew):
            assert other.best(place) == alone.best() == kept[place].best()
            assert other.feasible(place).tolist() == feasible
        assert kept[place].totals() == alone.totals()
        if (row := alone.best()) is not None:
            assert alone.devices(row) == kept[place].devices(row) == placing.board.devices(place, row)


@given(machines, pods, st.sampled_from(SCORES))
def test_the_pod_scheduler_decides_as_the_replay_does(nodes: list[Machine], arrivals: list[Request], name: str) -> None:
    """Pod objects with annotations through the planner: the same nodes and devices as on arrays alone."""
    placing = Placing(gpus(nodes, seed=5)[0], arrivals, plugins_of(name, arrivals))
    planner = Planner(Chance(5), plugins=plugins_of(name, arrivals))
    for node in fleet(nodes, Chance(5)).nodes:
        planner.state.set_node(
            {
                "metadata": {"name": node.name, "labels": node.labels},
                "status": {
                    "allocatable": {
                        key: f"{value}m" if key == "cpu" else str(value) for key, value in node.allocatable.items()
                    }
                },
            }
        )
    for number, request in enumerate(arrivals):
        pod = planner.pod(pod_object(request, f"p{number}"))
        decision = planner.decide(pod)
        expected = placing.place(request)
        if expected is None:
            assert decision.node is None
            continue
        assert decision.node == nodes[expected[0]].name
        planner.assume(pod, decision.node)
        assert list(pod.devices) == expected[1]


@given(machines, pods, st.sampled_from(SCORES))
def test_nothing_is_given_twice_and_what_fits_is_placed(
    nodes: list[Machine], arrivals: list[Request], name: str
) -> None:
    snapshot, there = gpus(nodes)
    placing = Placing(snapshot, arrivals, plugins_of(name, arrivals))
    for pod in arrivals:
        could = [row for row in range(len(nodes)) if plainly_fits(placing, nodes, row, pod)]
        found = placing.place(pod)
        assert (found is not None) == bool(could)
        if found is not None:
            row, devices = found
            assert row in could and len(set(devices)) == len(devices) == pod.count
    amounts = there.left[: snapshot.size]
    assert len(amounts[amounts >= 0]) == there.count.sum() and amounts.min() >= -1
    assert there.idle.sum() == amounts[amounts >= 0].sum() and snapshot.free[:, : snapshot.size].min() >= 0


def plainly_fits(placing: Placing, nodes: list[Machine], row: int, pod: Request) -> bool:
    free = placing.nodes.free[:, row]
    return (
        pod.cpu_milli <= free[1]
        and pod.memory_mib * 1024 * 1024 <= free[2]
        and (not pod.count or not pod.models or nodes[row].model in pod.models)
        and sum(amount >= pod.milli for amount in devices_of(placing.gpus, row)) >= pod.count
    )


def devices_of(there: Gpus, row: int) -> list[int]:
    return there.left[row, : there.count[row]].tolist()


def hosts(cpu: float, devices: list[int], model: str, kind: Request) -> bool:
    return (
        kind.count > 0
        and kind.cpu_milli <= cpu
        and (not kind.models or model in kind.models)
        and sum(amount >= kind.milli for amount in devices) >= kind.count
    )


def plain_fragmentation(cpu: float, devices: list[int], model: str, mix: Mix) -> float:
    """The definition, type by type."""
    total = 0.0
    for kind, count in zip(mix.types, mix.counts, strict=True):
        lost = [amount for amount in devices if amount < kind.milli]
        total += count * sum(lost if hosts(cpu, devices, model, kind) else devices)
    return total / mix.total


def plain_worth(cpu: float, devices: list[int], model: str, mix: Mix, nodes: list[Machine]) -> float:
    """Prospect's worth of a state, type by type."""
    gpu = [(kind, count) for kind, count in zip(mix.types, mix.counts, strict=True) if kind.count]
    if not gpu:
        return 0.0
    size = {kind: kind.gpu_milli / 1000 for kind, _ in gpu}
    mean_cpu = sum(n * kind.cpu_milli for kind, n in gpu) / sum(n * size[kind] for kind, n in gpu)
    scale = 1000 / sum(n * size[kind] ** (SIZE - 1) for kind, n in gpu)
    pooling = max(1.0, sum(devices) // 10 * 10 / 1000) ** POOLING  # in hundredths of a GPU
    total = 0.0
    for kind, n in gpu:
        if not hosts(cpu, devices, model, kind):
            continue
        if kind.count == 1:
            room = sum((amount // kind.milli) ** RETURNS for amount in devices if amount >= kind.milli)
        else:
            room = sum(amount >= kind.milli for amount in devices) // kind.count
        empty = [(item, [1000] * item.devices) for item in nodes]
        supply = sum(len(all_) for item, all_ in empty if hosts(item.cpu_milli, all_, item.model, kind))
        scarce = sum(item.devices for item in nodes) / supply
        mean = mean_cpu * size[kind]
        suffices = max(1.0, cpu / (mean + (kind.cpu_milli - mean) / pooling + 1))
        total += scarce * scale * n * size[kind] ** SIZE * min(room, suffices)
        total += scarce * USABLE * n * sum(amount for amount in devices if amount >= kind.milli) / mix.total
    return total


def after(there: Gpus, row: int, kind: Request) -> list[tuple[int, list[int]]]:
    """(device, what is left) for each device that a share may go to; one entry, device 0, for other pods."""
    devices = devices_of(there, row)
    fitting = [device for device, amount in enumerate(devices) if amount >= kind.milli]
    if kind.shared:
        sets = [[device] for device in fitting]
    elif kind.milli == 1000:
        sets = [fitting[: kind.count]]
    else:
        sets = [sorted(fitting, key=lambda device: (devices[device], device))[: kind.count]]
    found = []
    for chosen in sets:
        left = [amount - kind.milli * (device in chosen) for device, amount in enumerate(devices)]
        found.append((chosen[0] if kind.shared else 0, left))
    return found


@given(machines, pods, pods)
def test_policies_say_what_their_definitions_say(
    nodes: list[Machine], placed: list[Request], arrivals: list[Request]
) -> None:
    snapshot, there = gpus(nodes)
    every = placed + arrivals
    kinds = Kinds([Request(item.cpu_milli, 0, item.count, item.milli, item.models) for item in every])
    mix = typical(every)
    descent, prospect = Descent(kinds, mix, there.models), Prospect(kinds, mix, there)
    measure = Fragmentation(there, mix)
    placing = Placing(snapshot, every, scored(lambda *_: descent))
    for pod in placed:
        placing.place(pod)
    for row, machine in enumerate(nodes):
        cpu, devices, model = there.cpu(row), devices_of(there, row), machine.model
        fragments = plain_fragmentation(cpu, devices, model, mix)
        assert math.isclose(measure.of(row), fragments, abs_tol=1e-9)
        cores = -(-cpu // 1000) * 1000  # Prospect looks at whole cores
        worth = plain_worth(cores, devices, model, mix, nodes)
        said, own = descent.scores(there, row), prospect.scores(there, row)
        for kind, request in enumerate(kinds.requests):
            if not plainly_fits(placing, nodes, row, request):
                continue
            states = after(there, row, request)
            less = [fragments - plain_fragmentation(cpu - request.cpu_milli, left, model, mix) for _, left in states]
            low, high = (max(int(100 / (1 + math.exp(-(x + e) / 1000))) for x in less) for e in (-1e-7, 1e-7))
            assert low <= said[kind] <= high
            gains = [plain_worth(cores - request.cpu_milli, left, model, mix, nodes) - worth for _, left in states]
            middle = 50 * prospect.parts
            assert math.isclose((own[kind] - middle) / STEPS, max(gains), abs_tol=2e-3) or abs(max(gains)) > 12_000
            if request.shared:
                chosen = dict(states)[prospect.devices(there, row, kind)[0]]
                assert plain_worth(cores - request.cpu_milli, chosen, model, mix, nodes) - worth >= max(gains) - 2e-3


asked = st.fixed_dictionaries(
    {}, optional={"milli": st.sampled_from([1, 200, 500, 1000]), "count": st.sampled_from([1, 2]),
                  "memory": st.sampled_from(["1Gi", "3Gi", "5Gi", "8Gi"])},
).filter(bool)  # fmt: skip
SHARING = {
    "apiVersion": "kubescheduler.config.k8s.io/v1",
    "kind": "KubeSchedulerConfiguration",
    "profiles": [
        {
            "schedulerName": "sharing",
            "plugins": {
                "filter": {"enabled": [{"name": "Open-Gpu-Share"}]},
                "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "FGDScore"}]},
            },
        }
    ],
}
words = {"milli": MILLI, "count": COUNT, "memory": MEMORY}


@settings(deadline=None, max_examples=60)
@given(st.lists(asked, max_size=25), st.lists(st.sampled_from([None, "16Gi", "24Gi"]), min_size=1, max_size=3))
def test_memory_and_milli_of_no_device_are_given_twice(wishes, memories):
    """And the arrays say of each node what the reason for one node says."""
    found = Planner(Chance(1), profiles=profiles_of(SHARING, Chance(1)))
    for number, memory in enumerate(memories):
        allocatable = {"cpu": "99", "memory": "64Gi", "pods": "99", COUNT: "2"} | ({MEMORY: memory} if memory else {})
        found.state.set_node({"metadata": {"name": f"n{number}"}, "status": {"allocatable": allocatable}})
    milli, memory = Counter(), Counter()
    for number, wish in enumerate(wishes):
        annotations = {words[word]: str(value) for word, value in wish.items()}
        metadata = {"name": f"p{number}", "uid": f"p{number}", "namespace": "d", "annotations": annotations}
        pod = found.pod({"metadata": metadata, "spec": {"schedulerName": "sharing", "containers": [{"name": "c"}]}})
        gpus, share = gpus_of(found.nodes), pod.template.share
        decision = found.decide(pod)
        allowed = gpus.fitting(np.arange(len(memories)), share).sum(axis=1) >= share.count
        filters = GpuShare().filter(Shape((pod.template,), pod.template), found.nodes)
        assert [filters.why(node) is None for node in found.nodes.nodes[: len(memories)]] == allowed.tolist()
        assert (decision.node is not None) == allowed.any()
        if decision.node is not None:
            found.assume(pod, decision.node)
            assert len(set(pod.devices)) == share.count
            each = int(gpus.each[found.nodes.rows[decision.node]])
            for device in pod.devices:
                milli[decision.node, device] += share.milli
                memory[decision.node, device] += share.takes(each)
                assert milli[decision.node, device] <= 1000 and memory[decision.node, device] <= each

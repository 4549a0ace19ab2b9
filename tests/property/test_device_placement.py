"""GPU placement: what is kept up to date and remembered equals what is computed anew, and the plain definitions."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from atoll.base.chance import Chance
from atoll.scheduling.devices.board import Board
from atoll.scheduling.devices.fragmentation import Fragmentation
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.devices.policies.closed import BestFit, DotProduct
from atoll.scheduling.devices.policies.clustering import Clustering
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.packing import Packing
from atoll.scheduling.devices.policies.prospect import POOLING, RETURNS, SIZE, USABLE, Prospect
from atoll.scheduling.devices.pool import Kinds, Pool
from atoll.scheduling.devices.typical import Mix, typical

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


def policies(kinds: Kinds, given_: list[Request], fleet: Pool):
    mix = typical(given_)
    models = fleet.models
    return [
        BestFit(kinds), DotProduct(kinds), Packing(kinds), Clustering(kinds), Descent(kinds, mix, models),
        Prospect(kinds, mix, fleet),
    ]  # fmt: skip


@given(machines, pods)
def test_incremental_equals_from_scratch(nodes: list[Machine], arrivals: list[Request]) -> None:
    pool = Pool(nodes)
    kinds = Kinds(arrivals, pool.models)
    order = list(range(len(nodes)))
    for number, policy in enumerate(policies(kinds, arrivals, pool)):
        pool = Pool(nodes)
        policy.begin(pool, Chance(1))
        board = Board(pool, kinds, policy, order)
        for pod in arrivals:
            board.place(kinds.index[pod])
        if isinstance(policy, Clustering):
            anew = Board(pool, kinds, policy, order)  # its tags are of the pods, not of the pool
        else:
            fresh = policies(kinds, arrivals, pool)[number]
            fresh.begin(pool, Chance(1))
            anew = Board(pool, kinds, fresh, order)
        assert (board.ranks == anew.ranks).all(), type(policy).__name__


@given(machines, pods)
def test_nothing_is_given_twice_and_what_fits_is_placed(nodes: list[Machine], arrivals: list[Request]) -> None:
    fleet = Pool(nodes)
    kinds = Kinds(arrivals, fleet.models)
    for policy in policies(kinds, arrivals, fleet):
        pool = Pool(nodes)
        policy.begin(pool, Chance(1))
        board = Board(pool, kinds, policy, range(len(nodes)))
        for pod in arrivals:
            could = [row for row in range(len(nodes)) if plainly_fits(pool, row, pod)]
            found = board.place(kinds.index[pod])
            assert (found is not None) == bool(could)
            if found is not None:
                row, devices = found
                assert row in could and len(set(devices)) == len(devices) == pod.count
        there = pool.left[pool.left >= 0]
        assert len(there) == pool.count.sum() and pool.left.min() >= -1 and pool.cpu.min() >= 0
        assert pool.memory.min() >= 0 and pool.idle.sum() == there.sum()


def plainly_fits(pool: Pool, row: int, pod: Request) -> bool:
    return (
        pod.cpu_milli <= pool.cpu[row]
        and pod.memory_mib <= pool.memory[row]
        and (not pod.count or not pod.models or pool.machines[row].model in pod.models)
        and sum(amount >= pod.milli for amount in devices_of(pool, row)) >= pod.count
    )


def devices_of(pool: Pool, row: int) -> list[int]:
    return pool.left[row, : pool.machines[row].devices].tolist()


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
    pooling = max(1.0, sum(devices) / 1000) ** POOLING
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


def after(pool: Pool, row: int, kind: Request) -> list[tuple[int, list[int]]]:
    """(device, what is left) for each device that a share may go to; one entry, device 0, for other pods."""
    devices = devices_of(pool, row)
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
    pool = Pool(nodes)
    every = placed + arrivals
    kinds = Kinds(every, pool.models)
    mix = typical(every)
    descent, prospect = Descent(kinds, mix, pool.models), Prospect(kinds, mix, Pool(nodes))
    for policy in (descent, prospect):
        policy.begin(pool, Chance(1))
    measure = Fragmentation(pool, mix)
    board = Board(pool, kinds, descent, range(len(nodes)))
    for pod in placed:
        board.place(kinds.index[pod])
    for row, machine in enumerate(nodes):
        cpu, devices, model = int(pool.cpu[row]), devices_of(pool, row), machine.model
        fragments = plain_fragmentation(cpu, devices, model, mix)
        assert math.isclose(measure.of(row), fragments, abs_tol=1e-9)
        worth = plain_worth(cpu, devices, model, mix, nodes)
        said, own = descent.scores(row), prospect.scores(row)
        for kind, request in enumerate(kinds.requests):
            if not plainly_fits(pool, row, request):
                continue
            states = after(pool, row, request)
            left_cpu = cpu - request.cpu_milli
            less = [fragments - plain_fragmentation(left_cpu, left, model, mix) for _, left in states]
            low, high = (max(int(100 / (1 + math.exp(-(x + e) / 1000))) for x in less) for e in (-1e-7, 1e-7))
            assert low <= said[kind] <= high
            gains = [plain_worth(left_cpu, left, model, mix, nodes) - worth for _, left in states]
            assert math.isclose(own[kind] / 1024, max(gains), abs_tol=2e-3)
            if request.shared:
                chosen = dict(states)[prospect.devices(row, kind)[0]]
                assert plain_worth(left_cpu, chosen, model, mix, nodes) - worth >= max(gains) - 2e-3

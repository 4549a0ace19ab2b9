"""What each policy says of a node, by hand: truncation, which device, how ties fall."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gpu_fleet import FILTERS, Placing, gpus, scored

from atoll.base.chance import Chance
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.devices.policies.closed import BestFit, DotProduct
from atoll.scheduling.devices.policies.clustering import Clustering
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.packing import Packing
from atoll.scheduling.devices.policies.prospect import Prospect
from atoll.scheduling.devices.typical import Mix, typical
from atoll.scheduling.plugins.gpu_scores import RandomScore

SHARE = Request(4_000, 1_000, 1, 300)
LARGE = Request(4_000, 1_000, 1, 600)
ONE = Request(10_000, 1_000, 1, 1000)
PAIR = Request(20_000, 1_000, 2, 1000)
PLAIN = Request(8_000, 1_000)
REQUESTS = [SHARE, LARGE, ONE, PAIR, PLAIN]
KINDS = Kinds(REQUESTS)
BEST_FIT = scored(lambda kinds, mix, fleet: BestFit(kinds))


def fleet_of(*devices: int, cpu: int = 96_000, model: str = "T4"):
    return gpus([Machine(f"n{row}", cpu, 300_000, count, model) for row, count in enumerate(devices)])[1]


def used(there, *left: int, row: int = 0):
    """These amounts are left on the node's devices."""
    for device, amount in enumerate(left):
        there.charge(row, Request(0, 0, 1, 1000 - amount), (device,))
    return there


def said(policy, there, row: int = 0) -> dict[Request, int]:
    return dict(zip(REQUESTS, policy.scores(there, row).tolist(), strict=True))


def test_best_fit_is_truncated() -> None:
    found = said(BestFit(KINDS), used(fleet_of(2), 1000, 500))
    assert found[SHARE] == int(100 * (1 - 92_000 / 256_000 - 1200 / 16_000)) == 56
    assert found[PLAIN] == int(100 * (1 - 88_000 / 256_000 - 1500 / 16_000)) == 56


def test_dot_product_is_truncated() -> None:
    found = said(DotProduct(KINDS), fleet_of(8))
    assert found[PAIR] == int(100 * (1 - 96 * 20 / 128**2 / 2 - 8 * 2 / 64 / 2)) == 81
    assert found[PLAIN] == int(100 * (1 - 96 * 8 / 128**2 / 2)) == 97


def test_packing() -> None:
    packing = Packing(KINDS)
    assert set(said(packing, fleet_of(8)).values()) == {25, 0}  # max(33 - 8, 8); none without GPU
    assert said(packing, fleet_of(2))[PAIR] == 31
    partly = used(fleet_of(4), 450, 800, 1000, 1000)
    # 450 is the least that has 300: 100 - floor(45 / 10); 800 the least that has 600
    assert said(packing, partly) == {SHARE: 96, LARGE: 92, ONE: 49, PAIR: 48, PLAIN: 0}
    assert packing.devices(partly, 0, KINDS.index[LARGE]) == [1]


def test_clustering_by_sorts_of_pods() -> None:
    there, policy = fleet_of(2), Clustering(KINDS)
    assert said(policy, there) == {SHARE: 43, LARGE: 43, ONE: 43, PAIR: 43, PLAIN: 0}  # 25 + floor(25 · 6000 / 8000)
    there.charge(0, SHARE, (0,))
    assert said(policy, there) == {SHARE: 94, LARGE: 94, ONE: 19, PAIR: 19, PLAIN: 0}
    there.charge(0, PLAIN, ())
    there.charge(0, ONE, (1,))
    assert said(policy, there) == {SHARE: 72, LARGE: 72, ONE: 72, PAIR: 22, PLAIN: 0}


def test_descent_by_hand() -> None:
    mix = Mix((Request(4_000, 0, 1, 300), Request(10_000, 0, 1, 1000)), (1, 1))
    there, policy = used(fleet_of(2), 1000, 400), Descent(KINDS, mix, ["T4"])
    # before: F = (0 + 400) / 2 = 200. On the 400: 100 is left, lost to both: (100 + 100) / 2 = 100.
    # On the 1000: 700 and 400 are left, lost to the whole one alone: 1100 / 2 = 550.
    assert said(policy, there)[SHARE] == int(100 / (1 + math.exp(-0.1)))
    assert policy.devices(there, 0, KINDS.index[SHARE]) == [1]
    # only the 1000 has 600: 400 and 400 are left, (0 + 800) / 2
    assert said(policy, there)[LARGE] == int(100 / (1 + math.exp(0.2)))
    assert policy.devices(there, 0, KINDS.index[LARGE]) == [0]


def test_of_equal_integers_descent_takes_the_lowest_device() -> None:
    mix = Mix((Request(1_000, 0, 1, 1000),), (1,))
    # 400 and 700 are lost to the mix already: using 300 of either lessens F by 300
    there, policy = used(fleet_of(3), 0, 700, 400), Descent(KINDS, mix, ["T4"])
    assert said(policy, there)[SHARE] == int(100 / (1 + math.exp(-0.3)))
    assert policy.devices(there, 0, KINDS.index[SHARE]) == [1]
    other = used(fleet_of(3), 400, 0, 700)  # the same amounts in another order
    assert policy.devices(other, 0, KINDS.index[SHARE]) == [0]


def test_nothing_changes_scores_exactly_half() -> None:
    mix = Mix((ONE,) * 3, (1, 1, 5))
    found = said(Descent(KINDS, mix, ["T4"]), fleet_of(3))
    assert found[ONE] == found[PLAIN] == 50


def test_prospect_keeps_the_cpu_that_idle_gpus_will_need() -> None:
    """A pod without GPU goes where CPU is plenty, though the other node is the better fit."""
    machines = [Machine("scarce", 20_000, 300_000, 2, "T4"), Machine("plenty", 90_000, 300_000, 2, "T4")]
    _, there = gpus(machines)
    policy = Prospect(KINDS, typical(REQUESTS), there)
    assert said(policy, there, 1)[PLAIN] > said(policy, there, 0)[PLAIN]
    best_fit = BestFit(KINDS)
    assert said(best_fit, there, 1)[PLAIN] < said(best_fit, there, 0)[PLAIN]


def test_prospect_fills_a_device_before_it_opens_one() -> None:
    there = used(fleet_of(2), 1000, 400)
    policy = Prospect(KINDS, typical(REQUESTS), there)
    assert policy.devices(there, 0, KINDS.index[SHARE]) == [1]


def test_prospect_keeps_a_scarce_model_for_those_who_need_it() -> None:
    """Most name the common model, so that its nodes host more types; yet the rare one is worth more."""
    _, there = gpus([Machine(f"n{row}", 96_000, 300_000, 8, "G2" if row else "T4") for row in range(10)])
    pods = (
        [ONE] * 4
        + [Request(1_000, 1, 1, 1000, frozenset({"G2"}))] * 3
        + [Request(1_000, 1, 1, 1000, frozenset({"T4"}))]
    )
    kinds = Kinds(pods)
    policy = Prospect(kinds, typical(pods, 100), there)
    assert policy.scores(there, 1)[kinds.index[ONE]] > policy.scores(there, 0)[kinds.index[ONE]]
    plainly = Descent(kinds, typical(pods, 100), there.models)
    assert plainly.scores(there, 1)[kinds.index[ONE]] <= plainly.scores(there, 0)[kinds.index[ONE]]


def test_ties_fall_by_the_snapshots_order() -> None:
    firsts = set()
    for seed in range(8):
        nodes, _ = gpus([Machine(f"n{row}", 96_000, 300_000, 2, "T4") for row in range(3)], seed)
        expected = min(range(3), key=lambda row: nodes.order[row])
        assert Placing(nodes, REQUESTS, BEST_FIT).place(ONE) == (expected, [0])
        firsts.add(expected)
    assert len(firsts) > 1


def test_a_pod_that_fits_nowhere_is_not_placed() -> None:
    nodes, there = gpus([Machine(f"n{row}", 96_000, 300_000, 1, "T4") for row in range(2)])
    placing = Placing(nodes, REQUESTS, BEST_FIT)
    assert placing.place(PAIR) is None
    placed = [placing.place(ONE) for _ in range(3)]
    assert {row for row, _ in placed[:2]} == {0, 1} and placed[2] is None
    assert there.idle[: nodes.size].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("request_", "machine", "open_"),
    [
        (ONE, Machine("n", 9_999, 300_000, 2, "T4"), False),
        (ONE, Machine("n", 10_000, 999, 2, "T4"), False),
        (ONE, Machine("n", 10_000, 1_000, 1, "T4"), True),
        (Request(0, 0, 1, 10, frozenset({"T4"})), Machine("n", 0, 0, 1, "T4"), True),
        (Request(0, 0, 1, 10, frozenset({"G2"})), Machine("n", 0, 0, 1, "T4"), False),
    ],
)
def test_filters(request_: Request, machine: Machine, open_: bool) -> None:
    nodes, _ = gpus([machine])
    assert (Placing(nodes, [request_], BEST_FIT).place(request_) is not None) == open_


def test_random_is_uniform_over_nodes_and_devices() -> None:
    chosen, devices = np.zeros(3, int), np.zeros(4, int)
    plugins = (*FILTERS, RandomScore(Chance(3)))
    machines = [Machine(f"n{row}", 96_000, 300_000, count, "T4") for row, count in enumerate((2, 1, 4))]
    for _ in range(400):
        nodes, _ = gpus(machines)
        row, taken = Placing(nodes, [SHARE], plugins).place(SHARE)
        chosen[row] += 1
        if row == 2:
            devices[taken] += 1
    assert chosen.min() > 95 and devices.min() > 15

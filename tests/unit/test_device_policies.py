"""What each policy says of a node, by hand: truncation, which device, how ties fall."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atoll.base.chance import Chance
from atoll.scheduling.devices.board import Board
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.devices.policies.closed import BestFit, DotProduct
from atoll.scheduling.devices.policies.clustering import Clustering
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.packing import Packing
from atoll.scheduling.devices.policies.port import NEVER
from atoll.scheduling.devices.policies.prospect import Prospect
from atoll.scheduling.devices.policies.uniform import Uniform
from atoll.scheduling.devices.pool import Kinds, Pool
from atoll.scheduling.devices.typical import Mix, typical

SHARE = Request(4_000, 1_000, 1, 300)
LARGE = Request(4_000, 1_000, 1, 600)
ONE = Request(10_000, 1_000, 1, 1000)
PAIR = Request(20_000, 1_000, 2, 1000)
PLAIN = Request(8_000, 1_000)
REQUESTS = [SHARE, LARGE, ONE, PAIR, PLAIN]
KINDS = Kinds(REQUESTS, ["T4"])


def pool_of(*devices: int, cpu: int = 96_000, model: str = "T4") -> Pool:
    return Pool([Machine(f"n{row}", cpu, 300_000, count, model) for row, count in enumerate(devices)])


def used(pool: Pool, *left: int, row: int = 0) -> Pool:
    """These amounts are left on the node's devices."""
    for device, amount in enumerate(left):
        pool.take(row, Request(0, 0, 1, 1000 - amount), [device])
    return pool


def begun(policy, pool: Pool, chance: Chance | None = None):
    policy.begin(pool, chance or Chance(1))
    return policy


def said(policy, row: int = 0) -> dict[Request, int]:
    return dict(zip(REQUESTS, policy.scores(row).tolist(), strict=True))


def test_best_fit_is_truncated() -> None:
    policy = begun(BestFit(KINDS), used(pool_of(2), 1000, 500))
    assert said(policy)[SHARE] == int(100 * (1 - 92_000 / 256_000 - 1200 / 16_000)) == 56
    assert said(policy)[PLAIN] == int(100 * (1 - 88_000 / 256_000 - 1500 / 16_000)) == 56


def test_dot_product_is_truncated() -> None:
    policy = begun(DotProduct(KINDS), pool_of(8))
    assert said(policy)[PAIR] == int(100 * (1 - 96 * 20 / 128**2 / 2 - 8 * 2 / 64 / 2)) == 81
    assert said(policy)[PLAIN] == int(100 * (1 - 96 * 8 / 128**2 / 2)) == 97


def test_packing() -> None:
    packing = Packing(KINDS)
    assert set(said(begun(packing, pool_of(8))).values()) == {25, 0}  # max(33 - 8, 8); none without GPU
    assert said(begun(packing, pool_of(2)))[PAIR] == 31
    partly = begun(packing, used(pool_of(4), 450, 800, 1000, 1000))
    # 450 is the least that has 300: 100 - floor(45 / 10); 800 the least that has 600
    assert said(partly) == {SHARE: 96, LARGE: 92, ONE: 49, PAIR: 48, PLAIN: 0}
    assert partly.devices(0, KINDS.index[LARGE]) == [1]


def test_clustering_by_sorts_of_pods() -> None:
    pool = pool_of(2)
    policy = begun(Clustering(KINDS), pool)
    assert said(policy) == {SHARE: 43, LARGE: 43, ONE: 43, PAIR: 43, PLAIN: 0}  # 25 + floor(25 · 6000 / 8000)
    policy.placed(0, KINDS.index[SHARE])
    pool.take(0, SHARE, [0])
    assert said(policy) == {SHARE: 94, LARGE: 94, ONE: 19, PAIR: 19, PLAIN: 0}
    policy.placed(0, KINDS.index[PLAIN])
    policy.placed(0, KINDS.index[ONE])
    assert said(policy) == {SHARE: 69, LARGE: 69, ONE: 69, PAIR: 19, PLAIN: 0}


def test_descent_by_hand() -> None:
    mix = Mix((Request(4_000, 0, 1, 300), Request(10_000, 0, 1, 1000)), (1, 1))
    policy = begun(Descent(KINDS, mix, ["T4"]), used(pool_of(2), 1000, 400))
    # before: F = (0 + 400) / 2 = 200. On the 400: 100 is left, lost to both: (100 + 100) / 2 = 100.
    # On the 1000: 700 and 400 are left, lost to the whole one alone: 1100 / 2 = 550.
    assert said(policy)[SHARE] == int(100 / (1 + math.exp(-0.1)))
    assert policy.devices(0, KINDS.index[SHARE]) == [1]
    # only the 1000 has 600: 400 and 400 are left, (0 + 800) / 2
    assert said(policy)[LARGE] == int(100 / (1 + math.exp(0.2)))
    assert policy.devices(0, KINDS.index[LARGE]) == [0]


def test_of_equal_integers_descent_takes_the_lowest_device() -> None:
    mix = Mix((Request(1_000, 0, 1, 1000),), (1,))
    # 400 and 700 are lost to the mix already: using 300 of either lessens F by 300
    policy = begun(Descent(KINDS, mix, ["T4"]), used(pool_of(3), 0, 700, 400))
    assert said(policy)[SHARE] == int(100 / (1 + math.exp(-0.3)))
    assert policy.devices(0, KINDS.index[SHARE]) == [1]


def test_nothing_changes_scores_exactly_half() -> None:
    mix = Mix((ONE,) * 3, (1, 1, 5))
    policy = begun(Descent(KINDS, mix, ["T4"]), pool_of(3))
    assert said(policy)[ONE] == said(policy)[PLAIN] == 50


def test_prospect_keeps_the_cpu_that_idle_gpus_will_need() -> None:
    """A pod without GPU goes where CPU is plenty, though the other node is the better fit."""
    pool = Pool([Machine("scarce", 20_000, 300_000, 2, "T4"), Machine("plenty", 90_000, 300_000, 2, "T4")])
    policy = begun(Prospect(KINDS, typical(REQUESTS), pool), pool)
    assert said(policy, 1)[PLAIN] > said(policy, 0)[PLAIN]
    best_fit = begun(BestFit(KINDS), pool)
    assert said(best_fit, 1)[PLAIN] < said(best_fit, 0)[PLAIN]


def test_prospect_fills_a_device_before_it_opens_one() -> None:
    pool = used(pool_of(2), 1000, 400)
    policy = begun(Prospect(KINDS, typical(REQUESTS), pool), pool)
    policy.scores(0)
    assert policy.devices(0, KINDS.index[SHARE]) == [1]


def test_prospect_keeps_a_scarce_model_for_those_who_need_it() -> None:
    """Most name the common model, so that its nodes host more types; yet the rare one is worth more."""
    pool = Pool([Machine(f"n{row}", 96_000, 300_000, 8, "G2" if row else "T4") for row in range(10)])
    pods = (
        [ONE] * 4
        + [Request(1_000, 1, 1, 1000, frozenset({"G2"}))] * 3
        + [Request(1_000, 1, 1, 1000, frozenset({"T4"}))]
    )
    kinds = Kinds(pods, pool.models)
    policy = begun(Prospect(kinds, typical(pods, 100), pool), pool)
    assert policy.scores(1)[kinds.index[ONE]] > policy.scores(0)[kinds.index[ONE]]
    plainly = begun(Descent(kinds, typical(pods, 100), pool.models), pool)
    assert plainly.scores(1)[kinds.index[ONE]] <= plainly.scores(0)[kinds.index[ONE]]


def test_ties_fall_by_the_given_order() -> None:
    for order, expected in (((2, 0, 1), 1), ((1, 2, 0), 2)):
        pool = pool_of(2, 2, 2)
        board = Board(pool, KINDS, begun(BestFit(KINDS), pool), order)
        assert board.place(KINDS.index[ONE]) == (expected, [0])


def test_a_pod_that_fits_nowhere_is_not_placed() -> None:
    pool = pool_of(1, 1)
    board = Board(pool, KINDS, begun(BestFit(KINDS), pool), (0, 1))
    assert board.place(KINDS.index[PAIR]) is None
    assert [board.place(KINDS.index[ONE]) for _ in range(3)] == [(0, [0]), (1, [0]), None]
    assert pool.idle.tolist() == [0, 0]


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
    pool = Pool([machine])
    kinds = Kinds([request_], pool.models)
    board = Board(pool, kinds, begun(BestFit(kinds), pool), [0])
    assert bool(board.ranks[0, 0] != NEVER) == open_


def test_random_is_uniform_over_nodes_and_devices() -> None:
    chosen, devices = np.zeros(3, int), np.zeros(4, int)
    policy = Uniform(KINDS)
    chance = Chance(3)
    for _ in range(600):
        pool = pool_of(2, 1, 4)
        board = Board(pool, KINDS, begun(policy, pool, chance), range(3))
        row, taken = board.place(KINDS.index[SHARE])
        chosen[row] += 1
        if row == 2:
            devices[taken] += 1
    assert chosen.min() > 150 and devices.min() > 25

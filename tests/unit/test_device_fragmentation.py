"""F of the FGD paper by hand, typical pods, and what fits on devices."""

from __future__ import annotations

import numpy as np
import pytest
from gpu_fleet import gpus

from atoll.scheduling.devices.fragmentation import Fragmentation
from atoll.scheduling.devices.kinds import Kinds, first_fitting, fits, least_left
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.devices.typical import Mix, typical

HALF = Request(4_000, 0, 1, 500)
ONE = Request(8_000, 0, 1, 1000)
PAIR = Request(8_000, 0, 2, 1000)
PLAIN = Request(1_000, 0)


def node(left: list[int], cpu: int = 64_000, model: str = "T4"):
    _, there = gpus([Machine("a", cpu, 1_000, len(left), model)])
    for device, amount in enumerate(left):
        there.charge(0, Request(0, 0, 1, 1000 - amount), (device,))
    return there


@pytest.mark.parametrize(
    ("left", "cpu", "mix", "expected"),
    [
        # each type can use both devices whole
        ([1000, 1000], 64_000, {HALF: 1, PAIR: 1}, 0),
        # HALF can't use the 300; ONE neither the 300 nor the 700: it uses the 1000 alone
        ([1000, 700, 300], 64_000, {HALF: 1}, 300),
        ([1000, 700, 300], 64_000, {ONE: 1}, 1000),
        # two devices are needed and one is free: all that is idle is lost to PAIR
        ([1000, 700, 300], 64_000, {PAIR: 1}, 2000),
        # shares of the mix are weights: (3·300 + 1·2000) / 4
        ([1000, 700, 300], 64_000, {HALF: 3, PAIR: 1}, 725),
        # pods without GPU can use none of it, however much CPU there is
        ([1000, 700, 300], 64_000, {HALF: 1, PLAIN: 1}, (300 + 2000) / 2),
        # the CPU suffices for HALF, not for ONE
        ([1000, 700], 4_000, {HALF: 1, ONE: 1}, 1700 / 2),
        # a type of another model can use nothing, one of this among several what any could
        ([1000, 700], 64_000, {Request(0, 0, 1, 500, frozenset({"A10"})): 1}, 1700),
        ([1000, 700], 64_000, {Request(0, 0, 1, 800, frozenset({"A10", "T4"})): 1}, 700),
        ([0, 0], 64_000, {HALF: 1, PAIR: 1}, 0),
    ],
)
def test_fragmentation(left, cpu, mix, expected) -> None:
    measured = Fragmentation(node(left, cpu), Mix(tuple(mix), tuple(mix.values())))
    assert measured.of(0) == expected


def test_typical_pods_are_the_most_frequent_up_to_the_covered_part() -> None:
    pods = [ONE] * 50 + [HALF] * 44 + [PLAIN] * 2 + [PAIR] * 4
    assert typical(pods) == Mix((ONE, HALF, PAIR), (50, 44, 4))
    assert typical(pods, 94).types == (ONE, HALF)
    assert typical(pods, 100).total == 100


def test_typical_pods_differ_in_model_not_in_memory() -> None:
    pods = [Request(1, 5, 1, 500), Request(1, 6, 1, 500), Request(1, 5, 1, 500, frozenset({"T4"}))]
    assert sorted(typical(pods, 100).counts) == [1, 2]


def test_devices_are_taken_by_index_or_by_what_is_left() -> None:
    left = np.array([300, 1000, 300, 1000, -1])
    assert first_fitting(left, 2, 1000) == [1, 3]
    assert least_left(left, 1, 200) == [0]
    assert least_left(left, 1, 301) == [1]
    assert least_left(left, 3, 300) == [0, 2, 1]


def test_what_fits() -> None:
    requests = [PLAIN, HALF, ONE, PAIR, Request(0, 0, 3, 1000), Request(0, 0, 3, 300)]
    kinds = Kinds(requests)
    found = fits(np.array([300, 1000, 300, 1000, -1]), kinds.move_count, kinds.move_milli)
    assert dict(zip(kinds.moves, found.tolist(), strict=True)) == {
        (0, 0): True, (1, 500): True, (1, 1000): True, (2, 1000): True, (3, 1000): False, (3, 300): True,
    }  # fmt: skip

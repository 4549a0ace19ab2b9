"""The procedure: who arrives, when a percent counts, what a mean is."""

from __future__ import annotations

from atoll.base.chance import Chance
from atoll.scheduling.devices.model import Machine, Request
from atoll.simulate.openb import replay
from atoll.simulate.openb.trace import Trace

ONE = Request(1_000, 1, 1, 1000)
HALF = Request(1_000, 1, 1, 500)
PLAIN = Request(1_000, 1)


def test_all_pods_come_once_before_the_clones() -> None:
    pods = [ONE] * 3 + [HALF] * 4 + [PLAIN] * 2
    found = replay.arrivals(pods, 10_000, Chance(1))
    key = lambda pod: (pod.milli, pod.count)
    assert sorted(found[: len(pods)], key=key) == sorted(pods, key=key)
    asked = [sum(pod.gpu_milli for pod in found[:end]) for end in (len(found) - 1, len(found))]
    assert asked[0] <= 13_000 < asked[1]
    assert set(found) <= set(pods)
    assert replay.arrivals(pods, 10_000, Chance(2)) != found


def test_a_list_that_asks_for_enough_has_no_clones() -> None:
    assert len(replay.arrivals([ONE] * 14, 10_000, Chance(1))) == 14


def test_what_has_arrived_counts_whether_it_fits_or_not() -> None:
    """100 GPUs, of which pods can have 80: the CPU of the rest is missing."""
    machines = [Machine(f"n{row}", 8_000 if row < 8 else 0, 100, 10, "T4") for row in range(10)]
    trace = Trace(tuple(machines), (ONE,) * 60)
    result = replay.run(replay.Contest(trace, "05-BestFit"), 42)
    assert (result.arrived, result.placed) == (131, 64)
    assert result.allocated == {50: 50.0, 80: 64.0, 90: 64.0, 95: 64.0, 100: 64.0, 110: 64.0, 120: 64.0, 130: 64.0}
    assert result.fragmented == {95: 36.0}


def test_a_percent_is_the_mean_over_arrivals_that_round_to_it() -> None:
    """500 GPUs: 248 to 252 halves and ones that have arrived round to 50 percent."""
    machines = [Machine(f"n{row}", 10**9, 10**9, 50, "T4") for row in range(10)]
    trace = Trace(tuple(machines), (ONE,) * 10)
    result = replay.run(replay.Contest(trace, "01-Random"), 42)
    assert result.allocated[50] == 100 * sum((248, 249, 250, 251, 252)) / 5 / 500
    assert result.allocated[130] == 100.0


def test_the_same_seed_gives_the_same_and_a_policy_can_be_used_again() -> None:
    trace = Trace(tuple(Machine(f"n{row}", 9_000, 9, 4, "T4") for row in range(20)), (ONE, HALF, PLAIN, HALF, HALF))
    for name in replay.POLICIES:
        contest = replay.Contest(trace, name)
        first = [replay.run(contest, seed) for seed in (42, 43)]
        assert first == [replay.run(replay.Contest(trace, name), seed) for seed in (42, 43)]


def test_mean_over_the_seeds_that_came_to_a_percent() -> None:
    assert replay.mean([{50: 1.0, 80: 3.0}, {50: 2.0}], (50, 80, 90)) == {50: 1.5, 80: 3.0, 90: None}

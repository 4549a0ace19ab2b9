"""Pod creates with 100 watchers of all pods: events delivered a second, and how late.

The first two rows are a closed loop of 32 clients: each side as fast as it can. There lag follows from the rate (32 ÷
creates a second is the mean time a create is under way). The third row offers both sides the same load: creates paced
evenly at the rate at which the real server was saturated in this run.
"""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

from bench import load, pods
from bench.figure import Figure, compared, percentile
from bench.targets import Target, ours, real, real_available

WATCHERS = 100
CLIENTS = 32
_PACED_CREATES = 1_200


class Closed(Struct):
    """As fast as it goes."""

    events_per_second: float
    lag_seconds: float  # the median, from create to event
    restarts: int  # watches cut off


class Paced(Struct):
    """At a given rate."""

    p50_seconds: float
    p99_seconds: float

    def __str__(self) -> str:
        return f"{self.p50_seconds * 1000:.1f} ms, p99 {self.p99_seconds * 1000:.0f} ms"


async def measure(target: Target, total: int) -> Closed:
    watchers = load.Watchers(WATCHERS)
    await watchers.start(target.bench, f"{pods.PATH}?watch=true")
    reached = watchers.expect(total * WATCHERS)
    started = time.perf_counter()
    found = await load.run(target.bench, load.post(target.bench, pods.PATH, pods.body), total, CLIENTS, watchers)
    assert set(found.statuses) == {201}, found.statuses
    await asyncio.wait_for(reached, 120)
    seconds = time.perf_counter() - started
    watchers.close()
    return Closed(total * WATCHERS / seconds, percentile(watchers.lags, 0.5), watchers.restarts)


async def measure_paced(target: Target, rate: float) -> Paced:
    watchers = load.Watchers(WATCHERS)
    await watchers.start(target.bench, f"{pods.PATH}?watch=true")
    reached = watchers.expect(_PACED_CREATES * WATCHERS)
    make = load.post(target.bench, pods.PATH, pods.body)
    found = await load.run_paced(target.bench, make, rate, _PACED_CREATES, watchers)
    assert set(found.statuses) == {201}, found.statuses
    await asyncio.wait_for(reached, 120)
    watchers.close()
    return Paced(percentile(watchers.lags, 0.5), percentile(watchers.lags, 0.99))


def run() -> list[Figure]:
    theirs = None
    if real_available():
        with real() as target:
            theirs = load.execute(measure(target, 1_500))
    with ours() as target:
        mine = load.execute(measure(target, 5_000))
    basis = f"{WATCHERS} watchers of all pods, {CLIENTS} clients create; lag is from sending the create to the event"
    basis += f"; watches cut off by the server and resumed: real {theirs.restarts if theirs else '-'}, "
    basis += f"ours {mine.restarts}"
    return [
        compared(
            "the same with 100 watchers: events/s out",
            f"{theirs.events_per_second:,.0f}/s" if theirs else "not built",
            f"{mine.events_per_second:,.0f}/s",
            mine.events_per_second / theirs.events_per_second if theirs else None,
            4.5,
            basis,
        ),
        compared(
            "the same: lag p50",
            f"{theirs.lag_seconds * 1000:.0f} ms" if theirs else "not built",
            f"{mine.lag_seconds * 1000:.0f} ms",
            theirs.lag_seconds / mine.lag_seconds if theirs else None,
            15,
            basis + "; in a closed loop it follows from the rate",
        ),
        *([_at_one_load(theirs.events_per_second / WATCHERS)] if theirs else []),
    ]


def _at_one_load(rate: float) -> Figure:
    with real() as target:
        theirs = load.execute(measure_paced(target, rate))
    with ours() as target:
        mine = load.execute(measure_paced(target, rate))
    return compared(
        "lag p50 of both at the load that saturates the real one",
        str(theirs),
        str(mine),
        theirs.p50_seconds / mine.p50_seconds,
        15,
        f"{rate:,.0f} creates/s, paced evenly (the real server's own rate in the row above), {_PACED_CREATES} of them, "
        f"{WATCHERS} watchers; lag is from when a create is due to the event",
    )

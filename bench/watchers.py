"""Pod creates with 100 watchers of all pods: events delivered a second, and how late."""

from __future__ import annotations

import asyncio
import time

from bench import load, pods
from bench.figure import Figure, compared, percentile
from bench.targets import Target, ours, real, real_available

WATCHERS = 100
CLIENTS = 32


async def measure(target: Target, total: int) -> tuple[float, float, int]:
    """(events a second over all watchers, the median lag in seconds from create to event, watches cut off)."""
    watchers = load.Watchers(WATCHERS)
    await watchers.start(target.bench, f"{pods.PATH}?watch=true")
    reached = watchers.expect(total * WATCHERS)
    started = time.perf_counter()
    found = await load.run(target.bench, load.post(target.bench, pods.PATH, pods.body), total, CLIENTS, watchers)
    assert set(found.statuses) == {201}, found.statuses
    await asyncio.wait_for(reached, 120)
    seconds = time.perf_counter() - started
    watchers.close()
    return total * WATCHERS / seconds, percentile(watchers.lags, 0.5), watchers.restarts


def run() -> list[Figure]:
    theirs = None
    if real_available():
        with real() as target:
            theirs = load.execute(measure(target, 1_500))
    with ours() as target:
        mine = load.execute(measure(target, 5_000))
    basis = f"{WATCHERS} watchers of all pods, {CLIENTS} clients create; lag is from sending the create to the event"
    basis += f"; watches cut off by the server and resumed: real {theirs[2] if theirs else '-'}, ours {mine[2]}"
    return [
        compared(
            "the same with 100 watchers: events/s out",
            f"{theirs[0]:,.0f}/s" if theirs else "not built",
            f"{mine[0]:,.0f}/s",
            mine[0] / theirs[0] if theirs else None,
            4.5,
            basis,
        ),
        compared(
            "the same: lag p50",
            f"{theirs[1] * 1000:.0f} ms" if theirs else "not built",
            f"{mine[1] * 1000:.0f} ms",
            theirs[1] / mine[1] if theirs else None,
            15,
            basis,
        ),
    ]

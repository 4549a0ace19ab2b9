"""An empty cluster, from exec, cold, until it is ready to serve."""

from __future__ import annotations

import statistics

from bench.figure import Figure, compared
from bench.targets import ours, real, real_available

TIMES = 5


def run() -> list[Figure]:
    theirs: list[float] = []
    for _ in range(TIMES if real_available() else 0):
        with real() as target:
            theirs.append(target.start_seconds)
    mine: list[float] = []
    for _ in range(TIMES):
        with ours() as target:
            mine.append(target.start_seconds)
    factor = statistics.median(theirs) / statistics.median(mine) if theirs else None
    return [
        compared(
            "an empty cluster ready to serve",
            f"{statistics.median(theirs):.2f} s" if theirs else "not built",
            f"{statistics.median(mine):.2f} s",
            factor,
            10,
            f"median of {TIMES}; etcd and kube-apiserver until /readyz, `atoll cluster create --api-only` to its end",
        )
    ]

"""Memory with 16,000 small pods."""

from __future__ import annotations

from bench import creates
from bench.figure import Figure, compared
from bench.targets import ours, real, real_available

PODS = 16_000


def run() -> list[Figure]:
    theirs = 0
    if real_available():
        with real() as target:
            creates.measure(target, PODS)
            theirs = target.memory_bytes()
    with ours() as target:
        creates.measure(target, PODS)
        mine = target.memory_bytes()
    return [
        compared(
            "memory with 16,000 pods",
            f"{theirs / 1e6:,.0f} MB" if theirs else "not built",
            f"{mine / 1e6:,.0f} MB",
            theirs / mine if theirs else None,
            5,
            "summed PSS of all its processes, after creating them",
        )
    ]

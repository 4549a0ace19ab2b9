"""Memory with 16,000 small pods, and an empty cluster's start."""

from __future__ import annotations

from bench import creates
from bench.figure import Figure
from bench.targets import ours, real, real_available

PODS = 16_000


def run() -> list[Figure]:
    theirs: tuple[float, int] | None = None
    if real_available():
        with real() as target:
            start = target.start_seconds
            creates.measure(target, PODS)
            theirs = start, target.memory_bytes()
    with ours() as target:
        start = target.start_seconds
        creates.measure(target, PODS)
        mine = start, target.memory_bytes()
    return [
        Figure(
            "an empty cluster ready to serve",
            f"{theirs[0]:.2f} s" if theirs else "not built",
            f"{mine[0]:.2f} s",
            theirs[0] / mine[0] if theirs else None,
            10,
            "from exec: etcd and kube-apiserver until /readyz; `atoll cluster create --api-only` until it returns",
        ),
        Figure(
            "memory with 16,000 pods",
            f"{theirs[1] / 1e6:,.0f} MB" if theirs else "not built",
            f"{mine[1] / 1e6:,.0f} MB",
            theirs[1] / mine[1] if theirs else None,
            5,
            "summed PSS of all its processes, after creating them",
        ),
    ]

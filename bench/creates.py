"""Durable pod creates a second: TLS, RBAC, default admission, 32 clients."""

from __future__ import annotations

from collections.abc import Callable

from bench import load, pods
from bench.figure import Figure, compared, percentile
from bench.load import Load
from bench.targets import Target, both

CLIENTS = 32


def measure(target: Target, total: int) -> Load:
    return _measure(target, total, pods.body)


def measure_differing(target: Target, total: int) -> Load:
    return _measure(target, total, pods.differing)


def _measure(target: Target, total: int, body: Callable[[int], bytes]) -> Load:
    make = load.post(target.bench, pods.PATH, body)
    found: Load = load.execute(load.run(target.bench, make, total, CLIENTS))
    assert set(found.statuses) == {201}, found.statuses
    return found


def shown(found: Load) -> str:
    return f"{found.rate:,.0f}/s, p99 {percentile(found.latencies, 0.99) * 1000:.0f} ms"


def run() -> list[Figure]:
    basis = f"{CLIENTS} connections, one request in flight each, the generator on the same cores; "
    return [
        _row(
            "durable pod creates/s, TLS, RBAC on, 32 clients",
            both(measure, 5_000, 20_000),
            8,
            basis + "5,000 pods to etcd and kube-apiserver, 20,000 to ours, equal but for their names",
        ),
        _row(
            "the same of pods that all differ",
            both(measure_differing, 3_000, 8_000),
            2,
            basis + "3,000 and 8,000 pods, each with an image of its own; no goal is set for it elsewhere",
        ),
    ]


def _row(what: str, found: tuple[Load | None, Load], least: float, basis: str) -> Figure:
    theirs, mine = found
    factor = mine.rate / theirs.rate if theirs else None
    return compared(what, shown(theirs) if theirs else "not built", shown(mine), factor, least, basis)

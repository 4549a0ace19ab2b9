"""Durable pod creates a second: TLS, RBAC, default admission, 32 clients."""

from __future__ import annotations

from bench import load, pods
from bench.figure import Figure, compared, percentile
from bench.load import Load
from bench.targets import Target, both

CLIENTS = 32


def measure(target: Target, total: int) -> Load:
    make = load.post(target.bench, pods.PATH, pods.body)
    found: Load = load.execute(load.run(target.bench, make, total, CLIENTS))
    assert set(found.statuses) == {201}, found.statuses
    return found


def shown(found: Load) -> str:
    return f"{found.rate:,.0f}/s, p99 {percentile(found.latencies, 0.99) * 1000:.0f} ms"


def run() -> list[Figure]:
    theirs, mine = both(measure, 5_000, 20_000)
    return [
        compared(
            "durable pod creates/s, TLS, RBAC on, 32 clients",
            shown(theirs) if theirs else "not built",
            shown(mine),
            mine.rate / theirs.rate if theirs else None,
            8,
            f"{CLIENTS} connections, one request in flight each, the generator on the same cores; "
            "5,000 pods to etcd and kube-apiserver, 20,000 to ours",
        )
    ]

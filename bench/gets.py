"""GETs of one small object a second."""

from __future__ import annotations

from bench import load
from bench.figure import Figure, compared, percentile
from bench.load import Load
from bench.targets import NAMESPACE, Target, both

CLIENTS = 32
PATH = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/load"


def measure(target: Target, total: int) -> Load:
    found: Load = load.execute(load.run(target.bench, load.get(target.bench, PATH), total, CLIENTS))
    assert set(found.statuses) == {200}, found.statuses
    return found


def run() -> list[Figure]:
    theirs, mine = both(measure, 10_000, 50_000)

    def shown(found: Load) -> str:
        return f"{found.rate:,.0f}/s, p99 {percentile(found.latencies, 0.99) * 1000:.0f} ms"

    return [
        compared(
            "GETs/s",
            shown(theirs) if theirs else "not built",
            shown(mine),
            mine.rate / theirs.rate if theirs else None,
            8,
            f"a service account, {CLIENTS} connections, one request in flight each",
        )
    ]

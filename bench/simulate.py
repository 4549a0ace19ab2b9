"""A day of 7,500 GPU nodes in virtual time, and the phases that GKE published, decided on a snapshot."""

from __future__ import annotations

import resource
import time

from atoll.simulate.compare import simulate
from atoll.simulate.scenario.read import parse
from bench import phases
from bench.figure import Figure, within

DAY_SECONDS, PODS, FAULTS = 60.0, 10_000, 500
_NODES = 7_500
SCENARIO = f"""
apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {{name: day}}
spec:
  duration: 24h
  fleet: {{pools: [{{name: h100, nodes: {_NODES}, model: H100, gpus: 8, block: 500, rack: 20}}]}}
  arrivals:
  - jobs: {{name: small, every: {{exponential: 18s}}, run: {{lognormal: {{median: 1h, sigma: 1}}}},
            gpus: {{choice: [1, 2, 4, 8]}}}}
  - jobs: {{name: large, every: {{exponential: 6m}}, run: {{lognormal: {{median: 3h, sigma: 1}}}}, gpus: 8,
            pods: {{choice: [8, 16, 32, 64]}}, checkpointEvery: 30m}}
  faults:
  - {{every: {{exponential: 3m}}, node: any, for: {{uniform: [30m, 4h]}}}}
  - {{every: {{exponential: 8h}}, rack: any, for: 1h}}
  - {{every: {{exponential: 10m}}, gpu: any, for: 1h}}
"""


def run() -> list[Figure]:
    started = time.perf_counter()
    result = simulate(parse(SCENARIO, "bench/simulate.py"), 1)
    seconds = time.perf_counter() - started
    jobs = [row for row in result.rows if row.event == "job-arrived"]
    faults = sum(row.event == "fault" for row in result.rows)
    pods = round(result.measures["pods"])
    assert result.violations == [] and faults >= FAULTS and pods >= PODS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    day = within(
        f"24 h of {_NODES:,} nodes in virtual time, {pods:,} pods, {faults} faults",
        "24 h",
        f"{seconds:.0f} s",
        seconds,
        DAY_SECONDS,
        f"≤ {DAY_SECONDS:.0f} s",
        f"one process, seed 1: API core, scheduler, controllers, simulated nodes; {pods:,} pods of {len(jobs):,} jobs;"
        f" {result.commits:,} commits, every invariant looked at after each; {result.cpu_seconds:.0f} s of CPU,"
        f" {peak:.1f} GB at most",
    )
    return [day, *phases.run()]

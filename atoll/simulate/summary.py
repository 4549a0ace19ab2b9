"""The sums of one run, and of many: what a table and a report say about a policy. Pure."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from atoll.simulate.invariants.port import Violation
from atoll.simulate.record import Recorder, Row
from atoll.simulate.world import Outcome

_HOUR = 3600.0
_MINUTE = 60.0
# Student's t, two-sided 95 %, by degrees of freedom (1 …)
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that policies are compared by. `better`: 1 more is, -1 less is, 0 neither."""

    name: str
    title: str
    unit: str
    better: int


MEASURES = (
    Measure("utilisation", "GPUs at work", "%", 1),
    Measure("wait", "queue wait, mean", "min", -1),
    Measure("wait-p95", "queue wait, 95th percentile", "min", -1),
    Measure("fragmented", "idle GPUs that typical pods can't use", "%", -1),
    Measure("preemptions", "preemptions", "", 0),
    Measure("lost", "lost work", "GPU-h", -1),
    Measure("recovery", "time to recover, mean", "min", -1),
    Measure("unrecovered", "faults not recovered from", "", -1),
    Measure("finished", "jobs finished", "", 1),
    Measure("unstarted", "jobs never started", "", -1),
    Measure("cost", "price of all nodes", "", -1),
)
_NUMBER = re.compile(r"\d[\w.]*")
TEAM_WAIT = "wait of "  # and the team: measures of their own


@dataclass(frozen=True, slots=True)
class RunResult:
    """Of one policy and seed. `digest`: of all commits; equal digests, equal runs."""

    policy: str
    seed: int
    digest: str
    commits: int
    seconds: float  # virtual
    cpu_seconds: float  # of this machine
    measures: Mapping[str, float]
    rows: Sequence[Row] = field(repr=False)
    violations: Sequence[Violation]


def result_of(policy: str, seed: int, outcome: Outcome, cpu_seconds: float) -> RunResult:
    """Rows count from where the scenario's time began."""
    began = outcome.began
    rows = [row._replace(seconds=row.seconds - began) for row in outcome.recorder.rows if row.seconds >= began]
    measures = measured(outcome.recorder, rows, began + outcome.seconds)
    return RunResult(
        policy, seed, outcome.digest, outcome.commits, outcome.seconds, cpu_seconds, measures, rows, outcome.violations
    )


def measured(recorder: Recorder, rows: Sequence[Row], now: float) -> dict[str, float]:
    """By name of the measure. A Job that has not started by the end has waited until then."""
    gauges: dict[str, list[float]] = {}
    for row in rows:
        if row.event == "gauge":
            gauges.setdefault(row.subject, []).append(row.value)
    total = _mean(gauges.get("gpus", ())) or 1.0
    jobs = list(recorder.work.jobs.values())
    waits = [((now if job.started is None else job.started) - job.arrived) / _MINUTE for job in jobs]
    hurt = [wound for wound in recorder.wounds if wound.jobs or wound.recovered != wound.began]
    healed = [wound.recovered - wound.began for wound in hurt if wound.recovered is not None]
    found = {
        "utilisation": 100 * _mean(gauges.get("working", ())) / total,
        "wait": _mean(waits),
        "wait-p95": percentile(waits, 0.95),
        "fragmented": 100 * _mean(gauges.get("fragmented", ())) / total,
        "preemptions": float(recorder.preemptions),
        "lost": sum(job.lost_gpu_seconds for job in jobs) / _HOUR,
        "recovery": _mean(healed) / _MINUTE,
        "unrecovered": float(len(hurt) - len(healed)),
        "finished": float(sum(job.finished is not None for job in jobs)),
        "pods": float(sum(job.pods for job in jobs)),
        "unstarted": float(sum(job.started is None for job in jobs)),
    }
    if recorder.prices.known:
        found["cost"] = recorder.prices.spent(now)
    by_team: dict[str, list[float]] = {}
    for job, wait in zip(jobs, waits, strict=True):
        by_team.setdefault(job.team, []).append(wait)
    return found | {f"{TEAM_WAIT}{team}": _mean(values) for team, values in sorted(by_team.items())}


def measures_of(results: Iterable[RunResult]) -> list[Measure]:
    """All that are known of these runs; teams' waits come after the wait of all."""
    known = {name for result in results for name in result.measures}
    teams = sorted(name for name in known if name.startswith(TEAM_WAIT))
    found: list[Measure] = []
    for measure in MEASURES:
        if measure.name not in known:
            continue
        found.append(measure)
        if measure.name == "wait-p95" and len(teams) > 1:
            found += [Measure(team, f"… {team[len(TEAM_WAIT) :]}, mean", "min", -1) for team in teams]
    return found


class Reason(NamedTuple):
    """Why `jobs` have not started by the end, told by one of them: the others' messages differ in numbers only."""

    jobs: int
    example: str
    text: str


def why_unstarted(results: Iterable[RunResult], policy: str, most: int = 3) -> list[Reason]:
    """The most frequent reasons, over all seeds."""
    alike: dict[str, list[Row]] = {}
    for result in results:
        for row in result.rows:
            if result.policy == policy and row.event == "job-waiting":
                alike.setdefault(_NUMBER.sub("0", row.detail), []).append(row)
    frequent = sorted(alike.values(), key=len, reverse=True)[:most]
    return [Reason(len(rows), rows[0].subject, rows[0].detail or "nobody has looked at it yet") for rows in frequent]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and half the width of its 95 % confidence interval (None: one run says nothing of that)."""

    mean: float
    half: float | None

    @property
    def decided(self) -> bool:
        """Zero is outside of the interval."""
        return self.half is not None and abs(self.mean) > self.half


def estimate(values: Sequence[float]) -> Estimate:
    """By Student's t over the seeds."""
    if len(values) < 2:
        return Estimate(_mean(values), None)
    freedom = len(values) - 1
    quantile = _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.4 / freedom
    return Estimate(_mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values)))


def by_policy(results: Iterable[RunResult], measure: str) -> dict[str, Estimate]:
    """Policy → the estimate over its seeds."""
    values: dict[str, list[float]] = {}
    for result in results:
        values.setdefault(result.policy, []).append(result.measures.get(measure, 0.0))
    return {policy: estimate(found) for policy, found in values.items()}


def differences(results: Sequence[RunResult], measure: str, first: str) -> dict[str, Estimate]:
    """Policy → how much more than the first, seed by seed: what all seeds share falls out."""
    base = {result.seed: result.measures.get(measure, 0.0) for result in results if result.policy == first}
    values: dict[str, list[float]] = {}
    for result in results:
        if result.policy != first and result.seed in base:
            values.setdefault(result.policy, []).append(result.measures.get(measure, 0.0) - base[result.seed])
    return {policy: estimate(found) for policy, found in values.items()}


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0

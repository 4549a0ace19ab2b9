"""The report of many runs: what was asked, the table, six plots, and what broke. Pure: results in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from importlib import resources

from atoll.simulate.report.svg import Bar, Line, Mark, bars, dots, lines
from atoll.simulate.scenario.model import Scenario
from atoll.simulate.summary import TEAM_WAIT, RunResult, by_policy, differences, estimate, measures_of, why_unstarted

_HOUR = 3600.0
_MOST_MARKS = 200
_FEW_HOURS = 2.0  # up to so many, time is told in minutes
_POINTS = 300  # of a line: more can't be seen


def page(scenario: Scenario, results: Sequence[RunResult], reproduce: Sequence[str]) -> str:
    """`reproduce`: one line a run that broke an invariant."""
    policies = list(dict.fromkeys(result.policy for result in results))
    hours = scenario.seconds / _HOUR
    style = resources.files(__package__).joinpath("style.css").read_text()
    plots = [
        ("GPUs at work", "percent of all GPUs", _over_time(results, _utilisation, hours)),
        ("Queue wait by team", "mean minutes, 95 % interval", _waits(results, policies)),
        ("Idle GPUs that typical pods can't use", "percent of all GPUs", _over_time(results, _fragmented, hours)),
        ("Preemptions", "since the start", _over_time(results, _preempted, hours)),
        ("Lost work", "GPU-hours since the start", _over_time(results, _lost, hours)),
        ("Time to recover", "minutes, one dot a fault that stopped jobs", _recovery(results, policies)),
    ]
    if any(row.subject == "price" for result in results for row in result.rows):
        nodes, price = (_over_time(results, partial(_gauge, name), hours) for name in ("nodes", "price"))
        plots += [("Nodes", "that have joined", nodes), ("Price of all nodes", "an hour, booting ones too", price)]
    cards = "".join(
        f"<figure><figcaption><b>{escape(title)}</b> <span>{escape(note)}</span></figcaption>{svg}</figure>"
        for title, note, svg in plots
    )
    name = escape(scenario.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: atoll simulate</title><style>{style}</style></head><body>"
        f"<header><h1>{name}</h1><p>{escape(_asked(scenario, results))}</p>{_legend(policies)}</header>"
        f"{_broken(reproduce)}<main>{cards}</main><section><h2>In numbers</h2>{_table(results, policies)}"
        f"{_unstarted(results, policies)}</section>"
        f"<footer>{_footer(results)}</footer></body></html>"
    )


def _asked(scenario: Scenario, results: Sequence[RunResult]) -> str:
    seeds = len({result.seed for result in results})
    faults = sum(row.event == "fault" for row in results[0].rows) if results else 0
    jobs = sum(row.event == "job-arrived" for row in results[0].rows) if results else 0
    nodes = sum(pool.nodes for pool in scenario.pools)
    more = f" and up to {scenario.most_machines:,} machines more" if scenario.autoscale is not None else ""
    hours = scenario.seconds / _HOUR
    long = _in_minutes(hours) if hours <= _FEW_HOURS else _in_hours(round(hours, 1))
    return (
        f"{long} of {nodes:,} nodes with {scenario.gpus:,} GPUs{more} · {seeds} "
        f"seed{'s' if seeds != 1 else ''} · in the first one {jobs:,} jobs arrive and {faults:,} faults strike"
    )


def _legend(policies: Sequence[str]) -> str:
    keys = "".join(f'<li><i class="c{number % 6}"></i>{escape(name)}</li>' for number, name in enumerate(policies))
    return f'<ul class="legend">{keys}<li><i class="mark"></i>a fault (first seed)</li></ul>'


def _broken(lines: Sequence[str]) -> str:
    if not lines:
        return '<p class="held">All invariants held, in every run.</p>'
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return f'<div class="broke"><b>An invariant was broken.</b> These lines play it again:<ul>{items}</ul></div>'


Series = Callable[[RunResult], list[tuple[float, float]]]


def _utilisation(result: RunResult) -> list[tuple[float, float]]:
    return _share_of_all(result, "working")


def _fragmented(result: RunResult) -> list[tuple[float, float]]:
    return _share_of_all(result, "fragmented")


def _share_of_all(result: RunResult, gauge: str) -> list[tuple[float, float]]:
    total = {row.seconds: row.value for row in result.rows if row.event == "gauge" and row.subject == "gpus"}
    found = [row for row in result.rows if row.event == "gauge" and row.subject == gauge]
    return [(row.seconds / _HOUR, 100 * row.value / (total.get(row.seconds) or 1.0)) for row in found]


def _gauge(name: str, result: RunResult) -> list[tuple[float, float]]:
    return [(row.seconds / _HOUR, row.value) for row in result.rows if row.event == "gauge" and row.subject == name]


def _preempted(result: RunResult) -> list[tuple[float, float]]:
    kinds = {("workload-evicted", "Preempted"), ("pod-disrupted", "PreemptionByScheduler")}
    found, total = [(0.0, 0.0)], 0.0
    for row in result.rows:
        if (row.event, row.detail) in kinds:
            total += 1
            found.append((row.seconds / _HOUR, total))
    return found


def _lost(result: RunResult) -> list[tuple[float, float]]:
    found, total = [(0.0, 0.0)], 0.0
    for row in result.rows:
        if row.event == "work-lost":
            total += row.value / _HOUR
            found.append((row.seconds / _HOUR, total))
    return found


def _over_time(results: Sequence[RunResult], series: Series, hours: float) -> str:
    """A line a policy: the mean of its seeds, and the band that they lie in."""
    drawn = []
    grid = [hours * number / _POINTS for number in range(_POINTS + 1)]
    for policy in dict.fromkeys(result.policy for result in results):
        runs = [_at(series(result), grid) for result in results if result.policy == policy]
        means = [(x, sum(values) / len(values)) for x, values in zip(grid, zip(*runs, strict=True), strict=True)]
        spread = [(x, min(values), max(values)) for x, values in zip(grid, zip(*runs, strict=True), strict=True)]
        drawn.append(Line(policy, means, spread if len(runs) > 1 else ()))
    return lines(drawn, _marks(results), hours, _in_minutes if hours <= _FEW_HOURS else _in_hours)


def _in_minutes(hours: float) -> str:
    return f"{hours * 60:.0f} min"


def _in_hours(hours: float) -> str:
    return f"{hours:g} h"


def _at(points: Sequence[tuple[float, float]], grid: Sequence[float]) -> list[float]:
    """The last value known at each x."""
    found, index, value = [], 0, points[0][1] if points else 0.0
    for x in grid:
        while index < len(points) and points[index][0] <= x:
            value = points[index][1]
            index += 1
        found.append(value)
    return found


def _marks(results: Sequence[RunResult]) -> list[Mark]:
    if not results:
        return []
    faults = [row for row in results[0].rows if row.event == "fault"]
    if len(faults) > _MOST_MARKS:  # they would paint everything: the largest tell most
        faults = [row for row in faults if row.detail in ("rack", "block", "apiServer")]
    return [
        Mark(row.seconds / _HOUR, row.value / _HOUR, f"{row.detail} {row.subject}: {row.value / 60:.0f} min")
        for row in faults[:_MOST_MARKS]
    ]


def _waits(results: Sequence[RunResult], policies: Sequence[str]) -> str:
    teams = sorted({name for result in results for name in result.measures if name.startswith(TEAM_WAIT)})
    found = []
    for name in [*teams, "wait"] if len(teams) > 1 else ["wait"]:
        means = by_policy(results, name)
        label = name[len(TEAM_WAIT) :] if name.startswith(TEAM_WAIT) else "all"
        found += [Bar(label, policy, means[policy].mean, means[policy].half) for policy in policies]
    return bars(found, "min")


def _recovery(results: Sequence[RunResult], policies: Sequence[str]) -> str:
    rows = []
    for policy in policies:
        found = [
            (row.value / 60, f"{row.detail} {row.subject}, seed {result.seed}: {row.value / 60:.1f} min")
            for result in results
            if result.policy == policy
            for row in result.rows
            if row.event == "recovered"
        ]
        rows.append((policy, found))
    return dots(rows)


def _table(results: Sequence[RunResult], policies: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(policy)}</th>" for policy in policies)
    head += "".join(f"<th>{escape(policy)} − {escape(policies[0])}</th>" for policy in policies[1:])
    body = []
    for measure in measures_of(results):
        means, apart = by_policy(results, measure.name), differences(results, measure.name, policies[0])
        cells = [_cell(means[policy].mean, means[policy].half) for policy in policies]
        for policy in policies[1:]:
            better = (apart[policy].mean > 0) == (measure.better > 0)
            word = ("better" if better else "worse") if apart[policy].decided and measure.better else ""
            cells.append(_cell(apart[policy].mean, apart[policy].half, word, signed=True))
        unit = f" <small>{escape(measure.unit)}</small>" if measure.unit else ""
        body.append(f"<tr><th>{escape(measure.title)}{unit}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _unstarted(results: Sequence[RunResult], policies: Sequence[str]) -> str:
    items = "".join(
        f"<li><b>{escape(policy)}</b>: {reason.jobs:,} such as <code>{escape(reason.example)}</code>: "
        f"{escape(reason.text)}</li>"
        for policy in policies
        for reason in why_unstarted(results, policy)
    )
    return f"<h2>Why jobs never started</h2><ul>{items}</ul>" if items else ""


def _cell(value: float, half: float | None, word: str = "", *, signed: bool = False) -> str:
    value = round(value, 1) + 0.0  # no -0.0
    text = (f"{value:+,.1f}" if signed else f"{value:,.1f}").replace("-", "−")
    interval = "" if half is None else f" <small>± {half:,.1f}</small>"
    told = f' <em class="{word}">{word}</em>' if word else ""
    return f"<td>{text}{interval}{told}</td>"


def _footer(results: Iterable[RunResult]) -> str:
    found = list(results)
    cpu = estimate([result.cpu_seconds for result in found]).mean
    hashes = ", ".join(f"{escape(item.policy)}/{item.seed} {item.digest[:12]}" for item in found[:12])
    return (
        "Real controllers on the real API core, in virtual time; intervals are 95 % by Student's t over the seeds, "
        "differences seed by seed, bands from the least to the most of the seeds. "
        f"{cpu:.1f} s of CPU a run. Event hashes: {hashes}{' …' if len(found) > 12 else ''}"
    )

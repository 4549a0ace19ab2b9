"""atoll simulate: a fleet lived through in virtual time, from a scenario file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.output import Progress, output_option, structured, table

if TYPE_CHECKING:
    from atoll.simulate.summary import Estimate, Measure, RunResult

_FILE = click.Path(path_type=Path)
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SEEDS = 100_000


class _Simulate(click.Group):
    """`atoll simulate FILE …` runs; `atoll simulate snapshot …` is a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=_Simulate)
def simulate() -> None:
    """Live a fleet through in virtual time."""


@simulate.command()
@click.argument("file", type=_FILE, required=True)
@click.option("--seeds", default="1", show_default=True, metavar="SEEDS", help="A seed, 1..10, or 1,5,9.")
@click.option("--compare", "names", default="", metavar="A,B", help="Only these of the file's policies.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Runs at once; as many as there are processors by default.")
@output_option("json", "yaml")
def run(file: Path, seeds: str, names: str, jobs: int | None, output: str | None) -> None:
    """Play a scenario: the real controllers against the real API core, in virtual time.

    Shown are the means over the seeds with their 95 % confidence intervals, and for each further policy how much it
    differs from the first one, seed by seed. A run that breaks an invariant ends there; the line that plays it again is
    printed, and the exit status is 1.

    \b
    Examples:
      atoll simulate night.yaml
      atoll simulate night.yaml --seeds 1..10 --compare fifo,fair
    """
    from atoll.simulate.compare import Task, run_all
    from atoll.simulate.scenario.read import load

    scenario = load(file)
    policies = [name.strip() for name in names.split(",") if name.strip()] or [*scenario.policies] or [scenario.policy]
    for policy in policies:
        load(file, policy)  # a mistake in any is told before the first run
    tasks = [Task(file, policy, seed) for policy in policies for seed in parse_seeds(seeds)]
    progress = Progress()

    def report(done: int, share: float, seconds: float) -> None:
        left = f", about {_clock(seconds / share - seconds)} left" if share > 0.02 else ""
        progress.say(f"{done} of {len(tasks)} runs done, {100 * share:.0f} %{left}")

    results = run_all(tasks, scenario.seconds, min(jobs or os.cpu_count() or 1, len(tasks)), report)
    progress.done()
    if not structured(_as_data(results), output):
        click.echo(
            f"{scenario.name}: {_clock(scenario.seconds)} of {sum(pool.nodes for pool in scenario.pools):,} nodes "
            f"with {scenario.gpus:,} GPUs; {len(tasks) // len(policies)} seeds"
        )
        _show(results, policies)
    broken = [(task, result) for task, result in zip(tasks, results, strict=True) if result.violations]
    for task, result in broken:
        first = result.violations[0]
        click.echo(f"{task.line}   # {first.invariant} at {_clock(first.at)}: {first.what}", err=True)
    if broken:
        raise SystemExit(1)


def parse_seeds(text: str) -> list[int]:
    """`7`, `1..10`, `1,5,9`. Raises UserError."""
    found: list[int] = []
    for part in text.split(","):
        both = _RANGE.fullmatch(part.strip())
        if both is not None and int(both[1]) <= int(both[2]) < int(both[1]) + _MOST_SEEDS:
            found += range(int(both[1]), int(both[2]) + 1)
        elif part.strip().isdigit():
            found.append(int(part))
        else:
            raise UserError(f"--seeds {text}: not seeds", hint="a number, a range such as 1..10, or several: 1,5,9")
    return list(dict.fromkeys(found))


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _show(results: Sequence[RunResult], policies: Sequence[str]) -> None:
    from atoll.simulate.summary import by_policy, differences, measures_of

    header = ["MEASURE", *policies, *(f"{policy} − {policies[0]}" for policy in policies[1:])]
    rows = []
    for measure in measures_of(results):
        means = by_policy(results, measure.name)
        apart = differences(results, measure.name, policies[0])
        title = f"{measure.title} [{measure.unit}]" if measure.unit else measure.title
        cells = [_cell(means[policy]) for policy in policies]
        rows.append([title, *cells, *(_difference(apart[policy], measure) for policy in policies[1:])])
    table(header, rows)
    if len(policies) > 1 and any("better" in cell or "worse" in cell for row in rows for cell in row):
        click.echo("better, worse: zero lies outside of the 95 % interval of the differences, seed by seed")


def _cell(value: Estimate) -> str:
    return f"{value.mean:,.1f}" if value.half is None else f"{value.mean:,.1f} ± {value.half:,.1f}"


def _difference(value: Estimate, measure: Measure) -> str:
    sign = "+" if value.mean >= 0 else "−"
    half = "" if value.half is None else f" ± {value.half:,.1f}"
    word = ""
    if value.decided and measure.better:
        word = " better" if (value.mean > 0) == (measure.better > 0) else " worse"
    return f"{sign}{abs(value.mean):,.1f}{half}{word}"


def _as_data(results: Sequence[RunResult]) -> list[dict[str, Any]]:
    return [
        {
            "policy": result.policy,
            "seed": result.seed,
            "hash": result.digest,
            "commits": result.commits,
            "virtualSeconds": result.seconds,
            "cpuSeconds": round(result.cpu_seconds, 2),
            "measures": dict(result.measures),
            "violations": [
                {"invariant": item.invariant, "seconds": item.at, "what": item.what} for item in result.violations
            ],
        }
        for result in results
    ]

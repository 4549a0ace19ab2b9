"""atoll simulate: a fleet lived through in virtual time, from a scenario file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.output import Progress, output_option, structured, table

if TYPE_CHECKING:
    from atoll.simulate.compare import Task
    from atoll.simulate.scenario.model import Scenario
    from atoll.simulate.summary import Estimate, Measure, RunResult

_FILE = click.Path(path_type=Path)
_SEED = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_MOST_SEEDS = 100_000
_APART_SECONDS = 10.0  # lines of progress where there is no terminal


class _Simulate(click.Group):
    """`atoll simulate FILE …` runs; `atoll simulate snapshot …` is a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=_Simulate)
def simulate() -> None:
    """Live a fleet through in virtual time.

    \b
    Examples:
      atoll simulate night.yaml --seeds 1..10 --report night.html
      atoll simulate snapshot --context atoll-ci > now.yaml
    """


@simulate.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--seeds", default="1", show_default=True, metavar="SEEDS", help="A seed, 1..10, or 1,5,9.")
@click.option("--compare", "names", default="", metavar="A,B", help="Only these of the file's policies.")
@click.option("--report", type=_FILE, metavar="FILE.html", help="Write a report with plots: one file, no script.")
@click.option("--parquet", type=_FILE, metavar="FILE", help="Write all events, gauges and measures as one table.")
@click.option("--explore", type=click.IntRange(1, 1_000_000), metavar="N", help="Play N drawn scenarios.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Runs at once; as many as there are processors by default.")
@output_option("json", "yaml")
def run(
    file: Path | None, seeds: str, names: str, report: Path | None, parquet: Path | None, explore: int | None,
    jobs: int | None, output: str | None,
) -> None:  # fmt: skip
    """Play a scenario: the real controllers against the real API core, in virtual time.

    Shown are the means over the seeds with their 95 % confidence intervals, and for each further policy how much it
    differs from the first one, seed by seed. A run that breaks an invariant ends there; the line that plays it again is
    printed, and the exit status is 1.

    `atoll simulate snapshot --kubeconfig FILE` makes a scenario of a live cluster.

    \b
    Examples:
      atoll simulate night.yaml
      atoll simulate night.yaml --seeds 1..10 --compare fifo,fair --report night.html
      atoll simulate --explore 1000
    """
    from atoll.simulate.compare import Task

    if (file is None) == (explore is None):
        raise UserError("name a scenario file, or --explore N", hint="atoll simulate night.yaml")
    if file is None:
        first, *others = parse_seeds(seeds)
        if others or names or report or parquet:
            why = (
                "--explore draws its scenarios from --seeds FIRST on; --compare, --report and --parquet go with a file"
            )
            raise UserError(why, hint=f"atoll simulate --explore {explore} --seeds {first}")
        _play([Task(None, "", seed) for seed in range(first, first + (explore or 0))], None, jobs, output)
        return
    for path in filter(None, (report, parquet)):
        _check_writable(path, file)
    scenario = _load_all(file, names)
    policies = [item.policy for item in scenario]
    tasks = [Task(file, item.policy, seed, item) for item in scenario for seed in parse_seeds(seeds)]
    results, broken = _run(tasks, scenario[0].seconds, jobs)
    if not structured(_as_data(results), output):
        _show_asked(scenario[0], len(tasks) // len(policies))
        _show(results, policies)
    try:
        if parquet is not None:
            from atoll.simulate.table import write_results

            _write(parquet, lambda path: write_results(path, results))
        if report is not None:
            from atoll.simulate.report.page import page

            text = page(scenario[0], results, broken)
            _write(report, lambda path: path.write_text(text, encoding="utf-8"))
    finally:
        _tell(broken)  # whatever can't be written
    _end(broken)


@simulate.command()
@click.option("--kubeconfig", type=_FILE, required=True, help="How to reach the cluster; reading is enough.")
@click.option("--context", help="A context of the kubeconfig other than its current one.")
@click.option("--duration", default="24h", show_default=True, help="How long the scenario is to be.")
@click.option("--remaining", default="1h", show_default=True, help="How long Jobs that run now still take.")
def snapshot(kubeconfig: Path, context: str | None, duration: str, remaining: str) -> None:
    """Print a live cluster as a scenario: nodes, queues, budgets, unfinished work. Nothing is written there.

    \b
    Example:
      atoll simulate snapshot --kubeconfig prod.yaml > prod-today.yaml
    """
    import asyncio

    from atoll.base.clock import SystemClock
    from atoll.client.http import HttpClient
    from atoll.client.kubeconfig import load
    from atoll.simulate.scenario.units import seconds_of
    from atoll.simulate.snapshot import take

    left = seconds_of(remaining)
    if left is None or not seconds_of(duration):
        raise UserError(f"{remaining if left is None else duration!r} is not a duration", hint="e.g. 90s, 15m, 1h30m")
    access = load(kubeconfig).access(context)

    async def read() -> tuple[str, list[str]]:
        client = HttpClient(access, clock=SystemClock())
        try:
            return await take(client, kubeconfig.stem, duration=duration, remaining_seconds=left)
        finally:
            await client.close()

    text, unread = asyncio.run(read())
    for why in unread:
        click.echo(f"left out: {why}", err=True)
    click.echo(text, nl=False)


def _load_all(file: Path, names: str) -> list[Scenario]:
    """The scenario of each policy that is asked for: a mistake in any is told before the first run."""
    from atoll.simulate.scenario.read import load

    first = load(file)
    asked = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    wanted = [*asked] or [*first.policies] or [first.policy]
    return [load(file, policy) for policy in wanted]


def _play(tasks: list[Task], seconds: float | None, jobs: int | None, output: str | None) -> None:
    """Explored scenarios: only what they break is of interest."""
    results, broken = _run(tasks, seconds, jobs)
    if not structured(_as_data(results), output):
        commits, hours = sum(result.commits for result in results), sum(result.seconds for result in results) / 3600
        click.echo(
            f"{len(results):,} scenarios, {hours:,.0f} virtual hours, {commits:,} commits: "
            f"{len(broken)} broke an invariant"
        )
    _tell(broken)
    _end(broken)


def _run(tasks: list[Task], seconds: float | None, jobs: int | None) -> tuple[list[RunResult], list[str]]:
    """The results, and the lines that play broken runs again."""
    from atoll.simulate.compare import run_all

    progress = Progress(_APART_SECONDS)

    def report(done: int, share: float, seconds: float) -> None:
        left = f", about {_clock(seconds / share - seconds)} left" if share > 0.02 else ""
        progress.say(f"{done} of {len(tasks)} runs done, {100 * share:.0f} %{left}")

    results = run_all(tasks, seconds, min(jobs or os.cpu_count() or 1, len(tasks)), report)
    progress.done()
    broken = []
    for task, result in zip(tasks, results, strict=True):
        for first in result.violations[:1]:
            broken.append(f"{task.line}   # {first.invariant} at {_clock(first.at)}: {first.what}")
    return results, broken


def _tell(broken: list[str]) -> None:
    for line in broken:
        click.echo(line, err=True)


def _end(broken: list[str]) -> None:
    if broken:
        raise SystemExit(1)


def _check_writable(path: Path, scenario: Path) -> None:
    """Told before hours of simulation, not after them. Raises UserError."""
    why = ""
    if path.is_dir():
        why = "is a folder"
    elif not path.parent.is_dir():
        why = f"there is no folder {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = "can't be written"
    elif path.exists() and scenario.exists() and path.samefile(scenario):
        why = "is the scenario itself"
    if why:
        raise UserError(f"{path}: {why}", hint="name a file that can be written")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """The whole file or, where that fails, what was there before."""
    beside = os.access(path.parent, os.W_OK) and (path.is_file() or not path.exists())  # else it is a device
    whole = path.with_name(f".{path.name}.{os.getpid()}") if beside else path
    try:
        write(whole)
        if whole != path:
            whole.replace(path)
    except OSError as error:
        if whole != path:
            whole.unlink(missing_ok=True)
        raise UserError(f"{path}: {error.strerror}", hint="name a file that can be written") from None
    click.echo(f"written: {path}", err=True)


def _show_asked(scenario: Scenario, seeds: int) -> None:
    nodes = sum(pool.nodes for pool in scenario.pools)
    more = f" and up to {scenario.most_machines:,} machines more" if scenario.autoscale is not None else ""
    long, gpus = _clock(scenario.seconds), f"{scenario.gpus:,} GPUs"
    click.echo(f"{scenario.name}: {long} of {nodes:,} nodes with {gpus}{more}; {seeds} seed{'s' if seeds != 1 else ''}")


def parse_seeds(text: str) -> list[int]:
    """`7`, `1..10`, `1,5,9`. Raises UserError."""
    found: list[int] = []
    for part in text.split(","):
        both, one = _RANGE.fullmatch(part.strip()), _SEED.fullmatch(part.strip())
        if both is not None and int(both[1]) <= int(both[2]) < int(both[1]) + _MOST_SEEDS:
            found += range(int(both[1]), int(both[2]) + 1)
        elif one is not None:
            found.append(int(one[0]))
        else:
            hint = f"a number, a range such as 1..10 (of {_MOST_SEEDS:,} at most), or several: 1,5,9"
            raise UserError(f"--seeds {text[:80]}: not seeds", hint=hint)
    return list(dict.fromkeys(found))


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _show(results: Sequence[RunResult], policies: Sequence[str]) -> None:
    from atoll.simulate.summary import by_policy, differences, measures_of, why_unstarted

    header = ["MEASURE", *policies, *(f"{policy} − {policies[0]}" for policy in policies[1:])]
    rows = []
    for measure in measures_of(results):
        means = by_policy(results, measure.name)
        apart = differences(results, measure.name, policies[0])
        title = f"{measure.title} [{measure.unit}]" if measure.unit else measure.title
        cells = [_cell(means[policy]) for policy in policies]
        rows.append([title, *cells, *(_difference(apart[policy], measure) for policy in policies[1:])])
    table(header, rows)
    for policy in policies:
        for reason in why_unstarted(results, policy):
            click.echo(f"never started under {policy}: {reason.jobs:,} such as {reason.example}: {reason.text}")
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

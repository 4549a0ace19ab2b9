"""atoll bench: Atoll's decisions held against results that others published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.output import Progress, output_option, structured, table

if TYPE_CHECKING:
    from atoll.simulate.openb.published import Cell, Table

_POLICIES = ("01-Random", "02-DotProd", "03-GpuClustering", "04-GpuPacking", "05-BestFit", "06-FGD", "07-Atoll")
_FILE = click.Path(path_type=Path)
Means = dict[str, dict[int, float | None]]


@click.group()
def bench() -> None:
    """Hold Atoll's decisions against results that others published.

    \b
    Example:
      atoll bench openb --nodes openb_node_list_gpu_node.csv --pods openb_pod_list_default.csv
    """


@bench.command()
@click.option("--nodes", type=_FILE, required=True, help="The node list (CSV); nodes without a GPU are left out.")
@click.option("--pods", type=_FILE, required=True, help="The pod list (CSV).")
@click.option("--expected", type=_FILE, help="Published means; a mean too far off makes the exit status 1.")
@click.option("--policy", "names", type=click.Choice(_POLICIES), multiple=True, help="Only these; repeatable.")
@output_option("json", "yaml")
def openb(nodes: Path, pods: Path, expected: Path | None, names: Sequence[str], output: str | None) -> None:
    """Replay Alibaba's OpenB trace by the procedure of Weng et al. (USENIX ATC 2023), seeds 42 to 51.

    Shown is which part of all GPUs is allocated, in percent, when so many percent have arrived; with --expected beside
    each published mean's difference, marked ✗ where it is more than 0.3 plus that mean's sample deviation.

    \b
    Example:
      atoll bench openb --nodes openb_node_list_gpu_node.csv --pods openb_pod_list_default.csv \\
        --expected fgd_expected.json
    """
    from atoll.simulate.openb import published, replay, trace

    given = trace.read(nodes, pods)
    peers = published.Published({}) if expected is None else published.read(expected, pods.stem)
    chosen = names or _POLICIES
    progress = Progress()
    allocated: Means = {}
    fragmented: Means = {}
    for name in chosen:
        contest = replay.Contest(given, name)
        results = []
        for seed in replay.SEEDS:
            progress.say(f"{name}: seed {seed}")
            results.append(replay.run(contest, seed))
        allocated[name] = replay.mean((result.allocated for result in results), replay.PERCENTS)
        fragmented[name] = replay.mean((result.fragmented for result in results), replay.FRAGMENTATION_PERCENTS)
    progress.done()
    shown = {name: {str(percent): value for percent, value in row.items()} for name, row in allocated.items()}
    if not structured(shown, output):
        click.echo(f"{pods}: {len(given.pods):,} pods on {len(given.machines):,} nodes with {given.gpus:,} GPUs")
        click.echo("Allocated GPUs, percent of all, when so many percent have arrived:")
        _show(allocated, peers.allocated)
        click.echo("Idle GPUs that typical pods can't use, percent of all:")
        _show(fragmented, peers.fragmented)
    off = [
        f"{name} at {percent} %"
        for name, row in allocated.items()
        for percent, cell in peers.allocated.get(name, {}).items()
        if percent in row and not cell.holds(row[percent])
    ]
    if off:
        click.echo(f"further than {published.SLACK} + sd_sample from the published mean: {', '.join(off)}", err=True)
        raise SystemExit(1)


def _show(means: Means, peers: Table) -> None:
    percents = next(iter(means.values()))
    rows = [
        [name, *(_cell(value, peers.get(name, {}).get(percent)) for percent, value in row.items())]
        for name, row in means.items()
    ]
    table(["POLICY", *(f"{percent} %" for percent in percents)], rows)


def _cell(value: float | None, peer: Cell | None) -> str:
    if value is None:
        return "-"
    if peer is None:
        return f"{value:.2f}"
    return f"{value:.2f} {value - peer.mean:+.2f}{'' if peer.holds(value) else ' ✗'}"

"""atoll demo: the main job, from nothing to an answer in each cluster."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import click

from atoll.cli.fleet import new_fleet_option
from atoll.cli.output import Progress


@click.command()
@click.option("--app", type=click.Path(path_type=Path), help="A published application's manifest to run as well.")
@new_fleet_option
def demo(app: Path | None, fleet: str) -> None:
    """Start a fleet, run a published application on simulated nodes and one of our own as real processes.

    Exit 0 means: all is Running, and the frontend in each cluster answered an HTTP request through port-forward.

    \b
    Example:
      atoll demo --app kubernetes-manifests.yaml
    """
    from atoll.app import fleetfile, launch
    from atoll.app.demo import HELLO, Demo
    from atoll.app.state import fleet_state
    from atoll.base.clock import SystemClock
    from atoll.cli import session
    from atoll.cli.fleet import merge_kubeconfig
    from atoll.cli.inspect import print_tree
    from atoll.cli.status import collect, show

    started = time.monotonic()
    state = fleet_state(fleet)
    spec = launch.read_fleet(state) if state.exists() else fleetfile.default_fleet(fleet)
    progress = Progress()
    launch.start(state, spec, progress.say)
    merge_kubeconfig(state, spec, None)
    progress.done(f"fleet {fleet} is up ({time.monotonic() - started:.1f} s)")
    if app is not None and not app.exists():
        click.echo(f"no published application at {app}: going on with our own alone")
        app = None
    elif app is None:
        click.echo("no published application named (--app FILE): going on with our own alone")
    names = [cluster.name for cluster in spec.clusters]
    answers = asyncio.run(Demo(state, names, SystemClock(), progress.say).run(app))
    progress.done()
    print_tree(state, "deployment/frontend", HELLO)
    click.echo()
    show(fleet, session.run(lambda s: collect(s, state), state), None)
    click.echo()
    for name, answer in answers.items():
        click.echo(f"{name} answered: {_short(answer)}")
    click.echo(f"\nall of it in {time.monotonic() - started:.1f} s. Next:")
    steps = (
        (f"atoll kill {names[-1]} && atoll status --watch", "lose a cluster and watch its work move"),
        ("atoll plan -f examples/02-replica-division", "see what a change would do, before it does"),
        (f"kubectl --context atoll-{names[0]} get pods -A", "look into a member"),
    )
    for command, why in steps:
        click.echo(f"  {command:<46} # {why}")


def _short(answer: str) -> str:
    try:
        found = json.loads(answer)
        front, back = found["frontend"], found["backend"]
        return f"frontend {front['pod']} on {front['node']}, by backend {back['pod']}: {back['message']}"
    except (ValueError, KeyError, TypeError):
        return answer[:100]

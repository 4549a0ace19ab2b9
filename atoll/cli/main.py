"""The atoll command. Subcommands are imported when they are used, so that --help stays fast."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from atoll import __version__
from atoll.base.errors import AtollError

# name → (module, attribute, what it does); in the order in which help shows them
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("atoll.cli.fleet", "up", "Start a fleet: a hub and its clusters"),
    "down": ("atoll.cli.fleet", "down", "Stop a fleet"),
    "status": ("atoll.cli.status", "status", "Show the fleet, its clusters and their health"),
    "logs": ("atoll.cli.fleet", "logs", "Show the log of one of the fleet's processes"),
    "kubeconfig": ("atoll.cli.fleet", "kubeconfig", "Merge the fleet's contexts into a kubeconfig"),
    "kill": ("atoll.cli.fleet", "kill", "Kill, stop or cut off a cluster, to see what happens"),
    "heal": ("atoll.cli.fleet", "heal", "Undo what kill did"),
    "cluster": ("atoll.cli.cluster", "cluster", "Create, delete and list throw-away clusters"),
    "queue": ("atoll.cli.queue", "queue", "Show queues of workloads, and why one waits"),
    "gang": ("atoll.cli.gang", "gang", "Show gangs of pods, and why one waits"),
    "gpu": ("atoll.cli.gpu", "gpu", "Run clusters of GPU nodes, with simulated GPUs and their faults"),
    "nodes": ("atoll.cli.nodes", "nodes", "Show nodes' health: who is out, why, and what was tested"),
    "teams": ("atoll.cli.teams", "teams", "Show teams, their nodes, and who borrows them"),
    "autoscale": ("atoll.cli.autoscale", "autoscale", "Show pools of nodes that grow and shrink, and why pods wait"),
    "join": ("atoll.cli.members", "join", "Let the hub manage an existing cluster"),
    "unjoin": ("atoll.cli.members", "unjoin", "Take a cluster out of the fleet"),
    "hub": ("atoll.cli.hub", "hub", "Run the hub on a real kube-apiserver"),
    "capacity": ("atoll.cli.capacity", "capacity", "Run nodes' health and teams on a real cluster"),
    "plan": ("atoll.cli.planning", "plan", "Show what would happen, before anything changes"),
    "apply": ("atoll.cli.planning", "apply", "Carry out a plan made with plan --out"),
    "get": ("atoll.cli.inspect", "get", "One table of a kind over all clusters"),
    "explain": ("atoll.cli.inspect", "explain", "Why an object is where it is"),
    "tree": ("atoll.cli.inspect", "tree", "An object, and all that came of it"),
    "simulate": ("atoll.cli.simulate", "simulate", "Live a fleet through in virtual time, from a scenario file"),
    "bench": ("atoll.cli.bench", "bench", "Hold decisions against results that others published"),
    "demo": ("atoll.cli.demo", "demo", "Start a fleet and run a real application over it"),
    "monitoring": ("atoll.cli.monitoring", "monitoring", "Write what Prometheus and Grafana need to watch clusters"),
    "doctor": ("atoll.cli.doctor", "doctor", "Say what this machine can and can't do"),
    "completion": ("atoll.cli.completion", "completion", "Print shell completion (bash, zsh, fish)"),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(importlib.import_module(entry[0]), entry[1])
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in _COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="atoll")
def cli() -> None:
    """Run AI and data workloads across many Kubernetes clusters.

    \b
    Examples:
      atoll up                      a hub and three clusters on this machine
      atoll plan -f app/            what would happen to these manifests
      atoll kill onprem             and watch the work move:  atoll status --watch
      atoll cluster create ci       one throw-away cluster
    """


def run(arguments: Sequence[str], why_cold: str = "") -> int:
    """Carry out a command line; its exit status, once all it printed is written. Errors are told in words, with the
    next step; tracebacks only with ATOLL_TRACEBACK=1. `why_cold`: why no supervisor forked it."""
    code = _told(list(arguments), {"command": run, "why_cold": why_cold})
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return 0
    return code


def _told(arguments: list[str], starting: dict[str, Any]) -> int:
    try:
        code = cli.main(arguments, standalone_mode=False, obj=starting)
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("aborted", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except AtollError as error:
        if os.environ.get("ATOLL_TRACEBACK"):
            raise
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  next: {error.hint}", err=True)
        return 1
    except Exception as error:
        if os.environ.get("ATOLL_TRACEBACK"):
            raise
        click.echo(f"error: a fault of Atoll's own: {type(error).__name__}: {error}", err=True)
        click.echo("  next: run it again with ATOLL_TRACEBACK=1 and report what it prints", err=True)
        return 70

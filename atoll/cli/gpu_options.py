"""What the commands of `atoll gpu` have in common: which cluster is meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from atoll.client.port import Client

PREFIX = "cluster-"  # testbeds are throw-away clusters
NAME = click.option(
    "--name",
    default="",
    envvar="KIND_CLUSTER_NAME",
    help="The testbed [default: the cluster of the current context, if it runs here; else gpu]",
)
KUBECONFIG = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Of another cluster, with --context.")
CONTEXT = click.option("--context", help="Another cluster, by its kubeconfig's context.")


def on_cluster(
    name: str, kubeconfig: Path | None, context: str | None, work: Callable[[Client], Awaitable[Any]]
) -> Any:
    """`work(client)` on the testbed, or on the cluster of a kubeconfig. Raises UserError."""
    from atoll.app.state import fleet_state
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run

    name = name or _current() or "gpu"
    state = None if kubeconfig or context else fleet_state(PREFIX + name)
    if state is not None and state.supervisor_pid() is None:
        raise UserError(f"the testbed {name!r} is not running", hint="atoll gpu up starts one; --context names another")

    async def main(session: Session) -> Any:
        client = session.cluster(name) if state is not None else session.client(kubeconfig or default_path(), context)
        return await work(client)

    return run(main, state)


def _current() -> str:
    """The throw-away cluster of the current context; "" where that is another one, or does not run."""
    from atoll.app.state import fleet_state
    from atoll.client.kubeconfig import load_default

    try:
        context = load_default(os.environ, Path.home()).current_context
    except UserError:
        return ""
    name = context.removeprefix("atoll-")
    running = name != context and fleet_state(PREFIX + name).supervisor_pid() is not None
    return name if running else ""

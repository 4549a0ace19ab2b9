"""atoll gang: which pods belong together, why they wait, and what would help."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.base.errors import UserError
from atoll.cli.cluster_options import CONTEXT, KUBECONFIG
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.cluster.scheduler.gangs.observe import Row


@click.group()
def gang() -> None:
    """Look at gangs: pods that run all together or not at all, of a cluster made with --batch or any other.

    \b
    Examples:
      atoll gang list --context atoll-ci
      atoll gang why train -n team-a --context atoll-ci
    """


def _rows(kubeconfig: Path | None, context: str | None, name: str | None = None) -> list[Row]:
    """All gangs; with a `name` the gangs and waiting pods of that name, else the gangs of such a pod; "": all."""
    from atoll.app.batch import every_gang
    from atoll.base.chance import Chance
    from atoll.base.clock import SystemClock
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run
    from atoll.cluster.apiserver.expressions.selectors import CelSelectors
    from atoll.cluster.scheduler.gangs.observe import observed

    async def work(session: Session) -> list[Row]:
        client = session.client(kubeconfig or default_path(), context)
        async with observed(client, SystemClock(), Chance(0), every_gang, CelSelectors()) as seen:
            if name is None:
                return seen.gangs()
            found = [row for row in (*seen.gangs(), *seen.pods()) if name in ("", row.name)]
            return found or seen.gangs(name)

    return run(work)


@gang.command("list")
@click.option("-n", "--namespace", help="All by default.")
@KUBECONFIG
@CONTEXT
@output_option()
def list_(namespace: str | None, kubeconfig: Path | None, context: str | None, output: str | None) -> None:
    """Gangs: what says so, how many members they need, have, and have on nodes.

    \b
    Example:
      atoll gang list --context atoll-ci
    """
    found = [row for row in _rows(kubeconfig, context) if namespace in (None, row.namespace)]
    if structured({"items": [asdict(row) for row in found]}, output):
        return
    header = ["NAMESPACE", "GANG", "KIND", "NEEDS", "PODS", "PLACED", *(["WHY"] if output == "wide" else [])]
    table(
        header,
        [
            [row.namespace, row.name, row.dialect, row.least, row.members, row.placed,
             *([row.why or "-"] if output == "wide" else [])]
            for row in found
        ],
    )  # fmt: skip


@gang.command()
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Of the gang; all by default.")
@KUBECONFIG
@CONTEXT
@output_option("json", "yaml")
def why(
    name: str | None, namespace: str | None, kubeconfig: Path | None, context: str | None, output: str | None
) -> None:
    """Why gang or pod NAME waits, and the cheapest change that would let it run; all that wait without NAME.

    Of a pod that belongs to a gang it is the gang that waits.

    The answer is the scheduler's own decision, made once more on what the cluster looks like now.

    \b
    Example:
      atoll gang why train -n team-a --context atoll-ci
    """
    chosen = [row for row in _rows(kubeconfig, context, name or "") if namespace in (None, row.namespace)]
    if name is not None and not chosen:
        raise UserError(f"there is no gang or waiting pod {name!r}", hint="atoll gang list shows the gangs")
    rows = [row for row in chosen if row.why]
    if structured({"items": [asdict(row) for row in rows]}, output):
        return
    if name is not None and not rows:
        one = chosen[0]
        click.echo(f"{one.namespace}/{one.name} does not wait: {one.placed} of its pods have nodes or are done")
    for row in rows:
        click.echo(f"{row.namespace}/{row.name}: {row.why}")

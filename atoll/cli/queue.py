"""atoll queue: who waits in which queue, why, and what would help."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import ApiError, UserError
from atoll.cli.cluster_options import CONTEXT, KUBECONFIG
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.capacity.queueing.state import State


@click.group()
def queue() -> None:
    """Look at Kueue's queues, of a cluster made with --queueing or of one where Kueue runs.

    \b
    Examples:
      atoll queue list --context atoll-ci
      atoll queue why job-train-4f0a1 -n team-a --context atoll-ci
    """


def _observed(kubeconfig: Path | None, context: str | None) -> State:
    from atoll.capacity.queueing.observe import observe
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run

    async def work(session: Session) -> State:
        try:
            return await observe(session.client(kubeconfig or default_path(), context))
        except ApiError as error:
            if error.code != 404:
                raise
            raise UserError(
                "the cluster does not serve Kueue's kinds",
                hint="atoll cluster create NAME --queueing makes one that does",
            ) from None

    return run(work)


@queue.command("list")
@KUBECONFIG
@CONTEXT
@output_option()
def list_(kubeconfig: Path | None, context: str | None, output: str | None) -> None:
    """ClusterQueues: pending and running workloads, what is used of what.

    \b
    Example:
      atoll queue list --context atoll-ci -o wide
    """
    from atoll.capacity.queueing.flavors import shown
    from atoll.capacity.queueing.status import share_of

    state = _observed(kubeconfig, context)
    items: list[dict[str, Any]] = []
    for name, node in sorted(state.nodes.items()):
        used = {
            f"{flavor}/{resource}": f"{shown(resource, node.usage.get((flavor, resource), 0))}"
            f"/{shown(resource, quota.nominal)}"
            for (flavor, resource), quota in node.quotas.items()
        }
        items.append(
            {
                "name": name,
                "cohort": state.setup.queues[name].cohort,
                "pending": state.pending_count(name),
                "running": len(node.workloads),
                "active": name not in state.inactive,
                "used": used,
                "share": share_of(node),
                "reason": state.inactive.get(name, ("", ""))[1],
            }
        )
    if structured({"items": items}, output):
        return
    wide = output == "wide"
    header = ["NAME", "COHORT", "PENDING", "RUNNING", "ACTIVE", *(["SHARE", "REASON"] if wide else []), "USED/NOMINAL"]
    rows = [
        [it["name"], it["cohort"] or "-", it["pending"], it["running"], it["active"],
         *([it["share"], it["reason"] or "-"] if wide else []), " ".join(f"{k}={v}" for k, v in it["used"].items())]
        for it in items
    ]  # fmt: skip
    table(header, rows)


@queue.command()
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Of the workload; all by default.")
@KUBECONFIG
@CONTEXT
@output_option()
def why(
    name: str | None, namespace: str | None, kubeconfig: Path | None, context: str | None, output: str | None
) -> None:
    """Why workload (or job) NAME waits, and the cheapest change that would let it run; all that wait without NAME.

    \b
    Example:
      atoll queue why train -n team-a --context atoll-ci
    """
    from atoll.capacity.queueing.explain import explain

    state = _observed(kubeconfig, context)
    here = [it for it in state.workloads.values() if namespace in (None, it.key[0])]
    chosen = [it for it in here if name is None or it.key[1] == name or name in it.owners]
    if name is not None and not chosen:
        raise UserError(f"there is no workload of {name!r}", hint="kubectl get workloads -A lists them")
    running = [it for it in chosen if it.admission is not None or it.finished]
    rows = [explain(state, it) for it in chosen if it.admission is None and not it.finished]
    rows.sort(key=lambda row: (row.queue, row.position < 0, row.position, row.namespace, row.name))
    if structured({"items": [asdict(row) for row in rows]}, output):
        return
    if name is not None and running and not rows:
        click.echo(f"{running[0].key[0]}/{running[0].key[1]} does not wait: it has quota or is finished")
        return
    if output == "wide":
        header = ["NAMESPACE", "WORKLOAD", "QUEUE", "PRIORITY", "POSITION", "CHEAPEST", "WHY"]
        table(header, [[r.namespace, r.name, r.queue, r.priority, r.position, r.cheapest, r.why] for r in rows])
        return
    for row in rows:
        click.echo(f"{row.namespace}/{row.name}: {row.why}; cheapest: {row.cheapest}")

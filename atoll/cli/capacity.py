"""atoll capacity: nodes' health and teams on a Kubernetes cluster that is there already."""

from __future__ import annotations

from pathlib import Path

import click

from atoll.base.errors import UserError


@click.command()
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path), help="An administrator's of the cluster.")
@click.option("--context", help="The context in it; its current one by default.")
@click.option("--health", is_flag=True, help="Test, watch and drain nodes; remedies are ordered by an annotation.")
@click.option("--teams", is_flag=True, help="Allot nodes to teams.")
@click.option("--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz here.")
def capacity(kubeconfig: Path, context: str | None, health: bool, teams: bool, listen: str | None) -> None:
    """Run capacity's controllers on a real cluster, until stopped.

    Several may be started for one cluster: a Lease says which one works.

    \b
    Examples:
      atoll capacity --kubeconfig prod.yaml --health
      atoll capacity --kubeconfig prod.yaml --health --teams --listen 0.0.0.0:9090
      atoll teams policy | kubectl --kubeconfig prod.yaml apply -f -
    """
    import logging

    from atoll.app.cluster_api import Listen
    from atoll.app.programs import run_until_stopped
    from atoll.app.real_capacity import run_capacity
    from atoll.client.kubeconfig import load

    parts = [name for name, wanted in (("health", health), ("teams", teams)) if wanted]
    if not parts:
        raise UserError("nothing to run", hint="name --health, --teams or both")
    where = Listen.parse(listen) if listen else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    access = load(kubeconfig).access(context)
    run_until_stopped(run_capacity(access, parts, lambda text: click.echo(text, err=True), where))

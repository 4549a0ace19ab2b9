"""hub: the fleet's controllers on a kube-apiserver that is there already."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path), help="An administrator's of the hub.")
@click.option("--context", help="The context in it; its current one by default.")
@click.option("--check", is_flag=True, help="Only say whether this API server may be a hub; install nothing.")
@click.option("--failover-seconds", default=30.0, show_default=True, help="Not ready for so long: replicas move.")
@click.option("--listen", metavar="HOST:PORT", help="Serve cluster.karmada.io here, for the hub's API server.")
@click.option("--advertise", default="", help="The host by which it finds that; the one listened on by default.")
def hub(
    kubeconfig: Path, context: str | None, check: bool, failover_seconds: float, listen: str | None, advertise: str
) -> None:
    """Run the hub's controllers on a real kube-apiserver, until stopped.

    It needs an API server of its own, on which no workload controllers run. Several may be started for one hub: a
    Lease says which one works.

    \b
    Examples:
      atoll hub --kubeconfig hub.yaml --check
      atoll hub --kubeconfig hub.yaml
      atoll hub --kubeconfig hub.yaml --listen 0.0.0.0:6444 --advertise hub-1.example.com
      atoll join prod --kubeconfig prod.yaml --hub hub.yaml
    """
    import logging

    from atoll.app.cluster_api import Listen
    from atoll.app.programs import run_until_stopped
    from atoll.app.real_hub import check_only, run_real_hub
    from atoll.client.kubeconfig import load
    from atoll.fleet.options import HubOptions

    where = Listen.parse(listen, advertise) if listen else None
    access = load(kubeconfig).access(context)
    if check:
        run_until_stopped(check_only(access))
        click.echo(f"{access.server} may be a hub")
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = HubOptions(failover_seconds=failover_seconds)
    run_until_stopped(run_real_hub(access, lambda text: click.echo(text, err=True), options, where))

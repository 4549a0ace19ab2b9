"""join and unjoin: clusters that exist already come under the hub."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import yaml

from atoll.base.errors import NotFound, UserError
from atoll.cli.fleet import fleet_option
from atoll.client.port import Client
from atoll.kinds.resource import Resource
from atoll.objects.meta import condition

_LEAVE_SECONDS = 30.0
_LOOK_SECONDS = 0.2

hub_option = click.option(
    "--hub", type=click.Path(path_type=Path), help="A kubeconfig of the hub; this machine's fleet by default."
)


@click.command()
@click.argument("name")
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path), help="An administrator's, once.")
@click.option("--context", help="The context in it; its current one by default.")
@click.option("--allow", multiple=True, help="KIND or KIND,NAMESPACE that the hub may write; everything by default.")
@click.option("--provider", default="", help="E.g. aws.")
@click.option("--region", default="")
@click.option("--zone", multiple=True)
@click.option("--label", multiple=True, help="KEY=VALUE on the Cluster.")
@click.option("--dry-run", is_flag=True, help="Print what would be made in the member, and make nothing.")
@hub_option
@fleet_option
def join(
    name: str,
    kubeconfig: Path,
    context: str | None,
    allow: tuple[str, ...],
    provider: str,
    region: str,
    zone: tuple[str, ...],
    label: tuple[str, ...],
    dry_run: bool,
    hub: Path | None,
    fleet: str,
) -> None:
    """Let the hub manage the cluster that a kubeconfig leads to.

    A service account of its own is made there, with a role that is printed first.

    \b
    Examples:
      atoll join prod --kubeconfig ~/prod.yaml --region eu-west-1
      atoll join prod --kubeconfig ~/prod.yaml --allow Deployment,shop --allow Service,shop
      atoll join prod --kubeconfig ~/prod.yaml --hub ~/hub.yaml
    """
    from atoll.app import launch
    from atoll.cli import session
    from atoll.client.kubeconfig import load
    from atoll.fleet.registry.join import Joining, plan_join, stored_clusters
    from atoll.fleet.registry.join import join as join_cluster
    from atoll.fleet.registry.roles import Allowed

    state = None if hub else launch.running_fleet(fleet)
    access = load(kubeconfig).access(context)
    rules = tuple(Allowed.parse(item) for item in allow)
    wanted = Joining(
        name=name,
        server=access.server,
        ca_pem=access.ca_pem,
        insecure=access.insecure,
        provider=provider,
        region=region,
        zones=zone,
        labels=dict(_label(item) for item in label),
        allow=rules,
    )

    async def work(s: Any) -> None:
        member = s.client(kubeconfig, context)
        made = await plan_join(member, rules)
        click.echo("# made in the member:")
        click.echo(yaml.safe_dump_all([obj for obj in made if "Role" in obj["kind"]], sort_keys=False), nl=False)
        if not dry_run:
            there = s.client(hub) if hub else s.hub()
            await join_cluster(there, member, wanted, clusters=await stored_clusters(there))

    session.run(work, state)
    click.echo(f"{name} would be joined" if dry_run else f"{name} joined: atoll status shows it")


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--label {text}: not KEY=VALUE")
    return key, value


@click.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also when the cluster can't be reached: its side is then not cleaned.")
@hub_option
@fleet_option
def unjoin(name: str, force: bool, hub: Path | None, fleet: str) -> None:
    """Take a cluster out of the fleet: what the fleet runs there moves away, and both sides are cleaned.

    \b
    Example:
      atoll unjoin prod
    """
    from atoll.app import launch
    from atoll.cli import session
    from atoll.fleet.registry.join import stored_clusters
    from atoll.fleet.registry.join import unjoin as unjoin_cluster

    async def work(s: session.Session) -> None:
        there = s.client(hub) if hub else s.hub()
        stored = await stored_clusters(there)
        await unjoin_cluster(there, name, force=force, clusters=stored)
        await _until_gone(there, stored, name)

    session.run(work, None if hub else launch.running_fleet(fleet))
    click.echo(f"{name} has left the fleet")


async def _until_gone(hub: Client, clusters: Resource, name: str) -> None:
    """Raises UserError, with what the hub waits for, where that takes long."""
    waiting = ""
    for _ in range(int(_LEAVE_SECONDS / _LOOK_SECONDS)):
        try:
            cluster = await hub.get(clusters, name)
        except NotFound:
            return
        waiting = str((condition(cluster, "Leaving") or {}).get("message") or "the hub has not answered yet")
        if "does not answer" in waiting:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    raise UserError(f"{name} is leaving, but not gone yet: {waiting}", hint="kubectl get clusters on the hub shows it")

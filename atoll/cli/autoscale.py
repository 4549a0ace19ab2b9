"""atoll autoscale: pools of nodes that grow and shrink, and pods that no pool can serve."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.cluster_options import CONTEXT, KUBECONFIG, required_map, settings_in
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.capacity.autoscale.summary import Line

Object = dict[str, Any]


@click.group()
def autoscale() -> None:
    """Look at pools of nodes, of a cluster made with --autoscale.

    \b
    Example:
      atoll autoscale pools --context atoll-gpus
    """


def _observed(kubeconfig: Path | None, context: str | None) -> list[Line]:
    from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY, AutoscaleSettings
    from atoll.capacity.autoscale.simulated import read_machines
    from atoll.capacity.autoscale.summary import lines
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run
    from atoll.kinds.builtin import NODES, PODS

    async def work(session: Session) -> list[Line]:
        client = session.client(kubeconfig or default_path(), context)
        found = await required_map(client, CONFIG_MAP, "docs/balloons.md")
        settings = settings_in(found, CONFIG_MAP, KEY, AutoscaleSettings)
        pods: dict[str, list[Object]] = {}
        for pod in (await client.list(PODS)).items:
            pods.setdefault((pod.get("spec") or {}).get("nodeName") or "", []).append(pod)
        return lines(settings, await read_machines(client), (await client.list(NODES)).items, pods)

    return run(work)


@autoscale.command()
@KUBECONFIG
@CONTEXT
@output_option()
def pools(kubeconfig: Path | None, context: str | None, output: str | None) -> None:
    """Pools: machines of the fewest and the most, those that join, work, are kept warm, and leave; the price.

    \b
    Example:
      atoll autoscale pools --context atoll-gpus
    """
    found = _observed(kubeconfig, context)
    if structured({"items": [asdict(line) for line in found]}, output):
        return
    header = ["NAME", "MIN", "MAX", "MACHINES", "JOINING", "WORKING", "WARM", "LEAVING", "PRICE/H"]
    rows = [
        [it.name, it.least, it.most, it.machines, it.joining, it.working, it.warm, it.leaving, f"{it.price_per_hour:g}"]
        for it in found
    ]
    table(header, rows)

"""atoll autoscale: pools of nodes that grow and shrink, and pods that no pool can serve."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import NotFound, UserError
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.capacity.autoscale.summary import Line

Object = dict[str, Any]
_KUBECONFIG = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the usual one.")
_CONTEXT = click.option("--context", help="Of the kubeconfig; the current one by default.")


@click.group()
def autoscale() -> None:
    """Look at pools of nodes, of a cluster made with --autoscale.

    \b
    Example:
      atoll autoscale pools --context atoll-gpus
    """


def _observed(kubeconfig: Path | None, context: str | None) -> list[Line]:
    from atoll.capacity import names
    from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY, AutoscaleSettings
    from atoll.capacity.autoscale.simulated import read_machines
    from atoll.capacity.autoscale.summary import lines
    from atoll.capacity.settings import SettingsError, read
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run
    from atoll.kinds.builtin import CONFIGMAPS, NODES, PODS

    where = f"{names.SYSTEM_NAMESPACE}/{CONFIG_MAP}"

    async def work(session: Session) -> list[Line]:
        client = session.client(kubeconfig or default_path(), context)
        try:
            settings = read(await client.get(CONFIGMAPS, CONFIG_MAP, names.SYSTEM_NAMESPACE), KEY, AutoscaleSettings)
        except NotFound:
            raise UserError(f"there is no ConfigMap {where}", hint="docs/balloons.md has an example") from None
        except SettingsError as error:
            hint = "until it is mended the last good one counts"
            raise UserError(f"the ConfigMap {where}: {error}", hint=hint) from None
        pods: dict[str, list[Object]] = {}
        for pod in (await client.list(PODS)).items:
            pods.setdefault((pod.get("spec") or {}).get("nodeName") or "", []).append(pod)
        return lines(settings, await read_machines(client), (await client.list(NODES)).items, pods)

    return run(work)


@autoscale.command()
@_KUBECONFIG
@_CONTEXT
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

"""atoll gpu top: GPUs in use, busy, hot or broken, as their exporters say."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.gpu_options import CONTEXT, KUBECONFIG, NAME, on_cluster
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.client.port import Client
    from atoll.cluster.gpus.top import DeviceRow, NodeRow

_AT_ONCE = 16
_HOT = 88  # degrees: where data-centre GPUs begin to slow down


@click.command()
@click.argument("nodes", nargs=-1)
@click.option("--devices", is_flag=True, help="A line for each GPU or MIG instance, with its pods.")
@NAME
@KUBECONFIG
@CONTEXT
@output_option("json", "yaml", "wide")
def top(
    nodes: tuple[str, ...], devices: bool, name: str, kubeconfig: Path | None, context: str | None, output: str | None
) -> None:
    """Show what the GPUs of NODES (all by default) do, as their DCGM exporters say.

    \b
    Examples:
      atoll gpu top
      atoll gpu top gpu-worker --devices
    """
    from atoll.cluster.gpus.top import node_row

    found = on_cluster(name, kubeconfig, context, lambda client: _scraped(client, nodes))
    rows = [node_row(node, rows, note) for node, (rows, note) in found.items()]
    shown = [asdict(row) | ({"devices": [asdict(it) for it in found[row.node][0]]} if devices else {}) for row in rows]
    if structured({"items": shown}, None if output == "wide" else output):
        return
    if devices:
        _devices({node: rows for node, (rows, _) in found.items()})
    else:
        _nodes(rows, wide=output == "wide")


async def _scraped(client: Client, wanted: tuple[str, ...]) -> dict[str, tuple[list[DeviceRow], str]]:
    """Node → (its devices, what is to be said instead)."""
    from atoll.base.errors import AtollError, UserError
    from atoll.cluster.gpus.dcgm import KUBELET_PATH
    from atoll.cluster.gpus.survey import has_gpus
    from atoll.cluster.gpus.top import device_rows
    from atoll.kinds.builtin import NODES

    names = [node["metadata"]["name"] for node in (await client.list(NODES)).items if has_gpus(node)]
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise UserError(f"node {missing[0]} has no GPUs", hint=f"nodes with GPUs: {', '.join(names) or 'none'}")
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(name: str) -> tuple[list[DeviceRow], str]:
        async with slots:
            try:
                answer = await client.raw("GET", f"/api/v1/nodes/{name}/proxy{KUBELET_PATH}")
            except AtollError as error:
                return [], error.message
        text = answer.body.decode(errors="replace")
        return (device_rows(text), "") if answer.status == 200 else ([], f"the exporter answered {answer.status}")

    chosen = [name for name in names if not wanted or name in wanted]
    return dict(zip(chosen, await asyncio.gather(*(ask(name) for name in chosen)), strict=True))


def _nodes(rows: list[NodeRow], *, wide: bool) -> None:
    header = ["NODE", "GPUS", "USED", "UTIL", "MEMORY", "TEMP", *(["POWER", "MODEL"] if wide else []), "FAULTS"]
    lines = []
    for row in rows:
        memory = f"{_gib(row.memory_used)}/{_gib(row.memory_total)} GiB" if row.memory_total else "-"
        more = [_unit(row.power, " W"), row.model or "-"] if wide else []
        faults = row.note or "; ".join(row.faults) or "-"
        lines.append(
            [row.node, row.gpus, row.used, _bar(row.utilization), memory, _temperature(row.temperature), *more, faults]
        )
    table(header, lines)


def _devices(found: dict[str, list[DeviceRow]]) -> None:
    header = ["NODE", "GPU", "PROFILE", "UTIL", "MEMORY", "TEMP", "POWER", "FAULTS", "PODS"]
    lines: list[list[Any]] = []
    for node, rows in found.items():
        for row in rows:
            memory = f"{_gib(row.memory_used)}/{_gib(row.memory_total)} GiB" if row.memory_total else "-"
            cells = [node, row.gpu, row.profile or "-", _bar(row.utilization), memory, _temperature(row.temperature)]
            lines.append([*cells, _unit(row.power, " W"), ", ".join(row.faults) or "-", _pods(row.pods)])
    table(header, lines)


def _pods(pods: list[str]) -> str:
    """The first, and how many share the device with it."""
    return pods[0] + (f" +{len(pods) - 1}" if len(pods) > 1 else "") if pods else "-"


def _bar(percent: float | None) -> str:
    """Ten steps and the number."""
    if percent is None:
        return "-"
    full = round(percent / 10)
    return "█" * full + "░" * (10 - full) + f" {percent:3.0f}%"


def _gib(mib: float | None) -> str:
    return "-" if mib is None else f"{mib / 1024:.0f}"


def _unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"


def _temperature(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} C" + (" hot" if value >= _HOT else "")

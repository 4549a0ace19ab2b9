"""atoll gpu: a testbed of GPU nodes on this machine, its GPUs, and their faults."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import Conflict, NotFound, UserError
from atoll.cli.gpu_options import CONTEXT, KUBECONFIG, NAME, PREFIX, on_cluster
from atoll.cli.gpu_top import top
from atoll.cli.output import Progress, output_option, structured, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atoll.app.gpu_testbed import Testbed
    from atoll.client.port import Client
    from atoll.cluster.gpus.kindconfig import KindConfig
    from atoll.cluster.gpus.model import Gpu

_GPUS = click.option("--gpus", help="Simulated GPUs: a count, or TYPE:COUNT,… [default: this machine's, else 8]")
_TYPE = click.option("--gpu-type", default="h100", show_default=True, help="Their type; `atoll gpu types` lists them.")


@click.group()
def gpu() -> None:
    """Run clusters of GPU nodes on this machine, with simulated NVIDIA GPUs.

    \b
    Examples:
      atoll gpu up                                             one worker with eight H100
      atoll gpu up --gpu-type a100-40gb --config-template examples/one-worker-per-gpu.yaml
      atoll gpu print-gpus
      atoll gpu fault gpu-worker --xid 79 --gpu 3
      atoll gpu top
    """


gpu.add_command(top)


@gpu.command()
@click.option("--name", envvar="KIND_CLUSTER_NAME", help="The cluster's name [default: the configuration's, or gpu]")
@click.option("--config-template", type=click.Path(), envvar="KIND_CLUSTER_CONFIG_TEMPLATE",
              help="A kind configuration or a template of one; - is standard input.")  # fmt: skip
@click.option("--config-values", type=click.Path(), envvar="KIND_CLUSTER_CONFIG_VALUES",
              help="A file of values for the template; - is standard input.")  # fmt: skip
@click.option("--image", envvar="KIND_CLUSTER_IMAGE", help="Accepted as nvkind's; nodes have no image here.")
@_GPUS
@_TYPE
@click.option("--dra", type=click.Choice(["none", "gpus", "partitions"]), default="partitions", show_default=True,
              help="What ResourceSlices offer: nothing, GPUs, or MIG partitions too.")  # fmt: skip
@click.option("--process", is_flag=True, help="Workers run containers as processes, also with simulated GPUs.")
@click.option("--queueing", is_flag=True, help="Serve Kueue's kinds, and queue jobs and pods by them.")
@click.option("--batch", is_flag=True, help="Serve JobSet, LeaderWorkerSet, PodGroup and Volcano's kinds; place gangs.")
@click.option("--health", is_flag=True, help="Test nodes before work lands on them; drain and mend those with faults.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Write the kubeconfig here instead of merging it.")
def up(
    name: str | None, config_template: str | None, config_values: str | None, image: str | None, gpus: str | None,
    gpu_type: str, dra: Any, process: bool, kubeconfig: Path | None, **more: bool,
) -> None:  # fmt: skip
    """Start a cluster whose workers have GPUs, by nvkind's or kind's configuration files.

    On a machine with NVIDIA GPUs (and the extra `gpu`) workers are process nodes that have them; else, and with --gpus,
    GPUs are simulated.

    \b
    Examples:
      atoll gpu up
      atoll gpu up --gpus a100-80gb:4,l4:2
      atoll gpu up --config-template template.yaml --config-values values.yaml
      echo 'workers: [{devices: 0}, {devices: [1, 2, 3]}]' | atoll gpu up --config-values -
    """
    from atoll.app.gpu_testbed import Testbed

    machine, why = _machine(gpus, gpu_type)
    config = _config((config_template, config_values), {"name": name, "image": image}, len(machine))
    found = name or config.name or "gpu"
    wanted = Testbed(found, config, machine, dra, process, **more)
    for warning in wanted.config.warnings:
        click.echo(f"warning: {warning}", err=True)
    if image:
        click.echo("warning: --image has no meaning here", err=True)
    if wanted.real:
        click.echo(f"{len(machine)} NVIDIA GPU(s) of this machine are used; workers are process nodes", err=True)
    else:
        click.echo(f"no NVIDIA GPU is used, the testbed's are simulated: {why}", err=True)
    _start(wanted, kubeconfig)


def _config(files: tuple[str | None, str | None], given: dict[str, str | None], count: int) -> KindConfig:
    """The configuration of (template, values) files. Raises UserError."""
    from atoll.base.chance import Chance
    from atoll.cluster.gpus import kindconfig
    from atoll.objects.gotemplate.sprig_more import functions

    template, values = files
    if template == values == "-":
        raise UserError("the template and its values can't both be standard input")
    dot = dict(kindconfig.read_values(_text(values), values) if values else {})
    dot |= {key: value for key, value in given.items() if value}
    text = _text(template) if template else kindconfig.default_template()
    source = "standard input" if template == "-" else template or "the default configuration"
    rendered = kindconfig.render(text, dot, count, functions(Chance.from_system(), time.time))
    return kindconfig.read_config(rendered, source)


def _machine(gpus: str | None, gpu_type: str) -> tuple[tuple[Gpu, ...], str]:
    """(the machine's GPUs, why they are not real ones)."""
    from atoll.app.gpu_testbed import simulated_machine
    from atoll.cluster.gpus.model import parse_machine
    from atoll.cluster.gpus.nvml import open_nvml

    if gpus == "0":
        return (), "--gpus asks for none"
    if gpus is None:
        found, why = open_nvml()
        if found is not None:
            machine = tuple(found.devices())
            found.close()
            return machine, ""
        gpus = "8"
    else:
        why = "--gpus asks for such"
    return simulated_machine(parse_machine(f"{gpu_type}:{gpus}" if gpus.isdigit() else gpus)), why


def _text(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        return Path(path).read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="name a file, or - for standard input") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text", hint="a configuration is YAML in UTF-8, or a template of it") from None


def _start(wanted: Testbed, kubeconfig: Path | None) -> None:
    """Make the cluster, or take up one that was made from the same."""
    from atoll.app import fleetspec, launch
    from atoll.app.gpu_testbed import keep_configuration, plan_testbed
    from atoll.app.state import fleet_state
    from atoll.cli.cluster import hand_out
    from atoll.cli.session import Session, run

    started = time.monotonic()
    fleetspec.check_name(wanted.name)
    spec = plan_testbed(wanted)
    state = fleet_state(PREFIX + wanted.name)
    known, running = state.exists(), state.supervisor_pid() is not None
    fleet = launch.read_fleet(state) if known else fleetspec.FleetSpec(state.name, (spec,), hub=False)

    async def keep(session: Session) -> bool:
        return await keep_configuration(session.cluster(wanted.name), wanted)

    progress = Progress()
    try:
        if not running:
            launch.start(state, fleet, progress.say, **(click.get_current_context().obj or {}))
        new = run(keep, state)
    except UserError:
        if not running:
            launch.stop(state, purge=not known)  # what it had before stays
        raise
    where = hand_out(state, fleet, wanted.name, kubeconfig)
    progress.done()
    done = f"ready in {time.monotonic() - started:.2f} s" if new or not running else "is running, as configured"
    click.echo(f"cluster {wanted.name} {done}: {where}")


@gpu.command()
@click.argument("name", required=False)
@click.option("--name", "named", envvar="KIND_CLUSTER_NAME", help="The same, as `up` has it.")
def down(name: str | None, named: str | None) -> None:
    """Delete the testbed NAME (gpu, where none is named) and all that was in it.

    \b
    Examples:
      atoll gpu down
      atoll gpu down --name dev
    """
    from atoll.cli.cluster import delete

    click.get_current_context().invoke(delete, name=name or named or "gpu")


@gpu.command("list")
@_GPUS
@_TYPE
def list_(gpus: str | None, gpu_type: str) -> None:
    """List the machine's GPUs as `nvidia-smi -L` does: their UUIDs may stand in a configuration.

    \b
    Example:
      atoll gpu list --gpus 4 --gpu-type a100-40gb
    """
    for item in _machine(gpus, gpu_type)[0]:
        click.echo(f"GPU {item.index}: {item.type.product} (UUID: {item.uuid})")


@gpu.command()
@output_option("json", "yaml")
def types(output: str | None) -> None:
    """List the declared GPU types: memory, compute capability, NVLink, MIG profiles.

    \b
    Example:
      atoll gpu types
    """
    from atoll.cluster.gpus.types import gpu_types

    items = [
        {
            "name": kind.name,
            "aliases": list(kind.aliases),
            "product": kind.product,
            "memoryMiB": kind.memory_mib,
            "computeCapability": f"{kind.compute[0]}.{kind.compute[1]}",
            "family": kind.family,
            "nvlinkLinks": kind.nvlink_links,
            "nvlinkGBps": kind.nvlink_gb_per_second,
            "migProfiles": [profile.name for profile in kind.mig],
        }
        for kind in gpu_types().values()
    ]
    if structured({"items": items}, output):
        return
    header = ("TYPE", "ALSO", "PRODUCT", "MIB", "CUDA", "NVLINK", "MIG")
    rows: list[list[Any]] = []
    for it in items:
        nvlink = f"{it['nvlinkLinks']} x, {it['nvlinkGBps']} GB/s" if it["nvlinkLinks"] else "-"
        profiles, aliases = it["migProfiles"], it["aliases"]
        assert isinstance(profiles, list) and isinstance(aliases, list)
        rows.append(
            [it["name"], ",".join(aliases) or "-", it["product"], it["memoryMiB"], it["computeCapability"], nvlink,
             " ".join(profiles) or "-"]
        )  # fmt: skip
    table(header, rows)


@gpu.command("print-gpus")
@NAME
@KUBECONFIG
@CONTEXT
def print_gpus(name: str, kubeconfig: Path | None, context: str | None) -> None:
    """Print the GPUs of each node as JSON, counted from 0 on each, as `nvkind cluster print-gpus`.

    \b
    Example:
      atoll gpu print-gpus --name gpu
    """
    import json

    from atoll.cluster.gpus.model import gpus_of
    from atoll.kinds.builtin import NODES

    async def work(client: Client) -> list[Any]:
        return (await client.list(NODES)).items

    shown = [
        {
            "node": node["metadata"]["name"],
            "gpus": [{"Index": str(it.index), "Name": it.type.product, "UUID": it.uuid} for it in found],
        }
        for node in on_cluster(name, kubeconfig, context, work)
        if (found := gpus_of(node))
    ]
    click.echo(json.dumps(shown, indent=4))


@gpu.command()
@click.argument("node")
@click.option("--gpu", "index", type=click.IntRange(0), help="Its index on the node; every GPU by default.")
@click.option("--xid", type=click.IntRange(1, 999), help="An XID error, as the kernel logs it: 79, 48, 13 …")
@click.option("--ecc", is_flag=False, flag_value=1, type=click.IntRange(1), help="Uncorrected memory errors.")
@click.option("--thermal", is_flag=False, flag_value=95, type=click.IntRange(1), help="Degrees Celsius.")
@click.option("--nvlink", is_flag=False, flag_value=1000, type=click.IntRange(1), help="NVLink CRC errors.")
@click.option("--lost", is_flag=True, help="Fallen off the bus.")
@click.option("--clear", is_flag=True, help="Take faults away: of --gpu, or all.")
@NAME
@KUBECONFIG
@CONTEXT
def fault(
    node: str, index: int | None, clear: bool, name: str, kubeconfig: Path | None, context: str | None, **kinds: Any
) -> None:
    """Let simulated GPUs of NODE fail, or mend them.

    The fault shows in what the node's agents say (allocatable, device taints, pods' device health) and in its DCGM
    metrics, until it is cleared.

    \b
    Examples:
      atoll gpu fault gpu-worker --xid 79 --gpu 3
      atoll gpu fault gpu-worker --thermal 97
      atoll gpu fault gpu-worker --clear
    """
    from atoll.objects.gpu_faults import GpuFault

    faults = [
        GpuFault(kind, 0 if kind == "lost" else int(value), index)  # type: ignore[arg-type]
        for kind, value in kinds.items()
        if value
    ]
    if bool(faults) == clear:
        raise UserError("say what fails, or --clear", hint="--xid 79, --ecc, --thermal, --nvlink, --lost")

    async def work(client: Client) -> str:
        while True:
            try:
                return await _write_faults(client, node, index, faults)
            except Conflict:
                continue  # the node was written meanwhile

    click.echo(on_cluster(name, kubeconfig, context, work))


def _check_links(gpus: Sequence[Gpu]) -> None:
    """Raises UserError where none of them has NVLink."""
    if not any(gpu.type.nvlink_links for gpu in gpus):
        raise UserError(f"{gpus[0].type.product} has no NVLink", hint="--xid, --ecc, --thermal, --lost")


async def _write_faults(client: Client, name: str, index: int | None, faults: list[Any]) -> str:
    """Add faults to a node's, or (none given) take them away. Raises UserError, Conflict."""
    from atoll.cluster.gpus.faults import without
    from atoll.cluster.gpus.model import gpus_of
    from atoll.kinds.builtin import NODES
    from atoll.objects.gpu_faults import ANNOTATION, format_faults, read_faults

    try:
        node = await client.get(NODES, name)
    except NotFound:
        names = [item["metadata"]["name"] for item in (await client.list(NODES)).items if gpus_of(item)]
        raise UserError(f"there is no node {name!r}", hint=f"nodes with GPUs: {', '.join(names) or 'none'}") from None
    gpus = gpus_of(node)
    if not gpus or not gpus[0].simulated:
        raise UserError(f"node {name} has no simulated GPUs", hint="faults are injected into simulated ones only")
    if index is not None and index >= len(gpus):
        raise UserError(f"node {name} has GPUs 0 to {len(gpus) - 1}, not {index}")
    try:
        before = read_faults(node)
    except ValueError as error:
        raise UserError(str(error), hint=f"kubectl annotate node {name} {ANNOTATION}- removes it") from None
    if any(fault.kind == "nvlink" for fault in faults):
        _check_links(gpus if index is None else gpus[index : index + 1])
    replaced = {(fault.kind, fault.gpu) for fault in faults}
    if faults:
        after = [*(item for item in before if (item.kind, item.gpu) not in replaced), *faults]
    else:
        after = without(before, index, len(gpus))
    metadata = {
        "resourceVersion": node["metadata"]["resourceVersion"],
        "annotations": {ANNOTATION: format_faults(after) if after else None},
    }
    await client.patch(NODES, name, {"metadata": metadata})
    return f"node {name}: {len(after)} fault(s)" if after else f"node {name}: no faults"

"""atoll nodes: which nodes are healthy, which are out and why, what was tested when; faults of simulated machines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.cluster_options import CONTEXT, KUBECONFIG, settings_in, settings_map
from atoll.cli.output import age, output_option, structured, table

if TYPE_CHECKING:
    from atoll.capacity.health.settings import HealthSettings
    from atoll.capacity.preflight.settings import PreflightSettings
    from atoll.client.port import Client

Object = dict[str, Any]


@click.group()
def nodes() -> None:
    """Look at nodes' health, of a cluster made with --health, and let simulated machines fail.

    \b
    Examples:
      atoll nodes health --context atoll-gpus
      atoll nodes health gpu-1 --context atoll-gpus
      atoll nodes fault gpu-1 --kernel-log 'nvme nvme0: controller is down; will reset' --context atoll-gpus
    """


def _observed(kubeconfig: Path | None, context: str | None) -> tuple[list[Object], HealthSettings, PreflightSettings]:
    from atoll.capacity.health.settings import CONFIG_MAP, KEY, HealthSettings
    from atoll.capacity.preflight.settings import KEY as TESTS_KEY
    from atoll.capacity.preflight.settings import PreflightSettings
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run
    from atoll.kinds.builtin import NODES

    async def work(session: Session) -> tuple[list[Object], HealthSettings, PreflightSettings]:
        client = session.client(kubeconfig or default_path(), context)
        found = await settings_map(client, CONFIG_MAP)
        items = (await client.list(NODES)).items
        settings = settings_in(found, CONFIG_MAP, KEY, HealthSettings)
        return items, settings, settings_in(found, CONFIG_MAP, TESTS_KEY, PreflightSettings)

    return run(work)


@nodes.command()
@click.argument("name", required=False)
@KUBECONFIG
@CONTEXT
@output_option()
def health(name: str | None, kubeconfig: Path | None, context: str | None, output: str | None) -> None:
    """Nodes that are not simply healthy, or node NAME; how many are out of how many, and how much is tested.

    \b
    Examples:
      atoll nodes health
      atoll nodes health -o wide     all of them
    """
    found, settings, tests = _observed(kubeconfig, context)
    if name is not None and all(node["metadata"]["name"] != name for node in found):
        raise UserError(f"there is no node {name!r}", hint="kubectl get nodes lists them")
    report = _report(found, settings, tests, time.time())
    items = [item for item in report["items"] if name in (None, item["name"])]
    if structured({**report, "items": items}, output):
        return
    shown = items if name is not None or output == "wide" else [it for it in items if it["state"] != "healthy"]
    rows = [[it["name"], it["state"], it["pool"], it["gpus"], it["tested"], it["why"] or "-"] for it in shown]
    if rows:
        table(["NAME", "STATE", "POOL", "GPUS", "TESTED", "WHY"], rows)
    if name is None:
        click.echo(_summary(report))


def _report(found: list[Object], settings: HealthSettings, tests: PreflightSettings, now: float) -> Object:
    from dataclasses import asdict

    from atoll.capacity.health import summary
    from atoll.capacity.health.settings import allowed
    from atoll.capacity.nodes import gpu_count, pool_of

    items = []
    for node in sorted(found, key=lambda it: it["metadata"]["name"]):
        tested = summary.tested_at(node)
        items.append(
            {
                "name": node["metadata"]["name"],
                "state": summary.state_of(node),
                "pool": pool_of(node),
                "gpus": gpu_count(node),
                "tested": "never" if tested is None else f"{age(now - tested)} ago",
                "why": summary.why(node),
            }
        )
    pools = summary.pools(found, settings)
    covered = summary.coverage(found, now, tests.periodic.every_seconds)
    return {
        "items": items,
        "pools": [asdict(pool) for pool in pools],
        "out": sum(pool.out for pool in pools),
        "mostOut": allowed(settings.budget, len(found)),
        "coverage": {**asdict(covered), "share": round(covered.share, 4)},
    }


def _summary(report: Object) -> str:
    states = [item["state"] for item in report["items"]]
    coverage = report["coverage"]
    parts = [
        f"{states.count('healthy')} of {len(states)} healthy",
        f"{report['out']} out (at most {report['mostOut']})",
        f"{states.count('preflight')} before preflight",
    ]
    if coverage["nodes"]:
        within = age(coverage["within_seconds"])
        parts.append(f"{coverage['share']:.0%} of {coverage['nodes']} with GPUs tested within {within}")
    return ", ".join(parts)


@nodes.command()
@click.argument("name")
@click.option("--kernel-log", "lines", multiple=True, metavar="LINE", help="What its kernel logs; may be repeated.")
@click.option("--clear", is_flag=True, help="Take the lines away.")
@KUBECONFIG
@CONTEXT
def fault(name: str, lines: tuple[str, ...], clear: bool, kubeconfig: Path | None, context: str | None) -> None:
    """Let the simulated machine NAME fail: its kernel logs lines, by which it is judged as a real one is.

    GPUs fail by `atoll gpu fault`.

    \b
    Examples:
      atoll nodes fault gpu-1 --kernel-log 'EXT4-fs (sda1): Remounting filesystem read-only'
      atoll nodes fault gpu-1 --kernel-log 'Buffer I/O error on dev nvme0n1' --kernel-log 'EDAC MC0: 1 UE on DIMM_A1'
      atoll nodes fault gpu-1 --clear
    """
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run

    if bool(lines) == clear:
        raise UserError("say what the kernel logs, or --clear", hint="--kernel-log LINE")

    async def work(session: Session) -> str:
        return await _write_lines(session.client(kubeconfig or default_path(), context), name, lines)

    click.echo(run(work))


async def _write_lines(client: Client, name: str, lines: tuple[str, ...]) -> str:
    """Add lines to a node's kernel log, or (none given) take all away. Raises UserError."""
    from atoll.base.errors import Conflict, NotFound
    from atoll.capacity.nodes import is_simulated
    from atoll.kinds.builtin import NODES
    from atoll.objects.kernel_log import ANNOTATION, problem_of, shortened
    from atoll.objects.meta import annotations as annotations_of

    while True:
        try:
            node = await client.get(NODES, name)
        except NotFound:
            raise UserError(f"there is no node {name!r}", hint="kubectl get nodes lists them") from None
        if not is_simulated(node):
            raise UserError(f"node {name} is not simulated", hint="a real machine's kernel writes its own log")
        before = (annotations_of(node).get(ANNOTATION) or "").splitlines()
        after = [*before, *map(shortened, lines)] if lines else []
        metadata = {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "annotations": {ANNOTATION: "\n".join(after) or None},
        }
        try:
            await client.patch(NODES, name, {"metadata": metadata})
        except Conflict:
            continue  # the node was written meanwhile
        told = [problem.reason if (problem := problem_of(line)) else "a line that says nothing" for line in lines]
        return f"node {name}: {', '.join(told) or 'no lines'}"

"""atoll status: the fleet at a glance."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import click

from atoll.base.errors import AtollError
from atoll.cli.fleet import fleet_option
from atoll.cli.output import output_option, structured, table

Object = dict[str, Any]
_SHOWN = 10


@click.command()
@fleet_option
@output_option("json", "yaml", "wide")
@click.option("--watch", "-w", is_flag=True, help="Show it again as it changes, until Ctrl-C.")
def status(fleet: str, output: str | None, watch: bool) -> None:
    """Show the fleet: its processes, its clusters as the hub sees them, and its workloads.

    \b
    Examples:
      atoll status
      atoll status --watch
      atoll status -o json
    """
    from atoll.app import launch
    from atoll.cli import session

    state = launch.running_fleet(fleet)
    if not watch:
        show(fleet, session.run(lambda s: collect(s, state), state), output)
        return
    last: Object | None = None
    try:
        while True:
            found = session.run(lambda s: collect(s, state), state)
            if found != last:
                if sys.stdout.isatty():
                    click.echo("\033[H\033[J", nl=False)
                elif last is not None and not output:
                    click.echo()
                show(fleet, found, output)
                last = found
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


async def collect(session: Any, state: Any) -> Object:
    """Processes from the supervisor; clusters and workloads from the hub, or from each cluster without one."""
    from atoll.app.control import ask_one
    from atoll.kinds.builtin import DEPLOYMENTS
    from atoll.kinds.hub import CLUSTERS, DESTRUCTION_BUDGETS

    answer = await asyncio.to_thread(ask_one, state.control_socket, {"do": "status"})
    processes: Object = answer["processes"]
    clusters: list[Object] = []
    workloads: list[Object] = []
    held: list[Object] = []
    notices: list[Object] = []
    problem = ""
    if "hub" in processes:
        try:
            hub = session.hub()
            clusters = (await hub.list(CLUSTERS)).items
            workloads = (await hub.list(DEPLOYMENTS)).items
            notices = await _notices(hub)
            budgets = (await hub.list(DESTRUCTION_BUDGETS)).items
            held = [one for item in budgets for one in (item.get("status") or {}).get("held") or ()]
        except AtollError as error:
            problem = error.message
    known = {item["metadata"]["name"]: item for item in clusters}
    names = [*(name for name in processes if name != "hub"), *(name for name in known if name not in processes)]
    return {
        "fleet": state.name,
        "hub": _process(processes.get("hub"), problem),
        "clusters": [_cluster(name, processes.get(name), known.get(name)) for name in names],
        "partitioned": answer.get("partitioned") or [],
        "workloads": [_workload(item) for item in workloads],
        "held": held,
        "attention": notices,
    }


async def _notices(hub: Any) -> list[Object]:
    """What a person should look at, as the hub's bindings say."""
    import msgspec

    from atoll.fleet.plan.attention import attention
    from atoll.kinds.hub import CLUSTER_RESOURCE_BINDINGS, RESOURCE_BINDINGS

    bindings = [*(await hub.list(RESOURCE_BINDINGS)).items, *(await hub.list(CLUSTER_RESOURCE_BINDINGS)).items]
    return [msgspec.to_builtins(one) for one in attention(bindings)]


def _process(process: Object | None, problem: str = "") -> Object | None:
    if process is None:
        return None
    return {"phase": process["phase"], "pid": process["pid"], "port": process.get("port"), "problem": problem}


def _cluster(name: str, process: Object | None, known: Object | None) -> Object:
    found: Object = {"name": name, "process": process["phase"] if process else "external"}
    if process:
        found |= {"pid": process["pid"], "port": process.get("port")}
    if known is not None:
        spec, seen = known.get("spec") or {}, known.get("status") or {}
        ready: Object = next((c for c in seen.get("conditions") or () if c["type"] == "Ready"), {})
        nodes = seen.get("nodeSummary") or {}
        found |= {
            "ready": ready.get("status", "Unknown"),
            "reason": ready.get("reason", ""),
            "message": ready.get("message", ""),
            "version": seen.get("kubernetesVersion", ""),
            "nodes": f"{nodes.get('readyNum', 0)}/{nodes.get('totalNum', 0)}",
            "provider": spec.get("provider", ""),
            "region": spec.get("region", ""),
            "zone": spec.get("zone", "") or ",".join(spec.get("zones") or ()),
            "taints": [f"{t['key']}:{t['effect']}" for t in spec.get("taints") or ()],
        }
    return found


def _workload(obj: Object) -> Object:
    metadata, spec, seen = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    return {
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "ready": seen.get("readyReplicas", 0),
        "replicas": spec.get("replicas", 1),
        "deleting": "deletionTimestamp" in metadata,
    }


def show(fleet: str, found: Object, output: str | None) -> None:
    """Print it."""
    if structured(found, output if output != "wide" else ""):
        return
    hub = found["hub"]
    if hub is not None:
        note = f"  ({hub['problem']})" if hub["problem"] else ""
        click.echo(f"fleet {fleet}: hub {hub['phase']} at https://127.0.0.1:{hub['port']}{note}")
    wide = output == "wide"
    header = ["CLUSTER", "PROCESS", "READY", "NODES", "VERSION", "PROVIDER", "REGION"]
    header += ["ZONE", "PORT", "PID", "TAINTS"] if wide else []
    rows = []
    for item in found["clusters"]:
        process = item["process"] + (",partitioned" if item["name"] in found["partitioned"] else "")
        ready = {"True": "Ready", "False": "NotReady", "Unknown": "Unknown"}.get(item.get("ready", ""), "-")
        row = [item["name"], process, ready, item.get("nodes", "-"), item.get("version", "-")]
        row += [item.get("provider") or "-", item.get("region") or "-"]
        if wide:
            row += [item.get("zone") or "-", item.get("port") or "-", item.get("pid") or "-"]
            row.append(",".join(item.get("taints") or ()) or "-")
        rows.append(row)
    table(header, rows)
    _show_workloads(found["workloads"])
    _show_attention(found["attention"])
    for one in found["held"]:
        click.echo(f"held: {one['objects']} {one['kind']} copies are not deleted yet: {one['reason']} ", nl=False)
        click.echo(f"is more than the {one['limit']} that may go unasked")
        click.echo(f"  to confirm: {one['confirm'].replace('kubectl ', 'kubectl --context atoll-hub ', 1)}")


def _show_workloads(workloads: list[Object]) -> None:
    going = sum(item["deleting"] for item in workloads)
    kept = [item for item in workloads if not item["deleting"]]
    short = [item for item in kept if item["ready"] < item["replicas"]]
    if workloads:
        total = len(kept)
        leaving = f", {going} being deleted" if going else ""
        click.echo(f"workloads: {total - len(short)} of {total} Deployments fully ready{leaving}")
        for item in short[:10]:
            click.echo(f"  {item['namespace']}/{item['name']}: {item['ready']}/{item['replicas']} ready")


def _show_attention(notices: list[Object]) -> None:
    for item in notices[:_SHOWN]:
        click.echo(f"{item['what']}: {item['label']}: {item['message']}")
    if len(notices) > _SHOWN:
        click.echo(f"and {len(notices) - _SHOWN} more: atoll status -o json")

"""atoll cluster: one throw-away cluster, for CI and trying things out."""

from __future__ import annotations

import time
from pathlib import Path

import click

from atoll.base.errors import UserError
from atoll.cli.output import Progress, output_option, structured, table

_PREFIX = "cluster-"


@click.group()
def cluster() -> None:
    """Create, delete and list throw-away clusters.

    \b
    Example:
      atoll cluster create ci && kubectl --context atoll-ci get nodes
      atoll cluster delete ci
    """


@cluster.command()
@click.argument("name")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Write the kubeconfig here instead of merging it.")
@click.option("--api-only", is_flag=True, help="The API server alone: no controllers, scheduler or nodes.")
@click.option("--nodes", default=2, show_default=True, help="Process nodes.")
@click.option("--simulated", default=0, show_default=True, help="Simulated nodes.")
@click.option("--port", default=0, help="The API server's port; any free one by default.")
def create(name: str, kubeconfig: Path | None, api_only: bool, nodes: int, simulated: int, port: int) -> None:
    """Create the cluster NAME.

    \b
    Examples:
      atoll cluster create ci
      atoll cluster create ci --kubeconfig ci.yaml --api-only
    """
    from atoll.app import fleetspec, launch
    from atoll.app.state import fleet_state

    started = time.monotonic()
    state = fleet_state(_PREFIX + name)
    if state.exists() and state.supervisor_pid() is not None:
        raise UserError(f"the cluster {name!r} exists already", hint=f"atoll cluster delete {name}")
    fleetspec.check_name(name)
    groups = (fleetspec.NodeGroup(simulated),) if simulated else ()
    spec = fleetspec.ClusterSpec(
        name,
        simulated=() if api_only else groups,
        process_nodes=0 if api_only else nodes,
        process_nodes_tainted=False,
        port=port,
        api_only=api_only,
    )
    fleet = fleetspec.FleetSpec(state.name, (spec,), hub=False)
    progress = Progress()
    try:
        launch.start(state, fleet, progress.say)
    except UserError:
        launch.stop(state, purge=True)
        raise
    source = state.cluster_folder(name) / "admin.kubeconfig"
    if kubeconfig is not None:
        from atoll.client import kubeconfig as files

        files.write_text(kubeconfig, source.read_text())
        where = f"KUBECONFIG={kubeconfig}"
    else:
        from atoll.cli.fleet import merge_kubeconfig

        where = f"--context atoll-{name} (in {merge_kubeconfig(state, fleet, None, current=f'atoll-{name}')})"
    progress.done()
    click.echo(f"cluster {name} ready in {time.monotonic() - started:.2f} s: {where}")


@cluster.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete the cluster NAME and all that was in it.

    \b
    Example:
      atoll cluster delete ci
    """
    from atoll.app import launch
    from atoll.app.state import fleet_state
    from atoll.cli.fleet import default_path
    from atoll.client import kubeconfig as files

    state = fleet_state(_PREFIX + name)
    if not state.exists():
        raise UserError(f"there is no cluster {name!r}", hint="atoll cluster list")
    launch.stop(state, purge=True)
    files.remove(default_path(), [f"atoll-{name}"])
    click.echo(f"cluster {name} deleted")


@cluster.command(name="list")
@output_option("json", "yaml")
def list_clusters(output: str | None) -> None:
    """List throw-away clusters.

    \b
    Example:
      atoll cluster list
    """
    from atoll.app.state import fleet_names, fleet_state

    rows = []
    for fleet in fleet_names():
        if fleet.startswith(_PREFIX):
            name = fleet.removeprefix(_PREFIX)
            pid = fleet_state(fleet).supervisor_pid()
            rows.append({"name": name, "status": "running" if pid else "stopped", "pid": pid})
    if not structured(rows, output):
        table(("NAME", "STATUS", "PID"), [(row["name"], row["status"], row["pid"] or "") for row in rows])

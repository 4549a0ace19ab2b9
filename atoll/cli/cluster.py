"""atoll cluster: one throw-away cluster, for CI and trying things out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.output import Progress, output_option, structured, table

if TYPE_CHECKING:
    from atoll.app.fleetspec import AccessFiles, AuditSpec, FleetSpec
    from atoll.app.state import FleetState

_PREFIX = "cluster-"
_SEATS = "The sum of both is the number of seats that priority and fairness divides."


def _file_option(name: str, text: str) -> Callable[[Any], Any]:
    kind = click.Path(exists=True, dir_okay=False, resolve_path=True)
    return click.option(name, type=kind, help=text)


def _scheduler_config(path: str | None) -> str:
    """What is wrong with it is said before anything is started."""
    if path is None:
        return ""
    from atoll.app.scheduler_config import read_profiles
    from atoll.base.chance import Chance

    read_profiles(Path(path), Chance(0))
    return path


def _access_files(given: dict[str, Any]) -> AccessFiles:
    from atoll.app.fleetspec import AccessFiles

    return AccessFiles(
        given["authentication_config"] or "",
        given["authorization_config"] or "",
        given["authentication_token_webhook_config_file"] or "",
        given["authentication_token_webhook_version"],
        given["authentication_token_webhook_cache_ttl"],
    )


@click.group()
def cluster() -> None:
    """Create, delete and list throw-away clusters; keep and restore their state.

    \b
    Example:
      atoll cluster create ci && kubectl --context atoll-ci get nodes
      atoll cluster snapshot ci ci.snapshot
      atoll cluster delete ci
    """


@cluster.command()
@click.argument("name")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Write the kubeconfig here instead of merging it.")
@click.option("--api-only", is_flag=True, help="The API server alone: no controllers, scheduler or nodes.")
@click.option("--nodes", default=2, show_default=True, help="Process nodes.")
@click.option("--simulated", default=0, show_default=True, help="Simulated nodes.")
@click.option("--workload-api", is_flag=True, help="Serve scheduling.k8s.io/v1alpha2 (alpha in 1.36), and act upon it.")
@click.option(
    "--device-previews", is_flag=True, help="Serve resource.k8s.io's betas and DeviceTaintRule (off in 1.36)."
)
@click.option("--queueing", is_flag=True, help="Serve Kueue's kinds, and queue jobs and pods by them.")
@click.option("--batch", is_flag=True, help="Serve JobSet, LeaderWorkerSet, PodGroup and Volcano's kinds; place gangs.")
@click.option("--teams", is_flag=True, help="Allot nodes to teams, and let low priority borrow them.")
@click.option("--autoscale", is_flag=True, help="Let pools of simulated nodes grow and shrink, with balloons.")
@click.option("--health", is_flag=True, help="Test, watch, drain and mend nodes, those with GPUs above all.")
@click.option("--port", default=0, help="The API server's port; any free one by default.")
@_file_option("--scheduler-config", "A file of kind KubeSchedulerConfiguration: profiles and their plugins.")
@_file_option("--authentication-config", "A file of kind AuthenticationConfiguration: OIDC issuers, anonymous access.")
@_file_option("--authorization-config", "A file of kind AuthorizationConfiguration: authorizers, in their order.")
@_file_option("--authentication-token-webhook-config-file", "A kubeconfig of a webhook that knows bearer tokens.")
@click.option(
    "--authentication-token-webhook-version",
    default="v1",
    show_default=True,
    help="The version of TokenReview that the webhook speaks.",
)
@click.option(
    "--authentication-token-webhook-cache-ttl",
    default="2m",
    show_default=True,
    help="How long the webhook's answers are kept.",
)
@click.option("--max-requests-in-flight", default=400, show_default=True, type=click.IntRange(1), help=_SEATS)
@click.option("--max-mutating-requests-in-flight", default=200, show_default=True, type=click.IntRange(0), help=_SEATS)
@click.option("--audit-policy", type=click.Path(path_type=Path), help="Keep an audit log as this Policy says.")
@click.option(
    "--audit-log",
    type=click.Path(path_type=Path),
    help="The audit log's file; audit.log in the cluster's state by default.",
)
def create(
    name: str,
    kubeconfig: Path | None,
    api_only: bool,
    nodes: int,
    simulated: int,
    workload_api: bool,
    device_previews: bool,
    queueing: bool,
    batch: bool,
    teams: bool,
    autoscale: bool,
    health: bool,
    scheduler_config: str | None,
    port: int,
    max_requests_in_flight: int,
    max_mutating_requests_in_flight: int,
    audit_policy: Path | None,
    audit_log: Path | None,
    **access: Any,
) -> None:
    """Create the cluster NAME.

    \b
    Examples:
      atoll cluster create ci
      atoll cluster create ci --kubeconfig ci.yaml --api-only
      atoll cluster create ci --simulated 10 --queueing --batch
      atoll cluster create ci --audit-policy policy.yaml --authentication-config oidc.yaml
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
        workload_api=workload_api,
        device_previews=device_previews,
        queueing=queueing,
        batch=batch,
        health=health,
        autoscale=autoscale,
        teams=teams,
        audit=_audit(audit_policy, audit_log),
        max_requests_in_flight=max_requests_in_flight,
        max_mutating_requests_in_flight=max_mutating_requests_in_flight,
        access=_access_files(access),
        scheduler_config=_scheduler_config(scheduler_config),
    )
    fleet = fleetspec.FleetSpec(state.name, (spec,), hub=False)
    progress = Progress()
    known = state.exists()
    try:
        launch.start(state, fleet, progress.say, **(click.get_current_context().obj or {}))
    except UserError:
        launch.stop(state, purge=not known)  # what it had before stays, to be looked at
        raise
    where = hand_out(state, fleet, name, kubeconfig)
    progress.done()
    click.echo(f"cluster {name} ready in {time.monotonic() - started:.2f} s: {where}")


def hand_out(state: FleetState, fleet: FleetSpec, name: str, kubeconfig: Path | None) -> str:
    """Write or merge the new cluster's kubeconfig; how it is used from now on."""
    source = state.cluster_folder(name) / "admin.kubeconfig"
    if kubeconfig is not None:
        from atoll.client import kubeconfig as files

        files.write_text(kubeconfig, source.read_text())
        return f"KUBECONFIG={kubeconfig}"
    from atoll.cli.fleet import merge_kubeconfig

    return f"--context atoll-{name} (in {merge_kubeconfig(state, fleet, None, current=f'atoll-{name}')})"


def _audit(policy: Path | None, log: Path | None) -> AuditSpec | None:
    if policy is None:
        if log is not None:
            raise UserError("--audit-log without --audit-policy", hint="a Policy says what is logged")
        return None
    from atoll.app.audit_log import audit_policy
    from atoll.app.fleetspec import AuditSpec

    audit_policy(policy)  # told here if it is none, rather than by the cluster's process
    return AuditSpec(str(policy.absolute()), str(log.absolute()) if log is not None else "")


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


@cluster.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--fleet", help="The fleet that the cluster is of; by default NAME is a throw-away cluster.")
def snapshot(name: str, file: Path, fleet: str | None) -> None:
    """Copy the state of the cluster NAME to FILE, while it runs or when it is stopped.

    The copy is of one moment and is checked when it is read. It holds the cluster's Secrets, not its keys: only you
    may read the file.

    \b
    Example:
      atoll cluster snapshot ci ci.snapshot
      atoll cluster restore ci.snapshot ci2
    """
    from atoll.app import snapshots
    from atoll.app.state import fleet_state

    state = fleet_state(fleet or _PREFIX + name)
    taken = snapshots.take(state, name, file.absolute())
    click.echo(f"{file}: {taken.objects} objects at version {taken.version}, {taken.size_bytes:,} bytes")


@cluster.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Write the kubeconfig here instead of merging it.")
@click.option("--api-only", is_flag=True, help="The API server alone, whatever the snapshot's cluster ran.")
@click.option("--port", default=0, help="The API server's port; any free one by default.")
@click.option(
    "--bump-revision", default=1_000_000_000, show_default=True, type=click.IntRange(0),
    help="How far above the snapshot versions go on: more than the lost cluster wrote since.",
)  # fmt: skip
def restore(file: Path, name: str, kubeconfig: Path | None, api_only: bool, port: int, bump_revision: int) -> None:
    """Create the cluster NAME from the snapshot in FILE.

    resourceVersions go on above those of the snapshot's cluster, so that a client that knew it is told 410 Expired
    and lists again. The cluster has new keys: tokens and kubeconfigs of the old one are not valid there.

    \b
    Example:
      atoll cluster restore ci.snapshot ci2
    """
    from atoll.app import snapshots

    started = time.monotonic()
    progress = Progress()
    restored = snapshots.restore(
        file, name, tell=progress.say, prefix=_PREFIX, api_only=api_only, port=port, bump=bump_revision
    )
    where = hand_out(restored.state, restored.fleet, name, kubeconfig)
    progress.done()
    click.echo(
        f"cluster {name} ready in {time.monotonic() - started:.2f} s with {restored.objects} objects, "
        f"from version {restored.version} on: {where}"
    )


@cluster.command()
@click.argument("name")
@click.option("--fleet", help="The fleet that the cluster is of; by default NAME is a throw-away cluster.")
@click.option("--truncate", is_flag=True, help="Give up what follows the damage. The damaged log is kept beside it.")
def check(name: str, fleet: str | None, truncate: bool) -> None:
    """Read the log of the stopped cluster NAME and say whether it is whole, or what is lost.

    Exits with 1 if it is damaged and was not mended.

    \b
    Example:
      atoll cluster check ci
      atoll cluster check ci --truncate
    """
    from atoll.app import snapshots
    from atoll.app.state import fleet_state

    state = fleet_state(fleet or _PREFIX + name)
    report, lines = snapshots.check(state, name)
    click.echo("\n".join(lines))
    if truncate:
        click.echo(snapshots.truncate(report))
    elif report.why:
        raise SystemExit(1)

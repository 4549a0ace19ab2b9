"""Backup and restore of one cluster: a copy of its store with what it was asked to be, and a new cluster from it.

A running cluster copies itself: its records are taken in one turn of its loop (they are immutable and shared, so that
is quick) and written by a thread, so that it goes on serving. A stopped one is read from its log.

Not in the copy: keys and certificates. A restored cluster makes its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from atoll.app import launch
from atoll.app.channel import Channel
from atoll.app.control import ask_one
from atoll.app.fleetspec import ClusterSpec, FleetSpec, check_name
from atoll.app.state import FleetState, fleet_state
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import UserError
from atoll.cluster.store import repair, snapshot
from atoll.cluster.store.port import Store


@dataclass(frozen=True, slots=True)
class Taken:
    """A copy that was made."""

    version: int
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A cluster that was made from a copy."""

    state: FleetState
    fleet: FleetSpec
    version: int
    objects: int


def about(spec: ClusterSpec, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a copy says of its cluster."""
    return {"cluster": to_builtins(spec), "images": list(images)}


async def answer_snapshot(
    store: Store, described: dict[str, Any], message: dict[str, Any], clock: Clock, channel: Channel
) -> None:
    """Carry out the supervisor's {"snapshot": number, "file": path} in a cluster's process, and tell."""
    records, version = snapshot.records_of(store), store.version
    try:
        size = await asyncio.to_thread(
            snapshot.write, Path(message["file"]), snapshot.entries_of(records), version, clock.wall(), described
        )
        channel.report(snapshot=message["snapshot"], version=version, objects=len(records), size=size)
    except UserError as error:
        channel.report(snapshot=message["snapshot"], error=error.message, hint=error.hint)


def take(state: FleetState, cluster: str, file: Path) -> Taken:
    """Copy a cluster's state. Raises UserError."""
    if not state.exists():
        raise UserError(f"there is no cluster {cluster!r}", hint="atoll cluster list")
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is no file", hint="name a file")
    if state.supervisor_pid() is not None:
        answer = ask_one(state.control_socket, {"do": "snapshot", "cluster": cluster, "file": str(file)})
        return Taken(answer["version"], answer["objects"], answer["size"])
    fleet = launch.read_fleet(state)
    spec = next((item for item in fleet.clusters if item.name == cluster), None)
    found = repair.check(_log_of(state, cluster))
    if found.why:
        raise UserError(f"{found.path} is damaged: {found.why}", hint="atoll cluster check says what is lost")
    described = about(spec, fleet.images) if spec is not None else {}
    size = snapshot.write(file, found.state.values(), found.version, time.time(), described)
    return Taken(found.version, found.objects, size)


def restore(
    file: Path, name: str, *, tell: launch.Tell, prefix: str, api_only: bool = False, port: int = 0, bump: int
) -> Restored:
    """Make and start a cluster from a copy. Raises UserError; nothing is left then."""
    check_name(name)
    state = fleet_state(prefix + name)
    if state.exists():
        raise UserError(f"the cluster {name!r} exists already", hint=f"atoll cluster delete {name}")
    copy = snapshot.read(file)
    spec = _spec_of(copy, file, name, api_only, port)
    fleet = FleetSpec(state.name, (spec,), hub=False, images=tuple(copy.about.get("images") or ()))
    folder = state.cluster_folder(name)
    try:
        state.prepare()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        version = snapshot.restore(copy, folder / "store.db", time.time(), bump)
        launch.start(state, fleet, tell)
    except BaseException:
        launch.stop(state, purge=True)
        state.remove()
        raise
    return Restored(state, launch.read_fleet(state), version, len(copy.entries))


def _spec_of(copy: snapshot.Snapshot, file: Path, name: str, api_only: bool, port: int) -> ClusterSpec:
    """The cluster that the copy was of, under its new name. Its networks stay: Services have addresses in them."""
    described = copy.about.get("cluster")
    if not described:
        raise UserError(f"{file} is no snapshot of a cluster", hint="atoll cluster snapshot NAME FILE makes one")
    try:
        old = launch.cluster_of(described)
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{file} was made by another version of Atoll", hint="restore it with that one") from None
    spec = replace(old, name=name, port=port, nodes_of=old.node_prefix)
    if api_only:
        spec = replace(spec, api_only=True, simulated=(), process_nodes=0, named_process_nodes=())
    if spec.process_node_count:
        _require_free(spec)
    return spec


def _require_free(spec: ClusterSpec) -> None:
    from atoll.cluster.network.netlink import networks_in_use

    for cidr in (spec.pod_cidr, spec.service_cidr):
        wanted = ipaddress.IPv4Network(cidr)
        if any(wanted.overlaps(used) for used in networks_in_use()):
            raise UserError(
                f"the network {cidr} of the snapshot's cluster is in use on this machine",
                hint="stop the cluster that the snapshot is of, or restore with --api-only",
            )


def check(state: FleetState, cluster: str) -> tuple[repair.Report, list[str]]:
    """Read a stopped cluster's log: (what is found, in words). Raises UserError."""
    if not state.exists():
        raise UserError(f"there is no cluster {cluster!r}", hint="atoll cluster list")
    report = repair.check(_log_of(state, cluster))
    return report, repair.describe(report, rfc3339(report.at))


def truncate(report: repair.Report) -> str:
    """Give up what follows the damage; what was done, in words. Raises UserError."""
    kept, version = repair.truncate(report, time.time())
    return f"mended: {report.objects} objects, versions go on from {version}; the damaged log is {kept}"


def _log_of(state: FleetState, cluster: str) -> Path:
    path = state.cluster_folder(cluster) / "store.db"
    if not path.exists():
        raise UserError(f"no cluster {cluster!r} in the fleet {state.name!r}", hint="atoll status lists them")
    return path

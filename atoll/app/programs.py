"""What the supervisor's children run, and what each is told."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from atoll.app.channel import Channel
from atoll.app.fleetspec import ClusterSpec, FleetSpec, service_addresses
from atoll.app.garbage import collect_at_leisure, collect_seldom
from atoll.app.state import FleetState
from atoll.app.supervisor import Main
from atoll.base.clock import SystemClock
from atoll.base.errors import AtollError

Message = dict[str, Any]
Work = Callable[[Channel], Awaitable[None]]


def make_keys(state: FleetState, fleet: FleetSpec) -> int:
    """Start a process that makes what keys are missing, beside the imports here; returns its id. Where it fails, the
    cluster's own process tries again and tells why."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        from atoll.app.pki import open_keys

        clock = SystemClock()
        for cluster in fleet.clusters:
            addresses = service_addresses(cluster.service_cidr, cluster.pod_cidr)
            open_keys(state.cluster_folder(cluster.name) / "pki", cluster.name, addresses, clock)
        if fleet.hub:
            open_keys(state.cluster_folder("hub") / "pki", "hub", [], clock)
    finally:
        os._exit(0)


def preload(fleet: FleetSpec) -> None:
    """Import what the children need, before they are forked."""
    import uvloop  # noqa: F401

    from atoll.app import cluster_process  # noqa: F401

    if any(not cluster.api_only for cluster in fleet.clusters):
        from atoll.app import member  # noqa: F401
    if fleet.hub:
        from atoll.app import hub_process  # noqa: F401


def programs(state: FleetState, fleet: FleetSpec) -> tuple[dict[str, Main], dict[str, Message]]:
    """(process name → main, member name → what the hub is told of it)."""
    mains: dict[str, Main] = {}
    members: dict[str, Message] = {}
    if fleet.hub:
        from atoll.app.hub_process import run_hub

        mains["hub"] = _main(lambda channel: run_hub(state, fleet, channel))
    for cluster in fleet.clusters:
        mains[cluster.name] = _main(_cluster_work(state, fleet, cluster))
        members[cluster.name] = {
            "kubeconfig": str(state.cluster_folder(cluster.name) / "admin.kubeconfig"),
            "provider": cluster.provider,
            "region": cluster.region,
            "zone": cluster.zone,
            "labels": cluster.labels,
        }
    return mains, members


def _cluster_work(state: FleetState, fleet: FleetSpec, cluster: ClusterSpec) -> Work:
    from atoll.app.cluster_process import run_cluster

    return lambda channel: run_cluster(state, cluster, fleet.images, channel)


def _main(work: Work) -> Main:
    def main(connection: socket.socket) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        collect_seldom()
        _allow_many_files()
        channel = Channel(connection)
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(_until_stopped(work(channel)))
        except AtollError as error:
            logging.getLogger("atoll").error("%s", error)
            channel.fatal(error.message, error.hint)
            sys.exit(1)

    return main


def _allow_many_files() -> None:
    """Ten thousand idle clients are ten thousand descriptors; the soft limit is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _until_stopped(work: Awaitable[None]) -> None:
    """Run until the work ends or SIGTERM asks to stop; the work is cancelled and cleans up after itself."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    collecting = asyncio.ensure_future(collect_at_leisure())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger("atoll").info("stopped")
    finally:
        collecting.cancel()


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run in this process until the work ends, or SIGTERM or SIGINT asks to stop."""
    _allow_many_files()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_until_stopped(work))


def clean_cluster(state: FleetState, cluster: str) -> None:
    """Remove what a killed cluster may have left on this machine: a bridge, control groups."""
    if sys.platform != "linux":
        return
    from atoll.cluster.network.controller import clean
    from atoll.cluster.nodes.process import cgroups

    name = clean(state.cluster_folder(cluster))
    if name is not None:
        cgroups.clean(name)

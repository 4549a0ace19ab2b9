"""One cluster as one process: store, API server, controllers, scheduler, nodes, network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from atoll.app.aggregation import aggregate, renew_trust, trust
from atoll.app.api_health import check_published
from atoll.app.assembly import ApiOptions, assemble, bootstrap, default_storage_class
from atoll.app.channel import Channel
from atoll.app.fleetspec import ClusterSpec, service_addresses
from atoll.app.outbound import Outbound
from atoll.app.pki import ClusterKeys, open_keys
from atoll.app.serving import guarded_handler, serve_api
from atoll.app.state import FleetState
from atoll.app.tasks import Tasks
from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.http import Streaming
from atoll.cluster.apiserver.kubernetes_service import publish
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, HookCaller, User
from atoll.cluster.apiserver.served import Served
from atoll.cluster.metrics.serving import reader_role
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.port import Store
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.tls import client_context

log = logging.getLogger("atoll.cluster")


async def run_cluster(state: FleetState, spec: ClusterSpec, images: Sequence[dict[str, Any]], channel: Channel) -> None:
    """Until cancelled. Raises UserError when it can't start (a port in use, damaged keys)."""
    folder = state.cluster_folder(spec.name)
    clock: Clock = SystemClock()
    channel.report(progress="opening the store")
    async with AsyncExitStack() as stack:
        keys = open_keys(folder / "pki", spec.name, service_addresses(spec.service_cidr, spec.pod_cidr), clock)
        store = DurableStore(folder / "store.db", clock)
        stack.push_async_callback(store.close)
        outbound = Outbound(store)
        stack.push_async_callback(outbound.close)
        assembly = assemble(store, clock, Chance.from_system(), api_options(spec, keys, outbound))
        own = [] if spec.api_only else [default_storage_class(), reader_role()]
        await bootstrap(assembly, [trust(keys), *own, *_optional_objects(spec)])
        await renew_trust(assembly, keys)
        if spec.access.any:
            from atoll.app.access import configure_access

            await configure_access(stack, assembly, spec.access)
        tasks = Tasks()
        stack.push_async_callback(tasks.stop)
        auditor = None
        if spec.audit is not None:
            from atoll.app.audit_log import open_audit_log

            auditor = open_audit_log(stack, assembly, spec.audit, folder)
        handler = guarded_handler(
            assembly,
            tasks,
            _streaming(assembly.api, keys),
            store_file=folder / "store.db",
            auditor=auditor,
            server_limit=spec.max_requests_in_flight + spec.max_mutating_requests_in_flight,
        )
        aggregate(assembly, handler, keys, tasks)
        check_published(assembly.health, assembly)
        port = await serve_api(stack, handler, keys, spec.name, folder, spec.port, handler.immediate)
        stack.callback(assembly.health.shut_down)
        inner = service_addresses(spec.service_cidr, spec.pod_cidr)
        await publish(
            assembly.client(), cluster_ip=inner[0], address=inner[1], port=port, service_cidr=spec.service_cidr
        )
        channel.report(phase="serving", port=port)
        nodes = 0
        if not spec.api_only:
            from atoll.app.member import running_member

            channel.report(progress="waiting for nodes")
            running = await stack.enter_async_context(running_member(assembly, spec, images, folder, keys, port))
            nodes = await running.nodes_ready(spec.process_node_count + sum(group.count for group in spec.simulated))
        channel.report(phase="ready", port=port, nodes=nodes)
        await _until_supervisor_goes(channel, store, spec, images, clock)


def _optional_objects(spec: ClusterSpec) -> list[dict[str, Any]]:
    """Definitions that few clusters have, the namespaces of their settings, and people's roles."""
    found: list[dict[str, Any]] = []
    spaces = {"atoll-system": spec.health or spec.teams or spec.autoscale, "kueue-system": spec.queueing}
    found += [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name, on in spaces.items() if on
    ]
    if spec.queueing:
        from atoll.kinds import kueue, kueue_roles

        found += kueue.custom_resource_definitions() + kueue_roles.cluster_roles()
    if spec.batch:
        from atoll.kinds import batch

        found += batch.custom_resource_definitions()
    return found


def _streaming(api: Api, keys: ClusterKeys) -> Streaming:
    """logs, exec, port-forward and proxies; made when first asked for, since most throw-away clusters never are."""
    streamer: Streaming | None = None

    async def stream(request: HttpRequest, user: User, served: Served, path: Path) -> HttpResponse:
        nonlocal streamer
        if streamer is None:
            from atoll.cluster.apiserver.streaming import Streamer

            own = keys.kubelet_client()
            tls = client_context(ca_pem=keys.ca_pem, certificate_pem=own.certificate_pem, key_pem=own.key_pem)
            streamer = Streamer(api, tls)
        return await streamer(request, user, served, path)

    return stream


def api_options(spec: ClusterSpec, keys: ClusterKeys, hook_caller: HookCaller | None = None) -> ApiOptions:
    return ApiOptions(
        hook_caller=hook_caller,
        service_cidr=spec.service_cidr,
        signing_key=keys.service_account_key,
        client_ca_pem=keys.ca_pem,
        static_tokens={keys.admin_token: SYSTEM_ADMIN},
        process_nodes_tainted=spec.process_nodes_tainted,
        queueing=spec.queueing,
        batch=spec.batch,
        health=spec.health,
        workload_api=spec.workload_api,
        device_previews=spec.device_previews,
        teams=spec.teams,
    )


async def _until_supervisor_goes(
    channel: Channel, store: Store, spec: ClusterSpec, images: Sequence[dict[str, Any]], clock: Clock
) -> None:
    async for message in channel.instructions():
        if "snapshot" in message:
            from atoll.app.snapshots import about, answer_snapshot

            await answer_snapshot(store, about(spec, images), message, clock, channel)

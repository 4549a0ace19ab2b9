"""The hub as one process: an API on which templates do not run, and the fleet's controllers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from atoll.app.aggregation import aggregate, renew_trust, trust
from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.channel import Channel, Message
from atoll.app.cluster_proxy import cluster_proxy
from atoll.app.controllers import running_hub
from atoll.app.fleetspec import FleetSpec
from atoll.app.outbound import Outbound
from atoll.app.partitions import PartitionedClient, Partitions
from atoll.app.pki import open_keys
from atoll.app.serving import guarded_handler, serve_api
from atoll.app.state import FleetState
from atoll.app.tasks import Tasks
from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.base.errors import AtollError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import load
from atoll.client.port import Client
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, AdmissionRequest, User
from atoll.cluster.store.durable import DurableStore
from atoll.fleet.hub import Hub
from atoll.fleet.propagation.inert import inert_fields
from atoll.fleet.registry.clusters import Connect
from atoll.fleet.registry.join import Joining, http_connect, join
from atoll.kinds.hub import CLUSTERS, custom_resource_definitions
from atoll.objects.meta import condition
from atoll.runtime.informer import Informer

Object = dict[str, Any]
log = logging.getLogger("atoll.hub")
HUB_USER = User("system:atoll:hub", ("system:masters", "system:authenticated"))
_SERVICE_CIDR = "10.63.0.0/16"
_RETRY_SECONDS = 0.5


async def run_hub(state: FleetState, fleet: FleetSpec, channel: Channel) -> None:
    """Until cancelled. Members are joined as the supervisor says that they serve."""
    folder = state.cluster_folder("hub")
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        keys = open_keys(folder / "pki", "hub", [], clock)
        store = DurableStore(folder / "store.db", clock)
        stack.push_async_callback(store.close)
        outbound = Outbound(store)
        stack.push_async_callback(outbound.close)
        options = ApiOptions(
            hook_caller=outbound,
            service_cidr=_SERVICE_CIDR,
            signing_key=keys.service_account_key,
            client_ca_pem=keys.ca_pem,
            static_tokens={keys.admin_token: SYSTEM_ADMIN},
            runs_pods=False,
            validating=(PolicyWarnings(),),
        )
        assembly = assemble(store, clock, Chance.from_system(), options)
        await bootstrap(assembly, [trust(keys), *custom_resource_definitions()])
        await renew_trust(assembly, keys)
        tasks = Tasks()
        stack.push_async_callback(tasks.stop)
        inner = guarded_handler(assembly, tasks, store_file=folder / "store.db")
        aggregate(assembly, inner, keys, tasks)
        handler = cluster_proxy(inner, assembly)
        port = await serve_api(stack, handler, keys, "hub", folder, fleet.hub_port)
        stack.callback(assembly.health.shut_down)
        await stack.enter_async_context(running_hub(assembly))
        channel.report(phase="serving", port=port)
        partitions = Partitions()
        hub = Hub(assembly.client(HUB_USER, "atoll"), clock, assembly.chance, _connector(clock, partitions))
        async with asyncio.TaskGroup() as group:
            group.create_task(hub.run(), name="hub")
            group.create_task(_report_ready(hub.clusters.informer, len(fleet.clusters), port, channel))
            async for message in channel.instructions():
                if "snapshot" in message:
                    from atoll.app.snapshots import answer_snapshot

                    await answer_snapshot(store, {}, message, clock, channel)
                elif "partition" in message:
                    partitions.set(message["partition"], bool(message["on"]))
                elif "member" in message:
                    group.create_task(_join(assembly, message), name=f"join-{message['member']}")
            raise asyncio.CancelledError


class PolicyWarnings:
    """Admission on a hub: a policy that sets a field on which nothing acts yet is told so."""

    resources = frozenset(
        f"{plural}.policy.karmada.io" for plural in ("propagationpolicies", "clusterpropagationpolicies")
    )

    def validate(self, request: AdmissionRequest) -> None:
        if request.obj is not None and request.operation != "DELETE":
            request.warnings.extend(inert_fields(request.obj))


def _connector(clock: Clock, partitions: Partitions) -> Connect:
    reach = http_connect(clock)

    def connect(cluster: Object, secret: Object | None) -> Client:
        return PartitionedClient(reach(cluster, secret), cluster["metadata"]["name"], partitions)

    return connect


async def _report_ready(clusters: Informer, wanted: int, port: int, channel: Channel) -> None:
    """Tell the supervisor once every cluster of the fleet file is joined and Ready."""
    ready: set[str] = set()
    told = False

    def look(old: Object | None, new: Object | None) -> None:
        nonlocal told
        name = (new or old or {})["metadata"]["name"]
        good = new is not None and (condition(new, "Ready") or {}).get("status") == "True"
        (ready.add if good else ready.discard)(name)
        if told:
            return
        if len(ready) >= wanted:
            told = True
            channel.report(phase="ready", port=port, clusters=len(ready))
        else:
            channel.report(progress=f"{len(ready)} of {wanted} clusters joined")

    clusters.add_handler(look)


async def _join(assembly: Assembly, message: Message) -> None:
    """Join a member of this fleet; tried again until it works, since its process may be just starting."""
    name = message["member"]
    while True:
        access = load(Path(message["kubeconfig"])).access()
        member = HttpClient(access, clock=assembly.clock, timeout_seconds=10)
        try:
            wanted = Joining(
                name=name,
                server=access.server,
                ca_pem=access.ca_pem,
                provider=message.get("provider") or "",
                region=message.get("region") or "",
                zones=(message["zone"],) if message.get("zone") else (),
                labels=message.get("labels") or {},
            )
            await join(assembly.client(HUB_USER, "atoll"), member, wanted, clusters=CLUSTERS)
            log.info("joined %s", name)
            return
        except AtollError as error:
            log.warning("joining %s: %s", name, error)
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await member.close()

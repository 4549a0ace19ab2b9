"""The hub's controllers on a real kube-apiserver: what `atoll hub --kubeconfig FILE` runs.

Several may run for one hub: a Lease says which one works. Clusters are stored under our own group there, since a CRD
and the APIService that shows them as cluster.karmada.io can't share a group version.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

from atoll.app.cluster_api import Listen, serve_clusters
from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.base.errors import AlreadyExists, Forbidden, NotFound, TooManyRequests, Unauthorized, Unreachable, UserError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.hub import Hub
from atoll.fleet.options import HubOptions
from atoll.fleet.registry.join import http_connect
from atoll.fleet.registry.preflight import check_hub
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from atoll.kinds.hub import STORED_CLUSTERS, custom_resource_definitions
from atoll.kinds.resource import Resource
from atoll.runtime.lease import LeaderElection, LeaseOptions

Object = dict[str, Any]
log = logging.getLogger("atoll.hub")
LEASE = LeaseOptions(namespace=names.SYSTEM_NAMESPACE, name="atoll-hub")
_ESTABLISH_SECONDS = 30.0
_STEP_SECONDS = 0.05
Tell = Callable[[str], None]


async def run_real_hub(
    access: Access, tell: Tell, options: HubOptions | None = None, listen: Listen | None = None
) -> None:
    """Until cancelled. `listen`: where cluster.karmada.io is served, which takes an API server that aggregates.

    Raises UserError where the hub can't be reached, or must not be one.
    """
    clock, chance = SystemClock(), Chance.from_system()
    options = replace(options or HubOptions(), cluster_resource=STORED_CLUSTERS)
    client = HttpClient(access, clock=clock)
    try:
        await prepare(client, clock, tell)
        identity = f"{socket.gethostname()}_{os.getpid()}_{chance.stream('identity').name_suffix(8)}"
        election = LeaderElection(client, identity, clock, chance, LEASE)

        async def lead() -> None:
            async with AsyncExitStack() as stack:
                if listen is not None:
                    port = await serve_clusters(stack, client, clock, listen)
                    tell(f"serving cluster.karmada.io on {listen.host}:{port}")
                tell(f"leading as {identity}")
                await Hub(client, clock, chance, http_connect(clock), options).run()

        tell("waiting for the lease")
        await election.run(lead)
    finally:
        await client.close()


async def check_only(access: Access) -> None:
    """Raises UserError where the API server must not be a hub."""
    client = HttpClient(access, clock=SystemClock())
    try:
        await _checked(client, SystemClock())
    finally:
        await client.close()


async def prepare(client: Client, clock: Clock, tell: Tell) -> None:
    """Look whether this API server may be a hub, then give it the hub's kinds. Raises UserError."""
    tell("looking whether this API server may be a hub")
    await _checked(client, clock)
    tell("installing the hub's kinds")
    await install(client, clock)


async def _checked(client: Client, clock: Clock) -> None:
    try:
        await check_hub(client, clock)
    except (Unauthorized, Forbidden) as error:
        raise UserError(error.message, hint="the hub needs an administrator's kubeconfig") from error
    except Unreachable as error:
        raise UserError(f"the hub's API server can't be reached: {error.message}", hint=error.hint) from error


async def install(client: Client, clock: Clock) -> None:
    """CRDs and namespaces, by apply; returns once the kinds are served. Raises UserError where they never are."""
    for name in (names.SYSTEM_NAMESPACE, names.CREDENTIALS_NAMESPACE):
        with suppress(AlreadyExists):
            await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wanted = custom_resource_definitions(real=True)
    await asyncio.gather(*(client.apply(CUSTOM_RESOURCE_DEFINITIONS, crd) for crd in wanted))
    deadline = clock.monotonic() + _ESTABLISH_SECONDS
    for crd in wanted:
        while not await _served(client, crd):
            if clock.monotonic() > deadline:
                name = crd["metadata"]["name"]
                raise UserError(f"the kind {name} was not served in time", hint=f"kubectl describe crd {name}")
            await asyncio.sleep(_STEP_SECONDS)


async def _served(client: Client, crd: Object) -> bool:
    """An established kind answers 404, then 429 (its cache starts), before it answers."""
    spec = crd["spec"]
    resource = Resource(spec["group"], spec["versions"][0]["name"], spec["names"]["plural"], spec["names"]["kind"])
    try:
        await client.list(resource, limit=1)
    except (NotFound, TooManyRequests, Unreachable):
        return False
    return True

"""Nodes' health, teams and autoscaling on a real cluster: what `atoll capacity --kubeconfig FILE` runs.

The same controllers as in a cluster of Atoll's own, over HTTP. Several may run for one cluster: a Lease says which one
works. What admission does here by plugins is left to the cluster: kubelets register with the preflight taint (or the
controller adds it a moment later), `atoll teams policy` prints what gives pods their tolerations.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from atoll.app.api_metrics import page
from atoll.app.autoscale import make_autoscale
from atoll.app.cluster_api import Listen
from atoll.app.health import make_health
from atoll.app.teams import make_teams
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.base.errors import Forbidden, Unauthorized, Unreachable, UserError
from atoll.base.metrics import Metrics
from atoll.capacity.program import MachineProgram
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client
from atoll.kinds.builtin import NODES
from atoll.runtime.informer import Informers
from atoll.runtime.lease import LeaderElection, LeaseOptions
from atoll.wire.limits import plain_error
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.server import serve

LEASE = LeaseOptions(namespace="kube-system", name="atoll-capacity")
MAKERS: dict[str, Callable[..., list[Any]]] = {
    "health": make_health,
    "teams": make_teams,
    "autoscale": make_autoscale,
}
_ON_MACHINES = ("health", "autoscale")
log = logging.getLogger("atoll.capacity")


async def run_capacity(
    access: Access,
    parts: Sequence[str],
    tell: Callable[[str], None],
    listen: Listen | None = None,
    program: MachineProgram | None = None,
) -> None:
    """Until cancelled. `parts`: of MAKERS; `listen`: where /metrics and /healthz are served; `program`: acts on
    machines (docs/machines.md).

    Raises UserError where the cluster can't be reached or nodes may not be read.
    """
    clock, chance, metrics = SystemClock(), Chance.from_system(), Metrics()
    client = HttpClient(access, clock=clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        await _checked(client, access)
        if listen is not None:
            await _serve(stack, metrics, listen, tell)
        identity = f"{socket.gethostname()}_{os.getpid()}_{chance.stream('identity').name_suffix(8)}"

        async def lead() -> None:
            tell(f"leading as {identity}")
            informers = Informers(client)
            try:
                given = (_as(client), informers, clock, chance, metrics)
                more = {name: {"program": program} for name in _ON_MACHINES}
                made = [it for name in parts for it in MAKERS[name](*given, **more.get(name, {}))]
                informers.start()
                async with asyncio.TaskGroup() as group:
                    for controller in made:
                        group.create_task(controller.run(), name=controller.name)
            finally:
                await informers.stop()

        tell("waiting for the lease")
        await LeaderElection(client, identity, clock, chance, LEASE).run(lead)


def _as(client: Client) -> Callable[[str], Client]:
    """All of them write as the kubeconfig's user."""
    return lambda name: client


async def _checked(client: Client, access: Access) -> None:
    try:
        await client.list(NODES, limit=1)
    except (Unauthorized, Forbidden) as error:
        raise UserError(error.message, hint="capacity needs an administrator's kubeconfig") from error
    except Unreachable as error:
        raise UserError(f"{access.server} can't be reached: {error.message}", hint=error.hint) from error


async def _serve(stack: AsyncExitStack, metrics: Metrics, listen: Listen, tell: Callable[[str], None]) -> None:
    shown = page(metrics)

    async def answer(request: HttpRequest) -> HttpResponse:
        if request.path == "/metrics":
            return shown(request)
        if request.path in ("/healthz", "/livez", "/readyz"):
            return HttpResponse(200, [("Content-Type", "text/plain")], b"ok")
        return plain_error(404, "there are /metrics and /healthz")

    try:
        server = await serve(answer, listen.host, listen.port)
    except OSError as error:
        raise UserError(f"can't listen on {listen.host}:{listen.port}: {error.strerror}") from None
    stack.push_async_callback(server.close)
    tell(f"serving /metrics on {listen.host}:{server.port}")

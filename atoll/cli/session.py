"""Async work behind a command: clients of a fleet's API servers, opened and closed around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

from atoll.app import launch
from atoll.app.partitions import PartitionedClient, Partitions
from atoll.app.state import FleetState
from atoll.base.clock import SystemClock
from atoll.base.errors import Unreachable
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import load
from atoll.client.port import Client
from atoll.fleet.registry.join import access_of
from atoll.kinds.builtin import SECRETS
from atoll.kinds.hub import CLUSTERS
from atoll.objects.meta import condition

T = TypeVar("T")
_MEMBER_SECONDS = 5.0


class _Silent(Partitions):
    """Clusters that are known not to answer: a request there fails at once instead of after its deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}

    def check(self, member: str) -> None:
        """Raises Unreachable."""
        if member in self.reasons:
            raise Unreachable(f"cluster {member} is not ready: {self.reasons[member]}")


class Session:
    """`hub()` and `cluster(name)` of one fleet; `client(path)` for any kubeconfig."""

    def __init__(self, stack: AsyncExitStack, state: FleetState | None) -> None:
        self._stack = stack
        self._state = state

    def hub(self) -> HttpClient:
        return self.cluster("hub")

    def cluster(self, name: str, *, timeout_seconds: float = 10.0) -> HttpClient:
        assert self._state is not None
        return self.client(launch.member_kubeconfig(self._state, name), timeout_seconds=timeout_seconds)

    async def members(self) -> dict[str, Client]:
        """Every joined cluster, by the hub's own credentials for it. One that the hub can't reach is not asked."""
        hub = self.hub()
        silent = _Silent()
        found: dict[str, Client] = {}
        for cluster in (await hub.list(CLUSTERS)).items:
            reference = cluster["spec"].get("secretRef") or {}
            secret = None
            if reference:
                secret = await hub.get(SECRETS, reference["name"], reference["namespace"])
            client = HttpClient(access_of(cluster, secret), clock=SystemClock(), timeout_seconds=_MEMBER_SECONDS)
            self._stack.push_async_callback(client.close)
            name = cluster["metadata"]["name"]
            ready = condition(cluster, "Ready") or {}
            if ready.get("status") in ("False", "Unknown"):
                silent.reasons[name] = str(ready.get("message") or "it does not answer")
            found[name] = PartitionedClient(client, name, silent)
        return found

    def client(self, path: Path, context: str | None = None, *, timeout_seconds: float = 10.0) -> HttpClient:
        """A client by kubeconfig file. Raises UserError."""
        access = load(path).access(context)
        client = HttpClient(access, clock=SystemClock(), timeout_seconds=timeout_seconds)
        self._stack.push_async_callback(client.close)
        return client


def run(work: Callable[[Session], Awaitable[T]], state: FleetState | None = None) -> T:
    """Run `work(session)` to its end."""

    async def main() -> T:
        async with AsyncExitStack() as stack:
            return await work(Session(stack, state))

    return asyncio.run(main())

"""The in-process client, and the HTTP client against our own server, keep the client's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster, over_http
from atoll.testing.contracts.client import ClientContract, Scenario


class TestLocalClient(ClientContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Client, str]]:
        cluster = await new_cluster(namespaces=("work",))
        async with over_http(cluster.api):  # makes `raw` work
            yield cluster.client, "work"


class TestLocalClientInVirtualTime(ClientContract):
    def test_raw_requests(self) -> None:
        """Needs the translation, which a cluster in virtual time may be without."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Client, str]]:
        clock = LoopClock(asyncio.get_running_loop())
        cluster = await new_cluster(clock=clock, namespaces=("work",))
        yield cluster.client, "work"

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            async with self.opened() as (client, namespace):
                await scenario(client, namespace)

        run_virtual(main())


class TestHttpClient(ClientContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Client, str]]:
        cluster = await new_cluster(namespaces=("work",))
        async with over_http(cluster.api) as url:
            client = HttpClient(Access(server=url), clock=SystemClock())
            try:
                yield client, "work"
            finally:
                await client.close()

"""A running cluster API for tests: in process, or over HTTPS on loopback."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.cluster.apiserver.api import Api, Hooks
from atoll.cluster.apiserver.builtins import builtin_registry
from atoll.cluster.apiserver.extensions import install
from atoll.cluster.apiserver.http import http_handler
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, Attributes, Decision, Object, User
from atoll.cluster.apiserver.refusals import LIMITS
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Store
from atoll.kinds.builtin import NAMESPACES
from atoll.wire.messages import HttpRequest
from atoll.wire.server import serve


class AllowAll:
    """An authorizer that says yes."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(True)


@dataclass(slots=True)
class TestCluster:
    api: Api
    client: LocalClient

    __test__ = False


def new_api(
    *, store: Store | None = None, clock: Clock | None = None, seed: int = 1, hooks: Hooks | None = None
) -> Api:
    """An Api over a memory store, without controllers, access or admission unless given."""
    clock = clock or SystemClock()
    api = Api(
        store=store or MemoryStore(clock),
        clock=clock,
        chance=Chance(seed),
        registry=builtin_registry(),
        hooks=hooks,
    )
    install(api)
    return api


async def new_cluster(
    *, clock: Clock | None = None, seed: int = 1, hooks: Hooks | None = None, namespaces: tuple[str, ...] = ("default",)
) -> TestCluster:
    """With those namespaces made."""
    api = new_api(clock=clock, seed=seed, hooks=hooks)
    client = LocalClient(api)
    for name in namespaces:
        await client.create(NAMESPACES, namespace_object(name))
    return TestCluster(api, client)


def namespace_object(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def everyone_is_admin(_: HttpRequest) -> User:
    """Identifies every request as the administrator."""
    return SYSTEM_ADMIN


@asynccontextmanager
async def over_http(api: Api, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The Api's address on loopback while the block runs; anyone is the administrator."""
    handler = http_handler(api, everyone_is_admin, AllowAll())
    server = await serve(handler, "127.0.0.1", 0, ssl_context=ssl_context, limits=LIMITS)
    scheme = "http" if ssl_context is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.port}"
    finally:
        await server.close()

"""A running cluster API for tests: in process, or over HTTPS on loopback."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.cluster.apiserver.api import Api, Hooks
from atoll.cluster.apiserver.builtins import builtin_registry
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import Attributes, Decision, Object
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Store
from atoll.kinds.builtin import NAMESPACES


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
    return Api(
        store=store or MemoryStore(),
        clock=clock or SystemClock(),
        chance=Chance(seed),
        registry=builtin_registry(),
        hooks=hooks,
    )


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

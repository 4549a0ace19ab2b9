"""The API server's door: shut, every request of a client that goes through it is refused as by a dead machine.

Watches that are open stay open: while the door is shut nothing is written, so there is nothing that they could miss.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from msgspec import field

from atoll.app.assembly import Assembly
from atoll.base.errors import Unreachable
from atoll.client.port import ListResult, Object, RawResponse
from atoll.cluster.apiserver.access.service_accounts import service_account_user
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, User
from atoll.kinds.resource import Resource


class Gate:
    """How many faults hold it shut."""

    def __init__(self) -> None:
        self.shut = 0

    def check(self) -> None:
        """Raises Unreachable."""
        if self.shut:
            raise Unreachable("connection refused")


class GatedClient(LocalClient):
    """A LocalClient behind a gate."""

    def __init__(self, gate: Gate, api: Api, user: User, field_manager: str) -> None:
        super().__init__(api, user, field_manager)
        self._gate = gate

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        self._gate.check()
        return await super().get(resource, name, namespace, **more)

    async def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> ListResult:
        self._gate.check()
        return await super().list(resource, namespace, **more)

    def watch(self, resource: Resource, namespace: str | None = None, **more: Any) -> AsyncIterator[Any]:
        self._gate.check()
        return super().watch(resource, namespace, **more)

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        self._gate.check()
        return await super().create(resource, obj, namespace, **more)

    async def update(self, resource: Resource, obj: Object, **more: Any) -> Object:
        self._gate.check()
        return await super().update(resource, obj, **more)

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, **more: Any
    ) -> Object:
        self._gate.check()
        return await super().patch(resource, name, patch, namespace, **more)

    async def apply(self, resource: Resource, obj: Object, **more: Any) -> Object:
        self._gate.check()
        return await super().apply(resource, obj, **more)

    async def delete(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        self._gate.check()
        return await super().delete(resource, name, namespace, **more)

    async def raw(self, method: str, path: str, **more: Any) -> RawResponse:
        self._gate.check()
        return await super().raw(method, path, **more)


class GatedAssembly(Assembly):
    """An assembly all of whose clients go through one gate."""

    gate: Gate = field(default_factory=Gate)

    def client(self, user: User = SYSTEM_ADMIN, field_manager: str = "atoll") -> LocalClient:
        return GatedClient(self.gate, self.api, user, field_manager)

    def controller_client(self, name: str) -> LocalClient:
        return GatedClient(self.gate, self.api, service_account_user("kube-system", name, "", {}), name)


def gated(assembly: Assembly, gate: Gate) -> GatedAssembly:
    """The same parts behind a gate."""
    parts = {name: getattr(assembly, name) for name in Assembly.__struct_fields__}
    return GatedAssembly(**parts, gate=gate)

"""The API server's door: shut, every request of a client that goes through it is refused as by a dead machine.

Open watches break when it shuts, as the connections of a dead machine do: clients try again until it is open, and go on
from the version that they had.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
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
    """Several faults may hold it shut. `break_watches` is given the error that open watches get."""

    def __init__(self, break_watches: Callable[[Exception], None]) -> None:
        self._break_watches = break_watches
        self._shut = 0

    def shut(self) -> None:
        self._shut += 1
        self._break_watches(Unreachable("connection reset by peer"))

    def open(self) -> None:
        self._shut -= 1

    def check(self) -> None:
        """Raises Unreachable."""
        if self._shut:
            raise Unreachable("connection refused")

    async def until_shut(self, events: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
        """A watch that was busy when the others broke ends at its next event."""
        async with aclosing(events):
            async for event in events:
                self.check()
                yield event


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
        return self._gate.until_shut(super().watch(resource, namespace, **more))  # type: ignore[arg-type]

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

    gate: Gate = field(default_factory=lambda: Gate(lambda error: None))

    def client(self, user: User = SYSTEM_ADMIN, field_manager: str = "atoll") -> LocalClient:
        return GatedClient(self.gate, self.api, user, field_manager)

    def controller_client(self, name: str) -> LocalClient:
        return GatedClient(self.gate, self.api, service_account_user("kube-system", name, "", {}), name)


def gated(assembly: Assembly, gate: Gate) -> GatedAssembly:
    """The same parts behind a gate."""
    parts = {name: getattr(assembly, name) for name in Assembly.__struct_fields__}
    return GatedAssembly(**parts, gate=gate)

"""What an API server calls outside: webhooks, over HTTPS. Made when first needed, since most clusters never are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.cluster.apiserver.ports import HookTarget
from atoll.cluster.apiserver.service_address import service_address
from atoll.cluster.store.port import Store

if TYPE_CHECKING:
    from atoll.client.hooks import HookClient


class Outbound:
    """Implements `ports.HookCaller`; Services are found in `store`. `close` it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hooks: HookClient | None = None

    async def post(self, target: HookTarget, body: bytes, timeout_seconds: float) -> tuple[int, str, bytes]:
        """Raises Unreachable."""
        if self._hooks is None:
            from atoll.client.hooks import HookClient

            self._hooks = HookClient(lambda space, name, port: service_address(self._store, space, name, port))
        return await self._hooks.post(target, body, timeout_seconds)

    async def close(self) -> None:
        if self._hooks is not None:
            await self._hooks.close()

"""Cutting the hub off from a member, to see what happens: a fault at the transport port, nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from atoll.base.errors import Unreachable
from atoll.client.port import Client, DeleteOptions, ListResult, Object, RawResponse, WatchEvent
from atoll.kinds.resource import Resource


class Partitions:
    """The members that can't be reached now."""

    def __init__(self) -> None:
        self._cut: set[str] = set()
        self._changed: dict[str, asyncio.Event] = {}

    def set(self, member: str, cut: bool) -> None:
        (self._cut.add if cut else self._cut.discard)(member)
        if cut:
            self._changed.setdefault(member, asyncio.Event()).set()
            self._changed[member] = asyncio.Event()

    def check(self, member: str) -> None:
        """Raises Unreachable."""
        if member in self._cut:
            raise Unreachable(f"{member} is cut off (atoll kill --how partition)", hint=f"atoll heal {member}")

    def next_cut(self, member: str) -> asyncio.Event:
        """Set when the member is cut off."""
        return self._changed.setdefault(member, asyncio.Event())


class PartitionedClient:
    """A member's client behind the partition switch."""

    def __init__(self, inner: Client, member: str, partitions: Partitions) -> None:
        self._inner = inner
        self._member = member
        self._partitions = partitions

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        self._partitions.check(self._member)
        return await self._inner.get(resource, name, namespace, **more)

    async def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> ListResult:
        self._partitions.check(self._member)
        return await self._inner.list(resource, namespace, **more)

    def watch(self, resource: Resource, namespace: str | None = None, **more: Any) -> AsyncIterator[WatchEvent]:
        return self._watch(self._inner.watch(resource, namespace, **more))

    async def _watch(self, events: AsyncIterator[WatchEvent]) -> AsyncIterator[WatchEvent]:
        """Ends with Unreachable when the cut comes, also while no event does."""
        self._partitions.check(self._member)
        cut = asyncio.ensure_future(self._partitions.next_cut(self._member).wait())
        iterator = aiter(events)
        step: asyncio.Future[WatchEvent] | None = None
        try:
            while True:
                step = asyncio.ensure_future(anext(iterator))
                await asyncio.wait((step, cut), return_when=asyncio.FIRST_COMPLETED)
                self._partitions.check(self._member)
                try:
                    yield await step
                except StopAsyncIteration:
                    return
        finally:
            cut.cancel()
            if step is not None and not step.done():
                step.cancel()
                await asyncio.wait((step,))  # a generator that still runs can't be closed
            closing = getattr(events, "aclose", None)
            if closing is not None:
                await closing()

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        self._partitions.check(self._member)
        return await self._inner.create(resource, obj, namespace, **more)

    async def update(self, resource: Resource, obj: Object, **more: Any) -> Object:
        self._partitions.check(self._member)
        return await self._inner.update(resource, obj, **more)

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, **more: Any
    ) -> Object:
        self._partitions.check(self._member)
        return await self._inner.patch(resource, name, patch, namespace, **more)

    async def apply(self, resource: Resource, obj: Object, **more: Any) -> Object:
        self._partitions.check(self._member)
        return await self._inner.apply(resource, obj, **more)

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *,
        options: DeleteOptions | None = None, dry_run: bool = False,
    ) -> Object:  # fmt: skip
        self._partitions.check(self._member)
        return await self._inner.delete(resource, name, namespace, options=options, dry_run=dry_run)

    async def raw(
        self, method: str, path: str, *, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> RawResponse:
        self._partitions.check(self._member)
        return await self._inner.raw(method, path, query=query, body=body, headers=headers)

    async def close(self) -> None:
        await self._inner.close()

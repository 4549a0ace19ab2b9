"""Random clients on the client port: what they do is decided by chance, what they saw is recorded.

The same clients run in process in virtual time, and over HTTPS against processes that are killed, ours or the real
kube-apiserver. They behave as good clients do: a write whose answer was lost is not repeated, a watch that broke is
resumed from the last version that it saw, one that is told 410 lists again.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from atoll.base.chance import Chance
from atoll.base.errors import (
    ApiError,
    AtollError,
    Gone,
    OutcomeUnknown,
    ServerError,
    Unreachable,
)
from atoll.client.port import Client, DeleteOptions, ListResult, Object, WatchEvent
from atoll.kinds.builtin import CONFIGMAPS, LEASES
from atoll.kinds.resource import Resource
from atoll.testing.robustness.history import (
    COLOUR,
    NOT_SENT,
    UNKNOWN,
    VALUE,
    History,
    Operation,
    Seen,
    Stream,
    seen,
)
from atoll.testing.robustness.truth import NAMESPACES

COLOURS = ["red", "blue"]
_UNCERTAIN_CODES = (408, 429, 504)
_DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Workload:
    """How much, and on what."""

    clients: int = 4
    watchers: int = 4
    operations: int = 40  # of each client
    names: Sequence[str] = ("a", "b", "c")
    namespaces: Sequence[str] = NAMESPACES
    resources: Sequence[Resource] = (CONFIGMAPS, LEASES)
    pause_seconds: float = 0.01  # the most between two operations of one client
    settle_seconds: float = 30.0  # until every watcher must have seen the end


Pause = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class _Watcher:
    name: str
    resource: Resource
    namespace: str
    colour: str
    stream: Stream | None = None
    reached: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Traffic:
    """Clients and watchers of one server. `connect` makes a client: each has its own."""

    def __init__(self, history: History, chance: Chance, connect: Callable[[], Client], workload: Workload) -> None:
        self.history = history
        self.workload = workload
        self._chance = chance
        self._connect = connect
        self._written = 0
        self._watchers: list[_Watcher] = []
        self._clients: list[Client] = []
        self._begun = asyncio.Event()
        self.over = False  # set to end the clients before they have done all
        self.answered = 0

    async def run(self) -> list[str]:
        """All clients to their end, then until every watcher has seen it; what did not come about, in words."""
        await self.start_watchers()
        try:
            await self.run_clients()
            return await self.settle()
        finally:
            await self.close()

    async def start_watchers(self) -> None:
        """Returns once each has begun."""
        for index in range(self.workload.watchers):
            chance = self._chance.stream(f"watcher-{index}")
            resource = self.workload.resources[index % len(self.workload.resources)]
            whole = index < len(self.workload.resources)  # everything of each resource is watched by one at least
            namespace = "" if whole else chance.choice(["", *self.workload.namespaces])
            colour = "" if whole else chance.choice(["", *COLOURS])
            watcher = _Watcher(f"watcher-{index}", resource, namespace, colour)
            self._watchers.append(watcher)
            watcher.task = asyncio.ensure_future(self._watch(watcher, self._client(), chance))
        while not all(watcher.stream is not None for watcher in self._watchers):
            self._begun.clear()
            await self._begun.wait()

    async def run_clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for index in range(self.workload.clients):
                chance = self._chance.stream(f"client-{index}")
                group.create_task(self._run_client(f"client-{index}", self._client(), chance))

    async def close(self) -> None:
        """End the watchers."""
        tasks = [watcher.task for watcher in self._watchers if watcher.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()

    def _client(self) -> Client:
        client = self._connect()
        self._clients.append(client)
        return client

    # -- clients

    async def _run_client(self, name: str, client: Client, chance: Chance) -> None:
        for _ in range(self.workload.operations):
            if self.over:
                return
            resource = chance.choice(list(self.workload.resources))
            namespace = chance.choice(list(self.workload.namespaces))
            target = chance.choice(list(self.workload.names))
            act = chance.choice([self._put, self._put, self._put, self._patch, self._remove, self._read, self._list])
            done = await act(name, client, chance, resource, namespace, target)
            if done is not None and done.known:
                self.answered += 1
            await asyncio.sleep(chance.uniform(0, self.workload.pause_seconds))

    def _operation(self, client: str, verb: str, resource: Resource, namespace: str, name: str = "") -> Operation:
        operation = Operation(client, verb, resource.group_resource, namespace, name)
        if verb in ("create", "update", "patch"):
            self._written += 1
            operation.value = f"{client}/{self._written}"
        return operation

    async def _put(
        self, by: str, client: Client, chance: Chance, resource: Resource, namespace: str, name: str
    ) -> Operation | None:
        """Compare and swap over what is read, or create."""
        read = await self._read(by, client, chance, resource, namespace, name)
        if read.error == "NotFound":
            operation = self._operation(by, "create", resource, namespace, name)
            made = _body(resource, operation, chance.choice(COLOURS))
            return await self._write(operation, lambda: client.create(resource, made, namespace))
        if read.error or not read.found:
            return None
        operation = self._operation(by, "update", resource, namespace, name)
        operation.precondition = read.found[0].version
        body = _body(resource, operation, chance.choice(COLOURS))
        body["metadata"] |= {"resourceVersion": str(operation.precondition), "uid": read.found[0].uid}
        await asyncio.sleep(chance.choice([0.0, 0.0, self.workload.pause_seconds]))  # so that some come too late
        return await self._write(operation, lambda: client.update(resource, body))

    async def _patch(
        self, by: str, client: Client, chance: Chance, resource: Resource, namespace: str, name: str
    ) -> Operation:
        operation = self._operation(by, "patch", resource, namespace, name)
        body = _body(resource, operation, chance.choice(COLOURS))
        patch = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
        patch["metadata"] = {k: v for k, v in body["metadata"].items() if k in ("labels", "annotations")}
        return await self._write(operation, lambda: client.patch(resource, name, patch, namespace))

    async def _remove(
        self, by: str, client: Client, chance: Chance, resource: Resource, namespace: str, name: str
    ) -> Operation | None:
        options = None
        operation = self._operation(by, "delete", resource, namespace, name)
        if chance.random() < 0.5:
            read = await self._read(by, client, chance, resource, namespace, name)
            if read.error or not read.found:
                return None
            operation.precondition = read.found[0].version
            options = DeleteOptions(resource_version=str(operation.precondition))
        return await self._write(operation, lambda: client.delete(resource, name, namespace, options=options))

    async def _write(self, operation: Operation, send: Callable[[], Awaitable[Object]]) -> Operation:
        self.history.call(operation)
        try:
            answer = await send()
        except AtollError as error:
            return self.history.done(operation, error=_error_of(error))
        if operation.verb == "delete":
            status = answer.get("details") or answer.get("metadata") or {}
            return self.history.done(operation, uid=str(status.get("uid") or ""))
        found = seen(operation.resource, answer)
        return self.history.done(operation, found=(found,), version=found.version)

    async def _read(
        self, by: str, client: Client, chance: Chance, resource: Resource, namespace: str, name: str
    ) -> Operation:
        operation = self.history.call(self._operation(by, "get", resource, namespace, name))
        try:
            found = seen(operation.resource, await client.get(resource, name, namespace))
        except AtollError as error:
            return self.history.done(operation, error=_error_of(error))
        return self.history.done(operation, found=(found,), version=found.version)

    async def _list(
        self, by: str, client: Client, chance: Chance, resource: Resource, namespace: str, name: str
    ) -> Operation:
        operation = self._operation(by, "list", resource, chance.choice(["", namespace]))
        operation.stale_ok = chance.random() < 0.25
        limit = None if operation.stale_ok or chance.random() < 0.5 else 2
        self.history.call(operation)
        try:
            page = await client.list(
                resource, operation.namespace or None, limit=limit, resource_version="0" if operation.stale_ok else None
            )
            # What follows is of the first page's version, so the whole was answered when that was.
            self.history.done(operation, version=int(page.resource_version))
            items = list(page.items)
            while page.continue_token:
                await asyncio.sleep(chance.uniform(0, self.workload.pause_seconds))
                page = await self._next_page(client, resource, operation, limit, page)
                items += page.items
        except AtollError as error:
            operation.error = UNKNOWN if operation.returned else _error_of(error)
            operation.returned = operation.returned or self.history.moment()
            return operation
        operation.found = self._own(operation, items)
        return operation

    async def _next_page(
        self, client: Client, resource: Resource, operation: Operation, limit: int | None, page: ListResult
    ) -> ListResult:
        return await client.list(
            resource, operation.namespace or None, limit=limit, continue_token=page.continue_token
        )  # fmt: skip

    def _own(self, operation: Operation, items: Sequence[Object]) -> tuple[Seen, ...]:
        """The clients' objects: a server has some of its own in other namespaces."""
        found = (seen(operation.resource, item) for item in items)
        return tuple(item for item in found if item.namespace in self.workload.namespaces)

    # -- watchers

    async def _watch(self, watcher: _Watcher, client: Client, chance: Chance) -> None:
        since: int | None = None
        while True:
            if since is None:
                since = await self._list_for(watcher, client, chance)
                if since is None:
                    await asyncio.sleep(chance.uniform(0.001, 0.05))
                    continue
            stream = self.history.stream(
                Stream(watcher.name, watcher.resource.group_resource, watcher.namespace, since, watcher.colour)
            )
            watcher.stream = stream
            self._begun.set()
            watcher.reached = max(watcher.reached, since)
            await self._follow(watcher, stream, client, chance)
            since = None if stream.ended in ("Expired", "Gone") else self._resume_at(stream, chance)
            await asyncio.sleep(chance.uniform(0, 0.02))

    def _resume_at(self, stream: Stream, chance: Chance) -> int:
        """The last version; now and then an older one that it saw: the rest must come again."""
        if stream.delivered and chance.random() < 0.2:
            return chance.choice(stream.delivered).version
        return stream.last

    async def _list_for(self, watcher: _Watcher, client: Client, chance: Chance) -> int | None:
        operation = self._operation(watcher.name, "list", watcher.resource, watcher.namespace)
        self.history.call(operation)
        try:
            page = await client.list(watcher.resource, watcher.namespace or None)
        except AtollError as error:
            self.history.done(operation, error=_error_of(error))
            return None
        found = self._own(operation, page.items)
        self.history.done(operation, version=int(page.resource_version), found=found)
        return operation.version

    async def _follow(self, watcher: _Watcher, stream: Stream, client: Client, chance: Chance) -> None:
        """Until it ends, breaks, or the watcher leaves it."""
        patience = chance.integer(5, 60) if chance.random() < 0.5 else 0
        events = client.watch(
            watcher.resource,
            watcher.namespace or None,
            resource_version=str(stream.since),
            label_selector=f"{COLOUR}={watcher.colour}" if watcher.colour else None,
        )
        try:
            async for event in events:
                found = None if event.type == "BOOKMARK" else seen(stream.resource, event.object)
                if found is not None and found.namespace not in self.workload.namespaces:
                    continue
                self.history.deliver(stream, event.type, int(event.object["metadata"]["resourceVersion"]), found)
                watcher.reached = max(watcher.reached, stream.last)
                if patience and len(stream.delivered) >= patience:
                    stream.ended = "left"
                    return
            stream.ended = "ended"
        except Gone as error:
            stream.ended = error.reason
        except AtollError as error:
            stream.ended = type(error).__name__
        finally:
            await _close(events)

    async def settle(self) -> list[str]:
        """Write a last object everywhere, and wait for every watcher to see it. What did not come, in words."""
        client = self._client()
        chance = self._chance.stream("last")
        ends: dict[tuple[str, str, str], int] = {}
        for resource in self.workload.resources:
            for namespace in self.workload.namespaces:
                for colour in COLOURS:
                    operation = await self._until_written(client, resource, namespace, f"end-{colour}", colour)
                    for space in ("", namespace):
                        for shade in ("", colour):
                            ends[resource.group_resource, space, shade] = operation.version
            await self._list("last", client, chance, resource, self.workload.namespaces[0], "")
        waited = 0.0
        while True:
            late = [w for w in self._watchers if w.reached < ends[w.resource.group_resource, w.namespace, w.colour]]
            if not late or waited > self.workload.settle_seconds:
                return [f"{w.stream} never saw the end: it is at {w.reached}" for w in late]
            await asyncio.sleep(0.02)
            waited += 0.02

    async def _until_written(
        self, client: Client, resource: Resource, namespace: str, name: str, colour: str
    ) -> Operation:
        """Create it; under another name where the answer was lost."""
        for attempt in range(1000):
            operation = self._operation("last", "create", resource, namespace, f"{name}-{attempt}")
            body = _body(resource, operation, colour)
            await self._write(operation, functools.partial(client.create, resource, body, namespace))
            if not operation.error:
                return operation
            await asyncio.sleep(0.02)
        raise AssertionError(f"the server never took a last write: {operation}")


def _body(resource: Resource, operation: Operation, colour: str) -> Object:
    metadata: Object = {
        "name": operation.name,
        "namespace": operation.namespace,
        "labels": {COLOUR: colour},
    }
    made: Object = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    if resource is CONFIGMAPS:
        made["data"] = {VALUE: operation.value}
    else:
        metadata["annotations"] = {VALUE: operation.value}
    return made


def _error_of(error: AtollError) -> str:
    """How an operation ended: see `history.Operation`."""
    if isinstance(error, Unreachable):
        return NOT_SENT
    if isinstance(error, OutcomeUnknown | ServerError):
        return UNKNOWN
    if isinstance(error, ApiError):
        return UNKNOWN if error.code in _UNCERTAIN_CODES or error.code >= 500 else error.reason
    return UNKNOWN


async def _close(events: AsyncIterator[WatchEvent]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        with suppress(AtollError, RuntimeError):
            await close()


__all__ = ["COLOURS", "Pause", "Seen", "Traffic", "Workload"]

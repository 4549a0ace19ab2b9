"""A server in virtual time: the API over a durable store, its real log file, a simulated writer, and crashes.

A crash may fall between any two turns of the loop. It ends the requests that are being served (their clients don't
know the outcome), forgets everything in memory, and leaves of the file what was synced and any part of what was not.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import OutcomeUnknown, Unreachable
from atoll.client.port import MERGE_PATCH, DeleteOptions, ListResult, Object, RawResponse, WatchEvent
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.store import log as logfile
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.history import HistoryLimits
from atoll.cluster.store.log import Row
from atoll.cluster.store.port import ABSENT, Key, Store
from atoll.kinds.resource import Resource
from atoll.testing.cluster import namespace_object, new_api
from atoll.testing.robustness.faults import FaultyLog, torn
from atoll.testing.robustness.truth import Change, changes_of

T = TypeVar("T")


class _Waiting(queue.SimpleQueue[Any]):
    """The writer's queue, waited for in the loop."""

    def __init__(self) -> None:
        self._wakeup: asyncio.Future[None] | None = None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def next(self) -> Any:
        while self.empty():
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup
        return self.get_nowait()


class SimulatedStore(DurableStore):
    """A durable store whose writer is a task of the loop: a commit begins after `latency()`, and is told after one."""

    slack_bytes = 20_000  # so that short histories are compacted

    def __init__(self, log: FaultyLog, clock: Clock, limits: HistoryLimits, latency: Callable[[], float]) -> None:
        self._latency = latency
        self._waiting = _Waiting()
        self._told_at = 0.0
        self.log = log
        self.dead = False
        self.compacted: Callable[[], None] = lambda: None
        super().__init__(log.file.path, clock, limits, file=log)

    def _start_writer(self) -> None:
        self._queue = self._waiting
        self._task = asyncio.ensure_future(self._write_slowly())

    async def _write_slowly(self) -> None:
        item = await self._waiting.next()
        while item is not None:
            await asyncio.sleep(self._latency() + self.log.delay_seconds)
            following = self._write_next(item)
            item = await self._waiting.next() if following == "wait" else following
        self._tell(self._ended)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        self._told_at = max(self._told_at + 1e-9, self._loop.time() + self._latency())  # in order

        def tell() -> None:
            if not self.dead:
                function(*arguments)

        self._loop.call_at(self._told_at, tell)

    def _relocate(self, rows: list[Row] | None, epoch: int) -> None:
        self.compacted()
        super()._relocate(rows, epoch)

    def die(self) -> Row | None:
        """A crash: nothing more is written or told. The row that might have been on its way."""
        self.dead = True
        self._closed = True
        self._task.cancel()
        groups = [group for group in self._sent if group.changes]
        written = {row.version for row in self.log.file.rows()} if groups else set()
        group = next((group for group in groups if group.version not in written), None)
        if group is None or any(group.version < version for version in written):
            return None
        return Row(self._next_row, group.version, group.at, b"".join(group.entries))


Wrap = Callable[[Store], Store]
MakeStore = Callable[[FaultyLog, Clock, HistoryLimits, Callable[[], float]], SimulatedStore]


class SimulatedServer:
    """Starts, crashes and starts again on what the crash left."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        chance: Chance,
        limits: HistoryLimits,
        latency: Callable[[], float],
        *,
        make: MakeStore = SimulatedStore,
        wrap: Wrap = lambda store: store,
        open_log: Callable[[Path], FaultyLog] = FaultyLog,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._chance = chance
        self._limits = limits
        self._latency = latency
        self._make = make
        self._wrap = wrap
        self._open_log = open_log
        self._lives = 0
        self._path = folder / "0" / "store.db"
        self._path.parent.mkdir()
        self._tasks: dict[asyncio.Future[Any], None] = {}
        self._rows: dict[int, Row] = {}
        self.compactions = 0  # each takes history with it that a restart would have found
        self.store: SimulatedStore | None = None
        self.client: LocalClient | None = None

    async def start(self, namespaces: tuple[str, ...] = ()) -> None:
        """Take up what is on the disk."""
        log = self._open_log(self._path)
        self._remember(log)
        self.store = self._make(log, self._clock, self._limits, self._latency)
        self.store.compacted = self._note_compaction
        seen_by_api = self._wrap(self.store)
        api = new_api(store=seen_by_api, clock=self._clock, seed=self._chance.integer(0, 1 << 60))
        self.client = LocalClient(api)
        for name in namespaces:
            key = Key("namespaces", "", name)
            if self.store.get(key) is None:
                await self.store.write(key, ABSENT, {**namespace_object(name), "status": {"phase": "Active"}})

    def crash(self) -> None:
        """At once, between two turns."""
        store = self.store
        if store is None:
            return
        self.store = self.client = None
        self._remember(store.log)
        in_flight = store.die()
        for task in list(self._tasks):
            task.cancel()
        self._lives += 1
        self._path = torn(store.log, self._chance, in_flight, self._folder / str(self._lives))

    def _note_compaction(self) -> None:
        self.compactions += 1

    def running(self) -> LocalClient:
        """Raises Unreachable while it is down."""
        if self.client is None:
            raise Unreachable("the server is down")
        return self.client

    async def serve(self, work: Coroutine[Any, Any, T], writes: bool) -> T:
        """A request: it ends with the server."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        life = self._lives
        try:
            return await task
        except asyncio.CancelledError:
            if life == self._lives:
                raise
            if writes:
                raise OutcomeUnknown("the server fell") from None
            raise Unreachable("the server fell") from None
        finally:
            self._tasks.pop(task, None)

    async def stop(self) -> None:
        if self.store is not None:
            self._remember(self.store.log)
            await self.store.close()

    def _remember(self, log: FaultyLog) -> None:
        """What the disk holds, and what it held."""
        for row in [*log.written, *log.file.rows()]:
            self._rows.setdefault(row.number, row)

    def changes(self) -> list[Change]:
        """All that ever became durable, told by the disk: for the checker."""
        rows = [self._rows[number] for number in sorted(self._rows)]
        return list(changes_of(entry for row in rows for entry in logfile.unpack(row.entries)))


class CrashingClient:
    """The client port on a server that may fall: as HttpClient tells it (see `atoll.client.http`)."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        client = self._server.running()
        return await self._server.serve(client.get(resource, name, namespace, **more), False)

    async def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> ListResult:
        client = self._server.running()
        return await self._server.serve(client.list(resource, namespace, **more), False)

    async def watch(self, resource: Resource, namespace: str | None = None, **more: Any) -> AsyncIterator[WatchEvent]:
        client = self._server.running()
        events = client.watch(resource, namespace, **more)
        try:
            while True:
                if self._server.client is not client:
                    raise Unreachable("the server fell")
                try:
                    event = await self._server.serve(_next(events), False)
                except StopAsyncIteration:
                    return
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        client = self._server.running()
        return await self._server.serve(client.create(resource, obj, namespace, **more), True)

    async def update(self, resource: Resource, obj: Object, **more: Any) -> Object:
        client = self._server.running()
        return await self._server.serve(client.update(resource, obj, **more), True)

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, *,
        content_type: str = MERGE_PATCH, **more: Any,
    ) -> Object:  # fmt: skip
        client = self._server.running()
        work = client.patch(resource, name, patch, namespace, content_type=content_type, **more)
        return await self._server.serve(work, True)

    async def apply(self, resource: Resource, obj: Object, **more: Any) -> Object:
        client = self._server.running()
        return await self._server.serve(client.apply(resource, obj, **more), True)

    async def raw(self, method: str, path: str, **more: Any) -> RawResponse:
        client = self._server.running()
        return await self._server.serve(client.raw(method, path, **more), method != "GET")

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *,
        options: DeleteOptions | None = None, **more: Any,
    ) -> Object:  # fmt: skip
        client = self._server.running()
        return await self._server.serve(client.delete(resource, name, namespace, options=options, **more), True)

    async def close(self) -> None:
        return None


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent:
    return await anext(events)

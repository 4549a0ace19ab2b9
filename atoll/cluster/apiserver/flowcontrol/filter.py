"""Requests pass here between authentication and authorization: they get a seat, wait for one, or are refused.

One event loop serves a server's requests, so what is answered without an await never overlaps with anything. Its seat
is therefore held until the loop's turn ends: of what came in at one moment, no level gets more than its seats, and the
rest waits in the fair queues. Long-running requests (exec, logs that follow, proxies) take no seat; a watch takes one
until its initial events are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from atoll.base.clock import Clock
from atoll.base.errors import ApiError
from atoll.cluster.apiserver.flowcontrol.levels import Flow, Lane, Levels
from atoll.cluster.apiserver.flowcontrol.queues import QueueSet, Request
from atoll.cluster.apiserver.flowcontrol.work import (
    ONE,
    Listing,
    Stored,
    WatchCounts,
    Work,
    is_write,
    list_work,
    write_work,
)
from atoll.cluster.apiserver.ports import Attributes
from atoll.cluster.apiserver.request import parse_query
from atoll.cluster.apiserver.streams import Ending

LONGEST_WAIT_SECONDS = 60.0
StoredOf = Callable[[str, str], Stored | None]
"""(group, resource) → what is stored of it."""


class TooManyRequests(ApiError):
    """Refused: 429 in plain text, as upstream's filter says it."""

    def __init__(self, retry_after_seconds: int, headers: list[tuple[str, str]]) -> None:
        super().__init__("Too many requests, please try again later.", code=429, reason="TooManyRequests")
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers


class Seat:
    """What a request that was let in holds; `Filter.leave` gives it back."""

    __slots__ = ("flow", "left", "request", "started")

    def __init__(self, flow: Flow, request: Request) -> None:
        self.flow = flow
        self.request = request
        self.started = 0.0
        self.left = False


class Filter:
    """See the module. `observe` is told of each request that passed or was refused, for metrics."""

    def __init__(self, levels: Levels, clock: Clock, stored: StoredOf) -> None:
        self.levels = levels
        self.watches = WatchCounts()
        self.observer: Observer = Observer()
        self._clock = clock
        self._stored = stored
        self._leaving: list[Seat] = []
        self._turn: list[QueueSet] = []

    def at_once(self, asked: Attributes) -> Lane | None:
        """A seat for what is answered here and now (the GET of one object); None: it must `enter`."""
        lane = self.levels.flow(asked).lane
        queues = lane.state.queues
        if queues.queuing.queues >= 0 and (queues.waiting or queues.seats_in_use >= queues.limit):
            return None
        queues.seats_in_use += 1
        queues.leaving += 1
        if not queues.touched:
            self._touch(queues)
        lane.at_once += 1
        return lane

    def enter_lightly(self, asked: Attributes, query: str) -> Lane | None:
        """A seat for a request of one seat, where one is free and nobody waits; give it back by `leave_lightly`."""
        lane = self.levels.flow(asked).lane
        queues = lane.state.queues
        if queues.queuing.queues >= 0 and (queues.waiting or queues.seats_in_use >= queues.limit):
            return None
        if asked.verb != "get" and self._work(asked, query, lane) is not ONE:
            return None
        queues.seats_in_use += 1
        queues.light += 1
        if not queues.touched:
            self._touch(queues)
        lane.light += 1
        lane.light_executing += 1
        return lane

    def leave_lightly(self, lane: Lane, seconds: float, in_later_turn: bool = False) -> None:
        """The request is answered, that long after it came.

        `in_later_turn`: than it came in. It has held its seat for real then, and gives it back now if nobody waits.
        """
        queues = lane.state.queues
        queues.light -= 1
        if in_later_turn and not queues.waiting:
            queues.seats_in_use -= 1
            queues.dispatched += 1
        else:
            queues.leaving += 1
        if not queues.touched:
            self._touch(queues)
        lane.light_executing -= 1
        lane.execution.observe(seconds)

    def _touch(self, queues: QueueSet) -> None:
        queues.touched = True
        self._turn.append(queues)
        if len(self._turn) == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        now = self._clock.monotonic()
        for queues in turn:
            queues.end_turn(now)

    async def enter(self, asked: Attributes, query: str, wait_seconds: float) -> Seat:
        """Wait for a seat. Raises TooManyRequests."""
        flow = self.levels.flow(asked)
        lane = flow.lane
        queues = lane.state.queues
        request = Request(lane.schema.name, flow.distinguisher, self._work(asked, query, lane), None, asked)
        seat = Seat(flow, request)
        self.observer.estimated(lane, request.work.seats)
        now = self._clock.monotonic()
        if not queues.start(now, request, flow.hand):
            reason = "queue-full" if queues.queuing.queues > 0 else "concurrency-limit"
            raise self._refused(lane, reason, 0.0)
        if not request.dispatched:
            await self._wait(seat, min(wait_seconds, LONGEST_WAIT_SECONDS))
        seat.started = self._clock.monotonic() if request.arrived != now else now
        seats = request.work.seats
        lane.executing += 1
        lane.executing_seats += seats
        self.observer.dispatched(lane, queues, seat.started - request.arrived)
        return seat

    async def _wait(self, seat: Seat, seconds: float) -> None:
        request, lane = seat.request, seat.flow.lane
        queues = lane.state.queues
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request.on_dispatch = lambda: None if waiter.done() else waiter.set_result(None)
        seats = request.work.seats
        lane.in_queue += 1
        lane.seats_in_queue += seats
        assert request.queue is not None
        self.observer.queued(lane, len(request.queue.waiting))
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            if not request.dispatched:
                now = self._clock.monotonic()
                queues.cancel(now, request)
                raise self._refused(lane, "time-out", now - request.arrived) from None
        except asyncio.CancelledError:  # its client has gone
            now = self._clock.monotonic()
            if request.dispatched:
                queues.finish(now, request)
                queues.release(now, request) if request.work.extra_seconds else None
            else:
                queues.cancel(now, request)
                self.observer.refused(lane, "cancelled", now - request.arrived)
            raise
        finally:
            lane.in_queue -= 1
            lane.seats_in_queue -= seats

    def leave(self, seat: Seat) -> None:
        """The request is answered (or a watch has made its initial events): its seat is free when the turn ends."""
        if seat.left:
            return
        seat.left = True
        self._leaving.append(seat)
        if len(self._leaving) == 1:
            asyncio.get_running_loop().call_soon(self._let_go)

    def _let_go(self) -> None:
        leaving, self._leaving = self._leaving, []
        now = self._clock.monotonic()
        for seat in leaving:
            request, lane = seat.request, seat.flow.lane
            lane.executing -= 1
            lane.executing_seats -= request.work.seats
            lane.execution.observe(now - seat.started)
            extra = lane.state.queues.finish(now, request)
            if extra > 0:
                loop = asyncio.get_running_loop()
                loop.call_later(extra, self._release, lane, request)

    def _release(self, lane: Lane, request: Request) -> None:
        lane.state.queues.release(self._clock.monotonic(), request)

    def watching(
        self,
        asked: Attributes,
        begun: Callable[[], None],
        stream: AsyncIterator[bytes],
        ended: Callable[[], None] | None = None,
    ) -> AsyncIterator[bytes]:
        """The watch's stream, which calls `begun` as its initial events are made; counted till it ends."""
        return _Watching(self, asked, begun, stream, ended)

    def _refused(self, lane: Lane, reason: str, waited: float) -> TooManyRequests:
        self.observer.refused(lane, reason, waited)
        return TooManyRequests(lane.state.retry.refused(int(self._clock.wall())), lane.headers)

    def _work(self, asked: Attributes, query: str, lane: Lane) -> Work:
        if is_write(asked.verb):
            if asked.subresource == "token" and asked.resource == "serviceaccounts":
                return ONE
            watchers = self.watches.interested(asked.group, asked.resource, asked.namespace, asked.name)
            return write_work(watchers, lane.state.max_seats)
        if asked.verb not in ("list", "watch") or lane.state.level.exempt:
            return ONE
        options = parse_query(query)
        if asked.verb == "watch" and not _sends_initial(options):
            return ONE
        limit = (options.get("limit") or [""])[0]
        selects = bool(asked.field_selector or asked.label_selector)
        listing = Listing(bool(asked.name), int(limit) if limit.isdigit() else 0, selects)
        return list_work(self._stored(asked.group, asked.resource), listing, lane.state.max_seats)


def _sends_initial(options: dict[str, list[str]]) -> bool:
    if (options.get("sendInitialEvents") or [""])[0].lower() in ("1", "true", "t"):
        return True
    return (options.get("resourceVersion") or [""])[0] in ("", "0")


class _Watching(Ending):
    """The first step of the stream makes the initial events, in one turn of the loop."""

    def __init__(
        self,
        owner: Filter,
        asked: Attributes,
        begun: Callable[[], None],
        stream: AsyncIterator[bytes],
        ended: Callable[[], None] | None,
    ) -> None:
        super().__init__(stream, ended)
        self._owner = owner
        self._begun: Callable[[], None] | None = begun
        indexed = asked.resource == "pods" and not asked.group and "spec.nodeName=" in asked.field_selector
        self._counted = None if indexed else owner.watches.add(asked.group, asked.resource, asked.namespace, asked.name)

    def __anext__(self) -> Awaitable[bytes]:
        if self._begun is not None:
            self._begin()
        return self._stream.__anext__()

    def _begin(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()

    async def aclose(self) -> None:
        self._begin()
        if self._counted is not None:
            self._owner.watches.remove(self._counted)
            self._counted = None
        await super().aclose()


class Observer:
    """What metrics want to know; this one forgets it."""

    def estimated(self, lane: Lane, seats: int) -> None: ...

    def queued(self, lane: Lane, length: int) -> None: ...

    def dispatched(self, lane: Lane, queues: object, waited: float) -> None: ...

    def refused(self, lane: Lane, reason: str, waited: float) -> None: ...

"""The queues of one priority level: fair queuing for requests that take seats for some time.

Pure: time is a parameter, nobody waits here. `start` gives a seat at once, queues, or refuses; `finish`, `release` and
`cancel` free what was taken and dispatch whoever is next, by calling what the queued request brought. A queue's next
dispatch is a reading of the progress meter R (seat-seconds that each busy queue has had); the request that would finish
first in that virtual world goes first. See KEP-1040 and apiserver's fairqueuing/queueset/doc.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from atoll.cluster.apiserver.flowcontrol.allocation import Demand
from atoll.cluster.apiserver.flowcontrol.work import Work

SERVICE_SECONDS = 0.003  # how long a request is thought to take before it has finished
EXEMPT = -1


class Queuing(Struct, frozen=True):
    """`queues` 0: refuse at once beyond the limit; EXEMPT: no limit."""

    queues: int = 0
    hand_size: int = 1
    length_limit: int = 50


class Queue:
    __slots__ = ("executing", "next_dispatch", "seats", "waiting", "work")

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self.executing: set[Request] = set()
        self.next_dispatch = 0.0
        self.seats = 0
        self.work = 0.0  # seat-seconds of those that wait


class Request:
    """One request on its way through a level. `note` is whatever the caller wants to find again in dumps."""

    __slots__ = (
        "arrival", "arrived", "dispatched", "flow", "note", "on_dispatch", "queue", "schema", "started", "total",
        "work",
    )  # fmt: skip

    def __init__(
        self, schema: str, flow: str, work: Work, on_dispatch: Callable[[], None] | None = None, note: object = None
    ) -> None:
        self.schema = schema
        self.flow = flow
        self.work = work
        self.on_dispatch = on_dispatch
        self.note = note
        self.queue: Queue | None = None
        self.arrival = 0.0  # on the meter R
        self.arrived = 0.0
        self.started = 0.0
        self.total = work.initial_seats * SERVICE_SECONDS + work.final_seats * work.extra_seconds
        self.dispatched = False


class QueueSet:
    """See the module."""

    def __init__(self, now: float, queuing: Queuing, limit: int) -> None:
        self.queuing = queuing
        self.limit = limit
        self.queues: list[Queue] = []
        self.unqueued: set[Request] = set()
        self.demand = Demand(now)
        self.seats_in_use = self.seats_waiting = 0
        self.executing = self.waiting = 0
        self.dispatched = self.rejected = self.cancelled = 0
        self.light = 0  # seats of requests without a Request: one was free as they came, and nobody waited
        self.leaving = 0  # seats that come free at the end of the caller's turn
        self.touched = False  # the caller's: `end_turn` is due
        self._progress = 0.0
        self._since = now
        self._robin = 0
        self._enqueued = 0
        self._active = 0  # queues with someone in them
        self._queued_seats = 0  # of those in queues, executing
        self._resize(queuing)

    @property
    def progress(self) -> float:
        """The meter R."""
        return self._progress

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.executing or self.light)

    def configure(self, now: float, queuing: Queuing, limit: int) -> None:
        """A new configuration or limit; queues that are too many go as they empty."""
        self._advance(now)
        self._resize(queuing)
        self.limit = limit
        self._dispatch_all(now)

    def _resize(self, queuing: Queuing) -> None:
        self.queuing = queuing
        while len(self.queues) < queuing.queues:
            self.queues.append(Queue())
        while len(self.queues) > max(queuing.queues, 0) and not (self.queues[-1].waiting or self.queues[-1].executing):
            self.queues.pop()

    def start(self, now: float, request: Request, hand: Sequence[int]) -> bool:
        """False: refused. Else the request is dispatched (`request.dispatched`) or will be, by `on_dispatch`."""
        self._advance(now)
        request.arrived = now
        request.arrival = self._progress
        if self.queuing.queues <= 0:
            if not self._fits(request.work.seats):
                self.rejected += 1
                return False
            self.unqueued.add(request)
            self._begin(now, request)
            return True
        queue = self._choose(hand)
        if self.seats_in_use >= self.limit and len(queue.waiting) >= self.queuing.length_limit:
            self.rejected += 1
            return False
        request.queue = queue
        if not queue.waiting and not queue.executing:
            queue.next_dispatch = self._progress
            self._active += 1
        queue.waiting.append(request)
        queue.work += request.total
        self.waiting += 1
        self.seats_waiting += request.work.seats
        self._bound(queue)
        self._dispatch_all(now)
        self.demand.set(now, self.seats_in_use + self.seats_waiting)
        return True

    def cancel(self, now: float, request: Request) -> None:
        """It waits no longer: its time is up, or its client has gone."""
        queue = request.queue
        assert queue is not None
        self._advance(now)
        queue.waiting.remove(request)
        self._unqueue(queue, request)
        self.cancelled += 1
        self.rejected += 1
        if not queue.waiting and not queue.executing:
            self._active -= 1
        self._bound(queue)
        self._dispatch_all(now)
        self.demand.set(now, self.seats_in_use + self.seats_waiting)

    def finish(self, now: float, request: Request) -> float:
        """It has been answered. Returns for how long its seats stay taken: then call `release`; 0: they are free."""
        self._advance(now)
        self.executing -= 1
        queue = request.queue
        if queue is None:
            self.unqueued.discard(request)
        else:
            queue.executing.discard(request)
            # it was thought to take SERVICE_SECONDS
            queue.next_dispatch -= request.work.initial_seats * (SERVICE_SECONDS - (now - request.started))
            self._bound(queue)
            if not queue.waiting and not queue.executing:
                self._active -= 1
        extra = request.work.extra_seconds
        if extra <= 0:
            self._free(now, request)
        elif self.waiting:
            self._dispatch_all(now)
        return extra

    def end_turn(self, now: float) -> None:
        """Take account of seats that were taken and given back without a Request."""
        self.touched = False
        demand = self.demand
        demand.set(now, self.seats_in_use + self.seats_waiting)
        if self.leaving:
            self.seats_in_use -= self.leaving
            self.dispatched += self.leaving
            self.leaving = 0
            if self.waiting:
                self._advance(now)
                self._dispatch_all(now)
            demand.set(now, self.seats_in_use + self.seats_waiting)

    def release(self, now: float, request: Request) -> None:
        """Free the seats that a finished request kept for its watchers."""
        self._advance(now)
        self._free(now, request)

    def _free(self, now: float, request: Request) -> None:
        seats = request.work.seats
        self.seats_in_use -= seats
        if request.queue is not None:
            request.queue.seats -= seats
            self._queued_seats -= seats
        if self.waiting:
            self._dispatch_all(now)
        if len(self.queues) > max(self.queuing.queues, 0):
            self._resize(self.queuing)
        self.demand.set(now, self.seats_in_use + self.seats_waiting)

    def _advance(self, now: float) -> None:
        """Move R by what each busy queue had since the last change."""
        if self._active:
            wanted = self._queued_seats + self.seats_waiting
            self._progress += (now - self._since) * min(wanted, self.limit) / self._active
        self._since = now

    def _choose(self, hand: Sequence[int]) -> Queue:
        """The queue of the hand with the least waiting work; ties are broken by turns."""
        queues = self.queues
        size = len(hand)
        offset = self._enqueued % size
        self._enqueued += 1
        best = queues[hand[offset]]
        if not best.work:
            return best
        for step in range(1, size):
            queue = queues[hand[(offset + step) % size]]
            if queue.work < best.work:
                best = queue
        return best

    def _fits(self, seats: int) -> bool:
        if self.queuing.queues < 0:
            return True
        if seats > self.limit:
            return self.executing == 0 and self.light == 0
        return self.seats_in_use + seats <= self.limit

    def _dispatch_all(self, now: float) -> None:
        while self.waiting and self.seats_in_use < self.limit and self._dispatch(now):
            pass

    def _dispatch(self, now: float) -> bool:
        queue = self._next_queue()
        request = queue.waiting[0]
        if not self._fits(request.work.seats):
            return False
        queue.waiting.popleft()
        self._unqueue(queue, request)
        if request.work.final_seats > self.limit:  # the same work, narrower and longer
            final = request.work.final_seats * request.work.extra_seconds
            request.work = Work(request.work.initial_seats, self.limit, final / self.limit)
        queue.executing.add(request)
        seats = request.work.seats
        queue.seats += seats
        self._queued_seats += seats
        queue.next_dispatch += request.total
        self._bound(queue)
        self._begin(now, request)
        return True

    def _next_queue(self) -> Queue:
        """Where the oldest request would finish first in the virtual world; only called while someone waits."""
        queues = self.queues
        count = len(queues)
        best: Queue | None = None
        best_finish, chosen = 0.0, self._robin
        for step in range(1, count + 1):
            index = (self._robin + step) % count
            queue = queues[index]
            if queue.waiting:
                finish = queue.next_dispatch + queue.waiting[0].total
                if best is None or finish < best_finish:
                    best, best_finish, chosen = queue, finish, index
                if self.waiting == len(queue.waiting):
                    break
        assert best is not None
        self._robin = chosen
        return best

    def _unqueue(self, queue: Queue, request: Request) -> None:
        queue.work = queue.work - request.total if queue.waiting else 0.0
        self.waiting -= 1
        self.seats_waiting -= request.work.seats

    def _begin(self, now: float, request: Request) -> None:
        request.started = now
        request.dispatched = True
        self.executing += 1
        self.dispatched += 1
        self.seats_in_use += request.work.seats
        self.demand.set(now, self.seats_in_use + self.seats_waiting)
        if request.on_dispatch is not None:
            request.on_dispatch()

    @staticmethod
    def _bound(queue: Queue) -> None:
        """A queue gets no credit for the time before its oldest request came."""
        if queue.waiting and queue.next_dispatch < queue.waiting[0].arrival:
            queue.next_dispatch = queue.waiting[0].arrival

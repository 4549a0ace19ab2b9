"""What every request over HTTP passes between authentication and authorization, and on its way back.

It is audited, priority and fairness gives it a seat, a deadline bounds it, and it is counted. The translation (`http`)
calls `arrive`, `enter` and `leave`; for what is answered at once, `at_once` and `answered`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from atoll.base.clock import Clock
from atoll.base.metrics import Cell, Metrics
from atoll.cluster.apiserver.deadlines import MOST_SECONDS, Deadlines, Expiring, allotted_seconds, is_long_running
from atoll.cluster.apiserver.flowcontrol.filter import Filter, Seat
from atoll.cluster.apiserver.flowcontrol.levels import Lane
from atoll.cluster.apiserver.flowcontrol.metrics import FlowMetrics
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import Attributes, Decision
from atoll.cluster.apiserver.question import Question
from atoll.cluster.apiserver.request_metrics import CONNECTING, IsServed, RequestMetrics, Series
from atoll.cluster.apiserver.served import Registry, Served
from atoll.cluster.apiserver.streams import Ending
from atoll.wire.messages import Connection, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from atoll.cluster.apiserver.audit.auditor import Audited, Auditor

_WAITING_SHARE = 4  # of its time a request may wait a quarter for a seat


class Passage:
    """One request on its way."""

    __slots__ = ("asked", "audited", "lane", "promised", "question", "request", "seat", "seconds", "started", "task")

    def __init__(self, request: HttpRequest, question: Question, asked: Attributes, started: float) -> None:
        self.request = request
        self.question = question
        self.asked = asked
        self.started = started
        self.lane: Lane | None = None  # of a seat that was free when it came
        self.seat: Seat | None = None
        self.seconds = MOST_SECONDS  # that it may take
        self.task: Expiring | None = None
        self.audited: Audited | None = None
        self.promised = False  # answered in a later turn of the loop than it came in


class Gate:
    """See the module."""

    def __init__(
        self, flow: Filter, clock: Clock, metrics: Metrics, registry: Registry, auditor: Auditor | None = None
    ) -> None:
        self._flow = flow
        self._auditor = auditor
        self._deadlines = Deadlines()
        self._metrics = RequestMetrics(metrics, _is_served(registry))
        self._events = metrics.counter(
            "apiserver_watch_events_total", "[ALPHA] Events that watches sent.", ("group", "version", "resource")
        )
        attempts = metrics.counter(
            "authentication_attempts", "[ALPHA] Requests by whether somebody was known.", ("result",)
        )
        self._known, self._unknown = attempts.of("success"), attempts.of("failure")
        self.now = clock.monotonic
        flow.observer = FlowMetrics(metrics, flow.levels)

    @property
    def audits(self) -> bool:
        """Whether an audit log is kept: all requests go the long way then."""
        return self._auditor is not None

    def at_once(self, asked: Attributes) -> Lane | None:
        """A seat for what needs no waiting; None: it must go the long way."""
        return self._flow.at_once(asked)

    def audit(self, request: HttpRequest, asked: Attributes, decision: Decision) -> Audited | None:
        """It came, was let in, and will be `answered` now; None where it is not audited."""
        if self._auditor is None:
            return None
        audited = self._auditor.begin(request, asked)
        if audited is not None:
            audited.decided(decision.allowed, decision.reason)
        return audited

    def answered(
        self,
        request: HttpRequest,
        question: Question,
        asked: Attributes,
        lane: Lane,
        started: float,
        response: HttpResponse,
        audited: Audited | None = None,
        panicked: bool = False,
    ) -> HttpResponse:
        """What was answered `at_once`, of a resource that is served."""
        response.headers.extend(lane.headers)
        self._known.value += 1
        self._series(request, question, asked, response.status).observe(self.now() - started, len(response.body))
        if self._auditor is not None and audited is not None:
            self._audit(self._auditor, audited, response, False, panicked)
        return response

    def promise(
        self, request: HttpRequest, question: Question, asked: Attributes, started: float, running: Expiring
    ) -> Passage | None:
        """A write without a `timeout` that is answered without a task; None: no seat is free, it must wait for one."""
        lane = self._flow.enter_lightly(asked, request.query)
        if lane is None:
            return None
        passage = Passage(request, question, asked, started)
        passage.lane = lane
        passage.task = running
        passage.promised = True
        self._deadlines.begin_promised(running)
        self._known.value += 1
        self._metrics.begin(asked)
        return passage

    def arrive(self, request: HttpRequest, question: Question, asked: Attributes, started: float) -> Passage:
        """Raises BadRequest (a `timeout` that is none)."""
        long_running = is_long_running(asked.verb, asked.subresource)
        seconds = MOST_SECONDS if long_running else allotted_seconds(request.query)
        passage = Passage(request, question, asked, started)
        self._known.value += 1
        self._metrics.begin(asked)
        if self._auditor is not None:
            passage.audited = self._auditor.begin(request, asked)
        if not long_running:
            passage.seconds = seconds
            passage.task = self._deadlines.begin(seconds)
        if not long_running or asked.verb == "watch":
            passage.lane = self._flow.enter_lightly(asked, request.query)
        return passage

    def unauthenticated(self, request: HttpRequest, asked: Attributes, response: HttpResponse) -> None:
        """Nobody could say who sent the request: it is refused with this."""
        self._unknown.value += response.status == 401
        if self._auditor is not None:
            self._auditor.unauthenticated(request, asked, response)

    async def enter(self, passage: Passage) -> None:
        """Wait for a seat, where there was none when it came. Raises TooManyRequests."""
        asked = passage.asked
        if passage.task is not None:
            seconds = passage.seconds / _WAITING_SHARE
        elif asked.verb == "watch":
            seconds = MOST_SECONDS
        else:
            return
        passage.seat = await self._flow.enter(asked, passage.request.query, seconds)

    def is_late(self, passage: Passage) -> bool:
        """The request's task was cancelled: whether because its time is up. Else it is given up here."""
        if passage.task is not None and self._deadlines.has_expired(passage.task):
            return True
        self._metrics.end(passage.asked)
        self._end(passage)
        if self._auditor is not None and passage.audited is not None:
            self._auditor.abandoned(passage.audited)
        return False

    def leave(self, passage: Passage, response: HttpResponse, panicked: bool = False) -> HttpResponse:
        """The answer as it goes out. `panicked`: the server failed at the request."""
        asked, status = passage.asked, response.status
        self._metrics.end(asked)
        lane = passage.lane if passage.seat is None else passage.seat.flow.lane
        if lane is not None:
            response.headers.extend(lane.headers)
        staying = response.stream is not None or response.upgrade is not None
        if self._auditor is not None and passage.audited is not None:
            self._audit(self._auditor, passage.audited, response, staying, panicked)
        if staying:
            self._stay(passage, response)
        else:
            self._observe(passage, status, len(response.body))
            if status in (429, 504):
                self._metrics.terminated(asked, passage.question.path, passage.request, status)
        self._end(passage)
        return response

    def watch_events(self, served: Served) -> Cell:
        """Counts what a watch of that resource sends."""
        resource = served.resource
        return self._events.of(resource.group, resource.version, resource.plural)

    @staticmethod
    def _audit(auditor: Auditor, audited: Audited, response: HttpResponse, staying: bool, panicked: bool) -> None:
        response.headers.append(("Audit-Id", audited.event["auditID"]))
        if staying:
            auditor.started(audited, response)
        elif panicked:
            auditor.panicked(audited)
        else:
            auditor.complete(audited, response)

    def _stay(self, passage: Passage, response: HttpResponse) -> None:
        """A watch, a log that follows, a connection: it is answered when it ends."""
        path = passage.question.path
        if path is None:
            return
        open_now = self._metrics.long_running(passage.asked, path, passage.request)
        open_now.value += 1
        status = response.status

        def ended() -> None:
            open_now.value -= 1
            self._observe(passage, status, 0)
            if self._auditor is not None and passage.audited is not None:
                self._auditor.ended(passage.audited)

        if response.upgrade is not None:
            response.upgrade = _until_ended(response.upgrade, ended)
        elif response.stream is not None and passage.asked.verb == "watch":
            response.stream = self._flow.watching(passage.asked, self._giving_back(passage), response.stream, ended)
        elif response.stream is not None:
            response.stream = Ending(response.stream, ended)

    def _giving_back(self, passage: Passage) -> Callable[[], None]:
        """The watch's seat goes with its stream."""
        lane, seat, flow = passage.lane, passage.seat, self._flow
        passage.lane = passage.seat = None
        if seat is not None:
            return lambda: flow.leave(seat)
        if lane is None:
            return _nothing
        return lambda: flow.leave_lightly(lane, self.now() - passage.started)

    def _observe(self, passage: Passage, status: int, size: int) -> None:
        series = self._series(passage.request, passage.question, passage.asked, status)
        series.observe(self.now() - passage.started, size)

    def _series(self, request: HttpRequest, question: Question, asked: Attributes, status: int) -> Series:
        """Remembered with the question, where all that it depends on is in its words and the resource is served."""
        series = question.series.get(status)
        if series is None:
            series = self._metrics.series(asked, question.path, request, status)
            if question.target is not None and asked.verb != "patch":  # an apply is told by its content type
                question.series[status] = series
        return series

    def _end(self, passage: Passage) -> None:
        if passage.task is not None:
            self._deadlines.end(passage.task)
        if passage.seat is not None:
            self._flow.leave(passage.seat)
        elif passage.lane is not None:
            self._flow.leave_lightly(passage.lane, self.now() - passage.started, passage.promised)


def _is_served(registry: Registry) -> IsServed:
    def is_served(path: Path) -> bool:
        served = registry.find(path.group, path.version, path.plural)
        if served is None:
            return False
        subresource = path.subresource
        return not subresource or subresource in CONNECTING or served.entry.subresource(subresource) is not None

    return is_served


def _nothing() -> None:
    return None


Upgrade = Callable[[Connection], Awaitable[None]]


def _until_ended(upgrade: Upgrade, ended: Callable[[], None]) -> Upgrade:
    async def run(connection: Connection) -> None:
        try:
            await upgrade(connection)
        finally:
            ended()

    return run

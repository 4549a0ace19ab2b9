"""What every request over HTTP passes between authentication and authorization, and on its way back.

Priority and fairness gives it a seat, a deadline bounds it. The translation (`http`) calls `arrive`, `enter` and
`leave`; for what is answered at once, `at_once`.
"""

from __future__ import annotations

from atoll.cluster.apiserver.deadlines import MOST_SECONDS, Deadlines, Task, allotted_seconds, is_long_running
from atoll.cluster.apiserver.flowcontrol.filter import Filter, Seat
from atoll.cluster.apiserver.flowcontrol.levels import Lane
from atoll.cluster.apiserver.ports import Attributes
from atoll.wire.messages import HttpRequest, HttpResponse

_WAITING_SHARE = 4  # of its time a request may wait a quarter for a seat


class Passage:
    """One request on its way."""

    __slots__ = ("asked", "request", "seat", "task")

    def __init__(self, request: HttpRequest, asked: Attributes) -> None:
        self.request = request
        self.asked = asked
        self.seat: Seat | None = None
        self.task: Task | None = None


class Gate:
    """See the module."""

    def __init__(self, flow: Filter) -> None:
        self._flow = flow
        self._deadlines = Deadlines()

    def at_once(self, asked: Attributes) -> Lane | None:
        """A seat for what needs no waiting; None: it must go the long way."""
        return self._flow.at_once(asked)

    def arrive(self, request: HttpRequest, asked: Attributes) -> Passage:
        return Passage(request, asked)

    async def enter(self, passage: Passage) -> None:
        """Raises TooManyRequests, BadRequest (a `timeout` that is none)."""
        asked, query = passage.asked, passage.request.query
        if is_long_running(asked.verb, asked.subresource):
            if asked.verb == "watch":
                passage.seat = await self._flow.enter(asked, query, MOST_SECONDS)
            return
        seconds = allotted_seconds(query)
        passage.task = self._deadlines.begin(seconds)
        passage.seat = await self._flow.enter(asked, query, seconds / _WAITING_SHARE)

    def is_late(self, passage: Passage) -> bool:
        """The request's task was cancelled: whether because its time is up. Else it is given up here."""
        if passage.task is not None and self._deadlines.has_expired(passage.task):
            return True
        self._end(passage)
        return False

    def leave(self, passage: Passage, response: HttpResponse) -> HttpResponse:
        """The answer as it goes out."""
        seat = passage.seat
        if seat is not None:
            response.headers.extend(seat.flow.lane.headers)
            if response.stream is not None and passage.asked.verb == "watch":
                response.stream = self._flow.watching(passage.asked, seat, response.stream)
                passage.seat = None
        self._end(passage)
        return response

    def _end(self, passage: Passage) -> None:
        if passage.task is not None:
            self._deadlines.end(passage.task)
        if passage.seat is not None:
            self._flow.leave(passage.seat)

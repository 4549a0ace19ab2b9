"""The streams of an HTTP/2 connection: each is one request and its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf

from atoll.wire.http2.request import Head

MOST_STREAMS = 100  # at once, as kube-apiserver; one that was reset counts until its task has ended
ROOM_BYTES = 256 * 1024  # that a peer may send on a stream before it is given more
_REMEMBERED = 2 * MOST_STREAMS


class Stream:
    """Its request's body comes while `body` is a list; then a task answers."""

    __slots__ = (
        "_sooner", "answering", "body", "body_bytes", "deadline", "ending", "head", "number", "room", "streaming",
        "task", "unreturned", "waiter", "window",
    )  # fmt: skip

    def __init__(self, number: int, window: int, sooner: Callable[[float], None]) -> None:
        self.number = number
        self.window = window  # that the peer gives us
        self.room = ROOM_BYTES  # that we give the peer
        self.unreturned = 0  # bytes that were taken, and whose room is not given back yet
        self.head: Head | None = None  # while the body comes
        self.body: list[bytes] | None = None
        self.body_bytes = 0
        self.deadline = inf  # by when the peer must have done something
        self.task: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[None] | None = None  # of a writer without room
        self.answering = False  # the head of the answer is written
        self.streaming = False
        self.ending = False  # the server closes: end the stream as if it were done
        self._sooner = sooner

    def expect(self, deadline: float) -> None:
        """Something of the peer, by then."""
        self.deadline = deadline
        self._sooner(deadline)

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Streams:
    """Those of one connection, and which numbers were in use."""

    def __init__(self, sooner: Callable[[float], None]) -> None:
        self.open: dict[int, Stream] = {}
        self.last = 0  # the highest number so far
        self.uploading_bytes = 0  # of bodies that are on their way
        self._reset: deque[int] = deque(maxlen=_REMEMBERED)  # by us: the peer may not know yet
        self._ending: set[asyncio.Task[None]] = set()
        self._sooner = sooner

    @property
    def is_full(self) -> bool:
        return len(self.open) + len(self._ending) >= MOST_STREAMS

    def begin(self, number: int, window: int) -> Stream:
        stream = self.open[number] = Stream(number, window, self._sooner)
        return stream

    def end(self, stream: Stream) -> None:
        """It is answered, or given up."""
        self.open.pop(stream.number, None)
        if stream.body is not None:
            self.take_body(stream)

    def take_body(self, stream: Stream) -> bytes:
        """The body, which is whole (or given up)."""
        parts, stream.body, stream.head, stream.deadline = stream.body or [], None, None, inf
        self.uploading_bytes -= stream.body_bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self, stream: Stream) -> None:
        """End it now, and its task with it."""
        self.end(stream)
        task = stream.task
        if task is not None and not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    def remember_reset(self, number: int) -> None:
        self._reset.append(number)

    def was_reset(self, number: int) -> bool:
        return number in self._reset

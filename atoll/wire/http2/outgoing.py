"""What one HTTP/2 connection writes: heads and bodies within the windows that the peer gives.

Writes of one turn of the loop go out as one: with many streams a turn holds several answers, and each write is a TLS
record of its own. A stream that has no room waits here, for its window, the connection's, or the transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from atoll.wire.http2 import frames, hpack
from atoll.wire.http2.frames import ConnectionFault, ErrorCode, StreamFault
from atoll.wire.http2.stream import Stream
from atoll.wire.messages import HttpResponse

_BODILESS = (204, 304)
_FLUSHED_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024
_MOST_FRAME_BYTES = 64 * 1024


class Outgoing:
    """See the module. `closing` when an answer said `Connection: close`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.window = frames.WINDOW_BYTES
        self.stream_window = frames.WINDOW_BYTES  # a new stream's
        self.paused = False
        self.closing = False
        self.data_frames = 0  # that were written
        self._transport = transport
        self._loop = loop
        self._frame_bytes = frames.FRAME_BYTES
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._to_be_flushed = False
        self._begun = False
        self._waiting: dict[int, Stream] = {}

    # -- the transport

    def hold(self) -> None:
        """Until `flush`, gather what is written."""
        self._to_be_flushed = True

    def write(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued_bytes += len(data)
        if self._queued_bytes > _FLUSHED_BYTES:
            self._flush_queue()
        elif not self._to_be_flushed:
            self._to_be_flushed = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._to_be_flushed = False
        if self._queue:
            self._flush_queue()

    def _flush_queue(self) -> None:
        queue = self._queue
        data = queue[0] if len(queue) == 1 else b"".join(queue)
        queue.clear()
        self._queued_bytes = 0
        if not self._transport.is_closing():
            self._transport.write(data)

    # -- windows

    def is_room_for(self, size: int, stream: Stream | None = None) -> bool:
        """Whether so much may be written now (without `stream`: on a new one)."""
        return size <= self.window and size <= (stream.window if stream else self.stream_window) and not self.paused

    def enlarge(self, increment: int) -> None:
        """The connection's window. Raises ConnectionFault."""
        self.window += increment
        if self.window > frames.MOST_WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self.wake()

    def enlarge_stream(self, stream: Stream, increment: int) -> None:
        """Raises StreamFault."""
        stream.window += increment
        if stream.window > frames.MOST_WINDOW_BYTES:
            raise StreamFault(stream.number, ErrorCode.FLOW_CONTROL_ERROR)
        stream.wake()

    def apply(self, settings: Sequence[tuple[int, int]], streams: Sequence[Stream]) -> None:
        """The peer's settings. Raises ConnectionFault."""
        for name, value in settings:
            if name == frames.MAX_FRAME_SIZE:
                self._frame_bytes = min(value, _MOST_FRAME_BYTES)
            elif name == frames.INITIAL_WINDOW_SIZE:
                more = value - self.stream_window
                self.stream_window = value
                for stream in streams:
                    stream.window += more
                    if stream.window > frames.MOST_WINDOW_BYTES:
                        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
                self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        for stream in self._waiting.values():
            stream.wake()

    # -- answers

    def head(self, number: int, response: HttpResponse, ended: bool, length: int | None = None) -> bytes:
        """The frames of a response's head."""
        block, closing = hpack.encode(response.status, tuple(response.headers))
        if closing:
            self.closing = True
        if length is not None:
            block += hpack.encoded_length(length)
        if not self._begun:
            self._begun = True
            block = hpack.NO_TABLE + block
        return frames.headers(number, block, ended, self._frame_bytes)

    def interim(self, number: int) -> None:
        """100 Continue."""
        self.write(self.head(number, HttpResponse(100), False))

    def whole(self, number: int, response: HttpResponse, method: str, stream: Stream | None = None) -> bool:
        """Write all of a response that there is room for; False when its body is still to be sent."""
        body, status = response.body, response.status
        length = None if status in _BODILESS else len(body)
        if not body or status in _BODILESS or method == "HEAD":
            self.write(self.head(number, response, True, length))
            return True
        head = self.head(number, response, False, length)
        size = len(body)
        if not self.is_room_for(size, stream):
            self.write(head)
            return False
        self._spend(size, stream)
        self.write(head + frames.data(number, body, True, self._frame_bytes))
        return True

    def data(self, stream: Stream, body: bytes | memoryview, ended: bool = False) -> bool:
        """Write a piece of a body, if there is room for it."""
        size = len(body)
        if size > self.window or size > stream.window or self.paused:
            return False
        self._spend(size, stream)
        self.write(frames.data(stream.number, body, ended, self._frame_bytes))
        return True

    def end(self, stream: Stream) -> None:
        """No more of a body: takes no room."""
        self.write(frames.data(stream.number, b"", True, self._frame_bytes))

    async def send(self, stream: Stream, body: bytes, ended: bool, write_idle_seconds: float) -> None:
        """Write a body as the windows and the transport allow; the peer must make room within that time.

        By pieces: the client reads one while the next is encrypted, and others get their turns.
        """
        view, at = memoryview(body), 0
        while at < len(body):
            room = min(self.window, stream.window, len(body) - at, _PIECE_BYTES)
            if room <= 0 or self.paused:
                await self._wait(stream, write_idle_seconds)
                continue
            self.data(stream, view[at : at + room], ended and at + room == len(body))
            at += room
            if at < len(body) and not self.paused:
                await asyncio.sleep(0)

    async def _wait(self, stream: Stream, seconds: float) -> None:
        stream.waiter = self._loop.create_future()
        stream.expect(self._loop.time() + seconds)
        self._waiting[stream.number] = stream
        try:
            await stream.waiter
        finally:
            stream.waiter = None
            stream.deadline = inf
            self._waiting.pop(stream.number, None)

    def _spend(self, size: int, stream: Stream | None) -> None:
        self.window -= size
        if stream is not None:
            stream.window -= size
        self.data_frames += 1

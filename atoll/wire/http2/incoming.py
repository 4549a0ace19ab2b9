"""What the frames of a client mean: requests begin, their bodies come, streams are given up, windows grow.

What only HTTP/2 lets a peer do is bounded here:

- MOST_STREAMS requests at once; one more is refused, and may come again.
- Streams that are reset before their answer began, by the peer or by a fault of it, MOST_RESETS more than were
  answered, end the connection (CVE-2023-44487, CVE-2025-8671).
- Frames that ask for nothing are paid for by requests and by data; MOST_IDLE_FRAMES are free.
- Bodies that are on their way hold MOST_UPLOADING_BYTES together; a stream beyond that is refused, and may come again.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from atoll.wire.http2 import frames
from atoll.wire.http2.frames import ConnectionFault, ErrorCode, StreamFault
from atoll.wire.http2.hpack import Decoder, Field, HpackError
from atoll.wire.http2.outgoing import Outgoing
from atoll.wire.http2.request import Head, Malformed, check_trailers, parse
from atoll.wire.http2.stream import MOST_STREAMS, ROOM_BYTES, Stream, Streams
from atoll.wire.limits import Limits, plain_error
from atoll.wire.messages import HttpResponse

MOST_RESETS = 4 * MOST_STREAMS
MOST_IDLE_FRAMES = 10_000
MOST_UPLOADING_BYTES = 32 << 20
CONNECTION_ROOM_BYTES = 1 << 20
_IDLE_FRAMES_PER_DATA = 4  # a window's updates of one frame of data, and some
_KNOWN_HEADS = 8


class Answering(Protocol):
    """What is done with requests."""

    def submit(self, number: int, head: Head, body: bytes, stream: Stream | None) -> None:
        """A whole request; `stream` when it had a body."""

    def refuse(self, number: int, response: HttpResponse | None, code: ErrorCode) -> None:
        """Answer (None: the body is too large) and reset the stream."""

    def reset(self, number: int, code: ErrorCode) -> None: ...

    def gone(self, stream: Stream) -> None:
        """The peer has reset it."""

    def leave(self) -> None:
        """The peer closes the connection when its requests are answered."""


class Incoming:
    """The `Sink` of a connection's frames."""

    def __init__(self, limits: Limits, streams: Streams, out: Outgoing, answering: Answering) -> None:
        self.closed = False  # to new requests
        self._limits = limits
        self._streams = streams
        self._out = out
        self._answering = answering
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._known: dict[bytes, Head] = {}  # header blocks that leave the decoder's table alone
        self._room = CONNECTION_ROOM_BYTES
        self._unreturned = 0
        self._resets = 0
        self._calm = MOST_IDLE_FRAMES
        self._paid_frames = 0  # frames of data that idle ones were paid with

    def answered(self) -> None:
        """One more answer has begun."""
        if self._resets:
            self._resets -= 1

    # -- requests

    def on_headers(self, number: int, block: bytes, ended: bool) -> None:
        streams = self._streams
        if number <= streams.last:
            self._take_trailers(number, block, ended)
            return
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        streams.last = number
        head = self._read_head(block)
        if self.closed:
            streams.remember_reset(number)
            return
        if streams.is_full:
            raise StreamFault(number, ErrorCode.REFUSED_STREAM)
        self._calm = MOST_IDLE_FRAMES
        if isinstance(head, HttpResponse):
            code = ErrorCode.PROTOCOL_ERROR if head.status == 400 else ErrorCode.NO_ERROR
            self._answering.refuse(number, head, code)
        elif not ended:
            self._begin_body(number, head)
        elif head.length > 0:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR)
        else:
            self._answering.submit(number, head, b"", None)

    def _read_head(self, block: bytes) -> Head | HttpResponse:
        """The request's head, or the answer to one that is none."""
        known = self._known.get(block)
        if known is not None:
            return known
        version = self._decoder.version
        fields = self._decode(block)
        if version != self._decoder.version or len(self._known) >= _KNOWN_HEADS:
            self._known.clear()
        if fields is None:
            return plain_error(431, "request header fields too large")
        try:
            head = parse(fields)
        except Malformed as error:
            return plain_error(400, str(error))
        if version == self._decoder.version:
            self._known[block] = head
        return head

    def _decode(self, block: bytes) -> list[Field] | None:
        try:
            return self._decoder.decode(block, self._limits.head_bytes)
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None

    def _begin_body(self, number: int, head: Head) -> None:
        stream = self._streams.begin(number, self._out.stream_window)
        stream.head, stream.body = head, []
        if self._limits.body_bytes and head.length > self._limits.body_bytes:
            self._answering.refuse(number, None, ErrorCode.NO_ERROR)
            return
        if head.headers.get("expect", "").lower() == "100-continue":
            self._out.interim(number)
        stream.expect(self._loop.time() + self._limits.body_idle_seconds)

    def on_data(self, number: int, data: bytes, size: int, ended: bool) -> None:
        self._take_room(size)
        stream = self._streams.open.get(number)
        if stream is None or stream.body is None or stream.head is None:
            if number > self._streams.last:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data of a stream that was not begun")
            if not self._streams.was_reset(number):
                raise StreamFault(number, ErrorCode.STREAM_CLOSED)
            return
        if data:
            self._calm = MOST_IDLE_FRAMES
        elif not ended:
            self.on_idle_frame()
        stream.room -= size
        if stream.room < 0:
            raise StreamFault(number, ErrorCode.FLOW_CONTROL_ERROR)
        stream.body_bytes += len(data)
        self._streams.uploading_bytes += len(data)
        if self._limits.body_bytes and stream.body_bytes > self._limits.body_bytes:
            self._answering.refuse(number, None, ErrorCode.NO_ERROR)
            return
        if 0 <= stream.head.length < stream.body_bytes:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR)
        if stream.body_bytes < self._streams.uploading_bytes > MOST_UPLOADING_BYTES:
            raise StreamFault(number, ErrorCode.REFUSED_STREAM)
        stream.body.append(data)
        if ended:
            self._end_body(stream)
        else:
            self._give_room(stream, size)
            stream.expect(self._loop.time() + self._limits.body_idle_seconds)

    def _take_trailers(self, number: int, block: bytes, ended: bool) -> None:
        """They are read, for the decoder's sake, and not used."""
        self._known.clear()
        fields = self._decode(block)
        stream = self._streams.open.get(number)
        if stream is None:
            if not self._streams.was_reset(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block of a stream that has ended")
            return
        if stream.body is None:
            raise StreamFault(number, ErrorCode.STREAM_CLOSED)
        if not ended or fields is None:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR)
        try:
            check_trailers(fields)
        except Malformed:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR) from None
        self._end_body(stream)

    def _end_body(self, stream: Stream) -> None:
        head = stream.head
        if head is None or 0 <= head.length != stream.body_bytes:
            raise StreamFault(stream.number, ErrorCode.PROTOCOL_ERROR)
        self._answering.submit(stream.number, head, self._streams.take_body(stream), stream)

    def _take_room(self, size: int) -> None:
        """Bodies are taken at once, so the connection's room is given back as it is used."""
        self._room -= size
        if self._room < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than there was room for")
        self._unreturned += size
        if self._unreturned >= CONNECTION_ROOM_BYTES // 2:
            self._out.write(frames.window_update(0, self._unreturned))
            self._room += self._unreturned
            self._unreturned = 0

    def _give_room(self, stream: Stream, size: int) -> None:
        stream.unreturned += size
        if stream.unreturned >= ROOM_BYTES // 2:
            self._out.write(frames.window_update(stream.number, stream.unreturned))
            stream.room += stream.unreturned
            stream.unreturned = 0

    # -- all else

    def on_reset(self, number: int) -> None:
        if number > self._streams.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that was not begun is reset")
        stream = self._streams.open.get(number)
        if stream is None:
            self.on_idle_frame()
            return
        self._answering.gone(stream)
        if not stream.answering:
            self._count_reset()

    def on_stream_fault(self, fault: StreamFault) -> None:
        self._answering.reset(fault.stream, fault.code)
        self._count_reset()

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > MOST_RESETS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are reset")

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        self._out.apply(settings, list(self._streams.open.values()))
        self._out.write(frames.SETTINGS_ACK)
        self.on_idle_frame()

    def on_ping(self, data: bytes) -> None:
        self._out.write(frames.pong(data))
        self.on_idle_frame()

    def on_goaway(self) -> None:
        self._answering.leave()

    def on_window_update(self, number: int, increment: int) -> None:
        if not number:
            self._out.enlarge(increment)
        elif (stream := self._streams.open.get(number)) is not None:
            self._out.enlarge_stream(stream, increment)
        elif number > self._streams.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the window of a stream that was not begun is enlarged")
        self.on_idle_frame()

    def on_idle_frame(self) -> None:
        self._calm -= 1
        if self._calm < 0:
            written = self._out.data_frames
            self._calm = min(MOST_IDLE_FRAMES, _IDLE_FRAMES_PER_DATA * (written - self._paid_frames))
            self._paid_frames = written
            if not self._calm:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

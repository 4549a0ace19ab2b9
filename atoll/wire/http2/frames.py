"""HTTP/2's frames: bytes to calls of a `Sink`, and the frames that a server writes.

What is checked here is what a frame by itself may be (RFC 9113, sections 4 and 6): sizes, padding, which stream, a
header block's frames in an unbroken row and of a bounded size and number. What a frame means for its stream is the
sink's to know. Nothing here waits or writes.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Protocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 16384  # SETTINGS_MAX_FRAME_SIZE's default, and what we take
WINDOW_BYTES = 65535  # SETTINGS_INITIAL_WINDOW_SIZE's default
MOST_WINDOW_BYTES = (1 << 31) - 1
_MOST_CONTINUATIONS = 64

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

_HEAD = Struct(">BHBBI")
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")
_TWO_NUMBERS = Struct(">II")


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):
    """One stream ends with this code, the others go on."""

    def __init__(self, stream: int, code: ErrorCode) -> None:
        super().__init__(f"stream {stream}: {code.name}")
        self.stream = stream
        self.code = code


class Sink(Protocol):
    """What frames mean. Each may raise ConnectionFault or StreamFault."""

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None: ...

    def on_data(self, stream: int, data: bytes, size: int, ended: bool) -> None:
        """`size` counts for flow control: the data with its padding."""

    def on_reset(self, stream: int) -> None: ...

    def on_settings(self, settings: list[tuple[int, int]]) -> None: ...

    def on_ping(self, data: bytes) -> None: ...

    def on_goaway(self) -> None: ...

    def on_window_update(self, stream: int, increment: int) -> None: ...

    def on_idle_frame(self) -> None:
        """A frame that asks for nothing: priorities, acknowledgements, unknown ones."""

    def on_stream_fault(self, fault: StreamFault) -> None: ...


class FrameReader:
    """Feed it bytes as they come; a ConnectionFault is its end."""

    __slots__ = (
        "_block", "_block_bytes", "_block_ends_stream", "_block_stream", "_head_bytes", "_rest", "_sink", "_state",
    )  # fmt: skip

    def __init__(self, sink: Sink, head_bytes: int) -> None:
        self._sink = sink
        self._head_bytes = head_bytes
        self._rest = b""
        self._state = 0  # the preface is still to come, the settings, or all is begun
        self._block: list[bytes] | None = None
        self._block_stream = 0
        self._block_bytes = 0
        self._block_ends_stream = False

    @property
    def awaits_head(self) -> bool:
        """Whether the peer owes the preface, its settings, or the rest of a header block."""
        return self._state < 2 or self._block is not None

    def feed(self, data: bytes) -> None:
        """Raises ConnectionFault."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        if not self._state:
            if not PREFACE.startswith(buffer[:24]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with HTTP/2's preface")
            if end < 24:
                self._rest = buffer
                return
            self._state, at = 1, 24
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            size = high << 16 | low
            if size > FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than was allowed")
            after = at + 9 + size
            if after > end:
                break
            try:
                self._take(kind, flags, stream & 0x7FFFFFFF, buffer[at + 9 : after])
            except StreamFault as fault:
                self._sink.on_stream_fault(fault)
            at = after
        self._rest = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._state < 2:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._state = 2
        if self._block is not None and (kind != CONTINUATION or stream != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == DATA:
            self._check_stream(stream)
            data = _unpadded(payload) if flags & PADDED else payload
            self._sink.on_data(stream, data, len(payload), bool(flags & END_STREAM))
        elif kind == WINDOW_UPDATE:
            self._take_window_update(stream, payload)
        elif kind == CONTINUATION:
            self._take_continuation(flags, payload)
        elif kind in (SETTINGS, PING, GOAWAY):
            if stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of the connection names a stream")
            self._take_of_connection(kind, flags, payload)
        elif kind == RST_STREAM:
            self._check_stream(stream)
            _check_size(payload, 4)
            self._sink.on_reset(stream)
        elif kind == PRIORITY:
            self._check_stream(stream)
            if len(payload) != 5:
                raise StreamFault(stream, ErrorCode.FRAME_SIZE_ERROR)
            if _NUMBER.unpack_from(payload)[0] & 0x7FFFFFFF == stream:  # RFC 7540, 5.3.1: priorities are not used
                raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR)
            self._sink.on_idle_frame()
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client may push nothing")
        else:
            self._sink.on_idle_frame()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        self._check_stream(stream)
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short")
            if _NUMBER.unpack_from(payload)[0] & 0x7FFFFFFF == stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        ended = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._sink.on_headers(stream, payload, ended)
        else:
            self._block, self._block_stream, self._block_ends_stream = [payload], stream, ended
            self._block_bytes = len(payload)

    def _take_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION frame continues nothing")
        block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._head_bytes or len(block) > _MOST_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._block = None
            self._sink.on_headers(self._block_stream, b"".join(block), self._block_ends_stream)

    def _take_window_update(self, stream: int, payload: bytes) -> None:
        _check_size(payload, 4)
        increment = _NUMBER.unpack(payload)[0] & 0x7FFFFFFF
        if increment:
            self._sink.on_window_update(stream, increment)
        elif stream:
            raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window is enlarged by nothing")

    def _take_of_connection(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == PING:
            _check_size(payload, 8)
            if flags & ACK:
                self._sink.on_idle_frame()
            else:
                self._sink.on_ping(payload)
        elif kind == GOAWAY:
            if len(payload) < 8:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY frame is too short")
            self._sink.on_goaway()
        elif flags & ACK:
            _check_size(payload, 0)
            self._sink.on_idle_frame()
        else:
            if len(payload) % 6:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame is cut short")
            settings = list(_SETTING.iter_unpack(payload))
            for name, value in settings:
                _check_setting(name, value)
            self._sink.on_settings(settings)

    @staticmethod
    def _check_stream(stream: int) -> None:
        if not stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of a stream names none")


def _unpadded(payload: bytes) -> bytes:
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame's padding is longer than the frame")
    return payload[1 : len(payload) - padding]


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame has a wrong size")


def _check_setting(name: int, value: int) -> None:
    if name == ENABLE_PUSH and value > 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
    if name == INITIAL_WINDOW_SIZE and value > MOST_WINDOW_BYTES:
        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
    if name == MAX_FRAME_SIZE and not 16384 <= value <= 16777215:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")


def head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before a payload."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream)


def headers(stream: int, block: bytes, ended: bool, frame_bytes: int) -> bytes:
    """A HEADERS frame, and CONTINUATION frames where the peer takes no such large one."""
    flags = END_STREAM if ended else 0
    if len(block) <= frame_bytes:
        return head(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [head(frame_bytes, HEADERS, flags, stream), block[:frame_bytes]]
    for start in range(frame_bytes, len(block), frame_bytes):
        piece = block[start : start + frame_bytes]
        last = END_HEADERS if start + frame_bytes >= len(block) else 0
        parts += [head(len(piece), CONTINUATION, last, stream), piece]
    return b"".join(parts)


def data(stream: int, body: bytes | memoryview, ended: bool, frame_bytes: int) -> bytes:
    """DATA frames."""
    size = len(body)
    if size <= frame_bytes:
        return head(size, DATA, END_STREAM if ended else 0, stream) + body
    parts: list[bytes | memoryview] = []
    view = memoryview(body)
    for start in range(0, size, frame_bytes):
        piece = view[start : start + frame_bytes]
        last = END_STREAM if ended and start + frame_bytes >= size else 0
        parts += [head(len(piece), DATA, last, stream), piece]
    return b"".join(parts)


def reset(stream: int, code: ErrorCode) -> bytes:
    return head(4, RST_STREAM, 0, stream) + _NUMBER.pack(code)


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


def window_update(stream: int, increment: int) -> bytes:
    return head(4, WINDOW_UPDATE, 0, stream) + _NUMBER.pack(increment)


def goaway(last_stream: int, code: ErrorCode, text: str = "") -> bytes:
    payload = _TWO_NUMBERS.pack(last_stream, code) + text.encode()
    return head(len(payload), GOAWAY, 0, 0) + payload


def pong(payload: bytes) -> bytes:
    return head(8, PING, ACK, 0) + payload


SETTINGS_ACK = head(0, SETTINGS, ACK, 0)

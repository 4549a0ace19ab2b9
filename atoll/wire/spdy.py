"""SPDY/3.1 framing, both ends, over a Connection: as much as Kubernetes' exec, attach and port-forward need.

Server, over plain HTTP: `return spdy.upgrade(request, serve, headers=[("X-Stream-Protocol-Version", version)])`.
In a WebSocket (port-forward, "SPDY/3.1+portforward.k8s.io"): `SpdySession(WebSocketConnection(socket), server=True)`.
A session must be run: `async with session:` starts and stops its reader.

There is no window flow control, because the implementation that kubectl and the kubelet use has none: frames are sent
as the connection takes them, and a session stops reading while one of its streams holds more than a bounded amount.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType

from atoll.wire.messages import Connection, HttpRequest, HttpResponse

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _HEADERS, _WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
_FIN = 1
_PROTOCOL_ERROR, _INVALID_STREAM, _REFUSED_STREAM, _CANCEL, _STREAM_IN_USE = 1, 2, 3, 5, 8
_MOST_FRAME_BYTES = 1 << 20
_DATA_BYTES = 32 * 1024
_STREAM_HIGH_WATER_BYTES = 1 << 20

# The header dictionary of SPDY/3: words with a length before each, then plain text.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200+OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.replace("+", " ").encode() for word in _WORDS.split(" "))
    + _TEXT.encode()
)


class SpdyError(ConnectionError):
    """The peer broke the protocol, or the session or stream has ended."""


class SpdyStream:
    """One stream of a session: headers, then bytes both ways, each direction closed on its own."""

    def __init__(self, session: SpdySession, number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers  # names in lower case
        self.reply_headers: dict[str, str] = {}
        self._session = session
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._ended = False  # the peer sends no more
        self._finished = False  # we send no more
        self._error: SpdyError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._replied: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes; b"" when the peer has closed its side. Raises SpdyError after a reset."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self._buffered -= len(data)
        self._session._relieve(self)
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes with the connection's back-pressure. Raises SpdyError once reset or closed."""
        for start in range(0, len(data), _DATA_BYTES):
            self._check()
            await self._session._send_data(self.number, data[start : start + _DATA_BYTES], 0)

    async def close(self) -> None:
        """Close our side (FIN); reading goes on. Never raises."""
        if self._finished or self._error is not None:
            return
        self._finished = True
        with suppress(ConnectionError):
            await self._session._send_data(self.number, b"", _FIN)
        self._session._retire(self)

    async def reset(self) -> None:
        """Abort both directions. Never raises."""
        if self._error is None:
            self._fail(SpdyError("the stream was reset"))
            with suppress(ConnectionError):
                await self._session._send_control(_RST_STREAM, 0, struct.pack(">II", self.number, _CANCEL))
        self._session._forget(self)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._finished:
            raise SpdyError("our side of the stream is closed")

    def _feed(self, data: bytes) -> None:
        if self._error is None and data:
            self._chunks.append(data)
            self._buffered += len(data)
            self._wake()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _fail(self, error: SpdyError) -> None:
        if self._error is None:
            self._error = error
        self._ended = self._finished = True
        if self._replied is not None and not self._replied.done():
            self._replied.set_exception(error)
            self._replied.exception()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SpdySession:
    """Many streams over one connection. `async with` runs its reader."""

    def __init__(self, connection: Connection, *, server: bool) -> None:
        self._connection = connection
        self._server = server
        self._streams: dict[int, SpdyStream] = {}
        self._next = 2 if server else 1
        self._last_seen = 0
        self._accepted: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._compress = zlib.compressobj(zdict=DICTIONARY)
        self._decompress = zlib.decompressobj(zdict=DICTIONARY)
        self._buffer = bytearray()
        self._writing = asyncio.Lock()
        self._relieved = asyncio.Event()
        self._relieved.set()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._next_ping = 2 if server else 1
        self._ended: SpdyError | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SpdySession:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="spdy-reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def accept_stream(self) -> SpdyStream | None:
        """The next stream that the peer opens (SYN_REPLY is sent already); None when the session has ended."""
        if self._ended is not None and self._accepted.empty():
            return None
        return await self._accepted.get()

    async def open_stream(self, headers: Sequence[tuple[str, str]]) -> SpdyStream:
        """Open a stream and wait for the peer's SYN_REPLY. Raises SpdyError."""
        if self._ended is not None:
            raise self._ended
        number = self._next
        self._next += 2
        stream = SpdyStream(self, number, {name.lower(): value for name, value in headers})
        stream._replied = asyncio.get_running_loop().create_future()
        self._streams[number] = stream
        await self._send_headers(_SYN_STREAM, struct.pack(">IIBB", number, 0, 0, 0), headers)
        await stream._replied
        return stream

    async def ping(self) -> None:
        """Send a ping and wait for its answer. Raises SpdyError when the session ends first."""
        number = self._next_ping
        self._next_ping += 2
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings[number] = waiter
        try:
            await self._send_control(_PING, 0, struct.pack(">I", number))
            await waiter
        finally:
            self._pings.pop(number, None)

    async def close(self) -> None:
        """Say GOAWAY, end every stream, close the connection. Never raises for a peer that has gone."""
        if self._ended is None:
            with suppress(ConnectionError):
                await self._send_control(_GOAWAY, 0, struct.pack(">II", self._last_seen, 0))
        self._finish(SpdyError("the session was closed"))
        await self._connection.close()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                await self._relieved.wait()
                data = await self._connection.read()
                if not data:
                    break
                self._buffer += data
                await self._frames()
        except (SpdyError, zlib.error, struct.error) as error:
            with suppress(ConnectionError):
                await self._send_control(_GOAWAY, 0, struct.pack(">II", self._last_seen, _PROTOCOL_ERROR))
            self._finish(error if isinstance(error, SpdyError) else SpdyError(f"malformed SPDY frame: {error}"))
        except ConnectionError:
            pass
        finally:
            self._finish(SpdyError("the connection was lost"))

    async def _frames(self) -> None:
        buffer = self._buffer
        at = 0
        while len(buffer) - at >= 8:
            first, second = struct.unpack_from(">II", buffer, at)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > _MOST_FRAME_BYTES and first >> 31:
                raise SpdyError("SPDY control frame too large")
            if len(buffer) - at - 8 < size:
                break
            payload = bytes(buffer[at + 8 : at + 8 + size])
            at += 8 + size
            if first >> 31:
                if (first >> 16) & 0x7FFF != 3:
                    raise SpdyError("only SPDY version 3 is spoken")
                await self._control(first & 0xFFFF, flags, payload)
            else:
                await self._data(first, flags, payload)
        del buffer[:at]

    async def _data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or stream._ended:
            if payload:
                await self._send_control(_RST_STREAM, 0, struct.pack(">II", number, _INVALID_STREAM))
            return
        stream._feed(payload)
        if stream._buffered > _STREAM_HIGH_WATER_BYTES:
            self._relieved.clear()
        if flags & _FIN:
            stream._end()
            self._retire(stream)

    async def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _SYN_STREAM:
            await self._syn_stream(flags, payload)
        elif kind == _SYN_REPLY:
            (number,) = struct.unpack_from(">I", payload)
            headers = self._read_headers(payload[4:])
            stream = self._streams.get(number)
            if stream is not None:
                stream.reply_headers = headers
                if stream._replied is not None and not stream._replied.done():
                    stream._replied.set_result(None)
                if flags & _FIN:
                    stream._end()
                    self._retire(stream)
        elif kind == _HEADERS:
            (number,) = struct.unpack_from(">I", payload)
            self._read_headers(payload[4:])
            if flags & _FIN and number in self._streams:
                self._streams[number]._end()
                self._retire(self._streams[number])
        elif kind == _RST_STREAM:
            number, status = struct.unpack_from(">II", payload)
            if number in self._streams:
                self._streams[number]._fail(SpdyError(f"the peer reset the stream (status {status})"))
                self._forget(self._streams[number])
        elif kind == _PING:
            (number,) = struct.unpack_from(">I", payload)
            if number % 2 == (0 if self._server else 1):
                waiter = self._pings.get(number)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            else:
                await self._send_control(_PING, 0, payload[:4])
        elif kind == _GOAWAY:
            # Streams that are open go on; there will be no new ones.
            self._accepted.put_nowait(None)
        # SETTINGS, WINDOW_UPDATE and unknown kinds are ignored, as the protocol asks.

    async def _syn_stream(self, flags: int, payload: bytes) -> None:
        (number,) = struct.unpack_from(">I", payload)
        headers = self._read_headers(payload[10:])
        number &= 0x7FFFFFFF
        if number in self._streams or number % 2 != (1 if self._server else 0) or number <= self._last_seen:
            await self._send_control(_RST_STREAM, 0, struct.pack(">II", number, _PROTOCOL_ERROR))
            return
        self._last_seen = number
        stream = SpdyStream(self, number, headers)
        self._streams[number] = stream
        if flags & _FIN:
            stream._end()
        await self._send_headers(_SYN_REPLY, struct.pack(">I", number), ())
        self._accepted.put_nowait(stream)

    def _read_headers(self, block: bytes) -> dict[str, str]:
        data = self._decompress.decompress(block, _MOST_FRAME_BYTES)
        (count,) = struct.unpack_from(">I", data)
        at = 4
        headers: dict[str, str] = {}
        for _ in range(count):
            parts = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", data, at)
                if at + 4 + size > len(data):
                    raise SpdyError("truncated SPDY headers")
                parts.append(data[at + 4 : at + 4 + size].decode("utf-8", "replace"))
                at += 4 + size
            headers[parts[0].lower()] = parts[1].replace("\0", ", ")
        return headers

    async def _send_headers(self, kind: int, prefix: bytes, headers: Sequence[tuple[str, str]]) -> None:
        block = struct.pack(">I", len(headers))
        for name, value in headers:
            raw_name, raw_value = name.lower().encode(), value.encode()
            block += struct.pack(">I", len(raw_name)) + raw_name + struct.pack(">I", len(raw_value)) + raw_value
        async with self._writing:  # the compressor's state follows the order on the wire
            packed = self._compress.compress(block) + self._compress.flush(zlib.Z_SYNC_FLUSH)
            payload = prefix + packed
            await self._connection.write(struct.pack(">II", (0x8003 << 16) | kind, len(payload)) + payload)

    async def _send_control(self, kind: int, flags: int, payload: bytes) -> None:
        async with self._writing:
            await self._connection.write(
                struct.pack(">II", (0x8003 << 16) | kind, (flags << 24) | len(payload)) + payload
            )

    async def _send_data(self, number: int, data: bytes, flags: int) -> None:
        if self._ended is not None:
            raise self._ended
        async with self._writing:
            await self._connection.write(struct.pack(">II", number, (flags << 24) | len(data)) + data)

    def _relieve(self, stream: SpdyStream) -> None:
        if not self._relieved.is_set() and all(
            other._buffered <= _STREAM_HIGH_WATER_BYTES // 2 for other in self._streams.values()
        ):
            self._relieved.set()

    def _retire(self, stream: SpdyStream) -> None:
        if stream._ended and stream._finished:
            self._forget(stream)

    def _forget(self, stream: SpdyStream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._relieve(stream)

    def _finish(self, error: SpdyError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for stream in list(self._streams.values()):
            if not (stream._ended and not stream._chunks and stream._finished):
                stream._fail(error)
        self._streams.clear()
        for waiter in self._pings.values():
            if not waiter.done():
                waiter.set_exception(error)
        self._relieved.set()
        self._accepted.put_nowait(None)


def is_upgrade(request: HttpRequest) -> bool:
    """Whether the request asks for SPDY/3.1."""
    headers = request.headers
    return "spdy/3.1" in headers.get("upgrade", "").lower() and "upgrade" in headers.get("connection", "").lower()


def upgrade(
    request: HttpRequest,
    serve: Callable[[SpdySession], Awaitable[None]],
    *,
    headers: Sequence[tuple[str, str]] = (),
) -> HttpResponse:
    """The response that turns the request into a SPDY session, run while `serve` runs; 400 if it can't be."""
    if not is_upgrade(request):
        return HttpResponse(
            400,
            [("Content-Type", "text/plain; charset=utf-8")],
            b"unable to upgrade: missing upgrade headers in request\n",
        )

    async def run(connection: Connection) -> None:
        head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
        await connection.write(head.encode())
        async with SpdySession(connection, server=True) as session:
            await serve(session)

    return HttpResponse(101, upgrade=run)

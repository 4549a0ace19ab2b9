"""Raw byte connections: what a hijacked request becomes, and what a client of WebSocket or SPDY dials.

Both are one class, so that whatever speaks over a `Connection` (exec, port-forward, tunnels, proxies) need not know
which end it is. Reading and writing have back-pressure.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from pathlib import Path
from typing import Any, cast

from atoll.base.errors import Unreachable
from atoll.wire.messages import Connection

READ_BYTES = 64 * 1024
_HIGH_WATER_BYTES = 256 * 1024


class RawConnection(asyncio.BufferedProtocol):
    """`atoll.wire.messages.Connection` over an asyncio transport."""

    def __init__(self, pending: bytes = b"") -> None:
        self._chunks: deque[bytes] = deque([pending] if pending else [])
        self._buffered = len(pending)
        self._buffer: memoryview | None = None
        self._eof = False
        self._lost: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._paused_reading = False
        self._paused_writing = False
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] | None = None

    @classmethod
    def take_over(cls, transport: asyncio.Transport, pending: bytes) -> RawConnection:
        """Take an accepted transport from the protocol that had it; `pending` is what it had read too far."""
        connection = cls(pending)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._closed = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is None:
            # a view, because asyncio's TLS reads several records into slices of it: a bytearray's would be copies
            self._buffer = memoryview(bytearray(READ_BYTES))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self._buffer is not None
        self._chunks.append(bytes(self._buffer[:nbytes]))
        self._buffered += nbytes
        if self._buffered > _HIGH_WATER_BYTES and not self._paused_reading and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake_reader()
        # A half-closed peer may still read; TLS can't be half closed.
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._eof = True
        self._lost = exc or ConnectionResetError("the peer closed the connection")
        self._wake_reader()
        self._wake_writers()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._wake_writers()

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._lost is not None

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        while not self._chunks:
            if self._eof:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._paused_reading and self._buffered <= _HIGH_WATER_BYTES // 2 and self._transport is not None:
            self._paused_reading = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def read_exactly(self, size: int) -> bytes:
        """`size` bytes. Raises ConnectionError if the peer ends before."""
        parts: list[bytes] = []
        missing = size
        while missing:
            data = await self.read()
            if not data:
                raise ConnectionResetError("the peer closed the connection")
            if len(data) > missing:
                self._unread(data[missing:])
                data = data[:missing]
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    async def read_until(self, mark: bytes, most: int = 65536) -> bytes:
        """Up to and with `mark`. Raises ConnectionError at the end of the stream or beyond `most` bytes."""
        buffer = b""
        while (at := buffer.find(mark)) < 0:
            if len(buffer) > most:
                raise ConnectionResetError("the peer sent too long a head")
            data = await self.read()
            if not data:
                raise ConnectionResetError("the peer closed the connection")
            buffer += data
        end = at + len(mark)
        if len(buffer) > end:
            self._unread(buffer[end:])
        return buffer[:end]

    async def write(self, data: bytes) -> None:
        """Write with back-pressure. Raises ConnectionError once the peer is gone."""
        self._check()
        assert self._transport is not None
        self._transport.write(data)
        while self._paused_writing:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._writers.append(waiter)
            await waiter
            self._check()

    def write_eof(self) -> None:
        """Half-close where the transport can; else nothing."""
        if self._transport is not None and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    async def close(self) -> None:
        """Flush and close; a peer that reads nothing for five seconds is cut off."""
        if self._transport is None or self._closed is None:
            return
        if not self._closed.done():
            self._transport.close()
            done, _ = await asyncio.wait([self._closed], timeout=5)
            if not done:
                self._transport.abort()

    def abort(self) -> None:
        """Close at once, dropping what is not sent."""
        if self._transport is not None:
            self._transport.abort()

    def extra(self, name: str) -> Any:
        """asyncio's get_extra_info (peername, ssl_object …)."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def _unread(self, data: bytes) -> None:
        self._chunks.appendleft(data)
        self._buffered += len(data)

    def _check(self) -> None:
        if self._lost is not None or self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the peer closed the connection")

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writers(self) -> None:
        waiters, self._writers = self._writers, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


async def dial(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout_seconds: float = 10.0,
) -> RawConnection:
    """Open a TCP (or TLS) connection. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(
                RawConnection,
                host,
                port,
                ssl=ssl_context,
                server_hostname=(server_name or host) if ssl_context is not None else None,
            )
    except TimeoutError:
        raise Unreachable(f"{host}:{port} did not answer within {timeout_seconds:g} s") from None
    except OSError as error:
        raise Unreachable(f"{host}:{port}: {error.strerror or error}") from None
    return connection


async def dial_unix(path: Path, timeout_seconds: float = 10.0) -> RawConnection:
    """Open a connection to a unix socket. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_unix_connection(RawConnection, str(path))
    except (TimeoutError, OSError) as error:
        raise Unreachable(f"{path}: {error}") from None
    return connection


async def splice(left: Connection, right: Connection) -> None:
    """Copy both ways until both directions have ended or one side is gone; closes both."""

    async def pump(source: Connection, target: Connection) -> None:
        while data := await source.read():
            await target.write(data)
        if isinstance(target, RawConnection):
            target.write_eof()

    tasks = [asyncio.ensure_future(pump(left, right)), asyncio.ensure_future(pump(right, left))]
    try:
        for task in asyncio.as_completed(tasks):
            try:
                await task
            except ConnectionError:
                break
            if not all(isinstance(side, RawConnection) and side.extra("ssl_object") is None for side in (left, right)):
                break  # without a half-close the end of one direction is the end of both
    finally:
        for pending in tasks:
            pending.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await left.close()
        await right.close()

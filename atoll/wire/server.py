"""An HTTP server: 1.1 on httptools and, where a TLS client asks for it, 2. It has client certificates, streams with
back-pressure, and connection hijack (HTTP/1.1's alone).

`server = await serve(handler, "127.0.0.1", 0, ssl_context=…)`, then `server.port`, `await server.close()`.

Guarantees: requests of an HTTP/1.1 connection are answered in order, one at a time, those of an HTTP/2 connection each
by itself; a client that goes cancels its handler or stream; bad input is answered 4xx (never a traceback); sizes and
times are bounded by `Limits`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.wire.connection import READ_BYTES
from atoll.wire.heads import Heads
from atoll.wire.http1 import HttpProtocol
from atoll.wire.limits import Limits
from atoll.wire.messages import Handler, Immediate
from atoll.wire.owner import Served

log = logging.getLogger(__name__)

_ACCEPT_BATCH = 128
_TLS_HANDSHAKE_BYTE = 0x16
_PLAIN_TO_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


class Server:
    """Listening sockets, their connections, and the timer that ends slow ones."""

    def __init__(
        self, handler: Handler, ssl_context: ssl.SSLContext | None, limits: Limits, immediate: Immediate | None = None
    ) -> None:
        self.handler = handler
        self.immediate = immediate
        self.limits = limits
        self.closing = False
        self.connections: set[Served] = set()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.heads = Heads()
        if ssl_context is not None:
            ssl_context.set_alpn_protocols(["h2", "http/1.1"])
        self._ssl = ssl_context
        self._sockets: list[socket.socket] = []
        self._peeking: dict[socket.socket, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._unix: list[tuple[Path, int]] = []
        self._empty = asyncio.Event()

    @property
    def port(self) -> int:
        """The first TCP socket's port."""
        for listener in self._sockets:
            name = listener.getsockname()
            if isinstance(name, tuple):
                return int(name[1])
        raise LookupError("this server listens on no TCP port")

    @property
    def addresses(self) -> list[object]:
        """Each listening socket's own name."""
        return [listener.getsockname() for listener in self._sockets]

    def listen(self, listener: socket.socket) -> None:
        """Accept from a bound socket."""
        listener.setblocking(False)
        listener.listen(4096)
        self._sockets.append(listener)
        self._loop.add_reader(listener.fileno(), self._accept, listener)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(1.0, self._sweep)

    def remember_unix(self, path: Path) -> None:
        """Remove this socket's file on close, if it is still ours."""
        self._unix.append((path, path.stat().st_ino))

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, end streams cleanly, let running requests end within the grace, then cut."""
        if self.closing:
            return
        self.closing = True
        for listener in self._sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        for path, inode in self._unix:
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        for peeked in list(self._peeking):
            self._drop_peeked(peeked)
        for connection in list(self.connections):
            connection.shut_down()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_seconds)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self, connection: Served) -> None:
        """The connection is gone, or no longer HTTP."""
        self.connections.discard(connection)
        if self.closing and not self.connections:
            self._empty.set()

    def adopt(self, task: asyncio.Task[None]) -> None:
        """Cancel this task on close, and wait for it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.adopt(self._loop.create_task(work, name="http-start"))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # out of file descriptors: breathe, then go on
                log.warning("accept: %s", error)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(0.1, self._resume_accept, listener)
                return
            accepted.setblocking(False)
            if accepted.family in (socket.AF_INET, socket.AF_INET6):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._ssl is None:
                self._spawn(self._start(accepted, None))
            else:
                self._peeking[accepted] = self._loop.time() + self.limits.handshake_seconds
                self._loop.add_reader(accepted.fileno(), self._peek, accepted)

    def _resume_accept(self, listener: socket.socket) -> None:
        if not self.closing:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _peek(self, accepted: socket.socket) -> None:
        """Look at the first byte, so that plain HTTP sent to a TLS port is told so."""
        try:
            first = accepted.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self._loop.remove_reader(accepted.fileno())
        self._peeking.pop(accepted, None)
        if not first:
            accepted.close()
        elif first[0] == _TLS_HANDSHAKE_BYTE:
            self._spawn(self._start(accepted, self._ssl))
        else:
            with suppress(OSError):
                accepted.recv(65536)  # or the close would reset the connection before the answer is read
                accepted.send(_PLAIN_TO_TLS)
                accepted.shutdown(socket.SHUT_WR)
            accepted.close()

    def _drop_peeked(self, accepted: socket.socket) -> None:
        self._peeking.pop(accepted, None)
        self._loop.remove_reader(accepted.fileno())
        accepted.close()

    async def _start(self, accepted: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: HttpProtocol(self) if context is None else _Agreed(self),
                accepted,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_seconds if context is not None else None,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("TLS handshake: %s", error)
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _sweep(self) -> None:
        """End what is slow: one timer for all connections keeps idle ones cheap."""
        now = self._loop.time()
        for accepted in [item for item, deadline in self._peeking.items() if deadline < now]:
            self._drop_peeked(accepted)
        for connection in [item for item in self.connections if item.deadline < now]:
            connection.expire(now)
        if not self.closing:
            self._sweeper = self._loop.call_later(1.0, self._sweep)


class _Agreed(asyncio.Protocol):
    """Gives a connection to the protocol that its handshake has agreed on."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol: asyncio.BufferedProtocol
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            # loaded for the first that speaks it: a start is quick
            from atoll.wire.http2.connection import Http2Protocol

            protocol = Http2Protocol(self._server)
        else:
            protocol = HttpProtocol(self._server)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound to the address. Raises OSError (e.g. the port is in use)."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


async def serve(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    sockets: Sequence[socket.socket] = (),
    unix: Path | None = None,
    immediate: Immediate | None = None,
) -> Server:
    """Serve on host:port, or on bound `sockets`, or on a unix socket; `immediate` is asked first for GETs.

    Raises OSError.
    """
    server = Server(handler, ssl_context, limits or Limits(), immediate)
    if unix is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(unix))
        except OSError:
            listener.close()
            raise
        server.remember_unix(unix)
        server.listen(listener)
    for bound in sockets:
        server.listen(bound)
    if unix is None and not sockets:
        server.listen(bind(host, port))
    return server

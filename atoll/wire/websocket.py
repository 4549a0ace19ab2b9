"""WebSocket (RFC 6455), both ends, over a Connection; the protocol itself is wsproto's.

Server: `return websocket.upgrade(request, ("v5.channel.k8s.io", …), serve)` from an HTTP handler.
Client: `socket = await websocket.connect("wss://host:port/path?query", subprotocols=…, ssl_context=…)`.
Pings are answered while a receive is awaited. `WebSocketConnection` shows a WebSocket as a raw Connection, as
Kubernetes tunnels SPDY/3.1 in binary messages.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, ProtocolError, RemoteProtocolError

from atoll.base.errors import ApiError, Unreachable
from atoll.wire.connection import RawConnection, dial
from atoll.wire.messages import Connection, HttpRequest, HttpResponse

NORMAL = 1000
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
ABNORMAL = 1006
TOO_BIG = 1009
INTERNAL_ERROR = 1011


class WebSocketClosed(ConnectionError):
    """The WebSocket has ended: `code` (1006: without a close frame) and `reason`."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"WebSocket closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket:
    """An open WebSocket. One task may receive while others send."""

    def __init__(
        self,
        connection: Connection,
        protocol: WSConnection,
        subprotocol: str = "",
        most_bytes: int = 64 << 20,
    ) -> None:
        self.subprotocol = subprotocol
        self._connection = connection
        self._protocol = protocol
        self._most_bytes = most_bytes
        self._events: deque[Event] = deque()
        self._parts: list[bytes] = []
        self._texts: list[str] = []
        self._size = 0
        self._closed: WebSocketClosed | None = None
        self._sending = asyncio.Lock()

    @property
    def closed(self) -> bool:
        return self._closed is not None

    async def receive(self) -> str | bytes:
        """The next whole message: str for text, bytes for binary. Raises WebSocketClosed at its end."""
        while True:
            while self._events:
                message = await self._handle(self._events.popleft())
                if message is not None:
                    return message
            if self._closed is not None:
                raise self._closed
            try:
                data = await self._connection.read()
                self._protocol.receive_data(data or None)
                self._events.extend(self._protocol.events())
            except RemoteProtocolError as error:
                await self.close(PROTOCOL_ERROR, str(error)[:100])
                raise WebSocketClosed(PROTOCOL_ERROR, str(error)) from None
            except ConnectionError:
                data = b""
            if not data and not self._events:
                self._closed = self._closed or WebSocketClosed(ABNORMAL, "the connection was lost")

    async def send(self, message: str | bytes) -> None:
        """Send one message. Raises WebSocketClosed."""
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        await self._write(event)

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping; the pong is consumed by `receive`."""
        await self._write(Ping(payload))

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send a close frame (once) and close the connection. Never raises for a peer that has gone."""
        if self._closed is None:
            self._closed = WebSocketClosed(code, reason)
            if self._protocol.state is ConnectionState.OPEN:
                with suppress(ConnectionError, LocalProtocolError):
                    await self._connection.write(self._protocol.send(CloseConnection(code, reason or None)))
        await self._connection.close()

    async def _handle(self, event: Event) -> str | bytes | None:
        if isinstance(event, BytesMessage):
            self._parts.append(bytes(event.data))
            await self._grow(len(event.data))
            if event.message_finished:
                data = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
                return data
        elif isinstance(event, TextMessage):
            self._texts.append(event.data)
            await self._grow(len(event.data))
            if event.message_finished:
                text = "".join(self._texts)
                self._texts.clear()
                self._size = 0
                return text
        elif isinstance(event, Ping):
            with suppress(ConnectionError, LocalProtocolError):
                await self._write(event.response())
        elif isinstance(event, CloseConnection):
            if self._closed is None:
                self._closed = WebSocketClosed(int(event.code or NO_STATUS), event.reason or "")
            # wsproto says so too when the peer broke the protocol: the state is still OPEN then.
            if self._protocol.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
                with suppress(ConnectionError, LocalProtocolError):
                    await self._connection.write(self._protocol.send(event.response()))
        elif isinstance(event, Pong):
            return None
        return None

    async def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._most_bytes:
            await self.close(TOO_BIG, "message too big")
            raise WebSocketClosed(TOO_BIG, "message too big")

    async def _write(self, event: Event) -> None:
        async with self._sending:
            if self._closed is not None:
                raise self._closed
            try:
                await self._connection.write(self._protocol.send(event))
            except LocalProtocolError:
                raise WebSocketClosed(ABNORMAL, "the WebSocket is closing") from None
            except ConnectionError:
                self._closed = WebSocketClosed(ABNORMAL, "the connection was lost")
                raise self._closed from None


class WebSocketConnection:
    """A WebSocket as a Connection: each write is one binary message, message borders are not kept."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            try:
                message = await self._socket.receive()
            except WebSocketClosed:
                return b""
            data = message.encode() if isinstance(message, str) else message
            if data:
                return data

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    async def close(self) -> None:
        await self._socket.close()


def is_upgrade(request: HttpRequest) -> bool:
    """Whether the request asks for a WebSocket."""
    headers = request.headers
    return (
        "websocket" in headers.get("upgrade", "").lower()
        and "upgrade" in headers.get("connection", "").lower()
        and "sec-websocket-key" in headers
    )


def offered(request: HttpRequest) -> list[str]:
    """The subprotocols that the client offers, in its order."""
    return [part.strip() for part in request.headers.get("sec-websocket-protocol", "").split(",") if part.strip()]


def upgrade(
    request: HttpRequest,
    subprotocols: Sequence[str],
    serve: Callable[[WebSocket], Awaitable[None]],
    *,
    most_bytes: int = 64 << 20,
) -> HttpResponse:
    """The response that turns the request into a WebSocket, served by `serve` and closed after it.

    The first of the client's subprotocols that is in `subprotocols` is chosen; "" in it means that a client which
    offers none is served too. A request that can't be upgraded gets 400.
    """
    chosen = next((item for item in offered(request) if item in subprotocols), None)
    if chosen is None and not offered(request) and ("" in subprotocols or not subprotocols):
        chosen = ""
    if not is_upgrade(request):
        return _refuse("this request must be a WebSocket upgrade")
    if chosen is None:
        return _refuse(f"none of the WebSocket subprotocols offered is served; served are: {', '.join(subprotocols)}")
    protocol = WSConnection(ConnectionType.SERVER)
    path = request.path + (f"?{request.query}" if request.query else "")
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in request.headers.items()]
    try:
        protocol.initiate_upgrade_connection(pairs, path.encode())
        events = list(protocol.events())
    except ProtocolError as error:
        return _refuse(str(error))
    if not any(isinstance(event, Request) for event in events):
        return _refuse("malformed WebSocket upgrade")

    async def run(connection: Connection) -> None:
        await connection.write(protocol.send(AcceptConnection(subprotocol=chosen or None)))
        socket = WebSocket(connection, protocol, chosen, most_bytes)
        try:
            await serve(socket)
        except WebSocketClosed:
            pass
        except Exception:
            await socket.close(INTERNAL_ERROR)
            raise
        finally:
            await socket.close()

    return HttpResponse(101, upgrade=run)


def _refuse(message: str) -> HttpResponse:
    return HttpResponse(400, [("Content-Type", "text/plain; charset=utf-8")], f"{message}\n".encode())


async def connect(
    url: str,
    *,
    subprotocols: Sequence[str] = (),
    headers: dict[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout_seconds: float = 10.0,
    most_bytes: int = 64 << 20,
) -> WebSocket:
    """Open a WebSocket. Raises Unreachable, or ApiError with the server's status when it refuses."""
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    connection = await dial(
        host,
        port,
        ssl_context=(ssl_context or ssl.create_default_context()) if secure else None,
        server_name=server_name,
        timeout_seconds=timeout_seconds,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            return await handshake(
                connection,
                host=parts.netloc.rpartition("@")[2],
                target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                subprotocols=subprotocols,
                headers=headers,
                most_bytes=most_bytes,
            )
    except (TimeoutError, ConnectionError) as error:
        connection.abort()
        raise Unreachable(f"{host}:{port}: WebSocket handshake failed: {error or 'timed out'}") from None
    except BaseException:
        connection.abort()
        raise


async def handshake(
    connection: Connection,
    *,
    host: str,
    target: str,
    subprotocols: Sequence[str] = (),
    headers: dict[str, str] | None = None,
    most_bytes: int = 64 << 20,
) -> WebSocket:
    """The client's handshake over an open connection. Raises ApiError when refused, ConnectionError when lost."""
    protocol = WSConnection(ConnectionType.CLIENT)
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await connection.write(
        protocol.send(Request(host=host, target=target, subprotocols=list(subprotocols), extra_headers=extra))
    )
    early: list[Event] = []
    accepted: AcceptConnection | None = None
    refused: RejectConnection | None = None
    body = b""
    while accepted is None:
        data = await connection.read()
        if not data and refused is None:
            raise ConnectionResetError("the server closed the connection")
        try:
            protocol.receive_data(data or None)
            events = list(protocol.events())
        except RemoteProtocolError as error:
            raise ConnectionResetError(f"not a WebSocket server: {error}") from None
        for event in events:
            if isinstance(event, AcceptConnection):
                accepted = event
            elif isinstance(event, RejectConnection):
                refused = event
            elif isinstance(event, RejectData):
                body += event.data
            elif accepted is not None:
                early.append(event)
        if refused is not None:
            finished = (
                not refused.has_body or not data or any(isinstance(e, RejectData) and e.body_finished for e in events)
            )
            if finished:
                text = body.decode(errors="replace").strip()
                raise ApiError(text or f"the server answered {refused.status_code}", code=refused.status_code)
    socket = WebSocket(connection, protocol, accepted.subprotocol or "", most_bytes)
    socket._events.extend(early)
    return socket


__all__ = [
    "RawConnection",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketConnection",
    "connect",
    "handshake",
    "is_upgrade",
    "offered",
    "upgrade",
]

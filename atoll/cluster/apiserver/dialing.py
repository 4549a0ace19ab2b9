"""One HTTP/1.1 request over a connection of its own, whose answer is streamed or taken over as it is.

For what the API server passes through: the kubelet's port, and the proxies of nodes, pods and services. Hop-by-hop
headers and the caller's credentials are left behind.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import httptools
from msgspec import Struct

from atoll.base.errors import Unreachable
from atoll.wire.connection import RawConnection, dial
from atoll.wire.messages import HttpRequest

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "authorization",
    }
)  # fmt: skip
_UPGRADE_HEADERS = ("upgrade", "connection", "x-stream-protocol-version")


class Target(Struct, frozen=True):
    """Where to, and how."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # that the certificate must have, where it is not the host

    @property
    def netloc(self) -> str:
        return f"{self.host}:{self.port}"


class Answer(Struct):
    """The head of an answer; `body` streams the rest and closes the connection."""

    status: int
    headers: list[tuple[str, str]]
    connection: RawConnection
    head: bytes = b""  # as it came
    _pending: list[bytes] = []
    _parser: httptools.HttpResponseParser | None = None
    _state: _Parsed | None = None

    async def body(self) -> AsyncIterator[bytes]:
        """Chunks as they come."""
        assert self._parser is not None and self._state is not None
        try:
            while True:
                while self._state.chunks:
                    yield self._state.chunks.pop(0)
                if self._state.complete:
                    return
                data = await self.connection.read()
                if not data:
                    return
                self._parser.feed_data(data)
        finally:
            await self.connection.close()

    async def whole(self, most: int = 1 << 20) -> bytes:
        out = b""
        async for chunk in self.body():
            out += chunk
            if len(out) > most:
                break
        return out[:most]


class _Parsed:
    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.headed = False
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


def forwarded_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """The caller's headers that may be passed on."""
    return [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]


def _line(name: str, value: str) -> str:
    """Raises Unreachable for what would begin another header."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise Unreachable(f"net/http: invalid header field value for {name}")
    return f"{name}: {value}"


async def send(
    target: Target, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> Answer:
    """Send a request and read the head of its answer. Raises Unreachable."""
    connection = await dial(target.host, target.port, ssl_context=target.tls, server_name=target.server_name)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {target.netloc}", "Connection: close"]
        lines += [_line(name, value) for name, value in headers]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        await connection.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        state = _Parsed()
        parser = httptools.HttpResponseParser(state)
        while not state.headed:
            data = await connection.read()
            if not data:
                raise Unreachable(f"{target.netloc} closed the connection")
            parser.feed_data(data)
        kept = [(name, value) for name, value in state.headers if name.lower() not in _HOP_BY_HOP]
        return Answer(parser.get_status_code(), kept, connection, _parser=parser, _state=state)
    except (ConnectionError, httptools.HttpParserError) as error:
        connection.abort()
        raise Unreachable(f"{target.netloc}: {error}") from None
    except BaseException:
        connection.abort()
        raise


async def send_upgrade(
    target: Target, request: HttpRequest, path: str, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Pass an upgrade request on, with more headers.

    With status 101 the connection is the caller's to splice. Raises Unreachable.
    """
    connection = await dial(target.host, target.port, ssl_context=target.tls, server_name=target.server_name)
    try:
        lines = [f"{request.method} {path} HTTP/1.1", f"Host: {target.netloc}"]
        for name, value in request.headers.items():
            if name in _UPGRADE_HEADERS or name not in _HOP_BY_HOP:
                lines.append(f"{name}: {value}")
        lines += [_line(name, value) for name, value in headers]
        if request.body or request.method == "POST":
            lines.append(f"Content-Length: {len(request.body)}")
        await connection.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body)
        head = await connection.read_until(b"\r\n\r\n")
        state = _Parsed()
        parser = httptools.HttpResponseParser(state)
        with suppress(httptools.HttpParserUpgrade):
            parser.feed_data(head)
        return Answer(parser.get_status_code(), state.headers, connection, head, _parser=parser, _state=state)
    except (ConnectionError, httptools.HttpParserError) as error:
        connection.abort()
        raise Unreachable(f"{target.netloc}: {error}") from None
    except BaseException:
        connection.abort()
        raise

"""Port-forward as kubectl does it: SPDY/3.1 tunnelled in a WebSocket (KEP-4006), one stream pair a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from atoll.base.clock import Clock
from atoll.base.errors import ServerError
from atoll.client.credentials import Credentials
from atoll.client.kubeconfig import Access
from atoll.kinds.builtin import PODS
from atoll.wire.spdy import SpdySession, SpdyStream
from atoll.wire.tls import client_context
from atoll.wire.websocket import WebSocketConnection, connect

_TUNNEL = "SPDY/3.1+portforward.k8s.io"


@asynccontextmanager
async def forwarded(
    access: Access, clock: Clock, namespace: str, pod: str, port: int, *, timeout_seconds: float = 10.0
) -> AsyncIterator[SpdyStream]:
    """A byte stream to a port of a pod. Raises Unreachable, ApiError; a refused port ends the stream at once."""
    credentials = Credentials(access, clock)
    await credentials.renew()
    context = client_context(
        ca_pem=access.ca_pem,
        certificate_pem=credentials.certificate_pem,
        key_pem=credentials.key_pem,
        insecure=access.insecure,
    )
    socket = await connect(
        access.server + PODS.path(namespace, pod, "portforward"),
        subprotocols=[_TUNNEL],
        headers=dict(credentials.headers),
        ssl_context=context,
        server_name=access.tls_server_name,
        timeout_seconds=timeout_seconds,
    )
    try:
        async with SpdySession(WebSocketConnection(socket), server=False) as session:
            pair = [("port", str(port)), ("requestID", "0")]
            error = await session.open_stream([("streamType", "error"), *pair])
            await error.close()
            yield await session.open_stream([("streamType", "data"), *pair])
    finally:
        await socket.close()


async def http_get(
    access: Access, clock: Clock, namespace: str, pod: str, port: int, path: str = "/"
) -> tuple[int, bytes]:
    """(status, body) of an HTTP GET through a port-forward. Raises ServerError when the pod doesn't speak HTTP."""
    async with forwarded(access, clock, namespace, pod, port) as stream:
        host = urlsplit(access.server).hostname or "localhost"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        await stream.write(request.encode())
        data = b""
        while chunk := await stream.read():
            data += chunk
    head, separator, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise ServerError(f"{namespace}/{pod}: no HTTP answer on port {port}")
    return int(words[1]), body

"""Port-forward on the wire: SPDY/3.1, plain or tunnelled in a WebSocket, and the older WebSocket channels.

Each forwarded connection is dialled to the pod's own loopback, inside its network namespace.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.spdy import SpdyError, SpdySession, SpdyStream
from atoll.wire.spdy import is_upgrade as is_spdy
from atoll.wire.spdy import upgrade as spdy_upgrade
from atoll.wire.websocket import WebSocket, WebSocketClosed, WebSocketConnection, offered
from atoll.wire.websocket import is_upgrade as is_websocket
from atoll.wire.websocket import upgrade as websocket_upgrade

_PROTOCOL = "portforward.k8s.io"
_TUNNEL = f"SPDY/3.1+{_PROTOCOL}"
_CHANNELS = ("v4.channel.k8s.io", "channel.k8s.io")
Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connect to a port of the pod. Raises OSError."""


def upgrade(
    request: HttpRequest, ports: Sequence[int], dial: Dial, describe: Callable[[int, OSError], str]
) -> HttpResponse:
    """The response that turns the request into a port-forward; 400 where it can't be."""

    async def serve(session: SpdySession) -> None:
        await _serve_spdy(session, dial, describe)

    if is_websocket(request):
        if _TUNNEL in offered(request):

            async def tunnel(socket: WebSocket) -> None:
                async with SpdySession(WebSocketConnection(socket), server=True) as session:
                    await serve(session)

            return websocket_upgrade(request, (_TUNNEL,), tunnel)
        if not ports:
            return HttpResponse(400, [("Content-Type", "text/plain")], b'query parameter "port" is required\n')

        async def channels(socket: WebSocket) -> None:
            await _serve_channels(socket, ports, dial, describe)

        return websocket_upgrade(request, (*_CHANNELS, ""), channels)
    if is_spdy(request):
        return spdy_upgrade(request, serve, headers=[("X-Stream-Protocol-Version", _PROTOCOL)])
    return HttpResponse(400, [("Content-Type", "text/plain")], b"Upgrade request required")


async def _serve_spdy(session: SpdySession, dial: Dial, describe: Callable[[int, OSError], str]) -> None:
    pairs: dict[str, dict[str, SpdyStream]] = {}
    running: set[asyncio.Task[None]] = set()
    try:
        while (stream := await session.accept_stream()) is not None:
            kind = stream.headers.get("streamtype", "")
            if kind not in ("data", "error") or not stream.headers.get("port", "").isdigit():
                await stream.reset()
                continue
            number = stream.headers.get("requestid") or str(stream.number - (2 if kind == "data" else 0))
            pair = pairs.setdefault(number, {})
            pair[kind] = stream
            if len(pair) == 2:
                del pairs[number]
                task = asyncio.ensure_future(_forward_pair(pair["data"], pair["error"], dial, describe))
                running.add(task)
                task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _forward_pair(
    data: SpdyStream, error: SpdyStream, dial: Dial, describe: Callable[[int, OSError], str]
) -> None:
    port = int(data.headers["port"])
    try:
        reader, writer = await dial(port)
    except OSError as failure:
        with suppress(SpdyError):
            await error.write(describe(port, failure).encode())
        await error.close()
        await data.close()
        return

    async def inwards() -> None:
        with suppress(ConnectionError):
            while chunk := await data.read():
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def outwards() -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(32 * 1024):
                await data.write(chunk)
        await data.close()

    await _both(inwards(), outwards(), writer)
    await error.close()


async def _both(inwards: Awaitable[None], outwards: Awaitable[None], writer: asyncio.StreamWriter) -> None:
    """The pod's end of the connection decides; the caller's is only its half."""
    sending = asyncio.ensure_future(inwards)
    try:
        await outwards
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def _serve_channels(
    socket: WebSocket, ports: Sequence[int], dial: Dial, describe: Callable[[int, OSError], str]
) -> None:
    """Channel 2n is the n-th port's data, 2n+1 its error; each begins with the port as two bytes."""
    writers: dict[int, asyncio.StreamWriter] = {}
    tasks: list[asyncio.Future[None]] = []

    async def outwards(channel: int, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(32 * 1024):
                await socket.send(bytes((channel,)) + chunk)

    try:
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await socket.send(bytes((channel,)) + struct.pack("<H", port))
            try:
                reader, writers[2 * index] = await dial(port)
            except OSError as failure:
                await socket.send(bytes((2 * index + 1,)) + describe(port, failure).encode())
                continue
            tasks.append(asyncio.ensure_future(outwards(2 * index, reader)))
        receiving = asyncio.ensure_future(_receive_channels(socket, writers))
        tasks.append(receiving)
        while tasks and not receiving.done():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if all(task.done() for task in tasks if task is not receiving):
                break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers.values():
            writer.close()


async def _receive_channels(socket: WebSocket, writers: dict[int, asyncio.StreamWriter]) -> None:
    with suppress(WebSocketClosed, ConnectionError):
        while True:
            message = await socket.receive()
            data = message.encode() if isinstance(message, str) else message
            writer = writers.get(data[0]) if data else None
            if writer is not None:
                writer.write(data[1:])
                await writer.drain()

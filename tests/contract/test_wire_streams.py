"""WebSocket and SPDY/3.1, our client against our server; SPDY in a WebSocket as Kubernetes tunnels it."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable

import pytest

from atoll.base.errors import ApiError, Unreachable
from atoll.wire import spdy, websocket
from atoll.wire.connection import RawConnection, dial
from atoll.wire.messages import Connection, HttpRequest, HttpResponse
from atoll.wire.server import Server, bind, serve
from atoll.wire.spdy import SpdyError, SpdySession
from atoll.wire.websocket import WebSocket, WebSocketClosed, WebSocketConnection


async def echo_messages(socket: WebSocket) -> None:
    while True:
        message = await socket.receive()
        if message == "close me":
            await socket.close(4001, "as you wish")
        await socket.send(message)


async def echo_streams(session: SpdySession) -> None:
    async def echo(stream: spdy.SpdyStream) -> None:
        await stream.write(f"{stream.headers['streamtype']}:".encode())
        while data := await stream.read():
            await stream.write(data)
        await stream.close()

    async with asyncio.TaskGroup() as group:
        while (stream := await session.accept_stream()) is not None:
            if stream.headers["streamtype"] == "reset":
                await stream.reset()
            else:
                group.create_task(echo(stream))


async def handler(request: HttpRequest) -> HttpResponse:
    async def tunnelled(socket: WebSocket) -> None:
        async with SpdySession(WebSocketConnection(socket), server=True) as session:
            await echo_streams(session)

    if request.path == "/ws":
        return websocket.upgrade(request, ("v5.channel.k8s.io", "v4.channel.k8s.io"), echo_messages, most_bytes=4 << 20)
    if request.path == "/tunnel":
        return websocket.upgrade(request, ("SPDY/3.1+portforward.k8s.io",), tunnelled)
    return spdy.upgrade(request, echo_streams, headers=[("X-Stream-Protocol-Version", "v4.channel.k8s.io")])


def play(scenario: Callable[[Server], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await serve(handler)
        try:
            await asyncio.wait_for(scenario(server), 20)
        finally:
            await server.close()

    asyncio.run(main())


async def spdy_connection(server: Server) -> RawConnection:
    connection = await dial("127.0.0.1", server.port)
    head = "POST /spdy HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
    await connection.write(head.encode())
    answer = await connection.read_until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ") and b"X-Stream-Protocol-Version: v4.channel.k8s.io" in answer
    return connection


def test_websocket_messages_of_all_sizes() -> None:
    async def scenario(server: Server) -> None:
        url = f"ws://127.0.0.1:{server.port}/ws"
        socket = await websocket.connect(url, subprotocols=("other", "v4.channel.k8s.io", "v5.channel.k8s.io"))
        assert socket.subprotocol == "v4.channel.k8s.io"
        for message in ("", "text é", b"", b"\0\1", b"x" * 3_000_000):
            await socket.send(message)
            assert await socket.receive() == message
        await socket.ping(b"are you there")
        await socket.send("after the ping")
        assert await socket.receive() == "after the ping"
        await socket.send("close me")
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "as you wish")
        with pytest.raises(WebSocketClosed):
            await socket.send("too late")
        await socket.close()

    play(scenario)


def test_websocket_refusals() -> None:
    async def scenario(server: Server) -> None:
        with pytest.raises(ApiError, match="subprotocols") as caught:
            await websocket.connect(f"ws://127.0.0.1:{server.port}/ws", subprotocols=("other",))
        assert caught.value.code == 400
        with pytest.raises(ApiError):
            await websocket.connect(f"ws://127.0.0.1:{server.port}/spdy")
        connection = await dial("127.0.0.1", server.port)
        await connection.write(b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await connection.read()).startswith(b"HTTP/1.1 400 ")
        await connection.close()
        held = bind("127.0.0.1", 0)
        with pytest.raises(Unreachable):
            await websocket.connect(f"ws://127.0.0.1:{held.getsockname()[1]}/ws")
        held.close()

    play(scenario)


def test_websocket_messages_too_big_or_malformed_end_it() -> None:
    async def scenario(server: Server) -> None:
        url = f"ws://127.0.0.1:{server.port}/ws"
        socket = await websocket.connect(url, subprotocols=("v5.channel.k8s.io",))
        await socket.send(b"x" * (5 << 20))
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
        assert caught.value.code in (websocket.TOO_BIG, websocket.ABNORMAL)
        await socket.close()
        connection = await dial("127.0.0.1", server.port)
        head = (
            "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        )
        await connection.write(head.encode() + b"\xff\xff\xff\xff")
        assert (await connection.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        frame = await connection.read_exactly(4)
        assert frame[0] == 0x88 and struct.unpack(">H", frame[2:4])[0] == websocket.PROTOCOL_ERROR
        await connection.close()

    play(scenario)


def test_a_lost_connection_is_an_abnormal_closure() -> None:
    async def scenario(server: Server) -> None:
        socket = await websocket.connect(f"ws://127.0.0.1:{server.port}/ws", subprotocols=("v5.channel.k8s.io",))
        for connection in [task for task in asyncio.all_tasks() if "HttpProtocol" in repr(task.get_coro())]:
            connection.cancel()
        with pytest.raises(WebSocketClosed):
            await socket.receive()
        await socket.close()

    play(scenario)


async def use_streams(session: SpdySession) -> None:
    """Several streams at once, each its own bytes."""
    streams = [await session.open_stream([("streamType", f"s{number}")]) for number in range(5)]

    async def exchange(number: int) -> None:
        stream = streams[number]
        sent = bytes([number]) * 300_000
        received = b""

        async def read() -> None:
            nonlocal received
            while data := await stream.read():
                received += data

        reading = asyncio.ensure_future(read())
        await stream.write(sent)
        await stream.close()
        await reading
        assert received == f"s{number}:".encode() + sent

    await asyncio.gather(*(exchange(number) for number in range(5)))
    await session.ping()
    stream = await session.open_stream([("streamType", "reset")])
    with pytest.raises(SpdyError, match="reset"):
        await stream.read()


def test_spdy_streams() -> None:
    async def scenario(server: Server) -> None:
        async with SpdySession(await spdy_connection(server), server=False) as session:
            await use_streams(session)

    play(scenario)


def test_spdy_in_a_websocket() -> None:
    async def scenario(server: Server) -> None:
        url = f"ws://127.0.0.1:{server.port}/tunnel"
        socket = await websocket.connect(url, subprotocols=("SPDY/3.1+portforward.k8s.io",))
        async with SpdySession(WebSocketConnection(socket), server=False) as session:
            await use_streams(session)

    play(scenario)


def test_a_reader_that_stops_holds_back_only_its_session() -> None:
    async def scenario(server: Server) -> None:
        async with SpdySession(await spdy_connection(server), server=False) as session:
            stream = await session.open_stream([("streamType", "s")])
            writing = asyncio.ensure_future(stream.write(b"x" * (64 << 20)))
            done, _ = await asyncio.wait([writing], timeout=0.5)
            assert not done  # nobody reads the echo: the writer is held back
            received = 0
            while received < 64 << 20:
                received += len(await stream.read())
            await writing
            await stream.close()

    play(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", (0x8002 << 16) | 1, 0),
        struct.pack(">II", (0x8003 << 16) | 1, 4 << 20),
        struct.pack(">II", (0x8003 << 16) | 1, 4) + b"\0\0\0\1",
        struct.pack(">II", (0x8003 << 16) | 1, 14) + struct.pack(">IIH", 1, 0, 0) + b"\xff\xff\xff\xff",
        struct.pack(">II", (0x8003 << 16) | 6, 1) + b"\0",
    ],
    ids=["version", "too large", "no headers", "not zlib", "short ping"],
)
def test_malformed_spdy_ends_the_session(frame: bytes) -> None:
    async def scenario(server: Server) -> None:
        connection = await spdy_connection(server)
        await connection.write(frame)
        goaway = await connection.read_exactly(8)
        assert struct.unpack(">I", goaway[:4])[0] == (0x8003 << 16) | 7
        await connection.close()

    play(scenario)


def test_truncated_spdy_headers() -> None:
    class Nothing:
        async def read(self) -> bytes:
            return b""

        async def write(self, data: bytes) -> None: ...
        async def close(self) -> None: ...

    connection: Connection = Nothing()
    session = SpdySession(connection, server=True)
    compressor = zlib.compressobj(zdict=spdy.DICTIONARY)
    block = compressor.compress(struct.pack(">II", 1, 99) + b"abc") + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError):
        session._read_headers(block)

"""HTTP/2 on real sockets: what test_wire_server asks of the server, many requests on one connection, and its floods."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority, subject_of
from atoll.wire.connection import dial
from atoll.wire.http2 import frames, incoming
from atoll.wire.http2.frames import ErrorCode
from atoll.wire.limits import Limits
from atoll.wire.messages import Connection, Handler, HttpRequest, HttpResponse, Immediate
from atoll.wire.server import Server, serve
from atoll.wire.tls import client_context, server_context

sys.path.insert(0, str(Path(__file__).parent.parent))
from http2_peer import Peer, block, frame, literal, request_fields

CA = CertificateAuthority.create("ca", SystemClock())
SERVING = CA.server("server", addresses=["127.0.0.1"])
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


async def echo(request: HttpRequest) -> HttpResponse:
    shown = f"{request.method} {request.path}?{request.query} {len(request.body)}".encode()
    seen = [("X-Seen", request.headers.get("x-a", "")), ("X-Each", "|".join(request.values("x-a")))]
    return HttpResponse(200, [*seen, ("X-Host", request.headers["host"])], shown)


class Lab:
    """A server and connections to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._peers: list[Peer] = []

    async def peer(self, settings: dict[int, int] | None = None, **client: bytes) -> Peer:
        self._peers.append(await Peer.connect(self.server.port, CA.certificate_pem, settings, **client))
        return self._peers[-1]

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()
        await self.server.close()


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """play(scenario, handler=echo, limits=…, immediate=…): a server, then the scenario with it."""

    def run(
        scenario: Callable[[Lab], Awaitable[None]],
        handler: Handler = echo,
        limits: Limits | None = None,
        immediate: Immediate | None = None,
    ) -> None:
        async def main() -> None:
            context = server_context(SERVING.certificate_pem, SERVING.key_pem, CA.certificate_pem)
            lab = Lab(await serve(handler, limits=limits, ssl_context=context, immediate=immediate))
            try:
                await asyncio.wait_for(scenario(lab), 30)
            finally:
                await lab.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


def test_requests_are_answered_as_they_are_done(play: Callable[..., None]) -> None:
    release: asyncio.Event | None = None

    async def handler(request: HttpRequest) -> HttpResponse:
        assert release is not None and request.http2
        if request.path == "/slow":
            await release.wait()
        else:
            release.set()
        return await echo(request)

    async def scenario(lab: Lab) -> None:
        nonlocal release
        release = asyncio.Event()
        peer = await lab.peer()
        slow, first = peer.begin(request_fields("GET", "/slow"))
        fast, second = peer.begin(request_fields("GET", "/fast?q=%20"))
        await peer.send(first, second)
        assert (await peer.answer(fast)).body == b"GET /fast?q=%20 0"
        assert (await peer.answer(slow)).body == b"GET /slow? 0"
        assert peer.settings == {3: 100, 4: 256 * 1024, 6: Limits().head_bytes}

    play(scenario, handler)


def test_bodies_heads_and_what_comes_with_them(play: Callable[..., None]) -> None:
    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        got = await peer.ask("POST", "/%2Fb", ("x-a", "1"), ("x-a", "2"), ("content-length", "3"), body=b"abc")
        assert (got.status, got.body) == (200, b"POST //b? 3")
        assert got.headers == {"x-seen": "1, 2", "x-each": "1|2", "x-host": "h", "content-length": "11"}
        number, head = peer.begin(request_fields("POST", "/", ("expect", "100-continue")), False)
        await peer.send(head)
        while not peer.streams[number].interim:
            assert await peer.step()
        trailers = frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, block([("x", "y")]))
        padded = frame(frames.DATA, frames.PADDED, number, b"\x03defg\0\0\0")
        await peer.send(frames.data(number, b"abc", False, 16384), padded, trailers)
        got = await peer.answer(number)
        assert got.interim == [100] and got.body == b"POST /? 7"
        got = await peer.ask("HEAD", "/h")
        assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "10")
        number, head = peer.begin([])
        fields = block(request_fields("GET", "/in-parts"))
        parts = frame(frames.HEADERS, 1, number, fields[:9]) + frame(frames.CONTINUATION, 4, number, fields[9:])
        await peer.send(parts)
        assert (await peer.answer(number)).body == b"GET /in-parts? 0"

    play(scenario)


def test_large_bodies_pass_both_ways(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=request.body)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer({4: 1 << 20})
        sent = bytes(range(256)) * 8192
        number, head = peer.begin(request_fields("PUT", "/"), False)
        await peer.send(head)
        await peer.upload(number, sent)
        got = peer.streams[number]
        given = 0
        while not got.ended:
            assert await peer.step()
            if len(got.body) - given > 30000:
                more = len(got.body) - given
                given += more
                await peer.send(frames.window_update(0, more), frames.window_update(number, more))
        assert got.body == sent

    play(scenario, handler)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (request_fields("GET", "/", ("connection", "Upgrade")), 400, ErrorCode.PROTOCOL_ERROR),
        (request_fields("GET", "/", ("x", "a\r\nb: c")), 400, ErrorCode.PROTOCOL_ERROR),
        (request_fields("GET", "/", ("X", "a")), 400, ErrorCode.PROTOCOL_ERROR),
        (request_fields("GET", "/\0"), 400, ErrorCode.PROTOCOL_ERROR),
        (request_fields("GET", "/" + "a" * 3000), 431, ErrorCode.NO_ERROR),
        (request_fields("GET", "/", *[(f"x{number}", "y" * 100) for number in range(20)]), 431, ErrorCode.NO_ERROR),
        (request_fields("POST", "/", ("content-length", "1001")), 413, ErrorCode.NO_ERROR),
        (request_fields("GET", "/fails"), 500, None),
        (request_fields("GET", "/hijacks"), 500, None),
    ],
)
def test_bad_requests_are_refused_alone(
    play: Callable[..., None], fields: list[tuple[str, str]], status: int, code: ErrorCode | None
) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        async def never(connection: Connection) -> None:
            raise AssertionError

        if request.path == "/fails":
            raise ValueError("secret")
        return HttpResponse(101, upgrade=never) if request.path == "/hijacks" else await echo(request)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        number, head = peer.begin(fields, status != 413)
        await peer.send(head)
        got = await peer.answer(number)
        assert got.status == status and b"secret" not in got.body
        if code is not None:
            while got.reset is None:
                assert await peer.step()
            assert got.reset == code
        assert (await peer.ask("GET", "/next")).body == b"GET /next? 0"

    play(scenario, handler, Limits(body_bytes=1000, head_bytes=2000))


def test_a_body_that_grows_too_large_or_is_not_as_announced(play: Callable[..., None]) -> None:
    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        number, head = peer.begin(request_fields("POST", "/"), False)
        await peer.send(head, *[frames.data(number, b"x" * 600, False, 16384)] * 4)
        assert (await peer.answer(number)).status == 413
        for announced in ("5", "7"):
            got = await peer.ask("POST", "/", ("content-length", announced), body=b"123456")
            assert (got.status, got.reset) == (0, ErrorCode.PROTOCOL_ERROR)
        assert (await peer.ask("POST", "/", ("content-length", "6"), body=b"123456")).body == b"POST /? 6"
        assert peer.goaway is None

    play(scenario, limits=Limits(body_bytes=1000))


def test_slow_clients_are_cut(play: Callable[..., None]) -> None:
    async def scenario(lab: Lab) -> None:
        silent = await dial("127.0.0.1", lab.server.port, ssl_context=_h2())
        slow_head, slow_body, idle = [await lab.peer() for _ in range(3)]
        await slow_head.send(frame(frames.HEADERS, 1, 1, b"\x82"))
        number, head = slow_body.begin(request_fields("POST", "/"), False)
        await slow_body.send(head)
        assert (await idle.ask()).status == 200
        assert (await slow_body.answer(number)).status == 408
        for peer in (slow_head, idle):
            await peer.until_closed()
            assert peer.goaway == ErrorCode.NO_ERROR
        with suppress(ConnectionError):
            while await silent.read():
                pass

    play(scenario, limits=Limits(head_seconds=0.1, body_idle_seconds=0.1, keep_alive_seconds=0.1))


def _h2() -> object:
    context = client_context(ca_pem=CA.certificate_pem)
    context.set_alpn_protocols(["h2"])
    return context


def test_a_stream_without_room_waits_and_the_others_go_on(play: Callable[..., None]) -> None:
    written = 0
    ended: asyncio.Event | None = None

    async def handler(request: HttpRequest) -> HttpResponse:
        async def endless() -> AsyncIterator[bytes]:
            nonlocal written
            assert ended is not None
            try:
                while True:
                    yield b"x" * 1000
                    written += 1
            finally:
                ended.set()

        return HttpResponse(stream=endless()) if request.path == "/endless" else await echo(request)

    async def scenario(lab: Lab) -> None:
        nonlocal ended
        ended = asyncio.Event()
        peer = await lab.peer({4: 10_000})
        number, head = peer.begin(request_fields("GET", "/endless"))
        await peer.send(head)
        got = peer.streams[number]
        while len(got.body) < 10_000:
            assert await peer.step()
        assert written == 10 and (await peer.ask("GET", "/other")).status == 200
        await peer.send(frames.window_update(number, 500))
        while len(got.body) < 10_500:
            assert await peer.step()
        await peer.send(frames.settings({4: 12_000}))
        while len(got.body) < 12_500:
            assert await peer.step()
        await peer.send(frames.reset(number, ErrorCode.CANCEL))
        await ended.wait()
        assert (await peer.ask("GET", "/after")).status == 200

    play(scenario, handler)


def test_who_never_makes_room_is_reset(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=b"x" * 100)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer({4: 10})
        got = await peer.ask()
        assert (got.status, got.body, got.reset) == (200, b"x" * 10, ErrorCode.CANCEL)

    play(scenario, handler, Limits(write_idle_seconds=0.1))


def test_handlers_end_with_their_stream_or_connection(play: Callable[..., None]) -> None:
    begun: asyncio.Queue[str] | None = None
    ended: asyncio.Queue[str] | None = None

    async def handler(request: HttpRequest) -> HttpResponse:
        assert begun is not None and ended is not None
        begun.put_nowait(request.path)
        try:
            await asyncio.Event().wait()
        finally:
            ended.put_nowait(request.path)
        raise AssertionError

    async def scenario(lab: Lab) -> None:
        nonlocal begun, ended
        begun, ended = asyncio.Queue(), asyncio.Queue()
        peer = await lab.peer()
        first, one = peer.begin(request_fields("GET", "/1"))
        _, two = peer.begin(request_fields("GET", "/2"))
        await peer.send(one, two)
        assert {await begun.get(), await begun.get()} == {"/1", "/2"}
        await peer.send(frames.reset(first, ErrorCode.CANCEL))
        assert await ended.get() == "/1"
        await peer.close()
        assert await ended.get() == "/2"

    play(scenario, handler)


def test_a_stream_that_fails_is_reset(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        async def failing() -> AsyncIterator[bytes]:
            yield b"begun"
            raise ValueError("secret")

        return HttpResponse(stream=failing()) if request.path == "/fails" else await echo(request)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        got = await peer.ask("GET", "/fails")
        assert (got.body, got.ended, got.reset) == (b"begun", False, ErrorCode.INTERNAL_ERROR)
        assert (await peer.ask()).status == 200

    play(scenario, handler)


def test_closing_ends_streams_and_lets_requests_finish(play: Callable[..., None]) -> None:
    async def scenario(lab: Lab) -> None:
        release, begun = asyncio.Event(), asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            async def stream() -> AsyncIterator[bytes]:
                yield b"event"
                await asyncio.Event().wait()

            if request.path == "/watch":
                return HttpResponse(stream=stream())
            begun.set()
            await release.wait()
            return HttpResponse(body=b"done")

        lab.server.handler = handler
        peer, idle = await lab.peer(), await lab.peer()
        watch, first = peer.begin(request_fields("GET", "/watch"))
        slow, second = peer.begin(request_fields("GET", "/slow"))
        await peer.send(first, second)
        await begun.wait()
        while peer.streams[watch].body != b"event":
            assert await peer.step()
        closing = asyncio.ensure_future(lab.server.close(5))
        assert (await peer.answer(watch)).ended and peer.goaway == ErrorCode.NO_ERROR
        late, third = peer.begin(request_fields("GET", "/late"))
        await peer.send(third)
        release.set()
        assert (await peer.answer(slow)).body == b"done"
        for each in (peer, idle):
            await each.until_closed()
        assert not peer.streams[late].status and idle.goaway == ErrorCode.NO_ERROR
        await closing

    play(scenario)


def test_an_answer_may_end_its_connection(play: Callable[..., None]) -> None:
    def immediate(request: HttpRequest) -> HttpResponse | None:
        return HttpResponse(headers=[("Connection", "close")], body=b"go") if request.path == "/go" else None

    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers=[("connection", "close")])

    async def scenario(lab: Lab) -> None:
        for path in ("/go", "/leave"):
            peer = await lab.peer()
            got = await peer.ask("GET", path)
            assert got.status == 200 and "connection" not in got.headers
            await peer.until_closed()
            assert peer.goaway == ErrorCode.NO_ERROR

    play(scenario, handler, immediate=immediate)


def test_large_answers_are_compressed_when_asked(play: Callable[..., None]) -> None:
    big = b"0123456789" * 50_000

    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers=[("X-A", "a\r\nX-Evil: b")], body=big)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer({4: 1 << 20})
        await peer.send(frames.window_update(0, 1 << 20))
        got = await peer.ask("GET", "/", ("accept-encoding", "gzip"))
        assert got.headers["content-encoding"] == "gzip" and gzip.decompress(got.body) == big
        assert "x-evil" not in got.headers
        assert (await peer.ask()).body == big

    play(scenario, handler)


def test_certificates_and_older_clients(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        assert request.remote.startswith("127.0.0.1:")
        who = subject_of(request.peer_certificate).common_name if request.peer_certificate else "nobody"
        return HttpResponse(body=f"{who} {request.http2}".encode())

    async def scenario(lab: Lab) -> None:
        assert (await (await lab.peer()).ask()).body == b"nobody True"
        alice = CA.client("alice")
        peer = await lab.peer(certificate_pem=alice.certificate_pem, key_pem=alice.key_pem)
        assert (await peer.ask()).body == b"alice True"
        older = await dial("127.0.0.1", lab.server.port, ssl_context=client_context(ca_pem=CA.certificate_pem))
        await older.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await older.read_until(b"False")).startswith(b"HTTP/1.1 200")
        await older.close()

    play(scenario, handler)


def test_no_more_than_a_hundred_at_once(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        begun = [peer.begin(request_fields()) for _ in range(101)]
        await peer.send(*(head for _, head in begun))
        assert (await peer.answer(begun[-1][0])).reset == ErrorCode.REFUSED_STREAM
        assert not any(peer.streams[number].reset for number, _ in begun[:-1])

    play(scenario, handler)


def flood(name: str) -> list[bytes]:
    opened = block(request_fields())
    whole = frames.END_HEADERS | frames.END_STREAM
    if name == "rapid resets":
        numbers = range(1, 1600, 2)
        return [frame(frames.HEADERS, whole, at, opened) + frames.reset(at, ErrorCode.CANCEL) for at in numbers]
    if name == "resets by fault":
        numbers = range(1, 1600, 2)
        return [frame(frames.HEADERS, whole, at, opened) + frame(8, 0, at, b"\0" * 4) for at in numbers]
    if name == "continuations":
        return [frame(frames.HEADERS, 1, 1, b""), *[frame(frames.CONTINUATION, 0, 1, b"")] * 1000]
    if name == "pings":
        return [frame(frames.PING, 0, 0, b"x" * 8)] * 20_000
    if name == "settings":
        return [frames.settings({4: 1000})] * 20_000
    if name == "priorities":
        return [frame(frames.PRIORITY, 0, 1, b"\0\0\0\3\0")] * 20_000
    assert name == "empty data"
    return [frame(frames.HEADERS, frames.END_HEADERS, 1, block(request_fields("POST")))] + [frame(0, 0, 1)] * 20_000


@pytest.mark.parametrize(
    "name",
    ["rapid resets", "resets by fault", "continuations", "pings", "settings", "priorities", "empty data"],
)
def test_floods_end_their_connection(play: Callable[..., None], name: str) -> None:
    handled = 0

    async def handler(request: HttpRequest) -> HttpResponse:
        nonlocal handled
        handled += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario(lab: Lab) -> None:
        peer, other = await lab.peer(), await lab.peer()
        sending = asyncio.ensure_future(peer.send(*flood(name)))
        await peer.until_closed()
        with suppress(ConnectionError):
            await sending
        assert peer.goaway == ErrorCode.ENHANCE_YOUR_CALM and handled <= incoming.MOST_RESETS
        number, head = other.begin(request_fields())
        await other.send(head, frame(frames.PING, 0, 0, b"12345678"))
        while not other.pongs:
            assert await other.step()
        assert other.goaway is None and not other.streams[number].ended

    play(scenario, handler)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.window_update(0, (1 << 31) - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(frames.HEADERS, 5, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, 5, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.DATA, 1, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.reset(1, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
        (b"\xff" * 200, ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_faults_end_the_connection(play: Callable[..., None], data: bytes, code: ErrorCode) -> None:
    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        await peer.send(data)
        await peer.until_closed()
        assert peer.goaway == code

    play(scenario)


def test_a_bomb_of_headers_is_refused_and_the_table_goes_on(play: Callable[..., None]) -> None:
    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        bomb = block(request_fields()) + literal(b"x-a", b"y" * 3900, True) + b"\xbe" * 10_000
        number, _ = peer.begin([])
        await peer.send(frame(frames.HEADERS, 5, number, bomb))
        assert (await peer.answer(number)).status == 431
        number, _ = peer.begin([])
        await peer.send(frame(frames.HEADERS, 5, number, block(request_fields()) + b"\xbe"))
        assert (await peer.answer(number)).headers["x-seen"] == "y" * 3900

    play(scenario)


def test_bodies_that_never_end_are_bounded_together(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MOST_UPLOADING_BYTES", 20_000)

    async def scenario(lab: Lab) -> None:
        peer = await lab.peer()
        begun = [peer.begin(request_fields("POST"), False) for _ in range(3)]
        for number, head in begun:
            await peer.send(head, frames.data(number, b"x" * 9000, False, 16384))
        assert (await peer.answer(begun[2][0])).reset == ErrorCode.REFUSED_STREAM
        for number, _ in begun[:2]:
            await peer.send(frames.data(number, b"", True, 16384))
            assert (await peer.answer(number)).body == b"POST /? 9000"
        assert (await peer.ask("POST", body=b"x" * 15_000)).body == b"POST /? 15000"

    play(scenario)

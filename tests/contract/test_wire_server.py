"""The HTTP server on real sockets: good requests, bad ones, slow and vanishing clients, streams, hijacks, TLS."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority, subject_of
from atoll.wire.connection import RawConnection, dial, dial_unix
from atoll.wire.limits import Limits
from atoll.wire.messages import Connection, Handler, HttpRequest, HttpResponse, Immediate, Promise
from atoll.wire.server import Server, bind, serve
from atoll.wire.tls import client_context, server_context


async def echo(request: HttpRequest) -> HttpResponse:
    shown = f"{request.method} {request.path}?{request.query} {len(request.body)}".encode()
    seen = [("X-Seen", request.headers.get("x-a", "")), ("X-Each", "|".join(request.values("x-a")))]
    return HttpResponse(200, seen, shown)


LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """play(scenario, handler=echo, limits=…): a server, then the scenario with it."""

    def run(
        scenario: Callable[[Server], Awaitable[None]],
        handler: Handler = echo,
        limits: Limits | None = None,
        immediate: Immediate | None = None,
    ) -> None:
        async def main() -> None:
            server = await serve(handler, limits=limits, immediate=immediate)
            try:
                await asyncio.wait_for(scenario(server), 20)
            finally:
                await server.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def exchange(server: Server, data: bytes) -> bytes:
    """Send, and read until the server closes."""
    connection = await dial("127.0.0.1", server.port)
    await connection.write(data)
    received = b""
    with suppress(ConnectionError):
        while more := await connection.read():
            received += more
    await connection.close()
    return received


def head(method: str = "GET", target: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode()


def test_requests_on_one_connection_are_answered_in_order(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        piped = head(target="/1?q=%20") + head("POST", "/2%2Fb", "Content-Length: 3") + b"abc" + head("HEAD", "/3")
        received = await exchange(server, piped + head("DELETE", "/4", "Connection: close"))
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 4
        bodies = [b"GET /1?q=%20 0", b"POST /2/b? 3", b"DELETE /4? 0"]
        assert [received.index(body) for body in bodies] == sorted(received.index(body) for body in bodies)
        assert b"HEAD /3" not in received and b"Content-Length: 10\r\n" in received

    play(scenario)


def test_chunked_bodies_repeated_headers_and_continue(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        request = head(
            "POST", "/", "X-A: 1", "X-a: 2", "Expect: 100-continue", "Transfer-Encoding: chunked", "Connection: close"
        )
        received = await exchange(server, request + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert b"X-Seen: 1, 2\r\n" in received and b"X-Each: 1|2\r\n" in received and received.endswith(b"POST /? 7")

    play(scenario)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (head("POST", "/", "Content-Length: x"), 400),
        (head("POST", "/", "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 431),
        (head("GET", "/", "X-A: " + "b" * 3000), 431),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * 3000, 431),
        (head("POST", "/", "Content-Length: 1001"), 413),
        (head("POST", "/", "Transfer-Encoding: chunked") + b"3e9\r\n" + b"x" * 1001, 413),
        (head("GET", "/fails"), 500),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_bad_requests_are_answered_and_closed(play: Callable[..., None], data: bytes, status: int) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        if request.path == "/fails":
            raise ValueError("secret")
        return await echo(request)

    async def scenario(server: Server) -> None:
        data_and_more = data if status != 500 else data.replace(b"Host", b"Connection: close\r\nHost")
        received = await exchange(server, data_and_more)
        assert received.startswith(f"HTTP/1.1 {status} ".encode()), received
        assert b"Traceback" not in received and b"secret" not in received and received.count(b"HTTP/1.1") == 1
        assert (await exchange(server, head("GET", "/", "Connection: close"))).startswith(b"HTTP/1.1 200")

    play(scenario, handler, Limits(body_bytes=1000, head_bytes=2000))


def test_a_bad_request_waits_for_the_answer_before_it(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        received = await exchange(server, head(target="/good") + b"BAD\r\n\r\n")
        assert received.index(b"200 OK") < received.index(b"400 Bad Request")

    play(scenario)


def test_a_large_refused_body_does_not_lose_the_answer(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        request = head("POST", "/", "Content-Length: 3000000")
        received = await exchange(server, request + b"x" * 3_000_000)
        assert received.startswith(b"HTTP/1.1 413 ")

    play(scenario, limits=Limits(body_bytes=1000))


def test_slow_clients_are_cut(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        slow = [b"", b"GET / HT", head("POST", "/", "Content-Length: 5") + b"ab", head()]
        received = await asyncio.gather(*(exchange(server, data) for data in slow))
        assert received[0] == b"" and received[1] == b""
        assert received[2].startswith(b"HTTP/1.1 408 ")
        assert received[3].startswith(b"HTTP/1.1 200 ")  # and then idle for too long

    play(scenario, limits=Limits(head_seconds=0.1, body_idle_seconds=0.1, keep_alive_seconds=0.1))


def test_streams_are_chunked_and_end_when_the_client_goes(play: Callable[..., None]) -> None:
    ended: asyncio.Event | None = None
    written = 0

    async def handler(request: HttpRequest) -> HttpResponse:
        async def short() -> AsyncIterator[bytes]:
            yield b"one"
            yield b""
            yield b"three"

        async def endless() -> AsyncIterator[bytes]:
            nonlocal written
            assert ended is not None
            try:
                while True:
                    yield b"x" * 65536
                    written += 1
            finally:
                ended.set()

        async def silent() -> AsyncIterator[bytes]:
            assert ended is not None
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return HttpResponse(stream={"/short": short, "/endless": endless, "/silent": silent}[request.path]())

    async def scenario(server: Server) -> None:
        nonlocal ended
        received = await exchange(server, head("GET", "/short") + head("GET", "/short", "Connection: close"))
        assert received.count(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n") == 2
        received = await exchange(server, b"GET /short HTTP/1.0\r\n\r\n")
        assert received.endswith(b"\r\n\r\nonethree")
        for path in ("/endless", "/silent"):
            ended = asyncio.Event()
            connection = await dial("127.0.0.1", server.port)
            await connection.write(head("GET", path))
            await connection.read_until(b"\r\n\r\n")
            if path == "/endless":  # written only as far as the client reads, and buffers hold
                before = -1
                while before != written:
                    before = written
                    await asyncio.sleep(0.05)
                assert written < 1000
            connection.abort()
            await ended.wait()

    play(scenario, handler)


def test_a_handler_is_cancelled_when_its_client_goes(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        server.handler = handler
        connection = await dial("127.0.0.1", server.port)
        await connection.write(head())
        await begun.wait()
        connection.abort()
        await cancelled.wait()

    play(scenario)


def test_closing_ends_streams_cleanly_and_lets_requests_finish(play: Callable[..., None]) -> None:
    async def scenario(server: Server) -> None:
        release, begun, port = asyncio.Event(), asyncio.Event(), server.port

        async def handler(request: HttpRequest) -> HttpResponse:
            async def stream() -> AsyncIterator[bytes]:
                yield b"event"
                await asyncio.Event().wait()

            if request.path == "/watch":
                return HttpResponse(stream=stream())
            begun.set()
            await release.wait()
            return HttpResponse(body=b"done")

        server.handler = handler
        watch = await dial("127.0.0.1", server.port)
        await watch.write(head("GET", "/watch"))
        await watch.read_until(b"event\r\n")
        slow = asyncio.ensure_future(exchange(server, head("GET", "/slow")))
        await begun.wait()
        idle = await dial("127.0.0.1", server.port)
        closing = asyncio.ensure_future(server.close(5))
        assert await watch.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert await idle.read() == b""
        release.set()
        answered = await slow
        assert answered.endswith(b"done") and b"Connection: close" in answered
        await closing
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)

    play(scenario)


def test_a_hijacked_connection_is_raw(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        async def serve_raw(connection: Connection) -> None:
            await connection.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            while data := await connection.read():
                await connection.write(data.upper())

        return HttpResponse(101, upgrade=serve_raw) if request.path == "/raw" else await echo(request)

    async def scenario(server: Server) -> None:
        connection = await dial("127.0.0.1", server.port)
        await connection.write(head("GET", "/raw", "Connection: Upgrade", "Upgrade: mine") + b"early")
        assert await connection.read_until(b"EARLY") == b"HTTP/1.1 101 Switching Protocols\r\n\r\nEARLY"
        await connection.write(b"x" * 2_000_000)
        assert await connection.read_exactly(2_000_000) == b"X" * 2_000_000
        await connection.close()
        declined = head("GET", "/no", "Connection: Upgrade", "Upgrade: h2c")
        received = await exchange(server, declined + head("GET", "/next", "Connection: close"))
        assert received.index(b"GET /no? 0") < received.index(b"GET /next? 0")

    play(scenario, handler)


def test_large_answers_are_compressed_when_asked(play: Callable[..., None]) -> None:
    big = b"0123456789" * 50_000

    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=big if request.path == "/big" else b"small")

    async def scenario(server: Server) -> None:
        asked = ("Accept-Encoding: gzip", "Connection: close")
        headers, _, body = (await exchange(server, head("GET", "/big", *asked))).partition(b"\r\n\r\n")
        assert b"Content-Encoding: gzip" in headers and gzip.decompress(body) == big
        assert b"Content-Encoding" not in await exchange(server, head("GET", "/small", *asked))
        assert (await exchange(server, head("GET", "/big", "Connection: close"))).endswith(big)

    play(scenario, handler)


class Promises:
    """Promises what is posted to /later; its body comes back when the test says so."""

    def __init__(self) -> None:
        self.made: list[Promise] = []
        self.promised = asyncio.Event()

    def __call__(self, request: HttpRequest) -> Promise | None:
        if request.path != "/later":
            return None
        self.made.append(Promise())
        self.promised.set()
        return self.made[-1]

    async def keep(self, body: bytes) -> None:
        """Answer the next one."""
        await self.promised.wait()
        self.promised.clear()
        self.made.pop(0).respond(HttpResponse(201, [], body))


def test_promised_answers_come_in_order_with_the_others(play: Callable[..., None]) -> None:
    promises = Promises()

    async def scenario(server: Server) -> None:
        later, last = head("POST", "/later"), head("POST", "/last", "Connection: close")
        answered = asyncio.create_task(exchange(server, later + later + head("GET", "/3") + last))
        for body in (b"first", b"second"):
            await promises.keep(body)
        received = await answered
        found = [received.index(part) for part in (b"first", b"second", b"GET /3", b"POST /last")]
        assert found == sorted(found)
        assert received.count(b"HTTP/1.1 201 Created\r\n") == 2 and received.count(b"HTTP/1.1 200 OK\r\n") == 2

    play(scenario, immediate=promises)


def test_a_promise_outlives_its_client_and_is_kept_while_closing(play: Callable[..., None]) -> None:
    promises = Promises()

    async def scenario(server: Server) -> None:
        gone = await dial("127.0.0.1", server.port)
        await gone.write(head("POST", "/later"))
        await promises.promised.wait()
        await gone.close()
        while server.connections:
            await asyncio.sleep(0)
        await promises.keep(b"nobody reads it")
        staying = asyncio.create_task(exchange(server, head("POST", "/later")))
        await promises.promised.wait()
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        await promises.keep(b"kept")
        await closing
        received = await staying
        assert received.endswith(b"kept") and b"Connection: close\r\n" in received

    play(scenario, immediate=promises)


def test_large_promised_answers_are_compressed_too(play: Callable[..., None]) -> None:
    promises = Promises()

    async def scenario(server: Server) -> None:
        later = head("POST", "/later", "Accept-Encoding: gzip") + head("GET", "/", "Connection: close")
        answered = asyncio.create_task(exchange(server, later))
        await promises.keep(b"x" * 200_000)
        received = await answered
        assert b"Content-Encoding: gzip\r\n" in received and len(received) < 10_000 and b"GET /? 0" in received

    play(scenario, immediate=promises)


def test_a_header_value_cannot_start_another_header(play: Callable[..., None]) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers=[("X-A", "a\r\nX-Evil: b")])

    async def scenario(server: Server) -> None:
        received = await exchange(server, head("GET", "/", "Connection: close"))
        assert b"\r\nX-Evil" not in received and b"X-A: a" in received

    play(scenario, handler)


def test_tls_with_and_without_a_client_certificate() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        if request.peer_certificate is None:
            return HttpResponse(body=b"nobody")
        subject = subject_of(request.peer_certificate)
        return HttpResponse(body=f"{subject.common_name} {','.join(subject.organizations)}".encode())

    async def main() -> None:
        ca = CertificateAuthority.create("ca", SystemClock())
        ours = ca.server("server", addresses=["127.0.0.1"])
        context = server_context(ours.certificate_pem, ours.key_pem, ca.certificate_pem)
        server = await serve(handler, ssl_context=context)
        alice = ca.client("alice", organizations=["a", "b"])
        stranger = CertificateAuthority.create("other", SystemClock()).client("mallory")

        async def ask(**options: bytes) -> bytes:
            connection = await dial(
                "127.0.0.1", server.port, ssl_context=client_context(ca_pem=ca.certificate_pem, **options)
            )
            await connection.write(head("GET", "/", "Connection: close"))
            received = b""
            while more := await connection.read():
                received += more
            return received.rpartition(b"\r\n")[2]

        assert await ask() == b"nobody"
        assert await ask(certificate_pem=alice.certificate_pem, key_pem=alice.key_pem) == b"alice a,b"
        with suppress(ConnectionError, ssl.SSLError):  # refused in the handshake, or at the first read
            assert await ask(certificate_pem=stranger.certificate_pem, key_pem=stranger.key_pem) == b""
        plain = await exchange(server, head())
        assert plain.startswith(b"HTTP/1.0 400 Bad Request") and b"HTTPS server" in plain
        await server.close()

    asyncio.run(main())


def test_unix_sockets_bound_sockets_and_a_port_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        server = await serve(echo, unix=path)
        connection = await dial_unix(path)
        assert isinstance(connection, RawConnection)
        await connection.write(head("GET", "/u", "Connection: close"))
        assert b"GET /u? 0" in await connection.read()
        await server.close()
        assert not path.exists()
        bound = bind("127.0.0.1", 0)
        server = await serve(echo, sockets=[bound])
        with pytest.raises(OSError):
            await serve(echo, "127.0.0.1", server.port)
        assert b"GET /b? 0" in await exchange(server, head("GET", "/b", "Connection: close"))
        await server.close()

    asyncio.run(main())

"""A server that remembers heads reads the same requests out of the same bytes as one whose parser reads each anew."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.wire.heads import Head, Heads
from atoll.wire.http1 import HttpProtocol
from atoll.wire.limits import Limits
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.server import Server

LIMITS = Limits(body_bytes=60, head_bytes=600)


class Forgetful(Heads):
    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        return None


class Counting(Heads):
    known: int = 0

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        found = super().read(data)
        self.known += found is not None
        return found


class Wire(asyncio.Transport):
    """Takes what is written; once closed it takes no more."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<eof>"

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def request(line: str, *headers: str, body: str = "", end: str = "\r\n") -> bytes:
    return (end.join([line, "Host: h", *headers, "", ""]) + body).encode("latin-1")


INNER = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n"
PLAIN = [
    request("GET /a?q=1 HTTP/1.1", "X-A: b"),
    request("GET /%61%2f HTTP/1.1", "X-A: b", "x-a: c"),
    request("GET /with-a-body HTTP/1.1", "Content-Length: 2", body="ab"),
    request("GET /kept HTTP/1.1", "Connection: keep-alive"),
    request("GET http://h/absolute?x HTTP/1.1"),
    request("HEAD /a HTTP/1.1"),
    request("GET /b/c-d_e.f~g:h@i,j/%20%2f?x=1&y=%3F&z=a+b(c)*d$e! HTTP/1.1"),
    request("DELETE /%zz?? HTTP/1.1"),
    request("POST /a HTTP/1.1", "Content-Length: 5", body="\r\n\r\na"),
    request("POST /a HTTP/1.1", f"Content-Length: {len(INNER) + 1}", body=INNER + "a"),
    request("PUT /a HTTP/1.1", "Content-Length: 003", body="abc"),
    request("DELETE /none HTTP/1.1", "Content-Length: 0"),
]
DOUBTFUL = [
    request("GET /old HTTP/1.0"),
    request("GET /old-kept HTTP/1.0", "Connection: keep-alive"),
    request("GET /last HTTP/1.1", "Connection: close"),
    request("GET /socket HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
    request("CONNECT h:1 HTTP/1.1"),
    request("OPTIONS /a HTTP/1.1"),
    request("POST /chunks HTTP/1.1", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"),
    request("POST /trailer HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\nX-A: t\r\n\r\n"),
    request("POST /both HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n" + INNER),
    request("POST /two HTTP/1.1", "Content-Length: 0", f"Content-Length: {len(INNER)}", body=INNER),
    request("POST /signed HTTP/1.1", "Content-Length: +0", body=INNER),
    request("POST /large HTTP/1.1", "Content-Length: 61", body="a" * 61),
    request("POST /short HTTP/1.1", "Content-Length: 9", body="abc"),
    request("POST /expects HTTP/1.1", "Expect: 100-continue", "Content-Length: 1", body="a"),
    request("GET /lines HTTP/1.1", "X-A: b", end="\n"),
    request("GET /mixed HTTP/1.1", "X-A: b\nX-B: c"),
    request("GET /folded HTTP/1.1", "X-A: b", " c"),
    request("GET /large-head HTTP/1.1", "X-A: " + "a" * 600),
    request("GET /space HTTP/1.1", "X-A : b"),
    request("get /lower HTTP/1.1"),
    request("POST /a HTTP/1.1", "Content-Length: 4", body="\r\n\r\n"),
    request("POST /a HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER),
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
]
LINES = [  # that the parser must judge
    request("GET /a#b HTTP/1.1"),
    request("GET /a  HTTP/1.1"),
    request("GET  /a HTTP/1.1"),
    request("GET /a HTTP/1.2"),
    request("GET /a HTTP/2.0"),
    request("GET /a"),
    request("GET * HTTP/1.1"),
    request("GET //a/../b HTTP/1.1"),
    request("GET /\xe4?\xfc HTTP/1.1"),
    request('GET /"<>[]{|}^`\\ HTTP/1.1'),
    request("PRI /a HTTP/1.1"),
    request("gET /a HTTP/1.1"),
]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


targets = st.text('/aZ9._~%&=?,:@!$()*+-#"<>[]{|}^`\\ \t\x7f\xe4\xff', max_size=9)
streams = st.lists(
    st.one_of(
        st.sampled_from(PLAIN + LINES).map(lambda whole: [whole]),  # one request a read, as most clients send
        targets.map(lambda target: [request(f"GET /{target} HTTP/1.1")]),
        st.builds(split, st.sampled_from(PLAIN + DOUBTFUL), st.lists(st.integers(0, 200), max_size=2)),
        st.lists(st.sampled_from(PLAIN + DOUBTFUL), min_size=2, max_size=3).map(lambda parts: [b"".join(parts)]),
    ),
    min_size=1,
    max_size=12,
).map(lambda reads: [read for some in reads for read in some if read])


async def served(reads: list[bytes], heads: Heads, at_once: bool) -> tuple[list[HttpRequest], bytes, bool]:
    """(the requests as handled, what was written, whether the connection was closed)"""
    seen: list[HttpRequest] = []

    def answer(asked: HttpRequest) -> HttpResponse:
        seen.append(asked)
        return HttpResponse(200, [("X-Path", asked.path)], asked.body)

    async def handler(asked: HttpRequest) -> HttpResponse:
        return answer(asked)

    server = Server(handler, None, LIMITS, answer if at_once else None)
    server.heads = heads
    connection, wire = HttpProtocol(server), Wire()
    connection.connection_made(wire)
    for read in reads:
        if wire.closed:
            break
        connection.get_buffer(-1)[: len(read)] = read
        connection.buffer_updated(len(read))
        for _ in range(8):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return seen, wire.written, wire.closed


@settings(max_examples=300, deadline=None)
@given(streams, streams, st.booleans())
def test_what_is_remembered_changes_nothing(before: list[bytes], reads: list[bytes], at_once: bool) -> None:
    async def main() -> None:
        heads = Counting()
        await served(before, heads, at_once)  # on another connection of the server
        known = await served(reads, heads, at_once)
        assert known == await served(reads, Forgetful(), at_once)

    asyncio.run(main())


def test_whole_requests_are_known_again_and_doubtful_ones_never() -> None:
    async def main() -> None:
        for data in PLAIN:
            heads = Counting()
            seen, _, closed = await served([data] * 3, heads, True)
            assert (len(seen), closed, heads.known) == (3, False, 2), data
            assert seen[0] == seen[2]
        for data in DOUBTFUL:
            heads = Counting()
            for _ in range(3):
                await served([data], heads, True)
            assert not heads.known, data
        for data in LINES:
            heads = Counting()
            await served([request("GET /plain HTTP/1.1"), data], heads, True)
            assert heads.known == data.startswith(b"GET //a/../b "), data

    asyncio.run(main())


def test_another_line_under_known_fields_needs_no_parser() -> None:
    async def main() -> None:
        heads = Counting()
        seen, _, _ = await served([request(f"GET /{number}?q={number} HTTP/1.1") for number in range(3)], heads, True)
        assert heads.known == 2
        assert [(asked.path, asked.query, asked.target) for asked in seen] == [
            (f"/{number}", f"q={number}", f"/{number}?q={number}") for number in range(3)
        ]
        seen, _, _ = await served([request("POST /3 HTTP/1.1", "Content-Length: 1", body="a")], heads, True)
        assert (heads.known, seen[0].body) == (2, b"a")
        seen, _, _ = await served([request("PUT /4 HTTP/1.1", "Content-Length: 1", body="b")], heads, True)
        assert (heads.known, seen[0].method, seen[0].body) == (3, "PUT", b"b")

    asyncio.run(main())


def test_a_head_that_is_long_gone_is_read_anew() -> None:
    def asking(number: int) -> bytes:
        return request("GET /a HTTP/1.1", f"X-A: {number}")

    async def main() -> None:
        heads = Counting()
        await served([asking(number) for number in range(2000)], heads, True)
        assert not heads.known
        seen, _, _ = await served([asking(number) for number in (0, 1999)], heads, True)
        assert [asked.headers["x-a"] for asked in seen] == ["0", "1999"] and heads.known == 1

    asyncio.run(main())

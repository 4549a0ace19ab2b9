"""HTTP/2's parts that need no connection: header compression, frames, and what a request's head may be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from atoll.wire.http2 import frames, hpack, huffman
from atoll.wire.http2.frames import ConnectionFault, ErrorCode, FrameReader
from atoll.wire.http2.hpack import Decoder, HpackError
from atoll.wire.http2.request import Malformed, check_trailers, parse

sys.path.insert(0, str(Path(__file__).parent.parent))
from http2_peer import block, frame, literal, request_fields
from http2_recorder import Recorder


def decoded(decoder: Decoder, text: str) -> list[tuple[str, str]]:
    fields = decoder.decode(bytes.fromhex(text), 65536)
    assert fields is not None
    return [(name, value) for name, value, _ in fields]


def test_the_examples_of_rfc_7541() -> None:
    """C.4: three requests with Huffman coding on one connection."""
    decoder = Decoder()
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
    assert decoded(decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff") == first
    assert decoded(decoder, "8286 84be 5886 a8eb 1064 9cbf") == [*first, ("cache-control", "no-cache")]
    third = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), (":authority", "www.example.com")]
    found = decoded(decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")
    assert found == [*third, ("custom-key", "custom-value")]


def test_every_symbol_of_the_huffman_code() -> None:
    lengths = huffman.code_lengths()
    assert len(lengths) == 257 and sum(2.0**-length for length in lengths) == 1.0
    assert huffman.decode(bytes.fromhex("a8eb10649cbf")) == "no-cache"
    assert huffman.decode(bytes.fromhex("9d29ad171863c78f0b97c8e9ae82ae43d3")) == "https://www.example.com"
    for bad in ("ff", "ffffffff", "fffffffffc", "07ff", "00"):  # too much padding, or its wrong bits, or a cut code
        with pytest.raises(huffman.HuffmanError):
            huffman.decode(bytes.fromhex(bad))


def test_the_oldest_fields_leave_a_full_table() -> None:
    decoder = Decoder()
    decoder.decode(literal(b"a", b"1" * 2000, True) + literal(b"b", b"2" * 1990, True), 65536)
    assert [field.name for field in decoder.decode(b"\xbe\xbf", 65536) or []] == ["b", "a"]
    decoder.decode(literal(b"c", b"3" * 100, True), 65536)
    assert [field.name for field in decoder.decode(b"\xbe\xbf", 65536) or []] == ["c", "b"]
    with pytest.raises(HpackError):
        decoder.decode(b"\xc0", 65536)
    decoder.decode(literal(b"d", b"4" * 5000, True), 65536)  # larger than the table: it is empty now
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe", 65536)
    decoder.decode(literal(b"e", b"", True), 65536)
    decoder.decode(b"\x20\x3f\xe1\x1f", 65536)  # to 0 and back to 4096
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe", 65536)


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xff", b"\xff\xff\xff\xff\xff\xff\xff", b"\x40", b"\x00\x05ab", b"\x00\x81\xff\x00", b"\x3f\xe2\x1f",
     b"\x82\x20", b"\x7f\x00", b"\x00\x7f\xff\xff\xff\x7f"],
    ids=["index 0", "cut integer", "endless integer", "no name", "cut string", "padding", "larger table", "late update",
         "unknown name", "long string"],
)  # fmt: skip
def test_what_is_no_header_block(data: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(data, 65536)


def test_a_large_list_is_not_kept_but_the_table_goes_on() -> None:
    decoder = Decoder()
    bomb = literal(b"x", b"y" * 3900, True) + b"\xbe" * 60000
    assert decoder.decode(bomb, 65536) is None
    assert [field.value for field in decoder.decode(b"\xbe", 65536) or []] == ["y" * 3900]


def test_answers_are_the_same_for_all_and_clean() -> None:
    headers = (
        ("Content-Type", "a\r\nb"),
        ("Connection", "close"),
        ("X-Own", " v\0 "),
        ("Transfer-Encoding", "chunked"),
    )
    encoded, closing = hpack.encode(418, headers)
    fields = Decoder().decode(hpack.NO_TABLE + encoded + hpack.encoded_length(1234), 65536)
    assert closing and [tuple(field) for field in fields or []] == [
        (":status", "418", ""), ("content-type", "a  b", ""), ("x-own", "v", ""), ("content-length", "1234", ""),
    ]  # fmt: skip
    assert hpack.encode(200, ()) == (b"\x88", False)


def head_of(fields: list[tuple[str, str]]) -> object:
    found = Decoder().decode(block(fields), 65536)
    assert found is not None
    return parse(found)


def test_a_head() -> None:
    more = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("x", "2"), ("content-length", "7")]
    found = Decoder().decode(block([*request_fields("POST", "/a%20b?c=%20"), *more]), 65536)
    head = parse(found or [])
    assert (head.method, head.path, head.query, head.target) == ("POST", "/a b", "c=%20", "/a%20b?c=%20")
    assert head.headers == {"cookie": "a=1; b=2", "x": "1, 2", "content-length": "7", "host": "h"}
    assert head.repeated == {"cookie": ["a=1", "b=2"], "x": ["1", "2"]} and head.length == 7
    assert parse(Decoder().decode(block(request_fields("OPTIONS", "*")), 65536) or []).path == "*"


PSEUDO = {name: (name, value) for name, value in request_fields()}


@pytest.mark.parametrize(
    "fields",
    [
        [*request_fields(), ("Upper", "1")],
        [*request_fields(), ("", "1")],
        [*request_fields(), ("a b", "1")],
        [*request_fields(), ("x", "a\r\nHost: evil")],
        [*request_fields(), ("x", "a\0")],
        [*request_fields(), ("x", " a")],
        [*request_fields(), ("connection", "close")],
        [*request_fields(), ("transfer-encoding", "chunked")],
        [*request_fields(), ("upgrade", "websocket")],
        [*request_fields(), ("te", "gzip")],
        [*request_fields(), ("host", "another")],
        [*request_fields(), ("content-length", "-1")],
        [*request_fields(), ("content-length", "٣".encode().decode("latin-1"))],
        [*request_fields(), ("content-length", "1"), ("content-length", "2")],
        [*request_fields(), (":path", "/again")],
        [("x", "1"), *request_fields()],
        [*request_fields(), (":status", "200")],
        [*request_fields(), (":protocol", "websocket")],
        [PSEUDO[":method"], PSEUDO[":path"]],
        [PSEUDO[":method"], PSEUDO[":scheme"]],
        [PSEUDO[":path"], PSEUDO[":scheme"]],
        request_fields("GET", ""),
        request_fields("GET", "no/slash"),
        request_fields("GET", "*"),
        request_fields("GET", "/a b"),
        request_fields("GET", "/a\r\nX: y"),
        request_fields("G T", "/"),
        request_fields("CONNECT", "/"),
        [(":method", "GET"), (":scheme", "ftp"), (":path", "/")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a\nb")],
    ],
    ids=lambda fields: repr(fields[-1])[:40],
)
def test_malformed_heads(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Malformed):
        head_of(fields)


def test_trailers_hold_no_pseudo_headers() -> None:
    check_trailers(Decoder().decode(block([("x", "1")]), 65536) or [])
    for name in (":path", "Upper"):
        with pytest.raises(Malformed):
            check_trailers(Decoder().decode(block([(name, "1")]), 65536) or [])


START = frames.PREFACE + frames.settings({})
OPEN = frame(frames.HEADERS, 0, 1, b"abc")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n", ErrorCode.PROTOCOL_ERROR),
        (frames.PREFACE + frame(frames.PING, 0, 0, b"x" * 8), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.DATA, 0, 1, b"x" * 16385), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.DATA, 0, 0), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.DATA, frames.PADDED, 1), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.HEADERS, 4, 0), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.HEADERS, 0x24, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.HEADERS, 0x24, 1, b"\0\0\0\1\0abc"), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.PRIORITY, 0, 0, b"\0" * 5), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.RST_STREAM, 0, 1, b"\0" * 3), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.SETTINGS, 0, 0, b"\0" * 5), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.SETTINGS, 1, 0, b"\0" * 6), ErrorCode.FRAME_SIZE_ERROR),
        (START + frames.settings({2: 2}), ErrorCode.PROTOCOL_ERROR),
        (START + frames.settings({4: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (START + frames.settings({5: 100}), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.PING, 0, 0, b"\0" * 7), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.PING, 0, 1, b"\0" * 8), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.GOAWAY, 0, 0, b"\0" * 7), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.WINDOW_UPDATE, 0, 0, b"\0" * 4), ErrorCode.PROTOCOL_ERROR),
        (START + frame(frames.WINDOW_UPDATE, 0, 1, b"\0" * 5), ErrorCode.FRAME_SIZE_ERROR),
        (START + frame(frames.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
        (START + OPEN + frame(frames.CONTINUATION, 4, 3), ErrorCode.PROTOCOL_ERROR),
        (START + OPEN + frame(0x20, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (START + OPEN + frame(frames.CONTINUATION, 0, 1) * 100, ErrorCode.ENHANCE_YOUR_CALM),
        (START + OPEN + frame(frames.CONTINUATION, 0, 1, b"x" * 16384) * 5, ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_what_ends_a_connection(data: bytes, code: ErrorCode) -> None:
    recorder = Recorder()
    with pytest.raises(ConnectionFault) as caught:
        FrameReader(recorder, 65536).feed(data)
    assert caught.value.code is code and not recorder.calls[1:]


def test_what_only_ends_a_stream_or_nothing() -> None:
    recorder = Recorder()
    reader = FrameReader(recorder, 65536)
    reader.feed(START)
    reader.feed(frame(frames.PRIORITY, 0, 1, b"\0" * 4) + frame(frames.PRIORITY, 0, 3, b"\0\0\0\3\0"))
    reader.feed(frame(frames.WINDOW_UPDATE, 0, 5, b"\x80\0\0\0") + frame(0x77, 0xFF, 9, b"unknown"))
    reader.feed(
        frame(frames.DATA, frames.PADDED | 1, 7, b"\x02abc\0\0") + frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    )
    assert recorder.calls[1:] == [
        ("fault", 1, ErrorCode.FRAME_SIZE_ERROR), ("fault", 3, ErrorCode.PROTOCOL_ERROR),
        ("fault", 5, ErrorCode.PROTOCOL_ERROR), ("idle",), ("data", 7, b"abc", 6, True), ("window", 0, 256),
    ]  # fmt: skip
    assert not reader.awaits_head
    reader.feed(OPEN)
    assert reader.awaits_head


def test_a_large_head_is_written_in_parts() -> None:
    recorder = Recorder()
    written = frames.headers(1, b"x" * 40000, True, 16384) + frames.data(1, b"y" * 40000, True, 16384)
    FrameReader(recorder, 65536).feed(START + written)
    assert recorder.calls[1] == ("headers", 1, b"x" * 40000, True)
    assert [call[1:] for call in recorder.calls[2:]] == [
        (1, b"y" * 16384, 16384, False), (1, b"y" * 16384, 16384, False), (1, b"y" * 7232, 7232, True),
    ]  # fmt: skip

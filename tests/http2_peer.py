"""A client of HTTP/2 for tests, as well or badly behaved as the test wants: it writes and reads single frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.wire.connection import RawConnection, dial
from atoll.wire.http2 import frames, hpack
from atoll.wire.tls import client_context

Fields = Iterable[tuple[str, str]]


def literal(name: bytes, value: bytes, indexed: bool = False) -> bytes:
    """A field without Huffman, that the table keeps or not."""
    parts = [b"\x40" if indexed else b"\0"]
    for data in (name, value):
        parts += [hpack.encoded_integer(len(data), 0x7F), data]
    return b"".join(parts)


def block(fields: Fields, indexed: bool = False) -> bytes:
    return b"".join(literal(name.encode("latin-1"), value.encode("latin-1"), indexed) for name, value in fields)


def request_fields(method: str = "GET", path: str = "/", *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [(":method", method), (":scheme", "https"), (":authority", "h"), (":path", path), *more]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.head(len(payload), kind, flags, stream) + payload


@dataclass
class Got:
    """What came on one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    interim: list[int] = field(default_factory=list)


class Peer:
    """One connection."""

    def __init__(self, connection: RawConnection) -> None:
        self.connection = connection
        self.streams: dict[int, Got] = {}
        self.goaway: int | None = None
        self.pongs: list[bytes] = []
        self.settings: dict[int, int] = {}
        self.room = {0: frames.WINDOW_BYTES}  # that the server gave more of, by stream
        self._decoder = hpack.Decoder()
        self._next = 1

    @classmethod
    async def connect(cls, port: int, ca_pem: bytes, settings: dict[int, int] | None = None, **client: bytes) -> Peer:
        context = client_context(ca_pem=ca_pem, **client)
        context.set_alpn_protocols(["h2", "http/1.1"])
        connection = await dial("127.0.0.1", port, ssl_context=context)
        assert connection.extra("ssl_object").selected_alpn_protocol() == "h2"
        peer = cls(connection)
        await connection.write(frames.PREFACE + frames.settings(settings or {}))
        return peer

    async def send(self, *data: bytes) -> None:
        await self.connection.write(b"".join(data))

    def begin(self, fields: Fields, ended: bool = True) -> tuple[int, bytes]:
        """The number of a new stream, and its HEADERS frame."""
        number, self._next = self._next, self._next + 2
        self.streams[number] = Got()
        flags = frames.END_HEADERS | (frames.END_STREAM if ended else 0)
        return number, frame(frames.HEADERS, flags, number, block(fields))

    async def ask(self, method: str = "GET", path: str = "/", *more: tuple[str, str], body: bytes | None = None) -> Got:
        """One whole exchange."""
        number, head = self.begin(request_fields(method, path, *more), body is None)
        data = b"" if body is None else frames.data(number, body, True, frames.FRAME_BYTES)
        await self.send(head, data)
        return await self.answer(number)

    async def upload(self, number: int, body: bytes) -> None:
        """A stream's body, as the server makes room for it."""
        while not self.settings:
            assert await self.step()
        self.room[number] = self.room.get(number, 0) + self.settings[frames.INITIAL_WINDOW_SIZE]
        for start in range(0, len(body), frames.FRAME_BYTES):
            piece = body[start : start + frames.FRAME_BYTES]
            while len(piece) > min(self.room[0], self.room[number]):
                assert await self.step()
            self.room[0] -= len(piece)
            self.room[number] -= len(piece)
            ended = start + len(piece) == len(body)
            await self.send(frames.data(number, piece, ended, frames.FRAME_BYTES))

    async def answer(self, number: int) -> Got:
        """Read until that stream has ended."""
        got = self.streams[number]
        while not got.ended and got.reset is None and await self.step():
            pass
        return got

    async def until_closed(self) -> None:
        while await self.step():
            pass

    async def step(self) -> bool:
        """Read one frame; False at the end."""
        try:
            head = await self.connection.read_exactly(9)
            payload = await self.connection.read_exactly(int.from_bytes(head[:3], "big"))
        except ConnectionError:
            return False
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        got = self.streams.setdefault(stream, Got())
        if kind == frames.HEADERS:
            fields = self._decoder.decode(payload, 1 << 20)
            assert fields is not None and flags & frames.END_HEADERS
            status = int(fields[0].value)
            if status < 200:
                got.interim.append(status)
            else:
                got.status, got.headers = status, {name: value for name, value, _ in fields[1:]}
        elif kind == frames.DATA:
            got.body += payload
        elif kind == frames.RST_STREAM:
            got.reset = int.from_bytes(payload, "big")
        elif kind == frames.GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == frames.WINDOW_UPDATE:
            self.room[stream] = self.room.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == frames.PING and flags & frames.ACK:
            self.pongs.append(payload)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            for at in range(0, len(payload), 6):
                self.settings[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(
                    payload[at + 2 : at + 6], "big"
                )
        if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM:
            got.ended = True
        return True

    async def close(self) -> None:
        self.connection.abort()
        await asyncio.sleep(0)

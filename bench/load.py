"""A load generator, the same against any API server: raw HTTP/1.1 over TLS, one request in flight a connection.

It runs in the process of the bench, beside the server on the same cores, so its own cost counts against both sides.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from array import array
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from atoll.client.kubeconfig import Access
from atoll.wire.tls import client_context

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NAME = re.compile(rb'"name":"p-(\d+)"')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
_END_OF_EVENT = b"}\n"
_TAIL_BYTES = 4096  # more than an event
_BRACE, _NEWLINE = b"}\n"


@dataclass
class Load:
    """What came out of one run."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


@dataclass
class _Run:
    """Hands out requests and gathers answers."""

    make: Callable[[int], bytes]
    total: int
    done: asyncio.Future[None]
    sent: array[float] = field(default_factory=lambda: array("d"))
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def next(self) -> bytes | None:
        number = len(self.sent)
        if number >= self.total:
            return None
        self.sent.append(time.perf_counter())
        return self.make(number)

    def answered(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies.append(seconds)
        if len(self.latencies) == self.total and not self.done.done():
            self.done.set_result(None)

    def failed(self, error: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(error))


class _Reader(asyncio.BufferedProtocol):
    """Reads into one buffer: for a plain Protocol the TLS layer makes a fresh 256 KB object for each read."""

    _held = bytearray(256 * 1024)
    _shared = memoryview(_held)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._shared[:nbytes]))

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError


class _Requests(_Reader):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        request = self._run.next()
        if request is not None:
            self._sent = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            length = _LENGTH.search(buffer, 0, head)
            if len(buffer) >= head + 4 + int(length[1]) if length else buffer.endswith(b"0\r\n\r\n"):
                self._buffer = b""
                self._run.answered(int(buffer[9:12]), time.perf_counter() - self._sent)
                self.begin()
                return
        self._buffer = buffer

    def connection_lost(self, exc: BaseException | None) -> None:
        self._run.failed(f"the server closed a connection: {exc}")


class _PacedRequests(_Requests):
    """One connection that sends when it is told to."""

    def __init__(self, run: _Run, idle: deque[_PacedRequests]) -> None:
        super().__init__(run)
        self._idle = idle

    def begin(self) -> None:
        self._idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        self._sent = due
        self._transport.write(request)


class _Watch(_Reader):
    """Counts events and samples how late they are; goes on after its last event when the server cuts it off."""

    def __init__(self, watchers: Watchers, samples: bool) -> None:
        self._watchers = watchers
        self._samples = samples
        self._last = 0
        self._tail = b""
        self.events = 0
        self.version = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def buffer_updated(self, nbytes: int) -> None:
        held, view = self._held, self._shared
        fresh = held.count(_END_OF_EVENT, 0, nbytes)
        if self._last == _BRACE and held[0] == _NEWLINE:
            fresh += 1
        self._last = held[nbytes - 1]
        tail = bytes(view[max(0, nbytes - _TAIL_BYTES) : nbytes])
        self._tail = tail if nbytes >= _TAIL_BYTES else (self._tail + tail)[-_TAIL_BYTES:]
        self.events += fresh
        if not self._watchers.open:
            self._watchers.opened.add(self)
        elif self._samples:
            now = time.perf_counter()
            sent = self._watchers.sent
            for number in {int(found) for found in _NAME.findall(view[:nbytes])}:
                if number < len(sent):
                    self._watchers.lags.append(now - sent[number])
        self._watchers.count(fresh)

    def connection_lost(self, exc: BaseException | None) -> None:
        whole = self._tail[: self._tail.rfind(_END_OF_EVENT) + 1]
        versions = _VERSION.findall(whole)
        if versions:
            self.version = versions[-1].decode()
        self._last, self._tail = 0, b""
        self._watchers.lost(self)


class Watchers:
    """Many watches of one path; `wait` until each has seen so many events."""

    def __init__(self, count: int) -> None:
        self.open = False
        self.opened: set[_Watch] = set()
        self.lags: list[float] = []
        self.sent: array[float] = array("d")
        self.protocols: list[_Watch] = []
        self._wanted = count
        self._events = 0
        self._target = 0
        self._reached: asyncio.Future[None] | None = None
        self.restarts = 0
        self._again: set[asyncio.Task[None]] = set()

    def count(self, events: int) -> None:
        self._events += events
        if self._reached is not None and self._events >= self._target and not self._reached.done():
            self._reached.set_result(None)

    async def start(self, access: Access, path: str) -> None:
        self._access, self._path = access, path
        for number in range(self._wanted):
            self.protocols.append(_Watch(self, number % 10 == 0))
            await self._open(self.protocols[-1])
        while len(self.opened) < self._wanted:  # each has its head
            await asyncio.sleep(0.01)
        self.open = True

    async def _open(self, watch: _Watch) -> None:
        version = f"&resourceVersion={watch.version}" if watch.version else ""
        await _connect(self._access, lambda: watch)
        watch._transport.write(get(self._access, self._path + version)(0))

    def lost(self, watch: _Watch) -> None:
        """The server cut it off: it goes on where it was, as an informer does."""
        if self.open:
            self.restarts += 1
            task = asyncio.ensure_future(self._open(watch))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    def expect(self, events: int) -> asyncio.Future[None]:
        """Done when so many events, over all watchers, have come."""
        self._events, self._target = 0, events
        self._reached = asyncio.get_running_loop().create_future()
        return self._reached

    def close(self) -> None:
        self.open = False
        for protocol in self.protocols:
            protocol._transport.abort()


def get(access: Access, path: str) -> Callable[[int], bytes]:
    """GETs of one path."""
    request = _head("GET", access, path) + b"\r\n"
    return lambda _: request


def post(access: Access, path: str, body: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """POSTs of JSON bodies made from their number."""
    head = _head("POST", access, path) + b"Content-Type: application/json\r\nContent-Length: "

    def make(number: int) -> bytes:
        data = body(number)
        return b"%b%d\r\n\r\n%b" % (head, len(data), data)

    return make


def send(method: str, access: Access, path: str, content_type: str, data: bytes) -> bytes:
    """One request with a body."""
    head = _head(method, access, path) + f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return head + data


def _head(method: str, access: Access, path: str) -> bytes:
    host = urlsplit(access.server).netloc
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {access.token}\r\n"
        "Accept: application/json\r\nUser-Agent: bench\r\n"
    ).encode()


async def _connect(access: Access, make: Callable[[], asyncio.BufferedProtocol]) -> asyncio.BaseProtocol:
    parts = urlsplit(access.server)
    context: ssl.SSLContext = client_context(ca_pem=access.ca_pem)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(make, parts.hostname, parts.port, ssl=context)
    return protocol


async def run(
    access: Access,
    make: Callable[[int], bytes],
    total: int,
    connections: int = 32,
    watchers: Watchers | None = None,
) -> Load:
    """Send `total` requests over `connections`, each connection one at a time."""
    state = _Run(make, total, asyncio.get_running_loop().create_future())
    if watchers is not None:
        watchers.sent = state.sent
    protocols = [cast(_Requests, await _connect(access, lambda: _Requests(state))) for _ in range(connections)]
    started = time.perf_counter()
    for protocol in protocols:
        protocol.begin()
    await state.done
    seconds = time.perf_counter() - started
    for protocol in protocols:
        protocol._transport.abort()
    return Load(seconds, state.latencies, state.statuses)


async def run_paced(
    access: Access, make: Callable[[int], bytes], rate: float, total: int, watchers: Watchers, connections: int = 64
) -> Load:
    """Send requests evenly, so many a second, whatever becomes of those before; all times count from when each is due.

    Where all connections wait for answers, what is due waits for one.
    """
    state = _Run(make, total, asyncio.get_running_loop().create_future())
    watchers.sent = state.sent
    idle: deque[_PacedRequests] = deque()
    protocols = [
        cast(_PacedRequests, await _connect(access, lambda: _PacedRequests(state, idle))) for _ in range(connections)
    ]
    idle.extend(protocols)
    started = time.perf_counter()
    for number in range(total):
        due = started + number / rate
        while (wait := due - time.perf_counter()) > 0 or not idle:
            await asyncio.sleep(max(wait, 0.0005))
        state.sent.append(due)
        idle.popleft().send(make(number), due)
    await state.done
    seconds = time.perf_counter() - started
    for protocol in protocols:
        protocol._transport.abort()
    return Load(seconds, state.latencies, state.statuses)


def execute(main: Coroutine[Any, Any, Any]) -> Any:
    """In the loop that the generator needs."""
    return uvloop.run(main)

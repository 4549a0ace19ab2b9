"""Listing 16,000 pods: in one answer, and by pages of 500."""

from __future__ import annotations

import asyncio
import re
import ssl
import statistics
import time
from typing import cast
from urllib.parse import urlsplit

from atoll.client.kubeconfig import Access
from atoll.wire.tls import client_context
from bench import creates, load, pods
from bench.figure import Figure, compared
from bench.targets import Target, ours, real, real_available

PODS = 16_000
PAGE = 500
TIMES = 5
_CONTINUE = re.compile(rb'"continue":"([^"]+)"')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_BYTES = 2048  # the answer's head and the list's own metadata stand within
_COUNTED = 0.99  # an edge between two chunks may cut what is counted
_MOST_BYTES = 64 << 20
_READ_BYTES = 1 << 20


class Client(asyncio.BufferedProtocol):
    """One connection that reads whole answers into one large buffer: what it costs counts against both sides."""

    def __init__(self) -> None:
        self._held = bytearray(_MOST_BYTES)
        self._view = memoryview(self._held)
        self._size = 0
        self._wanted = 0
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server closed the connection: {exc}"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._size : self._size + _READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._size += nbytes
        if not self._wanted:
            end = self._held.find(b"\r\n\r\n", 0, _HEAD_BYTES)
            if end < 0:
                return
            length = _LENGTH.search(self._held, 0, end + 2)
            self._wanted = end + 4 + int(length[1]) if length else -(end + 4)  # chunked
        done = self._size >= self._wanted > 0
        if self._wanted < 0:
            done = self._size > 5 - self._wanted and self._view[self._size - 5 : self._size] == b"0\r\n\r\n"
        if done and self._answer is not None:
            self._answer.set_result(None)

    async def get(self, access: Access, path: str) -> tuple[bytes, int]:
        """The beginning of the answer, and how many items are in it."""
        self._size = self._wanted = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(load.get(access, path)(0))
        await self._answer
        head = bytes(self._view[:_HEAD_BYTES])
        assert head.startswith(b"HTTP/1.1 200"), head
        return head, self._held.count(b'"uid":"', 0, self._size)

    def close(self) -> None:
        self._transport.abort()


async def _full(client: Client, access: Access) -> float:
    started = time.perf_counter()
    _, count = await client.get(access, pods.PATH)
    assert count >= _COUNTED * PODS
    return time.perf_counter() - started


async def _paged(client: Client, access: Access) -> float:
    started = time.perf_counter()
    count, path = 0, f"{pods.PATH}?limit={PAGE}"
    while path:
        head, items = await client.get(access, path)
        count += items
        found = _CONTINUE.search(head)
        path = f"{pods.PATH}?limit={PAGE}&continue={found[1].decode()}" if found else ""
    assert count >= _COUNTED * PODS
    return time.perf_counter() - started


async def measure(access: Access) -> tuple[float, float]:
    """Median seconds of a full list, and of one by pages."""
    parts = urlsplit(access.server)
    context: ssl.SSLContext = client_context(ca_pem=access.ca_pem)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, parts.hostname, parts.port, ssl=context)
    await _full(client, access)
    full = [await _full(client, access) for _ in range(TIMES)]
    paged = [await _paged(client, access) for _ in range(TIMES)]
    client.close()
    return statistics.median(full), statistics.median(paged)


def _measure(target: Target) -> tuple[float, float]:
    creates.measure(target, PODS)
    found: tuple[float, float] = load.execute(measure(target.bench))
    return found


def run() -> list[Figure]:
    theirs = None
    if real_available():
        with real() as target:
            theirs = _measure(target)
    with ours() as target:
        mine = _measure(target)
    basis = f"JSON, one client, median of {TIMES}, without compression, the answer read and not parsed"
    return [
        compared(
            what,
            f"{theirs[index]:.3f} s" if theirs else "not built",
            f"{mine[index]:.3f} s",
            theirs[index] / mine[index] if theirs else None,
            5,
            basis,
        )
        for index, what in enumerate((f"list {PODS:,} pods, full", f"the same by pages of {PAGE}"))
    ]

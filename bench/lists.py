"""Listing 16,000 pods: in one answer, and by pages of 500."""

from __future__ import annotations

import asyncio
import re
import ssl
import statistics
import time
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
_HEAD_BYTES = 1024  # the list's own metadata stands within


class Client:
    """One connection that reads whole answers, plain: what it costs counts against both sides."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __aenter__(self) -> Client:
        parts = urlsplit(self._access.server)
        context: ssl.SSLContext = client_context(ca_pem=self._access.ca_pem)
        self._reader, self._writer = await asyncio.open_connection(
            parts.hostname, parts.port, ssl=context, limit=1 << 24
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> bytes:
        """The body of the answer."""
        self._writer.write(load.get(self._access, path)(0))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        found = re.search(rb"content-length: *(\d+)", head)
        if found:
            return await self._reader.readexactly(int(found[1]))
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(parts)


async def _full(client: Client) -> float:
    started = time.perf_counter()
    body = await client.get(pods.PATH)
    seconds = time.perf_counter() - started
    assert body.count(b'"uid":"') >= PODS
    return seconds


async def _paged(client: Client) -> float:
    started = time.perf_counter()
    count, token = 0, ""
    while True:
        body = await client.get(f"{pods.PATH}?limit={PAGE}" + (f"&continue={token}" if token else ""))
        count += body.count(b'"uid":"')
        found = _CONTINUE.search(body, 0, _HEAD_BYTES)
        if found is None:
            break
        token = found[1].decode()
    seconds = time.perf_counter() - started
    assert count >= PODS
    return seconds


async def measure(access: Access) -> tuple[float, float]:
    """Median seconds of a full list, and of one by pages."""
    async with Client(access) as client:
        await _full(client)
        full = [await _full(client) for _ in range(TIMES)]
        paged = [await _paged(client) for _ in range(TIMES)]
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

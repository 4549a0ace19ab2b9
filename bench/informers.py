"""The memory that idle informers cost the server: 200 clients that each watch 30 kinds, on one HTTP/2 connection a
client, as client-go does.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import struct
from typing import cast
from urllib.parse import urlsplit

from atoll.client.kubeconfig import Access
from atoll.wire.tls import client_context
from bench import load
from bench.figure import Figure, compared
from bench.targets import Target, ours, real, real_available

INFORMERS = 200
_SETTLE_SECONDS = 5.0
_AT_ONCE = 8  # more of one user at once would be queued, and refused beyond that
_GROUPS = {
    "/api/v1/": (
        "pods nodes services endpoints configmaps secrets namespaces serviceaccounts events persistentvolumes"
        " persistentvolumeclaims replicationcontrollers limitranges resourcequotas podtemplates"
    ),
    "/apis/apps/v1/": "deployments replicasets statefulsets daemonsets controllerrevisions",
    "/apis/batch/v1/": "jobs cronjobs",
    "/apis/storage.k8s.io/v1/": "storageclasses csinodes csidrivers volumeattachments",
    "/apis/policy/v1/": "poddisruptionbudgets",
    "/apis/discovery.k8s.io/v1/": "endpointslices",
    "/apis/scheduling.k8s.io/v1/": "priorityclasses",
    "/apis/coordination.k8s.io/v1/": "leases",
}
_STATUS_200 = b"\x88"  # in HPACK's static table
_QUERY = "?watch=true&allowWatchBookmarks=true&resourceVersion=0&timeoutSeconds=3600"
PATHS = [f"{base}{name}{_QUERY}" for base, names in _GROUPS.items() for name in names.split()]


class Watches(asyncio.BufferedProtocol):
    """HTTP/2, as little of it as idle watches need (RFC 9113, RFC 7541 without compression); `opened` when each was
    answered."""

    _shared = memoryview(bytearray(256 * 1024))
    _HEADERS, _SETTINGS = 1, 4

    def __init__(self, watches: int) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = watches
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"the server closed a connection: {exc}"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer += self._shared[:nbytes]
        while len(self._buffer) >= 9:
            size, kind, flags = int.from_bytes(self._buffer[:3], "big"), self._buffer[3], self._buffer[4]
            if len(self._buffer) < 9 + size:
                return
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            if kind == self._HEADERS:
                # a change of the size of HPACK's table (001xxxxx) may come first
                if payload.lstrip(bytes(range(0x20, 0x40)))[:1] == _STATUS_200:
                    self._answered()
                elif not self.opened.done():
                    self.opened.set_exception(RuntimeError(f"the server answered {payload[:100]!r}"))
            elif kind == self._SETTINGS and not flags & 1:
                self.transport.write(frame(self._SETTINGS, 1, 0, b""))

    def _answered(self) -> None:
        self._missing -= 1
        if not self._missing and not self.opened.done():
            self.opened.set_result(None)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    """A string without Huffman, its size a 7-bit-prefix integer."""
    data, size = text.encode(), len(text)
    if size < 127:
        return bytes((size,)) + data
    encoded, size = b"\x7f", size - 127
    while size >= 128:
        encoded += bytes((size % 128 + 128,))
        size //= 128
    return encoded + bytes((size,)) + data


def _opening(access: Access) -> bytes:
    """The preface, our settings, and a HEADERS frame for each watch."""
    host = urlsplit(access.server).netloc
    parts = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(4, 0, 0, b""), frame(8, 0, 0, struct.pack(">I", 1 << 26))]
    for index, path in enumerate(PATHS):
        fields = {
            ":method": "GET",
            ":scheme": "https",
            ":authority": host,
            ":path": path,
            "authorization": f"Bearer {access.token}",
            "accept": "application/json",
        }
        block = b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields.items())
        parts.append(frame(1, 0x5, 2 * index + 1, block))
    return b"".join(parts)


async def _open(access: Access) -> asyncio.BaseTransport:
    """One client's watches."""
    parts = urlsplit(access.server)
    context: ssl.SSLContext = client_context(ca_pem=access.ca_pem)
    context.set_alpn_protocols(["h2"])
    transport, protocol = await asyncio.get_running_loop().create_connection(
        lambda: Watches(len(PATHS)), parts.hostname, parts.port, ssl=context
    )
    transport.write(_opening(access))
    await protocol.opened
    return transport


async def measure(target: Target) -> tuple[int, int]:
    """The server's memory without and with the informers, in bytes."""
    idle = target.memory_bytes()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one() -> asyncio.BaseTransport:
        async with slots:
            return await _open(target.bench)

    opened = await asyncio.gather(*(one() for _ in range(INFORMERS)))
    await asyncio.sleep(_SETTLE_SECONDS)
    watching = target.memory_bytes()
    for transport in opened:
        transport.abort()  # type: ignore[attr-defined]
    return idle, watching


def run() -> list[Figure]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    theirs = None
    if real_available():
        with real() as target:
            theirs = load.execute(measure(target))
    with ours() as target:
        mine = load.execute(measure(target))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def shown(found: tuple[int, int]) -> str:
        return f"{found[1] / 1e6:,.0f} MB ({found[0] / 1e6:,.0f} idle)"

    return [
        compared(
            f"memory with {INFORMERS} idle informers of {len(PATHS)} kinds",
            shown(theirs) if theirs else "not built",
            shown(mine),
            theirs[1] / mine[1] if theirs else None,
            4,
            f"summed PSS; {INFORMERS * len(PATHS):,} watches, on an HTTP/2 connection a client; before and with them",
        )
    ]

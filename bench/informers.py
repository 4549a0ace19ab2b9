"""The memory that idle informers cost the server: 200 clients that each watch 30 kinds.

client-go carries a client's watches on one HTTP/2 connection where the server speaks it, as kube-apiserver does, and
on a connection each where it does not, as ours: so does this.
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
_AT_ONCE = 16
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


class Discard(asyncio.BufferedProtocol):
    """Reads and forgets; `opened` when each of its watches was answered."""

    _shared = memoryview(bytearray(256 * 1024))

    def __init__(self, watches: int) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = watches

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared

    def buffer_updated(self, nbytes: int) -> None:
        self.heads(bytes(self._shared[:nbytes]))

    def heads(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 200"):
            self.answered()
        elif not self.opened.done():
            self.opened.set_exception(RuntimeError(repr(data[:300])))

    def answered(self) -> None:
        self._missing -= 1
        if not self._missing and not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"the server closed a connection: {exc}"))


class Multiplexed(Discard):
    """HTTP/2, as little of it as watches need (RFC 9113, RFC 7541 without compression)."""

    _HEADERS, _SETTINGS = 1, 4

    def __init__(self, watches: int) -> None:
        super().__init__(watches)
        self._buffer = b""

    def heads(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 9:
            size, kind, flags = int.from_bytes(self._buffer[:3], "big"), self._buffer[3], self._buffer[4]
            if len(self._buffer) < 9 + size:
                return
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            if kind == self._HEADERS:
                # a change of the size of HPACK's table (001xxxxx) may come first
                if payload.lstrip(bytes(range(0x20, 0x40)))[:1] == _STATUS_200:
                    self.answered()
                elif not self.opened.done():
                    self.opened.set_exception(RuntimeError(f"the server answered {payload[:100]!r}"))
            elif kind == self._SETTINGS and not flags & 1:
                self.transport.write(frame(self._SETTINGS, 1, 0, b""))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)


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


async def _open(access: Access, http2: bool) -> list[asyncio.BaseTransport]:
    """One client's watches."""
    parts = urlsplit(access.server)
    loop = asyncio.get_running_loop()
    opened: list[asyncio.BaseTransport] = []
    context: ssl.SSLContext = client_context(ca_pem=access.ca_pem)
    if http2:
        context.set_alpn_protocols(["h2"])
    for path in [""] if http2 else PATHS:
        transport, protocol = await loop.create_connection(
            (lambda: Multiplexed(len(PATHS))) if http2 else (lambda: Discard(1)),
            parts.hostname,
            parts.port,
            ssl=context,
        )
        transport.write(_opening(access) if http2 else load.get(access, path)(0))
        await protocol.opened
        opened.append(transport)
    return opened


async def measure(target: Target, http2: bool) -> tuple[int, int]:
    """The server's memory without and with the informers, in bytes."""
    idle = target.memory_bytes()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one() -> list[asyncio.BaseTransport]:
        async with slots:
            return await _open(target.bench, http2)

    opened = await asyncio.gather(*(one() for _ in range(INFORMERS)))
    await asyncio.sleep(_SETTLE_SECONDS)
    watching = target.memory_bytes()
    for transports in opened:
        for transport in transports:
            transport.abort()  # type: ignore[attr-defined]
    return idle, watching


def run() -> list[Figure]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    theirs = None
    if real_available():
        with real() as target:
            theirs = load.execute(measure(target, True))
    with ours() as target:
        mine = load.execute(measure(target, False))
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
            f"summed PSS; {INFORMERS * len(PATHS):,} watches, to the real one on an HTTP/2 connection a client, to ours"
            " on a connection each, as client-go does; before them and with them",
        )
    ]

"""clusters/NAME/proxy: a member's API through the hub's, as the person who asks.

The request goes on with the hub's credential for that member and impersonates who asks, so that the member's own
RBAC decides. Watches, logs and uploads stream; exec, attach and port-forward are spliced byte by byte.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, urlsplit

import aiohttp

from atoll.base.errors import ServerError
from atoll.client.kubeconfig import Access
from atoll.kinds.hub import CLUSTERS
from atoll.wire.messages import Connection, Handler, HttpRequest, HttpResponse
from atoll.wire.tls import client_context

PREFIX = f"{CLUSTERS.path()}/"
_HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "authorization", "content-length", "accept-encoding",
))  # fmt: skip
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, as the hub knows them."""

    name: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Authorize = Callable[[HttpRequest, str], Awaitable[Person]]
"""(request, cluster) → who asks. Raises Unauthorized or Forbidden."""

Reach = Callable[[str], Awaitable[Access]]
"""The address and credential of a cluster. Raises NotFound."""


def split(path: str) -> tuple[str, str] | None:
    """(cluster, path in it) of a proxy path; None for any other."""
    if not path.startswith(PREFIX):
        return None
    name, slash, rest = path[len(PREFIX) :].partition("/")
    if not slash or not (rest == "proxy" or rest.startswith("proxy/")):
        return None
    return name, rest[len("proxy") :] or "/"


def with_cluster_proxy(
    inner: Handler, authorize: Authorize, reach: Reach, refuse: Callable[[Exception], HttpResponse]
) -> Handler:
    """The handler with clusters/NAME/proxy served. `refuse` turns an ApiError into its answer."""

    async def handle(request: HttpRequest) -> HttpResponse:
        found = split(request.path)
        if found is None:
            return await inner(request)
        try:
            person = await authorize(request, found[0])
            access = await reach(found[0])
            headers = _headers(request, access, person)
            target = _target(request, found[1])
            if "upgrade" in request.headers:
                return _spliced(request, access, target, headers)
            return await _forwarded(request, access, target, headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return refuse(ServerError(f"cluster {found[0]} can't be reached: {error}", code=503,
                                      reason="ServiceUnavailable"))  # fmt: skip
        except Exception as error:
            return refuse(error)

    return handle


def _target(request: HttpRequest, path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~-._") + (f"?{request.query}" if request.query else "")


def _headers(request: HttpRequest, access: Access, person: Person) -> list[tuple[str, str]]:
    kept = [
        (name, value) for name, value in request.headers.items()
        if name not in _HOP_BY_HOP and not name.startswith("impersonate-")
    ]  # fmt: skip
    if access.token:
        kept.append(("Authorization", f"Bearer {access.token}"))
    kept.append(("Impersonate-User", person.name))
    kept += [("Impersonate-Group", group) for group in person.groups]
    for key, values in person.extra.items():
        kept += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    return kept


@lru_cache(256)
def _context(access: Access) -> ssl.SSLContext:
    return client_context(
        ca_pem=access.ca_pem, certificate_pem=access.certificate_pem, key_pem=access.key_pem, insecure=access.insecure
    )


async def _forwarded(request: HttpRequest, access: Access, target: str, headers: list[tuple[str, str]]) -> HttpResponse:
    """One request and its streamed answer, on a connection of its own."""
    session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None, connect=10))
    try:
        answer = await session.request(
            request.method, f"{access.server.rstrip('/')}{target}", data=request.body or None, headers=headers,
            ssl=_context(access) if access.server.startswith("https") else True, allow_redirects=False,
        )  # fmt: skip
    except BaseException:
        await session.close()
        raise
    passed = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        finally:
            answer.close()
            await session.close()

    return HttpResponse(answer.status, passed, stream=chunks())


def _spliced(request: HttpRequest, access: Access, target: str, headers: list[tuple[str, str]]) -> HttpResponse:
    """An upgrade: the request head goes to the member as it is, then bytes go both ways."""
    parts = urlsplit(access.server)
    secure = parts.scheme == "https"
    lines = [f"{request.method} {parts.path.rstrip('/')}{target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += ["Connection: Upgrade", f"Upgrade: {request.headers['upgrade']}", "", ""]
    head = "\r\n".join(lines).encode("latin-1")

    async def splice(connection: Connection) -> None:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if secure else 80), ssl=_context(access) if secure else None
        )
        try:
            writer.write(head)
            await writer.drain()
            up = asyncio.create_task(_up(connection, writer))
            try:
                while data := await reader.read(_CHUNK_BYTES):
                    await connection.write(data)
            finally:
                up.cancel()
        except (ConnectionError, OSError):
            return
        finally:
            writer.close()
            await connection.close()

    return HttpResponse(101, upgrade=splice)


async def _up(connection: Connection, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, OSError):
        while data := await connection.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof() if writer.can_write_eof() else None

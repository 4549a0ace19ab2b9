"""HTTPS to webhooks: the API server's `HookCaller`, with kept connections, in the words of Go's client.

One session a (service, CA): a Service's name is resolved for each new connection by what `resolve` says of it, and the
certificate must be for that name. Nothing is redirected; an answer is bounded.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from atoll.base.errors import ApiError, Unreachable, UserError
from atoll.wire.tls import client_context

_MOST_SESSIONS = 200
_MOST_BYTES = 16 << 20
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, */*",
    "User-Agent": "kube-apiserver-admission",
}
Resolve = Callable[[str, str, int], tuple[str, int]]
"""(namespace, Service, port) → (host, port). Raises ApiError."""


class Target(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def ca_pem(self) -> bytes: ...

    @property
    def service(self) -> tuple[str, str, int] | None: ...


class HookClient:
    """Make it within a running loop; `close` it."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._sessions: OrderedDict[tuple[object, bytes], aiohttp.ClientSession] = OrderedDict()

    async def post(self, target: Target, body: bytes, timeout_seconds: float) -> tuple[int, str, bytes]:
        """(status, content type, body). Raises Unreachable."""
        try:
            session = await self._session(target)
            url = URL(target.url, encoded=True)
            async with asyncio.timeout(timeout_seconds):
                return await _exchange(session, url, body)
        except TimeoutError:
            raise Unreachable("context deadline exceeded") from None
        except ApiError as error:
            raise Unreachable(error.message) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(_go_words(error)) from None

    async def _session(self, target: Target) -> aiohttp.ClientSession:
        key = (target.service, target.ca_pem)
        session = self._sessions.get(key)
        if session is None:
            try:
                context = client_context(ca_pem=target.ca_pem or None)
            except UserError:
                raise Unreachable("unable to load root certificates: unable to parse bytes as PEM block") from None
            resolver = _Resolver(self._resolve, target.service)
            connector = aiohttp.TCPConnector(ssl=context, resolver=resolver, use_dns_cache=False, limit=0)
            session = aiohttp.ClientSession(
                connector=connector, headers=_HEADERS, cookie_jar=aiohttp.DummyCookieJar(), timeout=_NO_TIMEOUT
            )
            self._sessions[key] = session
            if len(self._sessions) > _MOST_SESSIONS:
                _, oldest = self._sessions.popitem(last=False)
                await oldest.close()
        self._sessions.move_to_end(key)
        return session

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


async def _exchange(session: aiohttp.ClientSession, url: URL, body: bytes) -> tuple[int, str, bytes]:
    """A kept connection that the webhook has closed meanwhile is no failure: the next one is tried, as Go does."""
    for attempt in (1, 2):
        try:
            async with session.post(url, data=body, allow_redirects=False) as response:
                answer = await response.content.read(_MOST_BYTES) if response.content_length != 0 else b""
                while not response.content.at_eof():
                    if len(answer) >= _MOST_BYTES:
                        raise ValueError("http: response body too large")
                    answer += await response.content.read(_MOST_BYTES - len(answer))
                return response.status, response.headers.get("Content-Type", ""), answer
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


class _Resolver(AbstractResolver):
    """Leads a Service's name to where it is now, any other to what the system says."""

    def __init__(self, resolve: Resolve, service: tuple[str, str, int] | None) -> None:
        self._lookup = resolve
        self._service = service

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        target = host
        if self._service is not None:
            target, port = self._lookup(*self._service)
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(target, port, type=socket.SOCK_STREAM, family=family)
        return [
            ResolveResult(
                hostname=host, host=str(info[4][0]), port=int(info[4][1]), family=info[0], proto=info[2], flags=0
            )
            for info in infos
        ]

    async def close(self) -> None:
        return None


def _go_words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_words(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"remote error: tls: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or errno.EHOSTUNREACH
        return f"dial tcp {error.host}:{error.port}: connect: {os.strerror(number).lower()}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    return str(error) or type(error).__name__


def _certificate_words(error: Any) -> str:
    head = "tls: failed to verify certificate: x509: "
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (10, 9):  # expired, not yet valid
            return head + "certificate has expired or is not yet valid"
        if error.verify_code in (62, 64):  # host name, address
            return head + f"certificate is not valid for {error.verify_message.rpartition(' ')[2]}"
    return head + "certificate signed by unknown authority"

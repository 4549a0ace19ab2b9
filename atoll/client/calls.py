"""HTTPS calls to programs that know more about access (OIDC providers, webhooks): the API server's `Outside` port.

One session a (CA, client certificate, name); nothing is redirected to plain HTTP; an answer is bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

import aiohttp
from yarl import URL

from atoll.base.errors import Unreachable, UserError
from atoll.wire.tls import client_context

_MOST_BYTES = 4 << 20
_MOST_SESSIONS = 100


class Endpoint(Protocol):
    """Where to call and how to be known there."""

    @property
    def url(self) -> str: ...
    @property
    def ca_pem(self) -> bytes | None: ...
    @property
    def insecure(self) -> bool: ...
    @property
    def server_name(self) -> str | None: ...
    @property
    def certificate_pem(self) -> bytes | None: ...
    @property
    def key_pem(self) -> bytes | None: ...
    @property
    def token(self) -> str | None: ...


class OutsideCalls:
    """Call it within a running loop; `close` it."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[object, ...], aiohttp.ClientSession] = OrderedDict()

    async def __call__(
        self, endpoint: Endpoint, method: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """(status, body). Raises Unreachable."""
        sent = dict(headers)
        if endpoint.token:
            sent["Authorization"] = f"Bearer {endpoint.token}"
        try:
            session = await self._session(endpoint)
            async with asyncio.timeout(timeout_seconds):
                async with session.request(
                    method, URL(endpoint.url), data=body or None, headers=sent, allow_redirects=method == "GET",
                    server_hostname=endpoint.server_name,
                ) as response:  # fmt: skip
                    if URL(endpoint.url).scheme == "https" and response.url.scheme != "https":
                        raise Unreachable("redirected to plain HTTP")
                    return response.status, await _bounded(response)
        except TimeoutError:
            raise Unreachable("context deadline exceeded") from None
        except (aiohttp.ClientError, OSError, ValueError, UserError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None

    async def _session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        key = (endpoint.ca_pem, endpoint.certificate_pem, endpoint.insecure)
        session = self._sessions.get(key)
        if session is None:
            context = client_context(
                ca_pem=endpoint.ca_pem,
                certificate_pem=endpoint.certificate_pem,
                key_pem=endpoint.key_pem,
                insecure=endpoint.insecure,
            )
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=0),
                headers={"User-Agent": "atoll"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
            self._sessions[key] = session
            if len(self._sessions) > _MOST_SESSIONS:
                _, oldest = self._sessions.popitem(last=False)
                await oldest.close()
        return session

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts = bytearray()
    async for chunk in response.content.iter_any():
        parts += chunk
        if len(parts) > _MOST_BYTES:
            raise ValueError("the answer is too large")
    return bytes(parts)

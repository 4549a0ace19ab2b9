"""What a server built on `atoll.wire` receives and answers. A handler is
`async (HttpRequest) -> HttpResponse`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct


class HttpRequest(Struct):
    """One request, body read whole (the server bounds its size)."""

    method: str
    path: str  # percent-decoded, without the query
    query: str  # raw, without "?"
    headers: Mapping[str, str]  # names in lower case; repeated ones joined by ", "; shared: do not change
    body: bytes
    peer_certificate: bytes | None = None  # DER, verified against the server's client CA
    remote: str = ""
    target: str = ""  # as it was sent, still encoded: for proxies
    repeated: Mapping[str, Sequence[str]] | None = None  # headers that came more than once, each value by itself
    http2: bool = False  # came with others on one connection, which can't be hijacked

    def values(self, name: str) -> list[str]:
        """Each value of a header (name in lower case) whose values may hold commas."""
        if self.repeated is not None and name in self.repeated:
            return list(self.repeated[name])
        return [self.headers[name]] if name in self.headers else []


class HttpResponse(Struct):
    """Exactly one of body, stream and upgrade is used.

    stream: chunks written as they come, with back-pressure; closed when the client goes.
    upgrade: called with the hijacked connection after the handler has returned; it writes everything
    itself, status line included.
    """

    status: int = 200
    headers: list[tuple[str, str]] = []
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    upgrade: Callable[[Connection], Awaitable[None]] | None = None


class Connection(Protocol):
    """A hijacked connection: raw bytes both ways. What the client had sent past its request head comes first."""

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Write with back-pressure. Raises ConnectionError once the peer is gone."""

    async def close(self) -> None: ...


class Promise:
    """An answer that comes later without a task that waits for it: its maker calls `respond`, once.

    The connection sets `respond` when it is handed the promise, so it can't be called before that.
    """

    __slots__ = ("respond",)

    def __init__(self) -> None:
        self.respond: Callable[[HttpResponse], None] = _nobody


def _nobody(_: HttpResponse) -> None:
    return None


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]
Immediate = Callable[[HttpRequest], HttpResponse | Promise | None]
"""Answers a GET at once, or promises the answer to a POST, without a task; None: ask the Handler."""

"""Bytes to HTTP/1.1 requests: httptools' calls gathered, its sizes bounded. See `atoll.wire.http1`."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import httptools

from atoll.wire.heads import split_target
from atoll.wire.limits import Limits, plain_error
from atoll.wire.messages import HttpRequest, HttpResponse


class Taker(Protocol):
    """Who gets what is parsed."""

    def take(self, request: HttpRequest, keep_alive: bool, http_1_0: bool) -> None:
        """One whole request."""

    def refuse(self, request: HttpRequest, answer: HttpResponse) -> None:
        """As much of a request as was read, and why there is no more of it. Nothing comes after that."""

    def invite(self) -> None:
        """The client waits to be told that it may send the body (Expect: 100-continue)."""


class RequestParser:
    """One connection's. `certificate` and `remote` are its peer's."""

    def __init__(self, limits: Limits, taker: Taker) -> None:
        self.certificate: bytes | None = None
        self.remote = ""
        self.stopped = False  # something was refused: no more requests are read
        self.between = True  # only whole requests were read, and the last one lets the connection be kept
        self._limits = limits
        self._taker = taker
        self._parser: Any = httptools.HttpRequestParser(self)
        self._read: HttpRequest | None = None  # the last whole request of this `feed`
        self._count = 0  # of them
        self._reset()

    def feed(self, data: memoryview | bytes) -> HttpRequest | None:
        """The request, where this was one whole request and nothing else, on a connection that is kept.

        Raises httptools.HttpParserUpgrade, and what `httptools.HttpParserError` is.
        """
        alone, self._read, self._count = self.between, None, 0
        try:
            self._parser.feed_data(data)
            return self._read if alone and self.between and self._count == 1 else None
        finally:
            self._read = None

    def renew(self) -> None:
        """What comes next is HTTP again: an upgrade was not taken."""
        self._parser = httptools.HttpRequestParser(self)
        self.between = True
        self._reset()

    def close(self) -> None:
        """The connection is gone."""
        self._parser = None

    def request(self, body: bytes = b"") -> HttpRequest:
        """What is known of the one under way."""
        target = self._url.decode("latin-1")
        path, query = split_target(target)
        method = self._parser.get_method().decode("latin-1") if self.headed else "GET"
        return HttpRequest(
            method, path, query, self._headers, body, self.certificate, self.remote, target, self._repeated
        )

    def refuse(self, answer: HttpResponse | None) -> None:
        """None: 413, by the caller's function."""
        if self.stopped:
            return
        self.stopped = True
        request = self.request()
        self._taker.refuse(request, answer or self._limits.too_large(request))

    def bound_head(self, size: int) -> bool:
        """So many bytes were read of a head that is not whole yet. Returns whether they are its first."""
        first = self._raw_size == 0
        self._raw_size += size
        if self._raw_size > self._limits.head_bytes:
            self.refuse(plain_error(431, "request header fields too large"))
        return first

    # -- httptools' calls

    def _reset(self) -> None:
        self.begun = False
        self.headed = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] | None = None
        self._head_size = 0
        self._raw_size = 0
        self._body: list[bytes] = []
        self._body_size = 0

    def on_message_begin(self) -> None:
        self._reset()
        self.begun = True
        self.between = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_size += len(url)
        if self._head_size > self._limits.head_bytes:
            self.refuse(plain_error(431, "request URL too long"))

    def on_header(self, name: bytes, value: bytes | None) -> None:
        key = _header_name(name)
        text = value.decode("latin-1") if value else ""
        held = self._headers.get(key)
        if held is None:
            self._headers[key] = text
        else:
            self._headers[key] = f"{held}, {text}"
            if self._repeated is None:
                self._repeated = {}
            self._repeated.setdefault(key, [held]).append(text)
        self._head_size += len(key) + len(text)
        if self._head_size > self._limits.head_bytes:
            self.refuse(plain_error(431, "request header fields too large"))

    def on_headers_complete(self) -> None:
        self.headed = True
        if self.stopped:
            return
        length = self._headers.get("content-length", "0")
        most = self._limits.body_bytes
        if most and length.isdigit() and int(length) > most:
            self.refuse(None)
        elif self._headers.get("expect", "").lower() == "100-continue" and self._parser.get_http_version() == "1.1":
            self._taker.invite()

    def on_body(self, data: bytes) -> None:
        if self.stopped:
            return
        self._body_size += len(data)
        if self._limits.body_bytes and self._body_size > self._limits.body_bytes:
            self.refuse(None)
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self.stopped:
            return
        keep_alive = self._parser.should_keep_alive()
        http_1_0 = self._parser.get_http_version() == "1.0"
        request = self.request(self._body[0] if len(self._body) == 1 else b"".join(self._body))
        self._taker.take(request, keep_alive, http_1_0)
        self._reset()
        self.between = keep_alive
        self._read = request
        self._count += 1


@functools.lru_cache(maxsize=256)
def _header_name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()

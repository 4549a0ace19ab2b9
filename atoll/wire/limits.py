"""The server's bounds, and what is answered beyond them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from atoll.wire.messages import HttpRequest, HttpResponse


def plain_error(status: int, message: str) -> HttpResponse:
    """A text answer: what the server says by itself where its caller gives no function."""
    return HttpResponse(status, [("Content-Type", "text/plain; charset=utf-8")], f"{message}\n".encode())


def _too_large(_: HttpRequest) -> HttpResponse:
    return plain_error(413, "request body too large")


def _failed(_: HttpRequest, __: BaseException) -> HttpResponse:
    return plain_error(500, "internal server error")


class Limits(Struct, frozen=True):
    """Sizes and times of one server.

    gzip is used when a client accepts it and a body exceeds `gzip_above_bytes` (kube-apiserver's threshold).
    `too_large` and `failed` make the answers to a body that exceeds `body_bytes` and to a handler that raised.
    """

    body_bytes: int = 3 * 1024 * 1024
    head_bytes: int = 64 * 1024
    head_seconds: float = 30.0
    body_idle_seconds: float = 60.0
    keep_alive_seconds: float = 180.0
    write_idle_seconds: float = 60.0
    handshake_seconds: float = 15.0
    gzip_above_bytes: int = 128 * 1024
    too_large: Callable[[HttpRequest], HttpResponse] = _too_large
    failed: Callable[[HttpRequest, BaseException], HttpResponse] = _failed

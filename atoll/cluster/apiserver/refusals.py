"""Refusals and warnings as upstream writes them: Statuses, event frames, Warning headers, the server's own limits."""

from __future__ import annotations

import logging

import orjson

from atoll.base.errors import ApiError, AtollError, ServerError
from atoll.cluster.apiserver import encode, problems
from atoll.cluster.apiserver.flowcontrol.filter import TooManyRequests
from atoll.wire.limits import Limits
from atoll.wire.messages import HttpRequest, HttpResponse

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 3 * 1024 * 1024
NO_CACHE = ("Cache-Control", "no-cache, private")


def error_frame(error: ApiError) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": error.to_status()}) + b"\n"


def warning_header(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    return f'299 - "{escaped}"'


def refusal(error: ApiError, accept: str = "") -> HttpResponse:
    """A Status of failure as upstream writes it."""
    if error.reason == problems.NO_PAGE:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
        return HttpResponse(404, headers, b"404 page not found\n")
    headers = [("Content-Type", "application/json"), NO_CACHE]
    if error.retry_after_seconds is not None:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    if "yaml" in accept and error.code != 406 and encode.negotiate(accept).media == "yaml":
        headers[0] = ("Content-Type", "application/yaml")
        return HttpResponse(error.code, headers, encode.yaml_bytes(error.to_status()))
    return HttpResponse(error.code, headers, orjson.dumps(error.to_status()))


def too_many_requests(error: TooManyRequests) -> HttpResponse:
    """As upstream's filter for priority and fairness says it, in plain text."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    headers += [("Retry-After", str(error.retry_after_seconds)), *error.headers]
    return HttpResponse(429, headers, f"{error.message}\n".encode())


def refused(request: HttpRequest, error: Exception) -> HttpResponse:
    """Whatever was raised, as an answer; what is a fault of this program is logged."""
    if isinstance(error, TooManyRequests):
        return too_many_requests(error)
    if isinstance(error, ApiError):
        return refusal(error, request.headers.get("accept", ""))
    if isinstance(error, AtollError):
        return refusal(ServerError(f"Internal error occurred: {error}"))
    log.error("%s %s", request.method, request.path, exc_info=error)
    return refusal(ServerError("Internal error occurred: see the server's log"))


def _body_too_large(_: HttpRequest) -> HttpResponse:
    return refusal(problems.body_too_large(MAX_BODY_BYTES))


def _failed(_: HttpRequest, __: BaseException) -> HttpResponse:
    return refusal(ServerError("Internal error occurred: see the server's log"))


LIMITS = Limits(body_bytes=MAX_BODY_BYTES, too_large=_body_too_large, failed=_failed)
"""For the server that runs the handler: its own refusals are Statuses too."""

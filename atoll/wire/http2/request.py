"""The head of a request: header fields to what a handler gets, or why they are malformed (RFC 9113, section 8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from atoll.wire.http2.hpack import CONNECTION_HEADERS, Field

_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_NOT_IN_PATHS = re.compile(r"[\x00-\x20\x7f]")


class Malformed(ValueError):
    """Such a request is not handled; the text says why."""


@dataclass(slots=True)
class Head:
    """All of a request but its body. `length`: of the body as announced, -1 when it is not."""

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    repeated: dict[str, list[str]] | None
    length: int


def parse(fields: list[Field]) -> Head:
    """Raises Malformed."""
    pseudo, headers, repeated = _sorted(fields)
    if not CONNECTION_HEADERS.isdisjoint(headers):
        name = next(name for name in headers if name in CONNECTION_HEADERS)
        raise Malformed(f'request header "{name.title()}" is not valid in HTTP/2')
    if headers.get("te", "trailers") not in ("trailers", ""):
        raise Malformed('request header "TE" may only be "trailers" in HTTP/2')
    method, target = pseudo.get(":method", ""), pseudo.get(":path", "")
    if not _TOKEN.fullmatch(method):
        raise Malformed("a request needs its :method")
    if method == "CONNECT":
        raise Malformed("CONNECT is not offered")
    if pseudo.get(":scheme") not in ("https", "http"):
        raise Malformed("a request's :scheme is https")
    if not target.startswith("/") and not (target == "*" and method == "OPTIONS"):
        raise Malformed("a request's :path begins with a slash")
    if _NOT_IN_PATHS.search(target):
        raise Malformed("a request's :path holds characters that none may")
    authority = pseudo.get(":authority")
    if authority:
        if headers.setdefault("host", authority) != authority:
            raise Malformed("the header host names another than :authority")
        if _NOT_IN_PATHS.search(authority):
            raise Malformed("a request's :authority holds characters that none may")
    length = -1
    if (announced := headers.get("content-length")) is not None:
        if not (announced.isascii() and announced.isdigit()) or len(announced) > 18:
            raise Malformed("a request's content-length is a number")
        length = int(announced)
    path, _, query = target.partition("?")
    return Head(method, target, unquote(path) if "%" in path else path, query, headers, repeated, length)


def check_trailers(fields: list[Field]) -> None:
    """They are not used. Raises Malformed."""
    for name, _, problem in fields:
        if problem or name.startswith(":"):
            raise Malformed(problem or "a trailer is a pseudo-header")


def _sorted(fields: list[Field]) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]] | None]:
    """The pseudo-headers, the others, and each value of those that came more than once."""
    pseudo: dict[str, str] = {}
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] | None = None
    for name, value, problem in fields:
        if problem:
            raise Malformed(problem)
        if name[0] == ":":
            if name not in _PSEUDO or name in pseudo or headers:
                raise Malformed(f"the pseudo-header {name} is none, comes twice, or after a header")
            pseudo[name] = value
            continue
        held = headers.get(name)
        if held is None:
            headers[name] = value
            continue
        headers[name] = f"{held}; {value}" if name == "cookie" else f"{held}, {value}"  # 8.2.3
        if repeated is None:
            repeated = {}
        repeated.setdefault(name, [held]).append(value)
    return pseudo, headers, repeated

"""Heads of requests that have been read before: the same bytes are the same request, without a parser.

Clients send the same few heads again and again (a poll, a lease, creates of one kind), and the parser's calls for each
header are the dearest part of reading one. What is remembered has been read by the parser itself, as one whole message
that ended where the read ended; whatever could make the end of a head or of a body a matter of opinion (chunks, bare
line ends, upgrades, repeated lengths) is left to the parser each time. A client's requests mostly differ in the request
line alone: under the same fields one of the plainest kind is read here too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from msgspec import Struct

from atoll.base.recent import Recent
from atoll.wire.messages import HttpRequest

LOOKED_UP_BYTES = 16 * 1024  # larger reads aren't
_HEAD_BYTES = 4096
_KEPT = 512
_END = b"\r\n\r\n"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9/._~%&=?,:@!$()*+-]*) HTTP/1\.1")
_LEFT_TO_THE_PARSER = ("transfer-encoding", "upgrade", "expect")


class Head(Struct, frozen=True):
    """What `HttpRequest` says but for its body and its connection. Shared: `headers` must not change."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    target: str
    repeated: Mapping[str, Sequence[str]] | None
    body_bytes: int


class Heads:
    """Those of one server: what it refuses by its limits never gets here."""

    def __init__(self) -> None:
        self._known: Recent[bytes, Head] = Recent(_KEPT)
        self._fields: Recent[bytes, Head] = Recent(_KEPT)  # without the request line

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        """(head, body), where `data` is one whole request with a known head."""
        end = len(data) if data.endswith(_END) else data.find(_END, 0, _HEAD_BYTES) + len(_END)
        raw = data if end == len(data) else data[:end]
        head = self._known.get(raw) or self._under_known_fields(raw)
        if head is None or len(data) != end + head.body_bytes:
            return None
        return head, data[end:]

    def remember(self, data: bytes, request: HttpRequest) -> None:
        """The parser has read `data` as this request, to the last byte, and the connection is kept."""
        end = data.find(_END, 0, _HEAD_BYTES) + len(_END)
        raw = data[:end]
        length = request.headers.get("content-length", "0")
        if (
            request.method in _METHODS
            and raw[: raw.find(b"\r\n")].endswith(b" HTTP/1.1")
            and raw[:1].isupper()
            and raw.count(b"\r\n") == raw.count(b"\r") == raw.count(b"\n")
            and not any(name in request.headers for name in _LEFT_TO_THE_PARSER)
            and (request.repeated is None or "content-length" not in request.repeated)
            and length.isascii()
            and length.isdigit()
            and int(length) == len(request.body) == len(data) - end
        ):
            head = Head(
                request.method, request.path, request.query, request.headers, request.target, request.repeated,
                len(request.body),
            )  # fmt: skip
            self._known.put(raw, head)
            self._fields.put(raw[raw.find(b"\r\n") :], head)

    def _under_known_fields(self, raw: bytes) -> Head | None:
        at = raw.find(b"\r\n")
        like = self._fields.get(raw[at:])
        line = None if like is None else _LINE.fullmatch(raw, 0, at)
        if like is None or line is None:
            return None
        target = line[2].decode("ascii")
        path, query = split_target(target)
        return Head(line[1].decode("ascii"), path, query, like.headers, target, like.repeated, like.body_bytes)


def split_target(target: str) -> tuple[str, str]:
    """(path, decoded; query, as it was sent)"""
    if not target.startswith("/") and "://" in target:  # absolute form, as proxies send it
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    return unquote(path) if "%" in path else path, query

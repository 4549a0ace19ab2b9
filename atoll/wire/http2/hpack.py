"""HPACK (RFC 7541): header blocks to fields and back.

Decoding keeps the connection's dynamic table, bounded by what we announced. Encoding keeps none: a block of ours is
made of the static table and plain literals, so that it is the same for every connection and made once. (A client's
table is then of no use to us: `NO_TABLE` says so at the head of the first block.)
"""

from __future__ import annotations

import functools
import re
from collections import deque
from typing import NamedTuple

from atoll.wire.http2 import huffman

TABLE_BYTES = 4096  # of a decoder's dynamic table: the default of SETTINGS_HEADER_TABLE_SIZE
NO_TABLE = b"\x20"  # a dynamic table size update to 0
_FIELD_OVERHEAD_BYTES = 32  # that RFC 7541 and RFC 9113 count for each field
_MOST_INTEGER = 1 << 28
_KEPT_BYTES = 2048  # of a string that is kept decoded
_STATIC = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|"
    ":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|"
    "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|"
    "retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
_NAME = re.compile(r":?[a-z0-9!#$%&'*+\-.^_`|~]+")
_BAD_VALUE = re.compile(r"[\x00\r\n]|^[ \t]|[ \t]$")


class HpackError(ValueError):
    """The block can't be decoded: the connection's table is lost."""


class Field(NamedTuple):
    """A header as it came. `problem`: why RFC 9113 (8.2.1) calls it malformed."""

    name: str
    value: str
    problem: str = ""


def _static_table() -> tuple[Field, ...]:
    entries = [entry.partition(" ") for entry in _STATIC.split("|")]
    return tuple(Field(name, value) for name, _, value in entries)


STATIC = _static_table()
_FIRST_DYNAMIC = len(STATIC) + 1


class Decoder:
    """One connection's incoming blocks."""

    __slots__ = ("_entries", "_limit", "_size", "version")

    def __init__(self) -> None:
        self.version = 0  # of the dynamic table: a block whose decoding leaves it alone decodes to the same again
        self._entries: deque[Field] = deque()  # the newest first
        self._size = 0
        self._limit = TABLE_BYTES

    def decode(self, block: bytes, most_bytes: int) -> list[Field] | None:
        """The block's fields; None when they come to more than `most_bytes` (which are then not kept).

        Raises HpackError.
        """
        fields: list[Field] = []
        size = 0
        at, end = 0, len(block)
        try:
            at = self._resized(block)
            while at < end:
                byte = block[at]
                if byte >= 0x80:
                    if byte == 0xFF:
                        index, at = _integer(block, at, 0x7F)
                    else:
                        index = byte & 0x7F
                        at += 1
                    field = self._field(index)
                else:
                    field, at = self._literal(block, at, byte)
                size += len(field.name) + len(field.value) + _FIELD_OVERHEAD_BYTES
                if size <= most_bytes:
                    fields.append(field)
        except (IndexError, huffman.HuffmanError):
            raise HpackError("a header block can't be decoded") from None
        return fields if size <= most_bytes else None

    def _resized(self, block: bytes) -> int:
        """Apply the table's new sizes, which come first; returns where the fields begin."""
        at = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            limit, at = _integer(block, at, 0x1F)
            if limit > TABLE_BYTES:
                raise HpackError("the dynamic table is made larger than was allowed")
            self._limit = limit
            self._shrink(limit)
        return at

    def _field(self, index: int) -> Field:
        if index < _FIRST_DYNAMIC:
            if not index:
                raise HpackError("the index 0 is none")
            return STATIC[index - 1]
        return self._entries[index - _FIRST_DYNAMIC]

    def _literal(self, block: bytes, at: int, byte: int) -> tuple[Field, int]:
        kept = byte >= 0x40
        if not kept and byte >= 0x20:
            raise HpackError("the dynamic table's size changes in the middle of a block")
        index, at = _integer(block, at, 0x3F if kept else 0x0F)
        if index:
            named = self._field(index)
            name, problem = named.name, "" if index < _FIRST_DYNAMIC or _NAME.fullmatch(named.name) else named.problem
        else:
            name, at = _string(block, at)
            name, problem = _checked_name(name)
        value, at = _string(block, at)
        if not problem and _BAD_VALUE.search(value):
            problem = f"the value of header {name!r} holds characters that none may"
        field = Field(name, value, problem)
        if kept:
            self._keep(field)
        return field, at

    def _keep(self, field: Field) -> None:
        self.version += 1
        size = len(field.name) + len(field.value) + _FIELD_OVERHEAD_BYTES
        self._shrink(self._limit - size)
        if size <= self._limit:
            self._entries.appendleft(field)
            self._size += size

    def _shrink(self, limit: int) -> None:
        """Drop the oldest entries until the others fit."""
        while self._size > limit and self._entries:
            oldest = self._entries.pop()
            self._size -= len(oldest.name) + len(oldest.value) + _FIELD_OVERHEAD_BYTES
            self.version += 1


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer in the low bits of a byte and those that follow (5.1): (value, where it ends)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if value > _MOST_INTEGER or shift > 28:
            raise HpackError("an integer in a header block is too large")
        if byte < 0x80:
            return value, at
        shift += 7


def _string(block: bytes, at: int) -> tuple[str, int]:
    coded = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise HpackError("a string in a header block is cut short")
    return (_text if size <= _KEPT_BYTES else _decoded)(block[at:end], coded), end


def _decoded(data: bytes, coded: int) -> str:
    return huffman.decode(data) if coded else data.decode("latin-1")


@functools.lru_cache(maxsize=512)
def _text(data: bytes, coded: int) -> str:
    """The same tokens, paths and agents come again and again: decoded once, and held once by all who keep them."""
    return _decoded(data, coded)


@functools.lru_cache(maxsize=256)
def _checked_name(name: str) -> tuple[str, str]:
    return name, "" if _NAME.fullmatch(name) else f"the header name {name!r} is none"


@functools.lru_cache(maxsize=1024)
def encode(status: int, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bool]:
    """A response's header block, but for its length: mostly the same few again and again.

    What RFC 9113 (8.2.2) forbids is left out: headers that are about an HTTP/1.1 connection. The second is whether one
    of them is `Connection: close`.
    """
    parts = [_encoded_status(status)]
    closing = False
    for name, value in headers:
        lowered = name.lower()
        if lowered in CONNECTION_HEADERS:
            closing = closing or (lowered == "connection" and value.lower() == "close")
        else:
            parts.append(_encoded(lowered, value.translate(_BLANKED).strip()))
    return b"".join(parts), closing


_BLANKED = {0: " ", 10: " ", 13: " "}
CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_NAMES = {field.name: index for index, field in reversed(list(enumerate(STATIC, 1)))}
_STATUSES = {field.value: index for index, field in enumerate(STATIC, 1) if field.name == ":status"}


def _encoded_status(status: int) -> bytes:
    index = _STATUSES.get(str(status))
    return bytes((0x80 | index,)) if index else b"\x08\x03%03d" % status


def _encoded(name: str, value: str) -> bytes:
    """A literal that nobody keeps."""
    index = _NAMES.get(name)
    data = value.encode("latin-1", "replace")
    head = encoded_integer(index, 0x0F) if index else b"\0" + _encoded_string(name.encode("latin-1", "replace"))
    return head + _encoded_string(data)


def encoded_length(size: int) -> bytes:
    """content-length."""
    digits = b"%d" % size
    return b"\x0f\x0d%c%b" % (len(digits), digits)


def _encoded_string(data: bytes) -> bytes:
    return encoded_integer(len(data), 0x7F) + data


def encoded_integer(value: int, mask: int) -> bytes:
    if value < mask:
        return bytes((value,))
    out = bytearray((mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

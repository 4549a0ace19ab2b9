"""A Parquet file of one flat table, written without pyarrow: columns of int64, double and text, none of them null.

The least of the format that every reader knows (parquet-format 2.x): one row group for so many rows, one plain data
page a column, gzip. pyarrow and DuckDB are forty to a hundred times the size of Atoll for this one thing. What is
written was read back with both.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

Kind = Literal["int64", "double", "text"]

_MAGIC = b"PAR1"
_INT64, _DOUBLE, _BYTE_ARRAY = 2, 5, 6
_TYPES: dict[Kind, int] = {"int64": _INT64, "double": _DOUBLE, "text": _BYTE_ARRAY}
_PLAIN, _RLE = 0, 3
_GZIP = 2
_REQUIRED = 0
_UTF8 = 0
_GROUP_ROWS = 200_000
# Thrift's compact protocol
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


def write_table(path: Path, columns: Sequence[tuple[str, Kind]], rows: Sequence[Sequence[Any]]) -> None:
    """Rows as the columns say. Raises OSError, and ValueError where a row has another number of values."""
    with path.open("wb") as file:
        file.write(_MAGIC)
        at = len(_MAGIC)
        groups = []
        for first in range(0, len(rows), _GROUP_ROWS):
            part = rows[first : first + _GROUP_ROWS]
            chunks, total = [], 0
            for index, values in enumerate(zip(*part, strict=True)):
                name, kind = columns[index]
                plain = _plain(kind, values)
                packed = gzip.compress(plain, mtime=0)
                header = _page_header(len(part), len(plain), len(packed))
                file.write(header + packed)
                chunks.append(_chunk(name, kind, len(part), at, len(header) + len(plain), len(header) + len(packed)))
                at += len(header) + len(packed)
                total += len(header) + len(plain)
            groups.append(_struct((1, _LIST, _list(_STRUCT, chunks)), (2, _I64, total), (3, _I64, len(part))))
        footer = _footer(columns, len(rows), groups)
        file.write(footer + struct.pack("<I", len(footer)) + _MAGIC)


def _plain(kind: Kind, values: Sequence[Any]) -> bytes:
    if kind == "text":
        encoded = [str(value).encode() for value in values]
        return b"".join(part for text in encoded for part in (struct.pack("<I", len(text)), text))
    return struct.pack(f"<{len(values)}{'q' if kind == 'int64' else 'd'}", *values)


def _page_header(count: int, plain: int, packed: int) -> bytes:
    data = _struct((1, _I32, count), (2, _I32, _PLAIN), (3, _I32, _RLE), (4, _I32, _RLE))
    return _struct((1, _I32, 0), (2, _I32, plain), (3, _I32, packed), (5, _STRUCT, data))


def _chunk(name: str, kind: Kind, count: int, at: int, plain: int, packed: int) -> bytes:
    meta = _struct(
        (1, _I32, _TYPES[kind]), (2, _LIST, _list(_I32, [_zigzag(_PLAIN)])), (3, _LIST, _list(_BINARY, [_text(name)])),
        (4, _I32, _GZIP), (5, _I64, count), (6, _I64, plain), (7, _I64, packed), (9, _I64, at),
    )  # fmt: skip
    return _struct((2, _I64, at), (3, _STRUCT, meta))


def _footer(columns: Sequence[tuple[str, Kind]], count: int, groups: Sequence[bytes]) -> bytes:
    schema = [_struct((4, _BINARY, "rows"), (5, _I32, len(columns)))]
    for name, kind in columns:
        fields: list[tuple[int, int, Any]] = [(1, _I32, _TYPES[kind]), (3, _I32, _REQUIRED), (4, _BINARY, name)]
        schema.append(_struct(*fields, *([(6, _I32, _UTF8)] if kind == "text" else [])))
    return _struct(
        (1, _I32, 1), (2, _LIST, _list(_STRUCT, schema)), (3, _I64, count), (4, _LIST, _list(_STRUCT, groups)),
        (6, _BINARY, "atoll"),
    )  # fmt: skip


def _struct(*fields: tuple[int, int, Any]) -> bytes:
    """Fields (number, type, value) in rising order; structs and lists are given as bytes."""
    found, last = bytearray(), 0
    for number, kind, value in fields:
        found.append((number - last) << 4 | kind)
        last = number
        if kind in (_I32, _I64):
            found += _zigzag(value)
        else:
            found += _text(value) if kind == _BINARY else value
    return bytes(found) + b"\0"


def _list(kind: int, items: Iterable[bytes]) -> bytes:
    parts = list(items)
    head = bytes([len(parts) << 4 | kind]) if len(parts) < 15 else bytes([0xF0 | kind]) + _varint(len(parts))
    return head + b"".join(parts)


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)

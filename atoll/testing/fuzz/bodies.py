"""Objects from the schemas of the kinds, spoiled here and there, in all three encodings.

A body is decided by the chance that is given, so that a seed gives the same requests.
"""

from __future__ import annotations

import base64
import copy
import random
import struct
from typing import Any

import orjson

from atoll.cluster.apiserver.protobuf.table import Field, table
from atoll.kinds.nodes import SchemaNode

ODD: tuple[Any, ...] = (
    None, "", "x" * 300, 0, -1, 2**31, 2**63, 2**64, 1.5, 1e300, True, [], {}, [None], {"": None}, "ü\u0000", [{}],
    {"a": {"b": []}}, "1Gi", "-5", "999999999999999999999", "%", "../..", "a/b/c", "{{.}}", "\ud7ff", "1h", "∞",
    "1e99999999",     {"$patch": "delete"}, [{"$patch": "replace"}], {"matchLabels": None},
)  # fmt: skip
_STRINGS = ("a", "b", "default", "web", "app", "1", "100m", "1Gi", "Always", "TCP", "x.example.com", "*", "v1", "",
            "9e99", "1e99999999", "^(a+)+$")  # fmt: skip
_FORMATS = {
    "date-time": ("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "10000-01-01T00:00:00Z"),
    "byte": ("", "AAAA", "=", "not base64"),
    "int-or-string": (80, "http", "50%", -1, "x" * 40),
}
_DEEPEST = 9


def odd(chance: random.Random) -> Any:
    """Something that hardly fits anywhere."""
    return copy.deepcopy(chance.choice(ODD))


def make(node: SchemaNode | None, chance: random.Random, depth: int = 0) -> Any:
    """A value that more or less fits a schema."""
    if node is None or depth > _DEEPEST:
        return odd(chance)
    if node.enum and chance.random() < 0.9:
        return chance.choice(node.enum)
    if node.format in _FORMATS:
        return chance.choice(_FORMATS[node.format])
    if node.kind == "string":
        return chance.choice(_STRINGS)
    if node.kind == "integer":
        return chance.choice((0, 1, 2, 30, 8080, -1, 65536, 2**31 - 1, 2**63 - 1))
    if node.kind == "number":
        return chance.choice((0, 0.5, 1))
    if node.kind == "boolean":
        return chance.random() < 0.5
    if node.kind == "array" or node.items is not None:
        return [make(node.items, chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)))]
    if node.properties:
        often = 0.6 if depth < 2 else 0.25 if depth < 4 else 0.08
        return {
            name: make(child, chance, depth + 1)
            for name, child in node.properties.items()
            if name in node.required or chance.random() < often
        }
    if node.additional is not None:
        return {chance.choice(_STRINGS): make(node.additional, chance, depth + 1) for _ in range(chance.randint(0, 2))}
    return odd(chance)


def spoil(value: Any, chance: random.Random, times: int) -> Any:
    """Replace or remove things inside a value, in place."""
    for _ in range(times):
        where, path = value, 0
        while path < 12:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            if not keys:
                break
            key = chance.choice(keys)
            inner = where[key]
            if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
                where, path = inner, path + 1
                continue
            if isinstance(where, dict) and chance.random() < 0.25:
                del where[key]
            else:
                where[key] = odd(chance)
            break
    return value


def to_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError):  # numbers over 64 bits, halves of surrogate pairs
        import json

        return json.dumps(value).encode()


def to_yaml(value: Any, chance: random.Random) -> bytes:
    import yaml

    try:
        data = yaml.safe_dump(value, default_flow_style=chance.random() < 0.5, allow_unicode=True).encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        return b"{a: &a [*a]}"
    return data + chance.choice((b"", b"", b"---\n", b"a: b\n", b"? [1]\n: 2\n", b"x: !!python/object:os.system {}\n"))


# -- protobuf


def to_protobuf(api_version: str, kind: str, value: Any) -> bytes:
    """A body of `application/vnd.kubernetes.protobuf`: what has no place in the message is left out."""
    message = table().message_of(api_version, kind)
    raw = b"" if message is None else _message(message, value, 0)
    unknown = _bytes(1, _bytes(1, api_version.encode()) + _bytes(2, kind.encode())) + _bytes(2, raw)
    return b"k8s\0" + unknown


def _message(name: str, value: Any, depth: int) -> bytes:
    if not isinstance(value, dict) or depth > 16:
        return b""
    out = []
    for number, field in table().fields(name).items():
        if field.name == "":
            out.append(_bytes(number, _message(field.message, value, depth + 1)))
        elif field.name in value:
            out.append(_field(number, field, value[field.name], depth))
    return b"".join(out)


def _field(number: int, field: Field, value: Any, depth: int) -> bytes:
    if field.mapped:
        items = value.items() if isinstance(value, dict) else ()
        return b"".join(_bytes(number, _bytes(1, _text(key)) + _one(2, field, item, depth)) for key, item in items)
    if field.repeated:
        return b"".join(_one(number, field, item, depth) for item in (value if isinstance(value, list) else [value]))
    return _one(number, field, value, depth)


def _one(number: int, field: Field, value: Any, depth: int) -> bytes:
    kind = field.kind
    if kind == "message":
        return _bytes(number, _message(field.message, value, depth + 1))
    if kind in "iut":
        return _varint(number << 3) + _varint(int(value) & (1 << 64) - 1 if isinstance(value, int) else 0)
    if kind == "d":
        return _varint(number << 3 | 1) + struct.pack("<d", value if isinstance(value, float) else 0.0)
    if kind == "b":
        return _bytes(number, _decoded(value))
    if kind == "s":
        return _bytes(number, _text(value))
    if kind in ("time", "micro_time"):
        return _bytes(number, _varint(8) + _varint(1_700_000_000))
    if kind == "duration":
        return _bytes(number, _varint(8) + _varint(10**9))
    if kind == "int_or_string":
        if isinstance(value, int):
            return _bytes(number, _varint(8) + _varint(0) + _varint(16) + _varint(value & (1 << 64) - 1))
        return _bytes(number, _varint(8) + _varint(1) + _bytes(3, _text(value)))
    if kind in ("raw_json", "raw_extension"):
        return _bytes(number, _bytes(1, to_json(value)))
    if kind == "items":
        return _bytes(number, b"".join(_bytes(1, _text(item)) for item in (value if isinstance(value, list) else ())))
    return _bytes(number, _bytes(1, _text(value)))


def _text(value: Any) -> bytes:
    return str(value).encode(errors="surrogatepass") if value is not None else b""


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except ValueError:
        return _text(value)


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bend(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut or doubled."""
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed)) if changed else 0
        act = chance.random()
        if act < 0.5 and changed:
            changed[at] = chance.randrange(256)
        elif act < 0.75:
            del changed[at : at + chance.randint(1, 30)]
        else:
            changed[at:at] = changed[at : at + chance.randint(1, 30)]
    return bytes(changed)

"""Decoding JSON objects as Go would: types checked, unknown fields found, the result as upstream would write it back.

A request's object passes through Go structs in upstream: nulls and empty omitempty fields vanish, value structs and
fields without omitempty always appear, quantities and times become canonical. `decode` does the same in one pass and
returns a new object (its input may be shared). The pass carries no path: on a fault a second, slow walk finds it.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import re
from collections.abc import Callable
from typing import Any

from atoll.base import quantity
from atoll.base.errors import BadRequest
from atoll.kinds.nodes import (
    ARRAY,
    BOOLEAN,
    INT_OR_STRING,
    INTEGER,
    NUMBER,
    OBJECT,
    QUANTITY,
    STRING,
    SchemaNode,
)

_UNKNOWN_LIMIT = 100  # upstream's strict decoder stops there


class DecodeError(Exception):
    """The value does not fit the Go type; the message is that of Go's decoder."""


def cannot_handle(kind: str, version: str, detail: str) -> BadRequest:
    """The 400 that wraps a decoding error; `version` is the group-version as written, e.g. apps/v1 gives "v1"."""
    return BadRequest(f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {kind}: {detail}')


def strict_error(problems: list[str]) -> str:
    """The detail of fieldValidation=Strict, e.g. strict decoding error: unknown field "spec.foo"."""
    return "strict decoding error: " + ", ".join(problems)


def decode(value: Any, node: SchemaNode) -> tuple[Any, list[str]]:
    """(the object as upstream would keep it, problems like 'unknown field "spec.foo"'). Raises DecodeError."""
    unknown: list[str] = []
    try:
        result = _object(value, node, unknown)
    except _Mismatch:
        _explain(value, node, "", "")
        raise
    problems = unknown_fields(value, node) if unknown else []
    return result, problems


def unknown_fields(value: Any, node: SchemaNode) -> list[str]:
    """All unknown fields with their paths, in the document's order: unknown field "spec.containers[0].foo"."""
    found: dict[str, None] = {}
    _walk_unknown(value, node, "", found)
    return [f'unknown field "{path}"' for path in found]


def zero(node: SchemaNode) -> Any:
    """What Go writes for a field that is always written and was not given."""
    if node.nullable or node.kind == ARRAY:
        return None
    if node.properties is not None:
        return {name: zero(child) for name, child in node.fill}
    if node.kind == STRING:
        return None if node.format in ("date-time", "byte") else ""
    return _ZEROS.get(node.kind)


_ZEROS: dict[str, Any] = {INTEGER: 0, NUMBER: 0, BOOLEAN: False, QUANTITY: "0", INT_OR_STRING: 0}


class _Mismatch(DecodeError):
    """Raised on the fast pass, without a path."""


def _object(value: Any, node: SchemaNode, unknown: list[str]) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Mismatch
    properties = node.properties
    if properties is None:
        if node.additional is node or node.additional is None:
            return value  # free-form
        return _map(value, node.additional, unknown)
    result: dict[str, Any] = {}
    for name, item in value.items():
        child = properties.get(name)
        if child is None:
            if item is not None or name not in properties:
                unknown.append(name)
            continue
        if item is None:
            continue
        kind = child.kind
        if kind == STRING:
            if type(item) is not str:
                raise _Mismatch
            if child.format:
                item = _formatted(item, child)
            if item or not child.omit_empty:
                result[name] = item
            continue
        if kind == OBJECT:
            item = _object(item, child, unknown)
        elif kind == ARRAY:
            item = _array(item, child, unknown)
        else:
            item = _DECODERS.get(kind, _any)(item, child)
        if (child.omit_empty and not item) or (child.omit_zero and not item):
            continue
        result[name] = item
    for name, child in node.fill:
        if name not in result:
            result[name] = zero(child)
    return result


def _map(value: dict[str, Any], child: SchemaNode, unknown: list[str]) -> dict[str, Any]:
    kind = child.kind
    if kind == STRING and not child.format:
        for item in value.values():
            if type(item) is not str:
                if item is None:
                    return {key: item if item is not None else "" for key, item in _strings(value)}
                raise _Mismatch
        return dict(value)  # the result may be changed, the input may be shared
    if kind == OBJECT:
        return {key: _object(item if item is not None else {}, child, unknown) for key, item in value.items()}
    if kind == ARRAY:
        return {key: _array(item, child, unknown) if item is not None else None for key, item in value.items()}
    decoder = _DECODERS.get(kind, _any)
    return {key: decoder(item, child) if item is not None else zero(child) for key, item in value.items()}


def _strings(value: dict[str, Any]) -> list[tuple[str, str | None]]:
    if not all(item is None or type(item) is str for item in value.values()):
        raise _Mismatch
    return list(value.items())


def _array(value: Any, node: SchemaNode, unknown: list[str]) -> Any:
    if type(value) is not list:
        raise _Mismatch
    child = node.items
    if child is None:
        return value
    kind = child.kind
    if kind == OBJECT:
        return [_object(item if item is not None else {}, child, unknown) for item in value]
    if kind == ARRAY:
        return [_array(item, child, unknown) for item in value]
    decoder = _DECODERS.get(kind, _any)
    return [decoder(item, child) if item is not None else zero(child) for item in value]


def _any(value: Any, node: SchemaNode) -> Any:
    return value


def _string(value: Any, node: SchemaNode) -> str:
    if type(value) is not str:
        raise _Mismatch
    return _formatted(value, node) if node.format else value


def _integer(value: Any, node: SchemaNode) -> int:
    if type(value) is not int:
        raise _Mismatch
    if not (node.minimum or 0) <= value <= (node.maximum or 0):
        raise _Mismatch
    return value


def _number(value: Any, node: SchemaNode) -> int | float:
    if type(value) is not float and type(value) is not int:
        raise _Mismatch
    found: int | float = value
    return found


def _boolean(value: Any, node: SchemaNode) -> bool:
    if type(value) is not bool:
        raise _Mismatch
    return value


def _int_or_string(value: Any, node: SchemaNode) -> int | str:
    if type(value) is str:
        return value
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise _Mismatch
    return value


@functools.lru_cache(maxsize=8192)
def _canonical(text: str) -> str:
    return quantity.canonical(text)


def _quantity(value: Any, node: SchemaNode) -> str:
    if type(value) not in (str, int, float):
        raise _Mismatch
    try:
        return _canonical(str(value))
    except ValueError:
        raise _Mismatch from None


_DECODERS: dict[str, Callable[[Any, SchemaNode], Any]] = {
    STRING: _string,
    INTEGER: _integer,
    NUMBER: _number,
    BOOLEAN: _boolean,
    INT_OR_STRING: _int_or_string,
    QUANTITY: _quantity,
}

_TIME = re.compile(r"^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)$")


def _formatted(value: str, node: SchemaNode) -> Any:
    if node.format == "date-time":
        return _time(value, micro=node.definition.endswith("MicroTime"))
    if node.format == "byte":
        try:
            base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError):
            raise _Mismatch from None
    return value


@functools.lru_cache(maxsize=1024)
def _time(value: str, *, micro: bool) -> str:
    match = _TIME.match(value)
    if match is None:
        raise _Mismatch
    try:
        moment = datetime.datetime.fromisoformat(
            f"{match[1]}-{match[2]}-{match[3]}T{match[4]}:{match[5]}:{match[6]}.{(match[7] or '0')[:6]:0<6}"
            + ("+00:00" if match[8] == "Z" else match[8])
        )
    except ValueError:
        raise _Mismatch from None
    shown = moment.astimezone(datetime.UTC).isoformat(timespec="microseconds" if micro else "seconds")
    return shown.removesuffix("+00:00") + "Z"  # strftime would not fill up years before 1000


# --- the slow walks: only after a fault ---


def _walk_unknown(value: Any, node: SchemaNode, path: str, found: dict[str, None]) -> None:
    if len(found) >= _UNKNOWN_LIMIT or node.additional is node:
        return
    if type(value) is dict:
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            child = (node.properties or {}).get(name) or node.additional
            if child is not None:
                _walk_unknown(item, child, prefix + name, found)
            elif node.properties is not None and not node.preserve_unknown:
                found[prefix + name] = None
    elif type(value) is list and node.items is not None:
        for index, item in enumerate(value):
            _walk_unknown(item, node.items, f"{path}[{index}]", found)


_JSON_KINDS: dict[Any, str] = {str: "string", dict: "object", list: "array"}


def _json_kind(value: Any) -> str:
    if type(value) is bool:
        return "bool"
    if type(value) in (int, float):
        return "number"
    return _JSON_KINDS.get(type(value), "null")


def _explain(value: Any, node: SchemaNode, struct: str, path: str) -> None:
    """Walk to the first value that does not fit. Raises DecodeError for it."""
    if value is None:
        return
    kind = node.kind
    if kind == OBJECT and node.additional is not node:
        if type(value) is not dict:
            _refuse(value, node, struct, path)
        owner = node.go_type.rpartition(".")[2] if node.properties is not None else struct
        for name, item in value.items():
            child = (node.properties or {}).get(name) or node.additional
            if child is not None:
                # a map's keys are not part of the path in Go's message
                step = path
                if node.properties is not None:
                    step = ".".join(filter(None, (path, _embedded(node, name), name)))
                _explain(item, child, owner, step)
    elif kind == ARRAY and node.items is not None:
        if type(value) is not list:
            _refuse(value, node, struct, path)
        for item in value:
            _explain(item, node.items, struct, path)
    elif kind == OBJECT:
        if type(value) is not dict:
            _refuse(value, node, struct, path)
    elif kind in _DECODERS:
        try:
            _DECODERS[kind](value, node)
        except _Mismatch:
            _refuse(value, node, struct, path)


# Structs embedded in others: Go's path names them. {definition: (embedded struct, fields that are not its own)}
_EMBEDDED = {
    "Probe": ("ProbeHandler", {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
              "failureThreshold", "terminationGracePeriodSeconds"}),
    "Volume": ("VolumeSource", {"name"}),
    "EphemeralContainer": ("EphemeralContainerCommon", {"targetContainerName"}),
    "PersistentVolumeSpec": ("PersistentVolumeSource", {"capacity", "accessModes", "claimRef", "mountOptions",
              "persistentVolumeReclaimPolicy", "storageClassName", "volumeMode", "nodeAffinity",
              "volumeAttributesClassName"}),
}  # fmt: skip


def _embedded(node: SchemaNode, name: str) -> str:
    embedded, own = _EMBEDDED.get(node.definition.rpartition(".")[2], ("", frozenset()))
    return "" if name in own else embedded


def _refuse(value: Any, node: SchemaNode, struct: str, path: str) -> None:
    said = _json_kind(value)
    custom = _custom_refusal(value, node, said)
    if custom:
        raise DecodeError(custom)
    go_type = node.go_type
    if said == "number" and node.kind in (INTEGER, NUMBER, INT_OR_STRING):
        said = f"number {value}"
    if node.kind == INT_OR_STRING:
        go_type = "int32"
    elif node.format == "date-time":
        go_type = "string"
    where = f"Go struct field {struct}.{path} of type" if path else "Go value of type"
    raise DecodeError(f"json: cannot unmarshal {said} into {where} {go_type}")


def _custom_refusal(value: Any, node: SchemaNode, said: str) -> str:
    """Types with their own UnmarshalJSON in upstream have messages of their own."""
    if node.kind == QUANTITY:
        return "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    if node.format == "date-time" and said == "string":
        layout = "2006-01-02T15:04:05.000000Z07:00" if node.definition.endswith("MicroTime") else _RFC3339
        return _time_refusal(value, layout)
    if node.format == "byte" and said == "string":
        return f"illegal base64 data at input byte {_illegal_at(value)}"
    return ""


_RFC3339 = "2006-01-02T15:04:05Z07:00"
_LAYOUT_STEPS = (("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
                 ("15", r"\d\d"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d"),
                 ("Z07:00", r"(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)"))  # fmt: skip


def _time_refusal(value: str, layout: str) -> str:
    """Go's time.ParseError: the part of the value that was left, and the layout element that did not fit."""
    rest = value
    for element, pattern in _LAYOUT_STEPS:
        match = re.match(pattern, rest)
        if match is None:
            return f'parsing time "{value}" as "{layout}": cannot parse "{rest}" as "{element}"'
        rest = rest[match.end() :]
    if rest:
        return f'parsing time "{value}": extra text: "{rest}"'
    numbers = [int(value[start : start + 2]) for start in (5, 8, 11, 14, 17)]
    limits = zip(("month", "day", "hour", "minute", "second"), numbers, (12, 31, 23, 59, 59), strict=True)
    part = next((name for name, number, most in limits if number > most), "day")
    return f'parsing time "{value}": {part} out of range'


def _illegal_at(value: str) -> int:
    text = value.rstrip("=")
    for index, letter in enumerate(text):
        if not (letter.isascii() and (letter.isalnum() or letter in "+/\n\r")):
            return index
    return len(text) - len(text) % 4 if len(text) % 4 == 1 else len(value)

"""`decode`: a body in Kubernetes' protobuf encoding to the JSON object that the same client would have sent as JSON.

A body is the magic `k8s\\0`, then runtime.Unknown: the type, and the object's bytes. Fields that the table does not
know are skipped, as protobuf asks. What is not well-formed raises BadRequest.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Callable
from typing import Any

import orjson

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.protobuf.table import Field, Table, table

Object = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
_MOST_DEPTH = 100
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ABSENT: Any = object()


class _Malformed(Exception):
    pass


def decode(body: bytes) -> tuple[str, str, Object]:
    """(apiVersion, kind, object with both in it). Raises BadRequest."""
    try:
        return _decode_unknown(body)
    except _Malformed as error:
        raise BadRequest(f"the object provided is not valid protobuf: {error}") from None
    except RecursionError:
        raise BadRequest("the object provided is nested too deeply") from None


def _decode_unknown(body: bytes) -> tuple[str, str, Object]:
    if not body.startswith(MAGIC):
        raise _Malformed("it does not begin with the prefix of Kubernetes' protobuf encoding")
    api_version = kind = content_type = ""
    raw = b""
    for number, wire, value in _walk(body, len(MAGIC), len(body)):
        if wire != _BYTES:
            continue
        if number == 1:
            for inner, inner_wire, text in _walk(value, 0, len(value)):
                if inner == 1 and inner_wire == _BYTES:
                    api_version = _text(text)
                elif inner == 2 and inner_wire == _BYTES:
                    kind = _text(text)
        elif number == 2:
            raw = value
        elif number == 4:
            content_type = _text(value)
    if content_type.startswith("application/json"):
        obj = _json(raw)
        if not isinstance(obj, dict):
            raise _Malformed("the JSON in it is not an object")
        return str(obj.get("apiVersion", api_version)), str(obj.get("kind", kind)), obj
    if not kind:
        raise BadRequest("Object 'Kind' is missing in the protobuf body")
    fields = table()
    message = fields.message_of(api_version, kind)
    if message is None:
        raise BadRequest(f'no kind "{kind}" is registered for version "{api_version}" in the protobuf encoding')
    return api_version, kind, {"apiVersion": api_version, "kind": kind, **_Decoder(fields).message(message, raw, 0)}


class _Decoder:
    def __init__(self, fields: Table) -> None:
        self._table = fields

    def message(self, name: str, data: bytes, depth: int) -> Object:
        """The JSON object of a message."""
        if depth > _MOST_DEPTH:
            raise _Malformed("it is nested too deeply")
        fields = self._table.fields(name)
        out: Object = {}
        for number, wire, value in _walk(data, 0, len(data)):
            field = fields.get(number)
            if field is None:
                continue
            if field.mapped:
                self._map_entry(out, field, value, wire, depth)
            elif field.repeated:
                self._append(out, field, value, wire, depth)
            elif not field.name:
                out.update(self._of(field, value, wire, depth))
            else:
                decoded = self._of(field, value, wire, depth)
                if decoded is _ABSENT or (not field.keeps_zero and decoded in _ZEROS.get(field.kind, ())):
                    out.pop(field.name, None)
                else:
                    out[field.name] = decoded
        return out

    def _append(self, out: Object, field: Field, value: Any, wire: int, depth: int) -> None:
        items: list[Any] = out.setdefault(field.name, [])
        if wire == _BYTES and field.kind in "iut":  # packed
            at = 0
            while at < len(value):
                number, at = _varint(value, at, len(value))
                items.append(self._scalar(field, number, _VARINT))
            return
        decoded = self._of(field, value, wire, depth)
        items.append(None if decoded is _ABSENT else decoded)

    def _map_entry(self, out: Object, field: Field, value: Any, wire: int, depth: int) -> None:
        if wire != _BYTES:
            raise _Malformed(f"field {field.name} is not a map")
        key, decoded = "", _ABSENT
        for number, inner_wire, inner in _walk(value, 0, len(value)):
            if number == 1 and inner_wire == _BYTES:
                key = _text(inner)
            elif number == 2:
                decoded = self._of(field, inner, inner_wire, depth)
        if decoded is _ABSENT:
            decoded = {"s": "", "b": "", "t": False, "message": {}, "items": [], "quantity": "0"}.get(field.kind, 0)
        out.setdefault(field.name, {})[key] = decoded

    def _of(self, field: Field, value: Any, wire: int, depth: int) -> Any:
        if field.kind == "message":
            if wire != _BYTES:
                raise _Malformed(f"field {field.name} is not a message")
            return self.message(field.message, value, depth + 1)
        special = _SPECIAL.get(field.kind)
        if special is not None:
            if wire != _BYTES:
                raise _Malformed(f"field {field.name} is not a message")
            return special(self, field, value, depth)
        return self._scalar(field, value, wire)

    def _scalar(self, field: Field, value: Any, wire: int) -> Any:
        kind = field.kind
        if kind == "s" and wire == _BYTES:
            return _text(value)
        if kind == "b" and wire == _BYTES:
            return base64.b64encode(value).decode()
        if kind == "i" and wire == _VARINT:
            return value - (1 << 64) if value >= 1 << 63 else value
        if kind == "t" and wire == _VARINT:
            return bool(value)
        if kind == "u" and wire == _VARINT:
            return value
        if kind == "d" and wire == _FIXED64:
            number: float = struct.unpack("<d", value)[0]
            return int(number) if number.is_integer() and abs(number) < 1 << 53 else number
        raise _Malformed(f"field {field.name} has the wrong type")

    # -- messages with a JSON form of their own

    def _numbers(self, value: bytes) -> dict[int, Any]:
        """Field number to its last value."""
        found: dict[int, Any] = {}
        for number, _, inner in _walk(value, 0, len(value)):
            found[number] = inner
        return found

    def time(self, field: Field, value: bytes, depth: int) -> Any:
        moment = self._moment(value)
        return moment if moment is _ABSENT else moment.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"

    def micro_time(self, field: Field, value: bytes, depth: int) -> Any:
        moment = self._moment(value)
        return moment if moment is _ABSENT else moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"

    def _moment(self, value: bytes) -> Any:
        if not value:
            return _ABSENT
        found = self._numbers(value)
        seconds, nanos = found.get(1, 0), found.get(2, 0)
        if not isinstance(seconds, int) or not isinstance(nanos, int):
            raise _Malformed("a time is not a time")
        seconds = seconds - (1 << 64) if seconds >= 1 << 63 else seconds
        try:
            return _EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000)
        except OverflowError:
            raise _Malformed("a time is out of range") from None

    def duration(self, field: Field, value: bytes, depth: int) -> Any:
        nanos = self._numbers(value).get(1, 0)
        if not isinstance(nanos, int):
            raise _Malformed("a duration is not a number")
        return go_duration(nanos - (1 << 64) if nanos >= 1 << 63 else nanos)

    def quantity(self, field: Field, value: bytes, depth: int) -> Any:
        text = self._numbers(value).get(1, b"")
        return (_text(text) if isinstance(text, bytes) else "") or "0"

    def int_or_string(self, field: Field, value: bytes, depth: int) -> Any:
        found = self._numbers(value)
        if found.get(1, 0) == 1:
            text = found.get(3, b"")
            if not isinstance(text, bytes):
                raise _Malformed(f"field {field.name} has the wrong type")
            return _text(text)
        number = found.get(2, 0)
        if not isinstance(number, int):
            raise _Malformed(f"field {field.name} has the wrong type")
        return number - (1 << 64) if number >= 1 << 63 else number

    def raw_json(self, field: Field, value: bytes, depth: int) -> Any:
        raw = self._numbers(value).get(1, b"")
        return _json(raw) if raw else _ABSENT

    def raw_extension(self, field: Field, value: bytes, depth: int) -> Any:
        raw = self._numbers(value).get(1, b"")
        if not raw:
            return _ABSENT
        if isinstance(raw, bytes) and raw.startswith(MAGIC):
            return _decode_unknown(raw)[2]
        return _json(raw)

    def items(self, field: Field, value: bytes, depth: int) -> Any:
        return [_text(item) for number, wire, item in _walk(value, 0, len(value)) if number == 1 and wire == _BYTES]

    def _schema(self, field: Field, value: bytes, depth: int) -> Object:
        name = field.message.rsplit(".", 1)[0] + ".JSONSchemaProps"
        return self.message(name, value, depth + 1)

    def schema_or_array(self, field: Field, value: bytes, depth: int) -> Any:
        one, many = _ABSENT, []
        for number, _, inner in _walk(value, 0, len(value)):
            if number == 1:
                one = self._schema(field, inner, depth)
            elif number == 2:
                many.append(self._schema(field, inner, depth))
        return many or one

    def schema_or_bool(self, field: Field, value: bytes, depth: int) -> Any:
        found = self._numbers(value)
        return self._schema(field, found[2], depth) if 2 in found else bool(found.get(1, 0))

    def schema_or_strings(self, field: Field, value: bytes, depth: int) -> Any:
        found = self._numbers(value)
        if 1 in found:
            return self._schema(field, found[1], depth)
        return [_text(item) for number, wire, item in _walk(value, 0, len(value)) if number == 2 and wire == _BYTES]


_SPECIAL: dict[str, Callable[[_Decoder, Field, bytes, int], Any]] = {
    name: getattr(_Decoder, name)
    for name in (
        "time", "micro_time", "duration", "quantity", "int_or_string", "raw_json", "raw_extension", "items",
        "schema_or_array", "schema_or_bool", "schema_or_strings",
    )
}  # fmt: skip

# What is left out of JSON unless the field keeps it.
_ZEROS: dict[str, tuple[Any, ...]] = {
    "s": ("",), "b": ("",), "t": (False,), "i": (0,), "u": (0,), "d": (0,), "message": ({},), "items": ([],),
    "quantity": ("0",), "int_or_string": (0,),
}  # fmt: skip


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >= 1 << 64:
                break
            return result, at
        shift += 7
        if shift > 63:
            break
    raise _Malformed("it is truncated" if at >= end else "a number is too long")


def _walk(data: bytes, at: int, end: int) -> list[tuple[int, int, Any]]:
    """(field number, wire type, value) of a message's bytes."""
    if not isinstance(data, bytes):
        raise _Malformed("a message is not bytes")
    found: list[tuple[int, int, Any]] = []
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1, end)
        wire, number = tag & 7, tag >> 3
        if not number:
            raise _Malformed("a field has number 0")
        value: Any
        if wire == _BYTES:
            if at < end and data[at] < 0x80:
                size = data[at]
                at += 1
            else:
                size, at = _varint(data, at, end)
            if at + size > end:
                raise _Malformed("it is truncated")
            value = data[at : at + size]
            at += size
        elif wire == _VARINT:
            value, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
            if at + size > end:
                raise _Malformed("it is truncated")
            value = data[at : at + size]
            at += size
        else:
            raise _Malformed(f"wire type {wire} is not known")
        found.append((number, wire, value))
    return found


def _text(data: Any) -> str:
    if not isinstance(data, bytes):
        raise _Malformed("a string is not bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Malformed("a string is not UTF-8") from None


def _json(data: Any) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _Malformed(f"the JSON in it can't be read: {error}") from None


def go_duration(nanos: int) -> str:
    """Go's Duration.String(): 1h2m3.5s, 1.5ms, 0s."""
    if nanos == 0:
        return "0s"
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if nanos >= size:
                return f"{sign}{_decimal(nanos, size)}{unit}"
    minutes, rest = divmod(nanos, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"

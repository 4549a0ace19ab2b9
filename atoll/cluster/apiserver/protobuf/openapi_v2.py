"""`openapi_v2_protobuf`: a Swagger 2.0 document as gnostic's protobuf, which kubectl and client-go ask for.

The numbers are those of openapiv2/OpenAPIv2.proto in github.com/google/gnostic-models v0.7.1. Values of any type
(defaults, enums, vendor extensions) are YAML text there; JSON is YAML.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import orjson

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

Json = Any
Encode = Callable[[Json], bytes]


def openapi_v2_protobuf(spec: dict[str, Any]) -> bytes:
    """The Document message. What Kubernetes' documents do not use (OAuth, files, headers) is left out."""
    return _object(spec, _DOCUMENT)


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(value: Json) -> bytes:
    return str(value).encode()


def _any(value: Json) -> bytes:
    """An Any message: its YAML."""
    return _bytes(2, orjson.dumps(value) + b"\n")


class _Field:
    """How one JSON member becomes fields of a message."""

    def __init__(self, number: int, encode: Encode | None = None, *, kind: str = "message") -> None:
        self._number = number
        self._encode = encode
        self._kind = kind

    def of(self, value: Json) -> bytes:
        number, kind = self._number, self._kind
        if kind == "bool":
            return _varint(number << 3) + b"\1" if value else b""
        if kind == "integer":
            return _varint(number << 3) + _varint(int(value))
        if kind == "double":
            return _varint(number << 3 | 1) + struct.pack("<d", value)
        assert self._encode is not None
        if kind == "list":
            return b"".join([_bytes(number, self._encode(item)) for item in value])
        return _bytes(number, self._encode(value))


def _strings(number: int) -> _Field:
    return _Field(number, _text, kind="list")


def _object(value: dict[str, Json], fields: dict[str, _Field]) -> bytes:
    """A message whose members have a field each; `x-…` members are named Anys in the field "x-"."""
    parts: list[bytes] = []
    extensions = fields.get("x-")
    for name, item in value.items():
        field = fields.get(name)
        if field is not None:
            parts.append(field.of(item))
        elif extensions is not None and name.startswith("x-"):
            parts.append(extensions.of(_named(name, _any(item))))
    return b"".join(parts)


def _named(name: str, value: bytes) -> bytes:
    return _bytes(1, name.encode()) + _bytes(2, value)


def _map(encode: Encode, number: int = 1) -> Encode:
    """A message with one repeated field of named values."""
    return lambda value: b"".join([_bytes(number, _named(name, encode(item))) for name, item in value.items()])


def _extension(number: int) -> _Field:
    return _Field(number, lambda encoded: encoded)


def _message(fields: dict[str, _Field]) -> Encode:
    return lambda value: _object(value, fields)


def _type(value: Json) -> bytes:
    return b"".join([_bytes(1, _text(item)) for item in ([value] if isinstance(value, str) else value)])


def _items(value: Json) -> bytes:
    schemas: Iterable[Json] = value if isinstance(value, list) else [value]
    return b"".join([_bytes(1, _schema(item)) for item in schemas])


def _additional_properties(value: Json) -> bytes:
    if isinstance(value, bool):
        return b"\x10" + (b"\1" if value else b"\0")
    return _bytes(1, _schema(value))


def _schema(value: Json) -> bytes:
    return _object(value, _SCHEMA)


_SCHEMA: dict[str, _Field] = {
    "$ref": _Field(1, _text),
    "format": _Field(2, _text),
    "title": _Field(3, _text),
    "description": _Field(4, _text),
    "default": _Field(5, _any),
    "multipleOf": _Field(6, kind="double"),
    "maximum": _Field(7, kind="double"),
    "exclusiveMaximum": _Field(8, kind="bool"),
    "minimum": _Field(9, kind="double"),
    "exclusiveMinimum": _Field(10, kind="bool"),
    "maxLength": _Field(11, kind="integer"),
    "minLength": _Field(12, kind="integer"),
    "pattern": _Field(13, _text),
    "maxItems": _Field(14, kind="integer"),
    "minItems": _Field(15, kind="integer"),
    "uniqueItems": _Field(16, kind="bool"),
    "maxProperties": _Field(17, kind="integer"),
    "minProperties": _Field(18, kind="integer"),
    "required": _strings(19),
    "enum": _Field(20, _any, kind="list"),
    "additionalProperties": _Field(21, _additional_properties),
    "type": _Field(22, _type),
    "items": _Field(23, _items),
    "allOf": _Field(24, _schema, kind="list"),
    "properties": _Field(25, _map(_schema)),
    "readOnly": _Field(27, kind="bool"),
    "example": _Field(30, _any),
    "x-": _extension(31),
}

# Query, path and header parameters have the same members under other numbers: (query, path and header).
_PARAMETER_NUMBERS = {
    "required": (1, 1), "in": (2, 2), "description": (3, 3), "name": (4, 4), "type": (6, 5), "format": (7, 6),
    "collectionFormat": (9, 8), "default": (10, 9), "pattern": (17, 16), "uniqueItems": (20, 19), "enum": (21, 20),
}  # fmt: skip


def _parameter_fields(which: int) -> dict[str, _Field]:
    fields: dict[str, _Field] = {"x-": _extension(23 - which)}
    for name, numbers in _PARAMETER_NUMBERS.items():
        if name in ("required", "uniqueItems"):
            fields[name] = _Field(numbers[which], kind="bool")
        elif name == "enum":
            fields[name] = _Field(numbers[which], _any, kind="list")
        else:
            fields[name] = _Field(numbers[which], _any if name == "default" else _text)
    return fields


_BODY_PARAMETER = {
    "description": _Field(1, _text),
    "name": _Field(2, _text),
    "in": _Field(3, _text),
    "required": _Field(4, kind="bool"),
    "schema": _Field(5, _schema),
    "x-": _extension(6),
}
_PLAIN_PARAMETERS = {
    "query": (3, _parameter_fields(0)),
    "path": (4, _parameter_fields(1)),
    "header": (1, _parameter_fields(1)),
}


def _parameter(value: Json) -> bytes:
    """A Parameter message."""
    where = value.get("in")
    if where == "body":
        return _bytes(1, _object(value, _BODY_PARAMETER))
    number, fields = _PLAIN_PARAMETERS[where]
    return _bytes(2, _bytes(number, _object(value, fields)))


def _reference(value: Json) -> bytes:
    return _object(value, {"$ref": _Field(1, _text), "description": _Field(2, _text)})


def _parameters_item(value: Json) -> bytes:
    return _bytes(2, _reference(value)) if "$ref" in value else _bytes(1, _parameter(value))


_RESPONSE = {
    "description": _Field(1, _text),
    "schema": _Field(2, lambda value: _bytes(1, _schema(value))),
    "x-": _extension(5),
}


def _response_value(value: Json) -> bytes:
    return _bytes(2, _reference(value)) if "$ref" in value else _bytes(1, _object(value, _RESPONSE))


def _security_requirement(value: Json) -> bytes:
    return _map(lambda scopes: b"".join([_bytes(1, _text(scope)) for scope in scopes]))(value)


def _security_definition(value: Json) -> bytes:
    if value.get("type") == "apiKey":
        names = {"type": 1, "name": 2, "in": 3, "description": 4}
        return _bytes(2, _object(value, {name: _Field(number, _text) for name, number in names.items()}))
    return _bytes(1, _object(value, {"type": _Field(1, _text), "description": _Field(2, _text)}))


_OPERATION = {
    "tags": _strings(1),
    "summary": _Field(2, _text),
    "description": _Field(3, _text),
    "operationId": _Field(5, _text),
    "produces": _strings(6),
    "consumes": _strings(7),
    "parameters": _Field(8, _parameters_item, kind="list"),
    "responses": _Field(9, _map(_response_value)),
    "schemes": _strings(10),
    "deprecated": _Field(11, kind="bool"),
    "security": _Field(12, _security_requirement, kind="list"),
    "x-": _extension(13),
}
_PATH_ITEM = {
    "$ref": _Field(1, _text),
    **{
        method: _Field(number, _message(_OPERATION))
        for number, method in enumerate(("get", "put", "post", "delete", "options", "head", "patch"), 2)
    },
    "parameters": _Field(9, _parameters_item, kind="list"),
    "x-": _extension(10),
}
_LICENSE = {"name": _Field(1, _text), "url": _Field(2, _text)}
_CONTACT = {**_LICENSE, "email": _Field(3, _text)}
_INFO = {
    "title": _Field(1, _text),
    "version": _Field(2, _text),
    "description": _Field(3, _text),
    "termsOfService": _Field(4, _text),
    "contact": _Field(5, _message(_CONTACT)),
    "license": _Field(6, _message(_LICENSE)),
    "x-": _extension(7),
}
_DOCUMENT = {
    "swagger": _Field(1, _text),
    "info": _Field(2, _message(_INFO)),
    "host": _Field(3, _text),
    "basePath": _Field(4, _text),
    "schemes": _strings(5),
    "consumes": _strings(6),
    "produces": _strings(7),
    "paths": _Field(8, _map(_message(_PATH_ITEM), 2)),
    "definitions": _Field(9, _map(_schema)),
    "parameters": _Field(10, _map(_parameter)),
    "responses": _Field(11, _map(_message(_RESPONSE))),
    "security": _Field(12, _security_requirement, kind="list"),
    "securityDefinitions": _Field(13, _map(_security_definition)),
    "x-": _extension(16),
}

"""Objects as Go's structs would read and write them.

A real API server decodes JSON into structs and encodes those again: unknown fields and empty `omitempty` ones
go, zero values without `omitempty` come, quantities and times become canonical, wrong types are refused with
Go's words. `decode` does the same to a plain object, in place and in one pass, and runs each type's default
hook on the way up (upstream's SetDefaults_*). The facts are in shapes.json (tools/make_shapes.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339, rfc3339, rfc3339_micro
from atoll.base.errors import BadRequest
from atoll.kinds.resource import Resource

Object = dict[str, Any]
Handler = Callable[[Any], Any]
Hook = Callable[[Object], None]

_DROP: Any = object()
_MILLI = 1_000_000


class Mismatch(Exception):
    """A value of the wrong type; the path grows as it rises."""

    def __init__(self, value: Any, wanted: str, text: str | None = None) -> None:
        self.value = value
        self.wanted = wanted
        self.text = text
        self.struct = ""
        self.path: list[str] = []

    def message(self) -> str:
        """What Go's decoder says."""
        if self.text is not None:
            return self.text
        field = ".".join(self.path)
        return (
            f"json: cannot unmarshal {_go_value(self.value)} into Go struct field "
            f"{self.struct}.{field} of type {self.wanted}"
        )


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "number"
    if isinstance(value, float):
        return f"number {value}"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


@functools.lru_cache(maxsize=8192)
def canonical_quantity(value: str | int | float) -> str:
    """As the server writes it. Raises ValueError."""
    return quantity.canonical(value)


@functools.lru_cache(maxsize=8192)
def _resource_quantity(value: str | int | float) -> str:
    nano = quantity.parse(value)
    if nano % _MILLI:
        return quantity.from_milli(-(-nano // _MILLI))
    return quantity.canonical(value)


def _quantity(value: Any) -> Any:
    return _parse_quantity(value, canonical_quantity)


def _parse_quantity(value: Any, canonical: Callable[[Any], str]) -> str:
    kind = value.__class__
    if kind is not str and kind is not int and kind is not float:
        if value is None:
            return "0"
        raise Mismatch(value, "", quantity_error)
    try:
        return canonical(value)
    except ValueError as error:
        raise Mismatch(value, "", str(error)) from None


quantity_error = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def _resource_list(value: Any) -> Any:
    if value.__class__ is not dict:
        raise Mismatch(value, "v1.ResourceList")
    for name, amount in value.items():
        value[name] = _parse_quantity(amount, _resource_quantity)
    return value


def _time(value: Any) -> Any:
    if value.__class__ is not str:
        raise Mismatch(value, "", "json: cannot unmarshal " + _go_value(value) + " into Go value of type string")
    if len(value) == 20 and value[19] == "Z":
        return value
    return _zoned(value, rfc3339)


def _micro_time(value: Any) -> Any:
    if value.__class__ is not str:
        raise Mismatch(value, "", "json: cannot unmarshal " + _go_value(value) + " into Go value of type string")
    if len(value) == 27 and value[26] == "Z":
        return value
    return _zoned(value, rfc3339_micro)


def _zoned(value: str, write: Callable[[float], str]) -> str:
    try:
        return write(parse_rfc3339(value))
    except ValueError:
        raise Mismatch(
            value,
            "",
            f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"',
        ) from None


def _int_or_string(value: Any) -> Any:
    if value.__class__ is str or value.__class__ is int:
        return value
    raise Mismatch(value, "int32")


def _any(value: Any) -> Any:
    return value


def _plain(python: type, go: str) -> Handler:
    def check(value: Any) -> Any:
        if value.__class__ is python:
            return value
        raise Mismatch(value, go)

    return check


def _integer(go: str, bits: int) -> Handler:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def check(value: Any) -> Any:
        if value.__class__ is int and low <= value <= high:
            return value
        raise Mismatch(value if value.__class__ is not int else float(value), go)

    return check


def _number(value: Any) -> Any:
    if value.__class__ is float or value.__class__ is int:
        return value
    raise Mismatch(value, "float64")


_SCALARS: dict[str, tuple[Handler, Any]] = {
    "string": (_plain(str, "string"), ""),
    "bytes": (_plain(str, "[]uint8"), None),
    "bool": (_plain(bool, "bool"), False),
    "int32": (_integer("int32", 32), 0),
    "int64": (_integer("int64", 64), 0),
    "float": (_number, 0),
}
_STRUCT_LIKE: dict[str, tuple[Handler, Any]] = {  # Go structs that are written as one value
    "Time": (_time, None),
    "MicroTime": (_micro_time, None),
    "Quantity": (_quantity, "0"),
    "IntOrString": (_int_or_string, 0),
    "any": (_any, None),
    "raw": (_any, None),
}


class Shape:
    """One struct: a handler per field, what is always written, and the default hook."""

    __slots__ = ("always", "handlers", "hook", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.handlers: dict[str, Handler] = {}
        self.always: list[tuple[str, Callable[[], Any]]] = []
        self.hook: Hook | None = None

    def __call__(self, obj: Any) -> Any:
        """Decode in place."""
        if obj.__class__ is not dict:
            raise Mismatch(obj, self.go_name)
        handlers = self.handlers
        gone: list[str] | None = None
        key = ""
        try:
            for key, value in obj.items():
                handler = handlers.get(key)
                if handler is None:
                    gone = [key] if gone is None else [*gone, key]
                    continue
                new = handler(value)
                if new is not value:
                    if new is _DROP:
                        gone = [key] if gone is None else [*gone, key]
                    else:
                        obj[key] = new
        except Mismatch as mismatch:
            mismatch.path.insert(0, key)
            mismatch.struct = mismatch.struct or self.name.rsplit(".", 1)[-1]
            raise
        if gone is not None:
            for key in gone:
                del obj[key]
        for key, make in self.always:
            if key not in obj:
                obj[key] = make()
        if self.hook is not None:
            self.hook(obj)
        return obj

    @property
    def go_name(self) -> str:
        return self.name.rsplit("/", 1)[-1]


def _list_of(item: Handler, go: str) -> Handler:
    def decode_list(value: Any) -> Any:
        if value.__class__ is not list:
            raise Mismatch(value, "[]" + go)
        for index, old in enumerate(value):
            new = item(old)
            if new is not old:
                value[index] = new
        return value

    return decode_list


def _map_of(item: Handler, go: str) -> Handler:
    def decode_map(value: Any) -> Any:
        if value.__class__ is not dict:
            raise Mismatch(value, "map[string]" + go)
        for key, old in value.items():
            new = item(old)
            if new is not old:
                value[key] = new
        return value

    return decode_map


def _strings(value: Any) -> Any:
    if value.__class__ is not dict:
        raise Mismatch(value, "map[string]string")
    for item in value.values():
        if item.__class__ is not str:
            if item is None:
                return {key: "" if old is None else old for key, old in value.items()}
            raise Mismatch(item, "string")
    return value


def _omit_empty(inner: Handler) -> Handler:
    """A non-pointer scalar, list or map with omitempty."""

    def decode_checked(value: Any) -> Any:
        if value is None:
            return _DROP
        new = inner(value)
        return new if new else _DROP

    return decode_checked


def _pointer(inner: Handler) -> Handler:
    """A pointer, or a struct, with omitempty: only null goes."""

    def decode_pointer(value: Any) -> Any:
        return _DROP if value is None else inner(value)

    return decode_pointer


def _written(inner: Handler, zero: Callable[[], Any]) -> Handler:
    """No omitempty: null becomes the zero value."""

    def decode_written(value: Any) -> Any:
        return zero() if value is None else inner(value)

    return decode_written


def _struct_zero(shape: Shape) -> Callable[[], Any]:
    return lambda: shape({})


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


class Shapes:
    """All built-in types, made on first use; `hooks` are the default functions by type name."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        text = resources.files(__package__).joinpath("shapes.json").read_text()
        self._facts: dict[str, dict[str, list[Any]]] = json.loads(text)
        self._hooks = hooks
        self._made: dict[str, Shape] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def shape(self, name: str) -> Shape:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = Shape(name)
            made.hook = self._hooks.get(name)
            for field, facts in self._facts[name].items():
                self._add(made, field, *facts)
        return made

    def _add(self, shape: Shape, field: str, kind: str, mode: str, default: Any = _DROP) -> None:
        pointer = kind.startswith("*")
        inner, zero, is_struct = self._handler(kind.lstrip("*"))
        if default is not _DROP and isinstance(default, dict | list):
            text = json.dumps(default)
            shape.handlers[field] = _pointer(inner)
            if default:
                shape.always.append((field, lambda: json.loads(text)))
            return
        if default is not _DROP and default not in ("", 0, False):
            make = _constant(default)
            shape.handlers[field] = _defaulted(inner, default) if not pointer else _written(inner, make)
            shape.always.append((field, make))
        elif default is not _DROP and pointer:
            shape.handlers[field] = _written(inner, _constant(default))
            shape.always.append((field, _constant(default)))
        elif pointer:
            if mode == "a":
                shape.handlers[field] = _written(inner, _constant(None))
                shape.always.append((field, _constant(None)))
            else:
                shape.handlers[field] = _pointer(inner)
        elif mode == "z":
            shape.handlers[field] = _omit_empty(inner)
        elif mode == "a" or is_struct:
            shape.handlers[field] = _written(inner, zero)
            shape.always.append((field, zero))
        else:
            shape.handlers[field] = _omit_empty(inner)

    def _handler(self, kind: str) -> tuple[Handler, Callable[[], Any], bool]:
        """(handler, maker of the zero value, whether omitempty has no effect on it)."""
        if kind in _SCALARS:
            handler, zero = _SCALARS[kind]
            return handler, _constant(zero), False
        if kind in _STRUCT_LIKE:
            handler, zero = _STRUCT_LIKE[kind]
            return handler, _constant(zero), True
        if kind == "ResourceList":
            return _resource_list, _constant(None), False
        if kind == "{}string":
            return _strings, _constant(None), False
        if kind.startswith(("[]", "{}")):
            item_kind = kind[2:].lstrip("*")
            item, zero, _ = self._handler(item_kind)
            wrapped = _written(item, zero)
            go = item_kind.rsplit("/", 1)[-1]
            return (_list_of if kind[0] == "[" else _map_of)(wrapped, go), _constant(None), False
        shape = self.shape(kind)
        return shape, _struct_zero(shape), True


def _defaulted(inner: Handler, default: Any) -> Handler:
    """A non-pointer scalar with a default: empty means the default."""

    def decode_defaulted(value: Any) -> Any:
        return (inner(value) or default) if value is not None else default

    return decode_defaulted


_PACKAGES = {"": "core", "internal.apiserver.k8s.io": "apiserverinternal"}


def type_name(group: str, version: str, kind: str) -> str:
    """The key of shapes.json: `core/v1.Pod`, `rbac/v1.Role`."""
    package = _PACKAGES.get(group) or group.split(".", 1)[0]
    return f"{package}/{version}.{kind}"


def decoder(shapes: Shapes, resource: Resource) -> Hook | None:
    """The function that decodes and defaults objects of a resource; None if Go's type is unknown."""
    name = type_name(resource.group, resource.version, resource.kind)
    if name not in shapes:
        return None
    shape = shapes.shape(name)
    kind, version = resource.kind, resource.version

    def decode(obj: Object) -> None:
        try:
            shape(obj)
        except Mismatch as mismatch:
            raise BadRequest(
                f'{kind} in version "{version}" cannot be handled as a {kind}: {mismatch.message()}'
            ) from None

    return decode

"""CEL's types: what the checker reckons with, written as cel-go writes them (`map(string, list(int))`).

A declared object (`Struct`) knows its fields; `dyn` matches everything. Signatures of functions are written in
the same notation and read by `signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Type:
    """`kind`: a primitive's own name, list, map, type, opaque, param, dyn, error or struct; `name` as it is shown."""

    kind: str
    name: str
    parameters: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(str(parameter) for parameter in self.parameters)})"

    @property
    def loose(self) -> bool:
        """Nothing is known about it (or an error was told already)."""
        return self.kind in ("dyn", "any", "error")


@dataclass(frozen=True, slots=True)
class Struct(Type):
    """An object with declared fields; equal to another by its name. `field_of` finds what `fields` lacks."""

    fields: Mapping[str, Type] = field(default_factory=dict, compare=False, hash=False)
    field_of: Callable[[str], Type | None] | None = field(default=None, compare=False, hash=False)

    def __str__(self) -> str:
        return self.name

    def find(self, name: str) -> Type | None:
        found = self.fields.get(name)
        if found is None and self.field_of is not None:
            return self.field_of(name)
        return found


def _primitive(name: str, shown: str = "") -> Type:
    return Type(name, shown or name)


BOOL, INT, UINT, DOUBLE = _primitive("bool"), _primitive("int"), _primitive("uint"), _primitive("double")
STRING, BYTES, NULL = _primitive("string"), _primitive("bytes"), _primitive("null", "null_type")
DURATION, TIMESTAMP = _primitive("duration"), _primitive("timestamp")
DYN, ERROR = _primitive("dyn"), _primitive("error", "!error!")
ANY = _primitive("any")  # a device's attribute: as dyn, but nothing to loop over
PRIMITIVES = {
    kind.kind: kind for kind in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, DURATION, TIMESTAMP, DYN)
} | {"null_type": NULL}  # fmt: skip


def list_of(element: Type) -> Type:
    return Type("list", "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("opaque", "optional_type", (value,))


def type_of(value: Type) -> Type:
    return Type("type", "type", (value,))


def struct(name: str, fields: Mapping[str, Type] | None = None) -> Struct:
    return Struct("struct", name, (), fields or {})


def parameter(name: str) -> Type:
    return Type("param", name)


def unwrap_optional(kind: Type) -> tuple[Type, bool]:
    if kind.kind == "opaque" and kind.name == "optional_type":
        return kind.parameters[0], True
    return kind, False


def shown(kind: Type) -> str:
    """As in cel-go's error messages (FormatCELType)."""
    if kind.kind == "null":
        return "null"
    if kind.parameters:
        return f"{kind.name}({', '.join(shown(parameter) for parameter in kind.parameters)})"
    return kind.name


_WELL_KNOWN = {
    "any": "google.protobuf.Any", "duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp",
}  # fmt: skip


def output_name(kind: Type) -> str:
    """As cel-go's Type.String writes it: well-known types by their protobuf names."""
    proto = _WELL_KNOWN.get(kind.kind)
    if proto:
        return proto
    if kind.parameters:
        return f"{kind.name}({', '.join(output_name(parameter) for parameter in kind.parameters)})"
    return kind.name


@dataclass(frozen=True, slots=True)
class Signature:
    """`list(A).indexOf(A) -> int`: a member function of one argument."""

    function: str
    parameters: tuple[Type, ...]  # a member's target comes first
    result: Type
    member: bool
    generic: bool  # type parameters are to be made fresh for each call


@lru_cache(1024)
def signature(text: str) -> Signature:
    """Reads `name(T, …) -> R` and `T.name(T, …) -> R`; single capital letters are type parameters."""
    head, _, result = text.rpartition(" -> ")
    inner, depth = len(head) - 1, 0
    for place in range(len(head) - 1, -1, -1):
        depth += (head[place] == ")") - (head[place] == "(")
        if depth == 0:
            inner = place
            break
    before, arguments = head[:inner], head[inner + 1 : -1]
    member = before.startswith("<")
    parameters = [read(item) for item in _split(arguments)]
    if member:
        target, _, name = before[1:].rpartition(">.")
        parameters.insert(0, read(target))
    else:
        name = before
    generic = any(_has_parameter(item) for item in parameters)
    return Signature(name, tuple(parameters), read(result), member, generic)


def _has_parameter(kind: Type) -> bool:
    return kind.kind == "param" or any(_has_parameter(item) for item in kind.parameters)


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append(text[start:place].strip())
            start = place + 1
    if text.strip():
        parts.append(text[start:].strip())
    return parts


def read(text: str) -> Type:
    """A type in the notation of messages; a dotted or unknown name is an object of that name."""
    if text in PRIMITIVES:
        return PRIMITIVES[text]
    if len(text) == 1 and text.isupper():
        return parameter(text)
    name, _, rest = text.partition("(")
    inner = [read(item) for item in _split(rest[:-1])]
    if name == "list":
        return list_of(inner[0])
    if name == "map":
        return map_of(inner[0], inner[1])
    if name == "type":
        return type_of(inner[0])
    if name == "optional":
        return optional_of(inner[0])
    return struct(name)

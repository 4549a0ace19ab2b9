"""Values of expressions. JSON's are Python's own; the rest are small immutable classes here.

`True` is not `1`, as CEL has it: compare by `equal` and `compare`, never by Python's own operators.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from atoll.base import quantity
from atoll.cluster.apiserver.expressions.errors import EvaluationError


class Uint(int):
    """An unsigned integer: `1u`."""


class JsonObject(dict[str, Any]):
    """Made by an object literal (`Object.spec{…}`): `name` is its type's."""

    name: str = ""


class WithDefault(dict[str, Any]):
    """A map in which a key that it lacks has a value all the same; it is not `in` it, nor met by a loop."""

    default: Any = None


@runtime_checkable
class Fields(Protocol):
    """A value whose fields are made when asked for (composed variables)."""

    def field(self, name: str) -> Any:
        """Raises EvaluationError."""

    def has(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Optional:
    value: Any = None
    present: bool = False


NONE = Optional()


@dataclass(frozen=True, slots=True)
class TypeValue:
    name: str


@dataclass(frozen=True, slots=True)
class Quantity:
    nano: int


@dataclass(frozen=True, slots=True)
class Url:
    text: str
    scheme: str
    user: str
    host: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Address:
    value: ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Cidr:
    """The address as written, with its host bits."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    bits: int

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network((self.address, self.bits), strict=False)


@dataclass(frozen=True, slots=True)
class Version:
    text: str
    release: tuple[int, int, int]
    prerelease: tuple[Any, ...]

    @property
    def order(self) -> tuple[Any, ...]:
        """Of two versions; a release comes after its pre-releases."""
        return (*self.release, not self.prerelease, self.prerelease)


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    check: Any  # text → problems
    regex_size: int = 64


_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    dict: "map",
    WithDefault: "map",
    timedelta: "google.protobuf.Duration",
    datetime: "google.protobuf.Timestamp",
    Optional: "optional_type",
    TypeValue: "type",
    Quantity: "kubernetes.Quantity",
    Url: "kubernetes.URL",
    Address: "net.IP",
    Cidr: "net.CIDR",
    Version: "kubernetes.Semver",
    Format: "kubernetes.NamedFormat",
}
_NUMBERS = (int, float)


def type_name(value: Any) -> str:
    if isinstance(value, JsonObject):
        return value.name
    found = _NAMES.get(type(value))
    if found is not None:
        return found
    return getattr(value, "type_name", None) or ("map" if isinstance(value, Mapping) else "list")


def no_overload() -> EvaluationError:
    return EvaluationError("no such overload")


def equal(left: Any, right: Any) -> bool:
    kind, other = type(left), type(right)
    if kind is other:
        if kind is list:
            return len(left) == len(right) and all(map(equal, left, right))
        if kind is dict:
            return _same_maps(left, right)
        if kind is Optional:
            return left.present == right.present and (not left.present or equal(left.value, right.value))
        if kind is Version:
            return bool(left.order == right.order)
        return bool(left == right)
    if kind is bool or other is bool:
        return False
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return _same_maps(left, right)
    return False


def _same_maps(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> bool:
    return len(left) == len(right) and all(key in right and equal(value, right[key]) for key, value in left.items())


_ORDERED = (str, bytes, datetime, timedelta, bool)


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1. Raises EvaluationError for values that have no order."""
    kind, other = type(left), type(right)
    if kind is bool or other is bool:
        if kind is not other:
            raise no_overload()
    elif isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        return (left > right) - (left < right)
    elif kind is not other or kind not in _ORDERED:
        raise no_overload()
    return bool(left > right) - bool(left < right)


def size(value: Any) -> int:
    """For cost: the length of what has one, else 1."""
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    if isinstance(value, Optional) and value.present:
        return size(value.value)
    return 1


# Text of values


def parse_timestamp(text: str) -> datetime:
    """RFC 3339. Raises ValueError."""
    if len(text) < 20 or text[10] not in "Tt" or (text[-1] not in "Zz" and text[-6:-5] not in ("+", "-")):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def timestamp_text(value: datetime) -> str:
    moment = value.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + fraction + "Z"


_UNITS = {"ns": 1e-3, "us": 1.0, "\u00b5s": 1.0, "\u03bcs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}


def parse_duration(text: str) -> timedelta:
    """Go's notation (`1h30m`, `-1.5s`). Raises ValueError."""
    rest, sign = (text[1:], -1) if text[:1] == "-" else (text.removeprefix("+"), 1)
    if rest == "0":
        return timedelta()
    total, place = 0.0, 0
    if not rest:
        raise ValueError(text)
    while place < len(rest):
        start = place
        while place < len(rest) and (rest[place].isdigit() or rest[place] == "."):
            place += 1
        number, start = rest[start:place], place
        while place < len(rest) and not (rest[place].isdigit() or rest[place] == "."):
            place += 1
        total += float(number) * _UNITS.get(rest[start:place], float("nan"))
        if total != total:
            raise ValueError(text)
    return timedelta(microseconds=sign * total)


def duration_text(value: timedelta) -> str:
    """CEL writes seconds: `5400s`."""
    micro = value // timedelta(microseconds=1)
    sign, micro = ("-", -micro) if micro < 0 else ("", micro)
    fraction = f".{micro % 1_000_000:06d}".rstrip("0") if micro % 1_000_000 else ""
    return f"{sign}{micro // 1_000_000}{fraction}s"


def plain(value: Any) -> Any:
    """As JSON would have it: for results that leave the expression."""
    if isinstance(value, Optional):
        return plain(value.value) if value.present else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, Quantity):
        return quantity.from_nano(value.nano)
    if isinstance(value, Address):
        return str(value.value)
    if isinstance(value, Cidr):
        return f"{value.address}/{value.bits}"
    if isinstance(value, Url | Version):
        return value.text
    return value

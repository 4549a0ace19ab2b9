"""Columns and small texts that all tables share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from atoll.base.clock import parse_rfc3339

Object = dict[str, Any]
Cells = list[Any]

_TEXTS = {
    "Name": "The object's name, unique in its namespace.",
    "Age": "Time since the object was created.",
    "Created At": "When the object was created.",
}
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


class Printer(Struct, frozen=True):
    """The columns of a kind; `cells(obj, now)` makes a row, `conditions(obj)` its row conditions."""

    columns: tuple[Object, ...]
    cells: Callable[[Object, float], Cells]
    conditions: Callable[[Object], list[Object]] | None = None


def columns(spec: str) -> tuple[Object, ...]:
    """Columns from text: "Name Ready Desired:integer IP*", where _ is a space and * marks a wide one."""
    found = []
    for item in spec.split():
        name, _, kind = item.partition(":")
        wide = name.endswith("*")
        name = name.rstrip("*").replace("_", " ")
        found.append(column(name, kind or "string", priority=1 if wide else 0))
    return tuple(found)


def column(name: str, kind: str, *, text: str = "", form: str = "", priority: int = 0) -> Object:
    return {
        "name": name,
        "type": kind,
        "format": form or ("name" if name == "Name" else ""),
        "description": text or _TEXTS.get(name, ""),
        "priority": priority,
    }


def duration(seconds: float) -> str:
    """apimachinery's HumanDuration: two or three significant figures."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    minutes, hours = whole // _MINUTE, whole // _HOUR
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 8 * 24:
        return _pair(hours // 24, "d", hours % 24, "h")
    if hours < 2 * 365 * 24:
        return f"{hours // 24}d"
    years = hours // 24 // 365
    return _pair(years, "y", hours // 24 % 365, "d") if hours < 8 * 365 * 24 else f"{years}y"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def since(time: str | None, now: float) -> str:
    """Time since an RFC 3339 time, "<unknown>" without one."""
    return duration(now - parse_rfc3339(time)) if time else "<unknown>"


def age(obj: Object, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def name(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def labels(values: Object | None) -> str:
    """k=v,k=v sorted, "<none>" for none."""
    if not values:
        return "<none>"
    return ",".join(f"{key}={values[key]}" for key in sorted(values))


def containers(template: Object | None) -> tuple[str, str]:
    """(names, images) of a pod template's containers."""
    found = ((template or {}).get("spec") or {}).get("containers") or []
    return ",".join(item["name"] for item in found), ",".join(item.get("image", "") for item in found)


def some(items: Iterable[str], most: int = 3, *, empty: str = "<unset>", joint: str = ",") -> str:
    """The first few items, and how many more there are."""
    found = list(items)
    text = joint.join(found[:most])
    if len(found) > most:
        return f"{text} + {len(found) - most} more..."
    return text or empty


def condition_true(obj: Object, kind: str) -> bool:
    found = (obj.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == kind and item.get("status") == "True" for item in found)

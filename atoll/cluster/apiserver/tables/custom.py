"""Tables of custom resources, from additionalPrinterColumns."""

from __future__ import annotations

from typing import Any

import orjson

from atoll.base.clock import parse_rfc3339
from atoll.cluster.apiserver.tables.cells import Cells, Object, Printer, column, duration, name
from atoll.cluster.apiserver.tables.jsonpath import PathError, find, parse

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def custom_printer(definitions: list[Object] | None) -> Printer:
    """The printer of a CRD version; without columns it has upstream's default one, Age."""
    used = []
    for definition in definitions or [_AGE]:
        try:
            parse(definition["jsonPath"])
        except PathError:
            continue
        used.append(definition)
    made = [column("Name", "string")]
    for definition in used:
        text = definition.get("description") or (
            f"Custom resource definition column (in JSONPath format): {definition['jsonPath']}"
        )
        made.append(
            column(
                definition["name"],
                definition["type"],
                text=text,
                form=definition.get("format", ""),
                priority=definition.get("priority", 0),
            )
        )
        if not definition.get("format"):
            made[-1]["format"] = ""
    kinds = [(definition["jsonPath"], definition["type"]) for definition in used]

    def cells(obj: Object, now: float) -> Cells:
        return [name(obj), *(_cell(find(path, obj), kind, now) for path, kind in kinds)]

    return Printer(tuple(made), cells)


def _cell(found: list[Any], kind: str, now: float) -> Any:
    if not found or found[0] is None:
        return None
    value = found[0]
    if kind == "string":
        return _text(value)
    if kind == "date":
        return _date(value, now)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if is_number else None
    if kind == "number":
        return float(value) if is_number else None
    return value if kind == "boolean" and isinstance(value, bool) else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _date(value: Any, now: float) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return duration(now - parse_rfc3339(value))
    except ValueError:
        return "<invalid>"

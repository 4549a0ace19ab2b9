"""How large what a CRD's schema describes may become: what a rule's cost is estimated from when the definition is
written (apiserver pkg/cel/common/schemas.go).

A limit that the schema does not set is the one that a request's three megabytes set: as many of the smallest elements
as fit, each with its comma. Strings are counted in bytes, four a character.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.apiserver.expressions.estimate import Path, Span
from atoll.cluster.apiserver.expressions.names import escape

Json = dict[str, Any]
REQUEST_BYTES = 3 * 1024 * 1024
_TEXT_BYTES = REQUEST_BYTES - 2  # without its quotation marks
_TIMES = {"duration": (3, 32), "date": (12, 12), "date-time": (21, 32)}  # bytes in JSON: at least, at most
_SCALARS = {"boolean": 4, "number": 1, "integer": 1}
_EMPTY = 2  # [] and {} and ""


@dataclass(frozen=True, slots=True)
class Declared:
    """`most`: characters, elements or entries; `least_bytes`: of its JSON."""

    least_bytes: int
    most: int = 0
    fields: dict[str, Declared] = field(default_factory=dict)
    key: Declared | None = None
    element: Declared | None = None

    def at(self, path: Path) -> Span | None:
        """See `estimate.Sizes`; the path's first part is the variable, which is of this schema."""
        if not path:
            return None
        here: Declared | None = self
        for part in path[1:]:
            assert here is not None
            if part in ("@items", "@values"):
                here = here.element
            else:
                here = here.key if part == "@keys" else here.fields.get(part)
            if here is None:
                return None
        assert here is not None
        return Span(0, here.most)

    @property
    def repeats(self) -> int:
        """How often it fits into a request."""
        return REQUEST_BYTES // (self.least_bytes + 1)


def declared(schema: Json, root: bool = False) -> Declared | None:
    """None: rules do not see it."""
    if schema.get("x-kubernetes-int-or-string"):
        return Declared(1, _length(schema))
    kind = schema.get("type")
    if kind == "string":
        return _text(schema)
    if kind == "array":
        items = schema.get("items")
        element = declared(items) if isinstance(items, dict) else None
        if element is None:
            return None
        most = _limit(schema, "maxItems", (REQUEST_BYTES - 2) // (element.least_bytes + 1))
        return Declared(_EMPTY, most, element=element)
    if kind == "object":
        return _object(schema, root or bool(schema.get("x-kubernetes-embedded-resource")))
    return Declared(_SCALARS[kind]) if kind in _SCALARS else None


def _object(schema: Json, whole: bool) -> Declared | None:
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        value = declared(additional)
        if value is None:
            return None
        most = _limit(schema, "maxProperties", (REQUEST_BYTES - 2) // (value.least_bytes + 6))
        return Declared(_EMPTY, most, key=Declared(_EMPTY), element=value)
    properties = schema.get("properties") or {}
    if whole:
        properties = _with_metadata(properties)
    least, fields = _EMPTY, {}
    for name, below in properties.items():
        found = declared(below)
        if found is None:
            continue
        if (spelled := escape(name)) is not None:
            fields[spelled] = found
        if name in (schema.get("required") or ()) and below.get("default") is None:
            least += len(name.encode()) + found.least_bytes + 4
    return Declared(least, fields=fields)


def _with_metadata(properties: Json) -> Json:
    """Of a whole resource four names are always seen."""
    text = {"type": "string"}
    metadata = (properties.get("metadata") or {}).get("properties") or {}
    told = [properties.get("kind"), properties.get("apiVersion"), metadata.get("name"), metadata.get("generateName")]
    if all(item and item.get("type") == "string" for item in told):
        return properties
    names = {"type": "object", "properties": {"name": text, "generateName": text}}
    return {**properties, "kind": text, "apiVersion": text, "metadata": names}


def _text(schema: Json) -> Declared:
    form = schema.get("format")
    if form in _TIMES:
        return Declared(*_TIMES[form])
    if form == "byte":
        return Declared(_EMPTY, _limit(schema, "maxLength", _TEXT_BYTES))
    choices = schema.get("enum")
    if schema.get("maxLength") is None and choices:
        return Declared(_EMPTY, max((len(item.encode()) for item in choices if isinstance(item, str)), default=0))
    return Declared(_EMPTY, _length(schema))


def _length(schema: Json) -> int:
    return _limit(schema, "maxLength", -1) * 4 if schema.get("maxLength") is not None else _TEXT_BYTES


def _limit(schema: Json, name: str, otherwise: int) -> int:
    found = schema.get(name)
    return otherwise if found is None else max(found, 0)


def occurrences(schema: Json, here: int | None) -> int | None:
    """How often what lies directly below may occur, where this may `here` times; None: without a limit."""
    limit: int | None = 1
    if schema.get("type") == "array":
        limit = schema.get("maxItems")
    elif schema.get("type") == "object" and schema.get("additionalProperties") is not None:
        limit = schema.get("maxProperties")
    return None if here is None or limit is None else here * max(limit, 0)

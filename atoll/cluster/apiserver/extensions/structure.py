"""Structural schemas of CRDs, compiled: pruning, defaulting, and the gate (a native validator) that lets valid
objects through without walking them here. The node that patches and apply walk is `atoll.kinds.structural`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.cluster.apiserver.extensions import formats
from atoll.objects.meta import copy

Json = dict[str, Any]
_DEEP = (dict, list)
_META_FIELDS = frozenset({"apiVersion", "kind", "metadata"})


class Structure:
    """One place of a structural schema. Unknown kinds of validation stay in `raw`."""

    __slots__ = (
        "additional",
        "default",
        "defaults_below",
        "embedded",
        "embedded_below",
        "expressions",
        "has_default",
        "held",
        "int_or_string",
        "items",
        "list_type",
        "lists_below",
        "map_keys",
        "nullable",
        "preserve",
        "properties",
        "raw",
        "rules",
        "rules_below",
        "transitions_below",
        "type",
    )  # fmt: skip

    def __init__(self, raw: Json) -> None:
        self.raw = raw
        self.expressions: Any = None  # cel.Rules, made by the first value that is checked
        self.held: Any = None  # reads.Held: the inputs for which its rules are known to hold
        self.defaults_below: bool
        self.rules_below: bool
        self.transitions_below: bool  # whether a rule compares with the old value
        self.embedded_below: bool
        self.lists_below: bool
        self.type: str = raw.get("type") or ""
        self.nullable = bool(raw.get("nullable"))
        self.preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
        self.list_type: str = raw.get("x-kubernetes-list-type") or ""
        self.map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.rules: list[Json] = raw.get("x-kubernetes-validations") or []
        self.has_default = "default" in raw
        self.default = raw.get("default")
        properties = raw.get("properties")
        self.properties: dict[str, Structure] = {name: Structure(item) for name, item in (properties or {}).items()}
        extra = raw.get("additionalProperties")
        self.additional: Structure | bool | None = Structure(extra) if isinstance(extra, dict) else extra
        items = raw.get("items")
        self.items: Structure | None = Structure(items) if isinstance(items, dict) else None
        below = [*self.properties.values(), *([self.items] if self.items else [])]
        if isinstance(self.additional, Structure):
            below.append(self.additional)
        self.defaults_below = any(item.has_default or item.defaults_below for item in below)
        self.embedded_below = any(item.embedded or item.embedded_below for item in below)
        self.rules_below = bool(self.rules) or any(item.rules_below for item in below) or _has_nested_rules(raw)
        compares = any("oldSelf" in str(rule.get("rule")) for rule in self.rules)
        self.transitions_below = compares or _has_nested_rules(raw) or any(item.transitions_below for item in below)
        self.lists_below = self.list_type in ("set", "map") or any(item.lists_below for item in below)


def _has_nested_rules(raw: Json) -> bool:
    return any(item.get("x-kubernetes-validations") for item in raw.get("allOf") or ())


def take(value: Any, at: Structure, dropped: list[str], root: bool = False, standing: Any = None) -> Any:
    """A pruned and defaulted copy along what changes, other parts shared; the names taken out go to `dropped`.

    `standing`: a value of this place that was taken before: parts that are its very own parts are not looked at again.
    """
    if type(value) is dict:
        return _take_object(value, at, dropped, root, standing)
    if type(value) is list:
        items = at.items
        if items is None or not (items.properties or items.items or items.additional or items.type == "object"):
            return value
        if type(standing) is list and not items.embedded:
            known = {id(item) for item in standing}
            return [item if id(item) in known else take(item, items, dropped) for item in value]
        return [take(item, items, dropped) for item in value]
    return value


def _take_object(value: Json, at: Structure, dropped: list[str], root: bool, standing: Any = None) -> Json:
    properties, additional = at.properties, at.additional
    result: Json = {}
    keeps_meta = root or at.embedded
    before: Json = standing if type(standing) is dict and not (at.embedded or at.embedded_below) else {}
    for name, item in value.items():
        if item is not None and name in before and item is before[name]:
            result[name] = item
            continue
        if keeps_meta and name in _META_FIELDS:
            result[name] = item
            continue
        below = properties.get(name)
        if below is not None:
            if item is None and not below.nullable:
                continue  # upstream prunes such nulls, then defaults
            result[name] = take(item, below, dropped, False, before.get(name)) if type(item) in _DEEP else item
        elif additional is not None and additional is not False:
            result[name] = take(item, additional, dropped) if isinstance(additional, Structure) else item
        elif at.preserve:
            result[name] = item
        else:
            dropped.append(name)
    if at.defaults_below:
        for name, below in properties.items():
            if below.has_default and name not in result:
                default = copy(below.default)
                result[name] = take(default, below, []) if below.defaults_below else default
    return result


def unknown_fields(value: Any, at: Structure, root: bool = True, path: str = "") -> list[str]:
    """`unknown field "spec.foo"` for what pruning takes out, in the document's order."""
    found: list[str] = []
    _unknown(value, at, root, path, found)
    return found


def _unknown(value: Any, at: Structure, root: bool, path: str, found: list[str]) -> None:
    if type(value) is list and at.items is not None:
        for index, item in enumerate(value):
            _unknown(item, at.items, False, f"{path}[{index}]", found)
    elif type(value) is dict:
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            if (root or at.embedded) and name in _META_FIELDS:
                continue
            below = at.properties.get(name)
            if below is None and isinstance(at.additional, Structure):
                below = at.additional
            if below is not None:
                _unknown(item, below, False, prefix + name, found)
            elif not at.preserve and not at.additional:
                found.append(f'unknown field "{prefix}{name}"')


Decode = Callable[[Any, str], tuple[Json, list[str]]]
"""(metadata, its path) → (decoded metadata, problems)."""


def decode_embedded(value: Any, at: Structure, decode: Decode, path: str = "") -> list[str]:
    """Metadata of embedded resources is decoded in place; what was unknown in it is returned."""
    if not at.embedded_below and not at.embedded:
        return []
    problems: list[str] = []
    if isinstance(value, dict):
        if at.embedded and value.get("metadata") is not None and path:
            value["metadata"], problems = decode(value["metadata"], f"{path}.metadata")
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            below = at.properties.get(name) or at.additional
            if isinstance(below, Structure):
                problems += decode_embedded(item, below, decode, prefix + name)
    elif isinstance(value, list) and at.items is not None:
        for index, item in enumerate(value):
            problems += decode_embedded(item, at.items, decode, f"{path}[{index}]")
    return problems


def gate(at: Structure, *, root: bool = True) -> Any:
    """A native validator: what it lets through is valid by the schema (list types and CEL rules aside)."""
    schema = _plain(at.raw)
    if root and "properties" in schema:
        schema["properties"] = {key: item for key, item in schema["properties"].items() if key not in _META_FIELDS}
    import jsonschema_rs  # only clusters with CRDs need it

    try:
        return jsonschema_rs.validator_for(
            schema, validate_formats=True, formats=formats.CHECKS, ignore_unknown_formats=True
        )
    except (jsonschema_rs.ValidationError, ValueError):
        return None  # a pattern of Go's that the native engine does not know: the slow walk decides


_KEPT = (
    "enum", "format", "maxLength", "minLength", "pattern", "maximum", "minimum", "multipleOf", "maxItems", "minItems",
    "uniqueItems", "maxProperties", "minProperties", "required",
)  # fmt: skip


_INT_LIMITS = {"int32": 2**31, "int64": 2**63}


def _plain(raw: Json) -> Json:
    """JSON Schema of 2020-12 without Kubernetes' extensions."""
    result: Json = {name: raw[name] for name in _KEPT if name in raw}
    if raw.get("format") not in formats.CHECKS:
        result.pop("format", None)
    for name in ("maximum", "minimum"):
        if raw.get(f"exclusive{name.title()}") and name in result:
            result[f"exclusive{name.title()}"] = result.pop(name)
    kind = raw.get("type")
    if raw.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    elif kind:
        result["type"] = kind
    limit = _INT_LIMITS.get(raw.get("format") or "")
    if limit is not None and kind == "integer":
        result["maximum"] = min(result.get("maximum", limit - 1), limit - 1)
        result["minimum"] = max(result.get("minimum", -limit), -limit)
    if raw.get("x-kubernetes-embedded-resource"):
        result["required"] = [*result.get("required", ()), "apiVersion", "kind"]
    if "properties" in raw:
        result["properties"] = {name: _plain(item) for name, item in raw["properties"].items()}
    if isinstance(raw.get("additionalProperties"), dict):
        result["additionalProperties"] = _plain(raw["additionalProperties"])
    if isinstance(raw.get("items"), dict):
        result["items"] = _plain(raw["items"])
    for name in ("allOf", "anyOf", "oneOf"):
        if raw.get(name):
            result[name] = [_plain(item) for item in raw[name]]
    if raw.get("not"):
        result["not"] = _plain(raw["not"])
    if raw.get("nullable"):
        return {"anyOf": [{"type": "null"}, result]}
    return result

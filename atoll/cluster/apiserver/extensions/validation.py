"""Validation of custom resources by their schema, with upstream's messages, and by list types.

What an update leaves as it was is not held against it (upstream's ratcheting). CEL rules: `rule_validation`.
"""

from __future__ import annotations

from typing import Any

import orjson

from atoll.cluster.apiserver.extensions import formats
from atoll.cluster.apiserver.extensions.structure import Json, Structure
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import (
    bad_value,
    duplicate,
    not_supported,
    quoted,
    required,
    too_long,
)
from atoll.objects.regexp import compile_pattern

MISSING: Any = object()
"""There is no old value."""
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
}


def by_schema(value: Any, at: Structure, old: Any = MISSING) -> list[Cause]:
    """All that the schema (without list types and rules) says against a value."""
    causes: list[Cause] = []
    _check(value, at.raw, "", old, causes, root=True)
    return causes


def _name(path: str) -> str:
    return path or ""


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _matches_type(value: Any, kind: str) -> bool:
    if kind == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES.get(kind, (object,)))


def _wrong_type(path: str, raw: Json, value: Any) -> Cause:
    kind = "integer,string" if raw.get("x-kubernetes-int-or-string") else str(raw.get("type"))
    shown = _type_of(value)
    if kind == "integer" and raw.get("format") in _INT_RANGES and shown == "number":
        kind, shown = raw["format"], "float64"
    text = f'{_name(path)} in body must be of type {kind}: "{shown}"'
    return Cause("FieldValueTypeInvalid", f'Invalid value: "{shown}": {text}', path or "<nil>")


def _check(value: Any, raw: Json, path: str, old: Any, causes: list[Cause], root: bool = False) -> None:
    if old is not MISSING and value == old and not root:
        return
    if value is None:
        if raw.get("nullable"):
            return
        if raw.get("type") or raw.get("x-kubernetes-int-or-string"):
            causes.append(_wrong_type(path, raw, value))
            return
    kind = raw.get("type")
    if raw.get("x-kubernetes-int-or-string"):
        if not (isinstance(value, str) or _matches_type(value, "integer")):
            causes.append(_wrong_type(path, raw, value))
            return
    elif kind and not _matches_type(value, kind):
        causes.append(_wrong_type(path, raw, value))
        if kind == "integer" and isinstance(value, float):
            causes.append(_unchecked_integer(path, raw))
        return
    _enum(value, raw, path, causes)
    if isinstance(value, str):
        _string(value, raw, path, causes)
    elif isinstance(value, dict):
        _object(value, raw, path, old, causes, root)
    elif isinstance(value, list):
        _array(value, raw, path, old, causes)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(value, raw, path, causes)
    _combined(value, raw, path, causes)


_INT_RANGES = {"int32": 2**31, "int64": 2**63}


def _unchecked_integer(path: str, raw: Json) -> Cause:
    form = raw.get("format")
    named = f"with format {form}" if form in _INT_RANGES else "(default format)"
    return bad_value("<nil>", "", f"Checked value must be of type integer {named} in {path}")


def _enum(value: Any, raw: Json, path: str, causes: list[Cause]) -> None:
    allowed = raw.get("enum")
    if allowed and value not in allowed:
        texts = [item if isinstance(item, str) else orjson.dumps(item).decode() for item in allowed]
        causes.append(not_supported(path, value, texts))


def _invalid(path: str, value: Any, text: str) -> Cause:
    return bad_value(path or "<nil>", value, f"{_name(path)} in body {text}")


def _string(value: str, raw: Json, path: str, causes: list[Cause]) -> None:
    most, least, pattern = raw.get("maxLength"), raw.get("minLength"), raw.get("pattern")
    if most is not None and len(value) > most:
        causes.append(too_long(path, most))
    if least is not None and len(value) < least:
        causes.append(_invalid(path, value, f"should be at least {least} chars long"))
    if pattern and not compile_pattern(pattern).search(value):
        causes.append(_invalid(path, value, f"should match '{pattern}'"))
    form = raw.get("format")
    check = formats.CHECKS.get(form) if form else None
    if check is not None and not check(value):
        text = f"must be of type {form}: {quoted(value)}"
        causes.append(Cause("FieldValueTypeInvalid", f"Invalid value: {quoted(value)}: {path} in body {text}", path))


def _number(value: float, raw: Json, path: str, causes: list[Cause]) -> None:
    limit = _INT_RANGES.get(raw.get("format") or "")
    if limit is not None and raw.get("type") == "integer" and not -limit <= value < limit:
        causes.append(_unchecked_integer(path, raw))
        return
    most, least, step = raw.get("maximum"), raw.get("minimum"), raw.get("multipleOf")
    if most is not None:
        exclusive = bool(raw.get("exclusiveMaximum"))
        if value > most or (exclusive and value == most):
            causes.append(_invalid(path, value, f"should be less than {'' if exclusive else 'or equal to '}{most}"))
    if least is not None:
        exclusive = bool(raw.get("exclusiveMinimum"))
        if value < least or (exclusive and value == least):
            causes.append(_invalid(path, value, f"should be greater than {'' if exclusive else 'or equal to '}{least}"))
    if step and value % step:
        causes.append(_invalid(path, value, f"should be a multiple of {step}"))


def _too_many(path: str, actual: int, most: int) -> Cause:
    unit = "item" if most == 1 else "items"
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {most} {unit}", path)


def _object(value: Json, raw: Json, path: str, old: Any, causes: list[Cause], root: bool) -> None:
    least, most = raw.get("minProperties"), raw.get("maxProperties")
    if least is not None and len(value) < least:
        causes.append(_invalid(path, len(value), f"should have at least {least} properties"))
    if most is not None and len(value) > most:
        causes.append(_too_many(path, len(value), most))
    if raw.get("x-kubernetes-embedded-resource") and not root:
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                causes.append(required(f"{path}.{name}"))
    properties = raw.get("properties") or {}
    additional = raw.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    prefix = f"{path}." if path else ""
    for name, item in value.items():
        if root and name in ("apiVersion", "kind", "metadata"):
            continue
        below = properties.get(name, additional)
        if isinstance(below, dict):
            _check(item, below, prefix + name, before.get(name, MISSING), causes)
    for name in raw.get("required") or ():
        if name not in value:
            causes.append(required(prefix + name))


def _array(value: list[Any], raw: Json, path: str, old: Any, causes: list[Cause]) -> None:
    least, most = raw.get("minItems"), raw.get("maxItems")
    if least is not None and len(value) < least:
        causes.append(_invalid(path, len(value), f"should have at least {least} items"))
    if most is not None and len(value) > most:
        causes.append(_too_many(path, len(value), most))
    if raw.get("uniqueItems") and len({orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in value}) < len(value):
        causes.append(_invalid(path, value, "shouldn't contain duplicates"))
    items = raw.get("items")
    if isinstance(items, dict):
        correlated = correlate(raw, old)
        for index, item in enumerate(value):
            _check(item, items, f"{path}[{index}]", correlated(item), causes)


def correlate(raw: Json, old: Any) -> Any:
    """The old item that a list-map item continues; items of other lists are all new."""
    keys = raw.get("x-kubernetes-list-map-keys")
    if not keys or not isinstance(old, list):
        return lambda _item: MISSING
    known = {_key(item, keys): item for item in old if isinstance(item, dict)}
    return lambda item: known.get(_key(item, keys), MISSING) if isinstance(item, dict) else MISSING


def _key(item: Json, keys: Any) -> bytes:
    return orjson.dumps([item.get(key) for key in keys])


def _combined(value: Any, raw: Json, path: str, causes: list[Cause]) -> None:
    shown = f'"{path}"'
    for item in raw.get("allOf") or ():
        _check(value, item, path, MISSING, causes)
    any_of = raw.get("anyOf")
    if any_of and not raw.get("x-kubernetes-int-or-string"):
        trials = [_trial(value, item, path) for item in any_of]
        if all(trials):
            causes.append(bad_value("<nil>", "", f"{shown} must validate at least one schema (anyOf)"))
            causes += _shortest(trials)
    one_of = raw.get("oneOf")
    if one_of:
        trials = [_trial(value, item, path) for item in one_of]
        valid = sum(not trial for trial in trials)
        if valid != 1:
            found = f"Found {valid} valid alternatives" if valid else "Found none valid"
            text = f"{shown} must validate one and only one schema (oneOf). {found}"
            causes.append(bad_value("<nil>", "", text))
            if not valid:
                causes += _shortest(trials)
    if raw.get("not") and not _trial(value, raw["not"], path):
        causes.append(bad_value("<nil>", "", f"{shown} must not validate the schema (not)"))


def _shortest(trials: list[list[Cause]]) -> list[Cause]:
    return min(trials, key=len)


def _trial(value: Any, raw: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    _check(value, raw, path, MISSING, causes)
    return causes


# --- list types ---


def by_list_types(value: Any, at: Structure, path: str, causes: list[Cause]) -> None:
    """Items of sets and keys of list-maps must not repeat."""
    if not at.lists_below:
        return
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            below = at.properties.get(name)
            if below is None and isinstance(at.additional, Structure):
                by_list_types(item, at.additional, f"{path}[{name}]", causes)
            elif below is not None and below.lists_below:
                by_list_types(item, below, prefix + name, causes)
    elif isinstance(value, list):
        if at.list_type in ("set", "map"):
            _repeated(value, at, path, causes)
        if at.items is not None and at.items.lists_below:
            for index, item in enumerate(value):
                by_list_types(item, at.items, f"{path}[{index}]", causes)


def _repeated(value: list[Any], at: Structure, path: str, causes: list[Cause]) -> None:
    if at.list_type == "map" and len(at.map_keys) == 1:
        only = at.map_keys[0]
        texts = {item[only] for item in value if type(item) is dict and type(item.get(only)) is str}
        if len(texts) == len(value):
            return  # as nearly always
    seen: dict[bytes, int] = {}
    for index, item in enumerate(value):
        shown = item
        if at.list_type == "map":
            if not isinstance(item, dict):
                continue
            shown = {key: item[key] for key in at.map_keys if key in item}
        key = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 2:
            causes.append(duplicate(f"{path}[{index}]", shown))

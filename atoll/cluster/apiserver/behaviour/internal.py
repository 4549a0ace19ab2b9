"""Values as Go prints its internal (unversioned) types: in some field errors and in the diffs of forbidden updates.

The fields are in internal.json (tools/make_internal_types.py); only error paths come here.
"""

from __future__ import annotations

import difflib
import functools
import json
from importlib import resources
from typing import Any

from atoll.cluster.apiserver.behaviour.defaulting import Object

_ZEROS: dict[str, Any] = {"s": "", "b": False, "i": 0, "q": "0", "v": None, "v?": None, "m": None}
_META_ORDER = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip


@functools.cache
def _types() -> dict[str, list[list[str]]]:
    text = resources.files(__package__).joinpath("internal.json").read_text()
    found: dict[str, list[list[str]]] = json.loads(text)
    return found


def internal(kind: str, value: Object, spec: Object | None = None) -> Object:
    """`value` (JSON of the versioned type) with the fields of the internal type, e.g. kind="core.PodSpec".

    `spec`: the pod spec that a security context belongs to, where some of its fields are kept.
    """
    made: Object = {}
    for name, field, inner in _types()[kind]:
        if name == "":  # embedded metadata keeps its JSON names
            metadata = value.get(field) or {}
            made.update({key: _sorted(metadata[key]) for key in _META_ORDER if key in metadata})
            continue
        source = value
        if field.startswith("^"):
            source, field = spec or {}, field[1:]
        owner = value if kind == "core.PodSpec" else spec
        made[name] = _convert(inner, source.get(field), owner)
    return made


def _convert(kind: str, value: Any, spec: Object | None) -> Any:
    if kind.startswith("*"):
        return None if value is None else _convert(kind[1:], value, spec)
    if kind.startswith("[]"):
        return None if value is None else [_convert(kind[2:], item, spec) for item in value]
    if kind.startswith("{}"):
        return None if value is None else {key: _convert(kind[2:], value[key], spec) for key in sorted(value)}
    if kind in _ZEROS:
        return _ZEROS[kind] if value is None else _sorted(value)
    return internal(kind, value or {}, spec)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return dict(sorted(value.items()))
    return value


def difference(kind: str, old: Object, new: Object) -> str:
    """A unified diff of two values, as upstream's util/diff writes it."""
    before, after = (_lines(kind, value) for value in (old, new))
    lines = list(difflib.unified_diff(before, after, n=3))[2:]
    return "".join(lines)


def _lines(kind: str, value: Object) -> list[str]:
    text = json.dumps(internal(kind, value), indent=1, ensure_ascii=False)
    return [line + "\n" for line in text.split("\n")]

"""What mutating policies add to the language: `Object.spec{…}` apply configurations and `JSONPatch{…}` operations.

Objects have no schema here, as upstream: any field may be named, its type's name must be its path.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from atoll.cluster.apiserver.expressions import admission
from atoll.cluster.apiserver.expressions.environment import Environment
from atoll.cluster.apiserver.expressions.types import DYN, STRING, Struct, Type
from atoll.cluster.apiserver.expressions.values import JsonObject, Optional, plain

_UNSPECIFIED = Type("unspecified", "")  # of a field that there is not: nothing may be assigned to it
JSON_PATCH = Struct(
    "struct", "JSONPatch", (), {"op": STRING, "path": STRING, "from": STRING, "value": DYN}, lambda _: _UNSPECIFIED
)
OBJECT = Struct("struct", "Object", (), {}, lambda _: DYN)


class _Objects(Mapping[str, Struct]):
    """Every `Object.a.b` is a type."""

    def __getitem__(self, name: str) -> Struct:
        if name == "JSONPatch":
            return JSON_PATCH
        if name == "Object" or name.startswith("Object."):
            return Struct("struct", name, (), {}, lambda _: DYN)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("Object", "JSONPatch"))

    def __len__(self) -> int:
        return 2


@functools.cache
def environment(params: bool) -> Environment:
    base = admission.environment(params=params)
    return Environment(base.variables, _Objects())


def misnamed(value: Any, path: str) -> str:
    """The first object literal whose type is not its path; "" if there is none."""
    if isinstance(value, JsonObject):
        if value.name != path:
            expected = f'expected "{path}", which matches field name path from root Object type'
            return f'unexpected type name "{value.name}", {expected}'
        for name, item in value.items():
            if found := misnamed(item, f"{path}.{name}"):
                return found
    elif isinstance(value, Optional):
        return misnamed(value.value, path) if value.present else ""
    elif isinstance(value, dict):
        return next((found for item in value.values() if (found := misnamed(item, path))), "")
    elif isinstance(value, list):
        return next((found for item in value if (found := misnamed(item, path))), "")
    return ""


def operation(patch: JsonObject) -> dict[str, Any]:
    """A JSONPatch literal as RFC 6902 has it."""
    made: dict[str, Any] = {"op": patch.get("op", ""), "path": patch.get("path", "")}
    if patch.get("from"):
        made["from"] = patch["from"]
    if "value" in patch:
        made["value"] = plain(patch["value"])
    return made

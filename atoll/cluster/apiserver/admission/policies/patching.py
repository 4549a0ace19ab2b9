"""One mutation carried out on an object: an apply configuration merged by its schema, or a JSON patch (patch/*.go)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atoll.base.errors import ApiError
from atoll.cluster.apiserver.expressions import mutations
from atoll.cluster.apiserver.expressions.values import JsonObject, plain
from atoll.cluster.apiserver.ports import Object
from atoll.kinds.nodes import SchemaNode
from atoll.objects.merge import MergeError, check, child_of, merge
from atoll.objects.patch_json import apply_json_patch


class PatchFailed(Exception):
    """The mutation can't be carried out; the text is upstream's."""


def apply_configuration(obj: Object, value: JsonObject, schema: SchemaNode | None) -> Object:
    """A copy of `obj` with the configuration merged in as server-side apply does. Raises PatchFailed."""
    if wrong := mutations.misnamed(value, "Object"):
        raise PatchFailed(f"type mismatch: {wrong}")
    patch = plain(value)
    if problems := check(patch, schema):
        why = f"failed to convert patch object to typed object: {_listed(problems)}"
        raise PatchFailed(f"error applying patch: {why}")
    atomic = list(_atomics(patch, schema, ""))
    if atomic:
        told = ", ".join(atomic)
        why = f"may not mutate atomic arrays, maps or structs: {told}"
        raise PatchFailed(f"error applying patch: invalid ApplyConfiguration: {why}")
    try:
        merged = merge(obj, patch, schema)
    except MergeError as error:
        raise PatchFailed(f"error applying patch: failed to merge patch: {error}") from None
    result: Object = merged
    return result


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "errors:\n" + "\n".join(f"  {problem}" for problem in problems)


def _atomics(value: Any, node: SchemaNode | None, path: str) -> Iterator[str]:
    if node is None:
        return
    if isinstance(value, dict) and value:
        if node.atomic and path:
            yield path
        for name, item in value.items():
            child = child_of(node, name)
            if child is not None and isinstance(item, dict | list):
                yield from _atomics(item, child, f"{path}.{name}")
    elif isinstance(value, list):
        if node.list_type not in ("set", "map"):
            yield path
        for place, item in enumerate(value):
            yield from _atomics(item, node.items, f"{path}[{place}]")


def json_patch(obj: Object, value: list[Any]) -> Object | None:
    """A patched copy; None where a `test` operation says no. Raises PatchFailed."""
    operations = []
    for item in value:
        literal = item.get("value")
        if isinstance(literal, JsonObject) and (wrong := mutations.misnamed(literal, literal.name)):
            raise PatchFailed(f"type mismatch: {wrong}")
        operations.append(mutations.operation(item))
    try:
        patched = apply_json_patch(obj, operations)
    except ApiError as error:
        cause = str(error.__cause__ or error.message)
        if cause.endswith("test failed"):
            return None
        raise PatchFailed(f"JSON Patch: {cause}") from None
    if not isinstance(patched, dict):
        raise PatchFailed("JSON Patch: the patched object is no object")
    return patched

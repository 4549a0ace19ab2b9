"""RFC 6902 JSON Patch, with the quirks of the library that kube-apiserver uses.

Quirks kept: `replace` of an absent object member adds it, negative array indices count from the end, `test` of an
absent member equals null. Every fault in applying is upstream's one opaque 422; what exactly was wrong is the
exception's cause (`PatchFault`), for logs and for clients of ours.
"""

from __future__ import annotations

from typing import Any

import orjson

from atoll.base.errors import BadRequest, Invalid, TooLarge
from atoll.objects.meta import copy

_MOST_OPERATIONS = 10_000
_MOST_COPIED = 3 << 20  # bytes of JSON: copies of copies double, and 40 of them would be a terabyte
_MISSING: Any = object()


class PatchFault(ValueError):
    """What was wrong with one operation."""


def apply_json_patch(document: Any, patch: Any) -> Any:
    """The patched document; neither argument is changed. Raises BadRequest, TooLarge, Invalid."""
    if not isinstance(patch, list):
        kind = "object" if isinstance(patch, dict) else "string" if isinstance(patch, str) else "number"
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )
    if len(patch) > _MOST_OPERATIONS:
        raise TooLarge(f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(patch)}")
    result = copy(document)
    copied = 0
    for operation in patch:
        try:
            if isinstance(operation, dict) and operation.get("op") == "copy":
                copied += _size(result, operation)
                if copied > _MOST_COPIED:
                    raise PatchFault(
                        "Unable to complete the copy, the accumulated size increase of copy is "
                        f"{copied}, exceeding the limit {_MOST_COPIED}"
                    )
            result = _one(result, operation)
        except PatchFault as fault:
            raise Invalid("the server rejected our request due to an error in our request", details={}) from fault
    return result


def _one(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise PatchFault("an operation is an object")
    kind, path = operation.get("op"), operation.get("path")
    if kind not in ("add", "remove", "replace", "move", "copy", "test"):
        raise PatchFault(f"Unexpected kind: {kind}")
    if not isinstance(path, str):
        raise PatchFault("operation missing path field: missing value")
    if kind == "test":
        _test(document, path, operation.get("value"))
        return document
    if kind in ("move", "copy"):
        return _transfer(document, operation, path, remove=kind == "move")
    if path == "":
        if kind == "replace" and isinstance(operation.get("value"), dict | list):
            return copy(operation["value"])
        raise PatchFault(f'{kind} operation does not apply: doc is missing path: "": missing value')
    parent, key = _parent(document, path, kind)
    try:
        if kind == "remove":
            _remove(parent, key)
        elif kind == "add":
            _add(parent, key, copy(operation.get("value")))
        else:
            _replace(parent, key, copy(operation.get("value")))
    except PatchFault as fault:
        raise PatchFault(f"error in {'add' if kind == 'add' else 'remove'} for path: '{path}': {fault}") from None
    return document


def _size(document: Any, operation: dict[str, Any]) -> int:
    """Bytes of what a copy copies; 0 for one that is not well-formed, which is refused when it is carried out."""
    source = operation.get("from")
    if not isinstance(source, str):
        return 0
    value = _get(*_parent(document, source, "copy"))
    return 0 if value is _MISSING else len(orjson.dumps(value))


def _transfer(document: Any, operation: dict[str, Any], path: str, *, remove: bool) -> Any:
    source = operation.get("from")
    if not isinstance(source, str):
        raise PatchFault("operation, missing from field: missing value")
    parent, key = _parent(document, source, "move" if remove else "copy")
    value = _get(parent, key)
    if remove:
        _remove(parent, key)
    elif value is _MISSING:
        value = None
    parent, key = _parent(document, path, "move" if remove else "copy")
    _add(parent, key, copy(value))
    return document


def _test(document: Any, path: str, expected: Any) -> None:
    if path == "":
        found = document
    else:
        parent, key = _parent(document, path, "test")
        found = _get(parent, key)
    if found is _MISSING:
        found = None
    if not same(found, expected):
        raise PatchFault(f"testing value {path} failed: test failed")


def same(left: Any, right: Any) -> bool:
    """JSON equality: unlike Python's, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _parent(document: Any, path: str, kind: str) -> tuple[Any, str]:
    steps = path.split("/")
    if len(steps) < 2:
        raise PatchFault(_no_path(path, kind))
    steps = [step.replace("~1", "/").replace("~0", "~") for step in steps[1:]]
    for step in steps[:-1]:
        document = _get(document, step)
        if not isinstance(document, dict | list):
            raise PatchFault(_no_path(path, kind))
    return document, steps[-1]


def _no_path(path: str, kind: str) -> str:
    """As json-patch words it, for each operation otherwise."""
    missing = {
        "test": f"is missing path: {path}",
        "replace": f"doc is missing path: {path}",
        "copy": f"doc is missing from path: {path}",
        "move": f"doc is missing from path: {path}",
    }.get(kind, f'doc is missing path: "{path}"')
    return f"{kind} operation does not apply: {missing}: missing value"


def _index(items: list[Any], key: str, most: int) -> int:
    try:
        index = int(key)
    except ValueError:
        raise PatchFault(f"value was not a proper array index: '{key}'") from None
    if index < 0:
        index += most + 1
    if not 0 <= index <= most:
        raise PatchFault(f"Unable to access invalid index: {key}: invalid index referenced")
    return index


def _get(parent: Any, key: str) -> Any:
    if isinstance(parent, dict):
        return parent.get(key, _MISSING)
    return parent[_index(parent, key, len(parent) - 1)]


def _add(parent: Any, key: str, value: Any) -> None:
    if isinstance(parent, dict):
        parent[key] = value
    elif key == "-":
        parent.append(value)
    else:
        parent.insert(_index(parent, key, len(parent)), value)


def _replace(parent: Any, key: str, value: Any) -> None:
    if isinstance(parent, dict):
        parent[key] = value
    else:
        parent[_index(parent, key, len(parent) - 1)] = value


def _remove(parent: Any, key: str) -> None:
    if isinstance(parent, dict):
        if key not in parent:
            raise PatchFault(f"Unable to remove nonexistent key: {key}: missing value")
        del parent[key]
    else:
        del parent[_index(parent, key, len(parent) - 1)]


def diff_json_patch(old: Any, new: Any, path: str = "") -> list[dict[str, Any]]:
    """A JSON Patch from old to new: objects member by member, lists as a whole."""
    if same(old, new):
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [{"op": "replace", "path": path, "value": new}]
    operations: list[dict[str, Any]] = []
    for name in old:
        if name not in new:
            operations.append({"op": "remove", "path": f"{path}/{_escape(name)}"})
    for name, value in new.items():
        where = f"{path}/{_escape(name)}"
        if name not in old:
            operations.append({"op": "add", "path": where, "value": value})
        else:
            operations += diff_json_patch(old[name], value, where)
    return operations


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")

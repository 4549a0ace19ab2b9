"""RFC 7386 JSON Merge Patch. Results share unchanged parts with the arguments, which are not changed."""

from __future__ import annotations

from typing import Any

from atoll.base.errors import BadRequest
from atoll.objects.patch_json import same


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """The patched document. Raises BadRequest if the patch is not an object."""
    if not isinstance(patch, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(patch), "number")
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return _merge(document, patch)


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return _pruned(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = _merge(result.get(name), value)
        else:
            result[name] = _pruned(value)
    return result


def _pruned(value: Any) -> Any:
    """Upstream's library drops null members of objects inside lists too."""
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    if isinstance(value, dict):
        return {name: _pruned(item) for name, item in value.items() if item is not None}
    return value


def diff_merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The smallest merge patch from old to new. A null inside `new` can't be expressed and is left out."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if name in old and same(before, value):
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            patch[name] = diff_merge_patch(before, value)
        elif isinstance(value, dict):
            patch[name] = diff_merge_patch({}, value)
        else:
            patch[name] = value
    return patch

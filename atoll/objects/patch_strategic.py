"""Kubernetes' strategic merge patch: lists merged by key, with the directives
`$patch`, `$retainKeys`, `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`.

Merge keys and strategies come from the schema node (x-kubernetes-patch-*). The arguments are not changed; results
share unchanged parts with them.
"""

from __future__ import annotations

from typing import Any

from atoll.base.errors import ApiError, BadRequest, Invalid, ServerError
from atoll.kinds.nodes import SchemaNode

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
_BAD_RETAIN = "invalid patch format of retainKeys"


def apply_strategic_patch(document: dict[str, Any], patch: Any, node: SchemaNode) -> dict[str, Any]:
    """The patched document. Raises BadRequest, Invalid, ServerError with upstream's messages."""
    if not isinstance(patch, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(patch), "number")
        raise BadRequest(f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    return _merge_map(document, patch, node)


def _show(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_show, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _go_type(value: Any) -> str:
    if value is None:
        return "%!s(<nil>)"
    names: dict[type, str] = {dict: "map[string]interface {}", str: "string", bool: "bool", int: "int64"}
    return names.get(type(value), "float64")


def _fault(message: str) -> ApiError:
    """Upstream answers these faults with a bare 500."""
    return ServerError(message, reason="")


def _no_key(item: Any, key: str) -> ApiError:
    return _fault(f"map: {_show(item)} does not contain declared merge key: {key}")


def _child(node: SchemaNode | None, name: str) -> SchemaNode | None:
    if node is None:
        return None
    return (node.properties or {}).get(name) or node.additional


def _strategy(node: SchemaNode | None) -> str:
    """merge, replace or "" (retainKeys is a directive in the patch itself)."""
    if node is None:
        return ""
    return next((item for item in node.patch_strategies if item != "retainKeys"), "")


def _merge_map(original: dict[str, Any], patch: dict[str, Any], node: SchemaNode | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if _DIRECTIVE in patch:
        if directive == "replace":
            return {name: value for name, value in patch.items() if name != _DIRECTIVE}
        if directive == "delete":
            return {}
        raise _fault(f"unknown patch type: {_show(directive)} in map: {_show(patch)}")
    result, patch = dict(original), dict(patch)
    if _RETAIN in patch:
        _retain(result, patch)
    for name in [name for name in patch if name.startswith(_ORDER)]:
        _ordered(result, patch, name, node)
    for name, value in patch.items():
        deletes = name.startswith(_DELETE)
        if deletes:
            name = name.removeprefix(_DELETE)
        if value is None:
            result.pop(name, None)
        elif name not in result or type(result[name]) is not type(value):
            if not deletes:
                _take(result, name, value)
        elif isinstance(value, dict):
            child = _child(node, name)
            result[name] = value if _strategy(child) == "replace" else _merge_map(result[name], value, child)
        elif isinstance(value, list):
            result[name] = _list(result[name], value, _child(node, name), deletes)
        else:
            result[name] = value
    return result


def _take(result: dict[str, Any], name: str, value: Any) -> None:
    """Set a value that the original does not have, without its directives and nulls."""
    kept, keep = _plain(value)
    if keep:
        result[name] = kept
    else:
        result.pop(name, None)


def _plain(value: Any) -> tuple[Any, bool]:
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return None, False
        found = {}
        for name, item in value.items():
            if item is None:
                continue
            kept, keep = _plain(item)
            if keep:
                found[name] = kept
        return found, True
    if isinstance(value, list):
        return [kept for kept, keep in map(_plain, value) if keep], True
    return value, True


def _retain(result: dict[str, Any], patch: dict[str, Any]) -> None:
    keys = patch.pop(_RETAIN)
    if not isinstance(keys, list):
        raise BadRequest(_BAD_RETAIN)
    for name, value in patch.items():
        if value is not None and not name.startswith((_DELETE, _ORDER)) and name not in keys:
            raise BadRequest(_BAD_RETAIN)
    for name in [name for name in result if name not in keys]:
        del result[name]


def _list(original: list[Any], patch: list[Any], node: SchemaNode | None, deletes: bool) -> list[Any]:
    if _strategy(node) != "merge" and not deletes:
        return patch
    if not original and not patch:
        return original
    kinds = {type(item) for item in (*original, *patch)}
    if list in kinds:
        raise Invalid("the server rejected our request due to an error in our request", details={})
    if len(kinds) > 1:
        raise _fault(f"list element types are not identical: {_show([original, patch])}")
    if dict not in kinds:
        if deletes:
            return [item for item in original if item not in patch]
        merged = list(dict.fromkeys([*original, *patch]))
        return _arrange(merged, patch, original, "")
    key = node.merge_key if node is not None else ""
    if not key:
        raise _fault(f"cannot merge lists without merge key for {node.definition if node else ''}")
    original, patch = _directives(original, patch, key)
    return _arrange(_merge_items(original, patch, key, node), patch, original, key)


def _directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Items with $patch: delete take theirs out of the original, one with replace takes all out."""
    plain, replace = [], False
    for item in patch:
        if _DIRECTIVE not in item:
            plain.append(item)
            continue
        directive = item[_DIRECTIVE]
        if directive == "delete":
            if key not in item:
                raise _no_key(item, key)
            original = [other for other in original if other.get(key) != item[key]]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _fault("merging lists cannot yet be specified in the patch")
        else:
            raise _fault(f"unknown patch type: {_show(directive)} in map: {_show(item)}")
    return (plain, []) if replace else (original, plain)


def _merge_items(original: list[Any], patch: list[Any], key: str, node: SchemaNode | None) -> list[Any]:
    merged = list(original)
    for item in patch:
        if key not in item:
            raise _no_key(item, key)
        at = next((index for index, other in enumerate(merged) if key in other and other[key] == item[key]), None)
        if at is None:
            merged.append(item)
        else:
            merged[at] = _merge_map(merged[at], item, node.items if node else None)
    return merged


def _ordered(result: dict[str, Any], patch: dict[str, Any], directive: str, node: SchemaNode | None) -> None:
    """Merge one list and put it into the order of its $setElementOrder; what only the server has stays near."""
    order = patch.pop(directive)
    name = directive.removeprefix(_ORDER)
    child = _child(node, name)
    key = child.merge_key if child is not None else ""
    for found in (order, *(values[name] for values in (result, patch) if name in values)):
        if not isinstance(found, list):
            raise _fault(f"expected a []interface {{}}, but received a {_go_type(found)}")
    theirs, ours = patch.pop(name, None), result.get(name)
    if theirs is not None:
        _check_order(theirs, order, key)
    if ours is None and theirs is None:
        return
    if not ours and not theirs:
        raise _fault("no elements in any of the given slices")
    if theirs is None:
        merged: list[Any] = ours or []
    elif ours is None:
        merged = _plain(theirs)[0]
    else:
        merged = _list(ours, theirs, child, deletes=False)
    result[name] = _arrange(merged, order, _server_order(ours or [], theirs or [], key), key)


def _server_order(ours: list[Any], theirs: list[Any], key: str) -> list[Any]:
    """The order that the server's items are held to have had.

    Upstream deletes from its list in place, so items that the patch adds then take the places that became free, and
    count as the server's.
    """
    gone = {_hashable(item.get(key)) for item in theirs if key and item.get(_DIRECTIVE) == "delete"}
    kept = [item for item in ours if _hashable(_identity(item, key)) not in gone] if gone else ours
    if len(kept) == len(ours) or any(item.get(_DIRECTIVE) == "replace" for item in theirs):
        return kept
    known = {_hashable(item.get(key)) for item in kept}
    added = [item for item in theirs if _DIRECTIVE not in item and _hashable(item.get(key)) not in known]
    return [*kept, *added][: len(ours)]


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """What the patch has must be in the order list, in that order."""
    if not patch or not order:
        return
    wanted = [item for item in patch if not (key and item.get(_DIRECTIVE) == "delete")]
    position = at = 0
    while position < len(wanted) and at < len(order):
        if isinstance(wanted[position], dict) and _DIRECTIVE in wanted[position]:
            position += 1
            continue
        if _identity(wanted[position], key) == _identity(order[at], key):
            position += 1
        at += 1
    if position < len(wanted) and at >= len(order):
        raise _fault(
            f"The order in patch list:\n{_show(patch)}\n doesn't match $setElementOrder list:\n{_show(order)}\n"
        )


def _identity(item: Any, key: str) -> Any:
    if not key:
        return item
    if not isinstance(item, dict) or key not in item:
        raise _no_key(item, key)
    return item[key]


def _arrange(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """Items named in `order` in that order, the others in the server's, interleaved by the server's order."""
    places = {_hashable(_identity(item, key)): index for index, item in reversed(list(enumerate(order)))}
    live = {_hashable(_identity(item, key)): index for index, item in reversed(list(enumerate(server)))}

    def place(item: Any) -> Any:
        return _hashable(_identity(item, key))

    right = sorted((item for item in merged if place(item) in places), key=lambda item: places[place(item)])
    left = sorted((item for item in merged if place(item) not in places), key=lambda item: live.get(place(item), -1))
    result: list[Any] = []
    while left and right:
        first, second = live.get(place(left[0]), -1), live.get(place(right[0]), -1)
        result.append(left.pop(0) if 0 <= first < second else right.pop(0))
    return [*result, *left, *right]


def _hashable(value: Any) -> Any:
    return (type(value), value) if not isinstance(value, dict | list) else _show(value)

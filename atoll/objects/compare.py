"""What changed between two versions of an object, as field sets guided by the schema.

`compare(old, new, node)` gives (changed, removed): the paths added or modified, and those that went away. It is on the
path of every create and update, so equal subtrees are skipped by one equality test, and no paths are built.
"""

from __future__ import annotations

from typing import Any

from atoll.kinds.nodes import SchemaNode
from atoll.objects.fields import FieldSet, item_key

_ABSENT: Any = object()

# Never owned by anybody (upstream's strip set).
_STRIPPED_META = frozenset(
    {"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
     "resourceVersion"}
)  # fmt: skip


def compare(old: dict[str, Any], new: dict[str, Any], node: SchemaNode) -> tuple[FieldSet, FieldSet]:
    """(added or modified, removed) between two whole objects, without what is never owned (name, uid …)."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    properties = node.properties or {}
    for name in {**old, **new}:
        if name in ("apiVersion", "kind"):
            continue
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before == after:
            continue
        child = properties.get(name) or node.additional
        if name == "metadata":
            more, less = _metadata(before, after, child)
        else:
            more, less = _element(before, after, child)
        if more is not None:
            changed["f:" + name] = more
        if less is not None:
            removed["f:" + name] = less
    return changed, removed


def _metadata(before: Any, after: Any, node: SchemaNode | None) -> tuple[FieldSet | None, FieldSet | None]:
    if type(before) is dict and type(after) is dict and len(before) == len(after) and _same_metadata(before, after):
        return None, None
    before = {} if before is _ABSENT else {key: value for key, value in before.items() if key not in _STRIPPED_META}
    after = {} if after is _ABSENT else {key: value for key, value in after.items() if key not in _STRIPPED_META}
    if before == after:
        return None, None
    changed, removed = _map(before, after, node)
    return changed or None, removed or None


def _same_metadata(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all that can be owned is the very same value, as after most writes of a status."""
    return all(before.get(key) is value or key in _STRIPPED_META for key, value in after.items())


def _element(before: Any, after: Any, node: SchemaNode | None) -> tuple[FieldSet | None, FieldSet | None]:
    """One differing element: its subtrees in the changed and the removed set, None where it is not in one."""
    if before is _ABSENT:
        return whole(after, node), None
    if after is _ABSENT:
        return None, whole(before, node)
    if node is None or node.atomic:
        return {}, None
    if not before and not after:
        return {}, None  # null, {} and [] differ from one another as leaves
    # a null is a wildcard: it takes the form of the other side
    if (type(before) is dict and (type(after) is dict or after is None)) or (before is None and type(after) is dict):
        changed, removed = _map(before or {}, after or {}, node)
    elif (type(before) is list and (type(after) is list or after is None)) or (before is None and type(after) is list):
        if node.list_type not in ("set", "map"):
            return {}, None
        changed, removed = _items(before or [], after or [], node)
    else:
        return {}, None
    return changed or None, removed or None


def _map(before: dict[str, Any], after: dict[str, Any], node: SchemaNode | None) -> tuple[FieldSet, FieldSet]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    properties = (node.properties if node else None) or {}
    additional = node.additional if node else None
    for name, value in after.items():
        was = before.get(name, _ABSENT)
        if was is value or was == value:
            continue
        child = properties.get(name) or additional
        if was is _ABSENT:
            changed["f:" + name] = whole(value, child)
            continue
        more, less = _element(was, value, child)
        if more is not None:
            changed["f:" + name] = more
        if less is not None:
            removed["f:" + name] = less
    if len(before) + len(changed) > len(after) or before.keys() - after.keys():
        for name, value in before.items():
            if name not in after:
                removed["f:" + name] = whole(value, properties.get(name) or additional)
    return changed, removed


def _by_key(items: list[Any], node: SchemaNode) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items:
        key = item_key(item, node)
        if key is not None:
            found.setdefault(key, []).append(item)
    return found


def _items(before: list[Any], after: list[Any], node: SchemaNode) -> tuple[FieldSet, FieldSet]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    old, new = _by_key(before, node), _by_key(after, node)
    for key in {**old, **new}:
        left, right = old.get(key, []), new.get(key, [])
        if left == right:
            continue
        if len(left) <= 1 and len(right) <= 1:
            more, less = _element(left[0] if left else _ABSENT, right[0] if right else _ABSENT, node.items)
        elif len(left) > 1 and len(right) > 1:
            more, less = {}, None
        elif len(left) > 1:
            more, less = (whole(right[0], node.items) if right else None), {}
        else:
            more, less = {}, (whole(left[0], node.items) if left else None)
        if more is not None:
            changed[key] = more
        if less is not None:
            removed[key] = less
    return changed, removed


def whole(value: Any, node: SchemaNode | None) -> FieldSet:
    """The subtree of an element that is new (or gone) as a whole: every level is a member."""
    if node is None or not value:
        return {}
    kind = type(value)
    if (kind is not dict and kind is not list) or node.atomic:
        return {}
    result: FieldSet = {".": {}}
    if kind is dict:
        properties = node.properties
        additional = node.additional
        if properties is None:
            for name, item in value.items():
                result["f:" + name] = whole(item, additional) if type(item) in (dict, list) else {}
            return result
        for name, item in value.items():
            if type(item) is dict or type(item) is list:
                result["f:" + name] = whole(item, properties.get(name) or additional)
            else:
                result["f:" + name] = {}
        return result
    if node.list_type not in ("set", "map"):
        return {}
    for item in value:
        key = item_key(item, node)
        if key is not None:
            result[key] = {} if key in result else whole(item, node.items)
    return result

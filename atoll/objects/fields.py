"""Sets of field paths, kept as FieldsV1 JSON itself (the form in metadata.managedFields).

A set is a trie of dicts: {"f:spec": {"f:replicas": {}}}. A key whose value is {} is a member; one whose value has "."
is a member with children; any other is only on the way to its children. Keys: f:FIELD, k:{"name":"x"}, v:"x", i:0.
No function changes its arguments, and results share parts with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from atoll.kinds.nodes import OBJECT, SchemaNode

FieldSet = dict[str, Any]

_SELF = "."


def is_member(node: FieldSet) -> bool:
    """Whether the element with this subtree is itself in the set."""
    return not node or _SELF in node


def _build(member: bool, children: FieldSet) -> FieldSet | None:
    """The subtree of an element; None when nothing is left of it."""
    if not children:
        return {} if member else None
    if member:
        return {_SELF: {}, **children}
    return children


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """`left` itself where it has all of `right`."""
    if not left or left is right:
        return right
    if not right or _covers(left, right):
        return left
    result = dict(left)
    for key, theirs in right.items():
        ours = result.get(key)
        if ours is None:
            result[key] = theirs
        elif key != _SELF and ours is not theirs:
            children = union(_children(ours), _children(theirs))
            result[key] = _build(is_member(ours) or is_member(theirs), children)
    return result


def _covers(left: FieldSet, right: FieldSet) -> bool:
    """Whether all members of `right` are members of `left`, at every level written as such."""
    for key, theirs in right.items():
        ours = left.get(key)
        if ours is None:
            return False
        if theirs:
            if not _covers(ours, theirs):
                return False
        elif ours and _SELF not in ours:
            return False  # a member there, only a way to members here
    return True


def _children(node: FieldSet) -> FieldSet:
    return {key: value for key, value in node.items() if key != _SELF} if _SELF in node else node


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of left that are not members of right; `left` itself where nothing is taken away."""
    result: FieldSet | None = None
    for key, theirs in right.items():
        ours = left.get(key)
        if ours is None or key == _SELF:
            continue
        member = is_member(ours) and not is_member(theirs)
        children = _children(ours)
        kept = _build(member, difference(children, _children(theirs)))
        if kept == ours:
            continue
        if result is None:
            result = dict(left)
        if kept is None:
            del result[key]
        else:
            result[key] = kept
    return left if result is None else result


def without(left: FieldSet, right: FieldSet) -> FieldSet:
    """Left minus the members of right and everything under them (RecursiveDifference)."""
    result = dict(left)
    for key, theirs in right.items():
        ours = result.get(key)
        if ours is None or key == _SELF:
            continue
        if is_member(theirs):
            del result[key]
            continue
        kept = _build(is_member(ours), without(_children(ours), theirs))
        if kept is None:
            del result[key]
        else:
            result[key] = kept
    return result


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    result: FieldSet = {}
    for key, ours in left.items():
        theirs = right.get(key)
        if theirs is None or key == _SELF:
            continue
        kept = _build(is_member(ours) and is_member(theirs), intersection(_children(ours), _children(theirs)))
        if kept is not None:
            result[key] = kept
    return result


def named_as_members(fields: FieldSet, node: SchemaNode | None) -> FieldSet:
    """The set with the named fields on the way to its members as members too (EnsureNamedFieldsAreMembers)."""
    result: FieldSet = {}
    for key, below in fields.items():
        if key == _SELF:
            continue
        child: SchemaNode | None = None
        named = False
        if node is not None and key[0] == "f":
            child = (node.properties or {}).get(key[2:])
            named = child is not None
            child = child or node.additional
        elif node is not None and key[0] == "k":
            child = node.items
        built = _build(named or is_member(below), named_as_members(below, child))
        result[key] = built if built is not None else {}
    return result


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Members as upstream prints them, `.spec.containers[name="x"].image`: a level's members before deeper ones."""
    ordered = sorted((key for key in fields if key != _SELF), key=_order)
    for key in ordered:
        if is_member(fields[key]):
            yield prefix + step_text(key)
    for key in ordered:
        if fields[key]:
            yield from paths(fields[key], prefix + step_text(key))


_ORDER = {"f": 0, "k": 1, "v": 2, "i": 3}


def _order(key: str) -> tuple[int, str]:
    return _ORDER.get(key[0], 4), key


def step_text(key: str) -> str:
    """One path element as upstream prints it."""
    kind, rest = key[0], key[2:]
    if kind == "f":
        return "." + rest
    if kind == "k":
        parts = orjson.loads(rest)
        return "[" + ",".join(f"{name}={value_text(parts[name])}" for name in sorted(parts)) + "]"
    if kind == "v":
        return f"[={value_text(orjson.loads(rest))}]"
    return f"[{rest}]"


def value_text(value: Any) -> str:
    return orjson.dumps(value).decode()


def item_key(item: Any, node: SchemaNode) -> str | None:
    """The path element of an item of a set or map list; None if it has none of its keys (or can't have one)."""
    if node.list_type == "set":
        return None if isinstance(item, dict | list) or item is None else "v:" + value_text(item)
    if type(item) is not dict:
        return None
    defaults = node.key_defaults
    found = {}
    for name in node.list_keys:
        value = item.get(name)
        if value is None and defaults is not None:
            value = defaults.get(name)
        if value is not None:
            found[name] = value
    if not found:
        return None
    return "k:" + orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()


def of_value(value: Any, node: SchemaNode | None) -> FieldSet:
    """The set of an applied configuration (upstream's ToFieldSet): leaves, list items and keys of free maps."""
    result: FieldSet = {}
    if type(value) is dict:
        properties = (node.properties if node else None) or {}
        additional = node.additional if node else None
        for name, item in value.items():
            child = properties.get(name)
            named = child is not None
            below = _applied(item, child if child is not None else additional)
            # named structs are not owned themselves, unless they are leaves
            member = below is None or not named or (not item and type(item) is dict)
            children = {} if below is None else below
            if member:
                result["f:" + name] = {_SELF: {}, **children} if children else {}
            elif children:
                result["f:" + name] = children
    return result


def _applied(value: Any, node: SchemaNode | None) -> FieldSet | None:
    """What is owned below one element; None for a leaf."""
    if value is None:
        return None
    if type(value) is dict:
        if node is None or node.atomic or (node.kind != OBJECT and not node.preserve_unknown):
            return None
        return of_value(value, node)
    if type(value) is list:
        if node is None or node.atomic or node.list_type not in ("set", "map"):
            return None
        return _applied_items(value, node)
    return None


def _applied_items(value: list[Any], node: SchemaNode) -> FieldSet:
    result: FieldSet = {}
    for item in value:
        key = item_key(item, node)
        if key is None:
            continue
        if key in result:  # duplicates are owned as one
            result[key] = {}
            continue
        below = _applied(item, node.items)
        result[key] = {_SELF: {}, **below} if below else {}
    return result

"""Merging an applied configuration into a live object, and taking field sets out of an object (server-side apply).

Results share unchanged parts with the arguments, which are never changed.
"""

from __future__ import annotations

from typing import Any

from atoll.kinds.nodes import ARRAY, BOOLEAN, INT_OR_STRING, INTEGER, NUMBER, OBJECT, QUANTITY, STRING, SchemaNode
from atoll.objects.fields import FieldSet, is_member, item_key, step_text

_ABSENT: Any = object()


class MergeError(ValueError):
    """The configuration does not fit the schema; the text is that of structured-merge-diff."""


def child_of(node: SchemaNode | None, name: str) -> SchemaNode | None:
    if node is None:
        return None
    return (node.properties or {}).get(name) or node.additional


def merge(live: Any, config: Any, node: SchemaNode | None) -> Any:
    """`config` wins; granular maps and associative lists are merged. Raises MergeError."""
    if live is config:
        return config
    if node is None or node.atomic:
        return config
    if isinstance(live, dict) and isinstance(config, dict):
        if not live and not config:
            return config
        result = dict(live)
        for name, value in config.items():
            before = live.get(name, _ABSENT)
            result[name] = value if before is _ABSENT else merge(before, value, child_of(node, name))
        return result
    if isinstance(live, list) and isinstance(config, list) and node.list_type in ("set", "map"):
        return _merge_items(live, config, node)
    if config is None and live and isinstance(live, dict | list):
        return live  # a null takes the form of the other side, and adds nothing
    return config


def _keys(items: list[Any], node: SchemaNode) -> list[str]:
    keys = []
    for index, item in enumerate(items):
        key = item_key(item, node)
        if key is None:
            raise MergeError(f"element {index}: {_why_no_key(item, node)}")
        keys.append(key)
    return keys


def _why_no_key(item: Any, node: SchemaNode) -> str:
    if node.list_type == "set":
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null"
    if item is None:
        return "associative list with keys may not have a null element"
    if not isinstance(item, dict):
        return "associative list with keys may not have non-map elements"
    names = " ".join(f'"{name}"' for name in node.list_keys)
    return (
        f"associative list with keys has an element that omits all key fields [{names}] "
        "(and doesn't have default values for any key fields)"
    )


def _merge_items(live: list[Any], config: list[Any], node: SchemaNode) -> list[Any]:
    """Both orders are kept where they agree; where they differ the configuration's wins for the shared items."""
    left, right = _keys(live, node), _keys(config, node)
    ours = dict(zip(right, config, strict=True))
    theirs: dict[str, Any] = {}
    for key, item in zip(left, live, strict=True):
        theirs[key] = _ABSENT if key in theirs else item  # duplicates are not merged with the new value

    def merged(key: str) -> Any:
        before = theirs.get(key, _ABSENT)
        return ours[key] if before is _ABSENT else merge(before, ours[key], node.items)

    shared = [key for key in right if key in theirs]
    next_shared = shared.pop(0) if shared else None
    result: list[Any] = []
    done: set[str] = set()
    at_left = at_right = 0
    while at_left < len(left) or at_right < len(right):
        if at_left < len(left) and at_right < len(right):
            key = left[at_left]
            if key == right[at_right]:
                done.add(key)
                result.append(merged(key))
                at_left += 1
                at_right += 1
                next_shared = shared.pop(0) if shared else None
                continue
            if key in ours and next_shared is not None and next_shared != key:
                at_left += 1  # shared, but not the one whose turn it is
                continue
        if at_left < len(left):
            key = left[at_left]
            if key not in ours:
                result.append(live[at_left])
                at_left += 1
                continue
            if key in done:
                at_left += 1
        if at_right < len(right):
            key = right[at_right]
            done.add(key)
            result.append(merged(key))
            at_right += 1
            if next_shared == key:
                next_shared = shared.pop(0) if shared else None
    return result


def remove(value: Any, fields: FieldSet, node: SchemaNode | None) -> Any:
    """The value without the members of `fields`; None where nothing is left of it (upstream's RemoveItems)."""
    if not fields or not isinstance(value, dict | list):
        return value
    if not value or node is None or node.atomic:
        return None
    if isinstance(value, dict):
        result: dict[str, Any] = {}
        for name, item in value.items():
            below = fields.get("f:" + name)
            if below is None:
                result[name] = item
            elif not is_member(below):
                result[name] = remove(item, below, child_of(node, name))
        return result or None
    if node.list_type not in ("set", "map"):
        return None
    items: list[Any] = []
    for item in value:
        below = fields.get(item_key(item, node) or "")
        if below is None:
            items.append(item)
        elif not is_member(below):
            items.append(remove(item, below, node.items))
    return items or None


def check(value: Any, node: SchemaNode | None, path: str = "") -> list[str]:
    """Why an applied configuration does not fit its schema, as `.spec.foo: field not declared in schema`."""
    if value is None or node is None:
        return []
    if wrong := _wrong_kind(value, node):
        return [f"{path}: {wrong}"]
    problems: list[str] = []
    if isinstance(value, dict):
        for name, item in value.items():
            child = child_of(node, name)
            if child is None and not node.preserve_unknown and node.properties is not None:
                problems.append(f"{path}.{name}: field not declared in schema")
            else:
                problems += check(item, child, f"{path}.{name}")
    elif isinstance(value, list):
        seen: set[str] = set()
        for index, item in enumerate(value):
            step = f"[{index}]"
            if node.list_type in ("set", "map"):
                key = item_key(item, node)
                if key is None:
                    problems.append(f"{path}: element {index}: {_why_no_key(item, node)}")
                    break
                step = step_text(key)
                if key in seen:
                    problems.append(f"{path}: duplicate entries for key {step}")
                seen.add(key)
            problems += check(item, node.items, path + step)
    return problems


def _wrong_kind(value: Any, node: SchemaNode) -> str:
    """Why a value does not fit, as structured-merge-diff says it; "" where it does."""
    kind = node.kind
    if kind in (INTEGER, NUMBER):
        if type(value) is not int and type(value) is not float:
            return f"expected numeric (int or float), got {_GO_TYPES.get(type(value), 'string')}"
    elif kind == STRING:
        if type(value) is not str:
            return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
    elif kind == BOOLEAN:
        if type(value) is not bool:
            return f"expected boolean, got &{{{_go(value)}}}"
    elif kind in (QUANTITY, INT_OR_STRING):
        if isinstance(value, dict | list):
            return f"expected any scalar, got &{{{_go(value)}}}"
    elif kind == OBJECT:
        if type(value) is not dict:
            return f"expected map, got &{{{_go(value)}}}"
    elif kind == ARRAY and type(value) is not list:
        return f"expected list, got &{{{_go(value)}}}"
    return ""


_GO_TYPES = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}


def _go(value: Any) -> str:
    """As Go's %v."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_go(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _go_syntax(value: Any) -> str:
    """As Go's %#v."""
    if isinstance(value, dict):
        inside = ", ".join(f'"{key}":{_go_syntax(value[key])}' for key in sorted(value))
        return f"map[string]interface {{}}{{{inside}}}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(_go_syntax(item) for item in value) + "}"
    return f'"{value}"' if isinstance(value, str) else _go(value)

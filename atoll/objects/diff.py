"""What differs between two objects, field by field, as a user reads it.

Lists are matched by their merge keys where the schema names them (or by `name` where all items have one), so moving a
container is no difference, and changing its image is one. For plans and drift; server-side apply has its own compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from atoll.kinds.nodes import SchemaNode
from atoll.objects.merge import child_of

_ABSENT: Any = object()

# What a server writes for itself: never a difference that a user made.
SERVER_FIELDS = frozenset(
    {
        "metadata.managedFields", "metadata.resourceVersion", "metadata.uid", "metadata.generation",
        "metadata.creationTimestamp", "metadata.selfLink", "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds", "status",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One field: `old` is None for an added one, `new` for a removed one."""

    path: str
    kind: Literal["added", "removed", "changed"]
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        if self.kind == "added":
            return f"+ {self.path}: {_show(self.new)}"
        if self.kind == "removed":
            return f"- {self.path}: {_show(self.old)}"
        return f"~ {self.path}: {_show(self.old)} → {_show(self.new)}"


def _show(value: Any, most: int = 120) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def diff(old: Any, new: Any, node: SchemaNode | None = None, *, ignore: Iterable[str] = SERVER_FIELDS) -> list[Change]:
    """All changes from old to new, in the order of `new`. Paths in `ignore` are left out with all below them."""
    return list(_walk(old, new, node, "", frozenset(ignore)))


def _walk(old: Any, new: Any, node: SchemaNode | None, path: str, ignore: frozenset[str]) -> Iterator[Change]:
    if path in ignore or old is new or old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**new, **old}:
            step = f"{path}.{name}" if path and _plain(name) else name if _plain(name) else f'{path}["{name}"]'
            yield from _walk(old.get(name, _ABSENT), new.get(name, _ABSENT), child_of(node, name), step, ignore)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, node, path, ignore)
    elif old is _ABSENT:
        yield Change(path, "added", new=new)
    elif new is _ABSENT:
        yield Change(path, "removed", old=old)
    else:
        yield Change(path, "changed", old, new)


def _plain(name: str) -> bool:
    return "." not in name and "/" not in name


def _lists(
    old: list[Any], new: list[Any], node: SchemaNode | None, path: str, ignore: frozenset[str]
) -> Iterator[Change]:
    keys = _keys(old, new, node)
    child = node.items if node is not None else None
    if keys is None:
        if all(not isinstance(item, dict | list) for item in (*old, *new)) or len(old) != len(new):
            yield Change(path, "changed", old, new)
            return
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _walk(before, after, child, f"{path}[{index}]", ignore)
        return
    before_by, after_by = _indexed(old, keys), _indexed(new, keys)
    for key in {**after_by, **before_by}:
        shown = ",".join(f"{name}={value}" for name, value in zip(keys, key, strict=True) if value is not None)
        yield from _walk(before_by.get(key, _ABSENT), after_by.get(key, _ABSENT), child, f"{path}[{shown}]", ignore)


def _keys(old: list[Any], new: list[Any], node: SchemaNode | None) -> tuple[str, ...] | None:
    """The fields that identify an item, if each item has an identity of its own."""
    items = (*old, *new)
    if not all(isinstance(item, dict) for item in items):
        return None
    choices = []
    if node is not None and node.list_keys:
        choices.append(node.list_keys)
    if node is not None and node.merge_key:
        choices.append((node.merge_key,))
    choices.append(("name",))
    for keys in choices:
        if all(item.get(keys[0]) is not None for item in items) and _unique(old, keys) and _unique(new, keys):
            return keys
    return None


def _indexed(items: list[Any], keys: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    return {tuple(item.get(key) for key in keys): item for item in items}


def _unique(items: list[Any], keys: tuple[str, ...]) -> bool:
    try:
        return len(_indexed(items, keys)) == len(items)
    except TypeError:  # a key that is an object
        return False

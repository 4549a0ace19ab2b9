"""What storing does to an object: upstream keeps protobuf, in which an empty list is no list.

A list in a field without omitempty is written as `[]` by the client and comes back as null.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.kinds.nodes import ARRAY, SchemaNode

Paths = tuple[tuple[str, ...], ...]


def always_written_lists(node: SchemaNode, seen: frozenset[str] = frozenset()) -> Paths:
    """The paths of such lists, lists of lists left aside."""
    found: list[tuple[str, ...]] = []
    filled = {name for name, _ in node.fill}
    for name, child in (node.properties or {}).items():
        if child.kind == ARRAY:
            if name in filled:
                found.append((name,))
        elif child.properties is not None and child.definition not in seen and name != "metadata":
            below = always_written_lists(child, seen | {child.definition})
            found += [(name, *path) for path in below]
    return tuple(found)


def _empty_to_null(obj: Object, paths: Paths) -> None:
    for path in paths:
        where: Object | None = obj
        for step in path[:-1]:
            where = where.get(step) if where else None
        if where and where.get(path[-1]) == []:
            where[path[-1]] = None


def then_create(paths: Paths, prepare: Callable[[Object], None]) -> Callable[[Object], None]:
    def prepare_create(obj: Object) -> None:
        _empty_to_null(obj, paths)
        prepare(obj)

    return prepare_create


def then_update(paths: Paths, prepare: Callable[[Object, Object], None]) -> Callable[[Object, Object], None]:
    def prepare_update(new: Object, old: Object) -> None:
        _empty_to_null(new, paths)
        prepare(new, old)

    return prepare_update

"""Runs each Go type's default hook wherever the type occurs in an object.

The compiled schema says where: a `Defaulter` keeps only the fields under which some type has defaults, so the walk
over a small pod touches a handful of places. Objects come decoded (`atoll.kinds.decode`): value structs are there,
nulls and empty fields are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from atoll.base import quantity
from atoll.kinds.nodes import QUANTITY, SchemaNode

Object = dict[str, Any]
Hook = Callable[[Object], None]

_MILLI = 1_000_000


@functools.lru_cache(maxsize=8192)
def _rounded(value: str) -> str:
    """Amounts of resources are never finer than milli: upstream rounds up."""
    nano = quantity.parse(value)
    return value if nano % _MILLI == 0 else quantity.from_milli(-(-nano // _MILLI))


def _round_amounts(amounts: Object) -> None:
    for name, value in amounts.items():
        if value.__class__ is str and value[-1:] in "un0123456789":
            amounts[name] = _rounded(value)


class Defaulter:
    """The defaults of one type and of all inside it."""

    __slots__ = ("children", "declared", "hook", "useful")

    def __init__(self, hook: Hook | None, declared: Mapping[str, Any]) -> None:
        self.hook = hook
        self.declared = tuple(declared.items())
        self.children: dict[str, Callable[[Any], None]] = {}
        self.useful = hook is not None or bool(declared)

    def __call__(self, obj: Object) -> None:
        """Fill in place, inner types first."""
        children = self.children
        if children:
            for name, value in obj.items():
                fill = children.get(name)
                if fill is not None and value is not None:
                    fill(value)
        for name, default in self.declared:
            if obj.get(name) is None:
                obj[name] = default
        if self.hook is not None:
            self.hook(obj)


def _each(fill: Hook) -> Callable[[list[Object]], None]:
    def fill_all(values: list[Object]) -> None:
        for value in values:
            fill(value)

    return fill_all


def _each_value(fill: Hook) -> Callable[[dict[str, Object]], None]:
    def fill_all(mapping: dict[str, Object]) -> None:
        for value in mapping.values():
            fill(value)

    return fill_all


class Defaulters:
    """Makes the defaulter of a schema; `hooks` and `declared` are keyed by type, e.g. core/v1.Pod."""

    def __init__(self, hooks: Mapping[str, Hook], declared: Mapping[str, Mapping[str, Any]]) -> None:
        self._hooks = hooks
        self._declared = declared
        self._made: dict[str, Defaulter] = {}

    def of(self, node: SchemaNode) -> Defaulter:
        name = type_name(node.definition)
        made = self._made.get(name)
        if made is None:
            made = Defaulter(self._hooks.get(name), self._declared.get(name, {}))
            self._made[name] = made
            self._descend(made, node)
        return made

    def _descend(self, made: Defaulter, node: SchemaNode) -> None:
        for name, child in (node.properties or {}).items():
            if child.additional is not None and child.additional.kind == QUANTITY:
                made.children[name] = _round_amounts
                continue
            for target, wrap in ((child, None), (child.items, _each), (child.additional, _each_value)):
                if target is None or target.properties is None or not target.definition:
                    continue
                fill = self.of(target)
                if fill.useful:
                    made.children[name] = fill if wrap is None else wrap(fill)
        made.useful = made.useful or bool(made.children)


def type_name(definition: str) -> str:
    """`io.k8s.api.core.v1.Pod` → `core/v1.Pod`."""
    group, version, kind = definition.rsplit(".", 3)[1:]
    return f"{group}/{version}.{kind}"

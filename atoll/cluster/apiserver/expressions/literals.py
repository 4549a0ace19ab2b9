"""Literals that are looked at when an expression is compiled (cel-go's ASTValidators, which Kubernetes' environment
has): arguments of duration(), timestamp() and matches(), and lists and maps of one type of value.

Only what format() is given may be of several types. Patterns of other functions are read when the program is made:
what is wrong with them is another fault (`bad_pattern`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from atoll.cluster.apiserver.expressions import conversions, texts, types
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.syntax import Call, Constant, ListLiteral, MapLiteral, Node, children
from atoll.cluster.apiserver.expressions.types import Type

Fault = tuple[int, str]  # the node, and what is wrong

_FREE = "format"
_PATTERNED = ("matches", "find", "findAll")
_MOST = timedelta(microseconds=2**63 // 1000)  # Go's, in nanoseconds


def faults(root: Node, kinds: Mapping[int, Type]) -> Iterator[Fault]:
    """`kinds`: the type of each node."""
    yield from _arguments(root)
    yield from _mixtures(root, kinds)


def bad_pattern(root: Node) -> str:
    """What Go's regexp says of the first pattern that can't be read; "" where all can."""
    for node in _all(root):
        if isinstance(node, Call) and node.function in _PATTERNED and node.arguments:
            pattern = node.arguments[0] if node.target is not None else node.arguments[-1]
            if isinstance(pattern, Constant) and isinstance(pattern.value, str):
                why = texts.pattern_fault(pattern.value)
                if why:
                    return why
    return ""


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in children(node):
        yield from _all(child)


# Arguments


def _arguments(root: Node) -> Iterator[Fault]:
    for node in _all(root):
        if isinstance(node, Call) and node.function in _CHECKS and node.arguments:
            first = node.arguments[0]
            if isinstance(first, Constant) and not _CHECKS[node.function](first.value):
                yield first.id, f"invalid {node.function} argument"


def _is_duration(value: Any) -> bool:
    try:
        return not isinstance(value, str) or abs(conversions.to_duration(value)) <= _MOST
    except EvaluationError:
        return False


def _is_timestamp(value: Any) -> bool:
    try:
        if isinstance(value, str):
            conversions.to_timestamp(value)
        elif isinstance(value, int):
            conversions.from_epoch(value)
    except EvaluationError:
        return False
    return True


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "duration": _is_duration,
    "timestamp": _is_timestamp,
    "matches": lambda value: not isinstance(value, str) or not texts.pattern_fault(value),
}


# Lists and maps


def _mixtures(node: Node, kinds: Mapping[int, Type]) -> Iterator[Fault]:
    if isinstance(node, Call) and node.function == _FREE:
        return
    if isinstance(node, ListLiteral):
        items = ((item.id, _inner(kinds[item.id], place in node.optional)) for place, item in enumerate(node.elements))
        yield from list(_differing(items))[:1]
    elif isinstance(node, MapLiteral):
        yield from _differing((entry.key.id, kinds[entry.key.id]) for entry in node.entries)
        yield from _differing((entry.value.id, _inner(kinds[entry.value.id], entry.optional)) for entry in node.entries)
    for child in children(node):
        yield from _mixtures(child, kinds)


def _inner(kind: Type, optional: bool) -> Type:
    return types.unwrap_optional(kind)[0] if optional else kind


def _differing(items: Iterable[tuple[int, Type]]) -> Iterator[Fault]:
    first: Type | None = None
    for node, kind in items:
        if first is None:
            first = kind
        elif kind != first:
            yield node, f"expected type '{types.shown(first)}' but found '{types.shown(kind)}'"

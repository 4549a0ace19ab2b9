"""Functions as data: each overload with its signature, what it does and what it costs.

A library is a list of overloads; `Library.of` joins libraries into the table that checker and evaluator share.
Implementations take plain values and raise EvaluationError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.cluster.apiserver.expressions import types
from atoll.cluster.apiserver.expressions.types import Type
from atoll.cluster.apiserver.expressions.values import size, type_name

TRAVERSAL = 0.1  # the cost of a character, as cel-go counts
REGEX = 0.25
Cost = Callable[[list[Any], Any], int]
"""Of (arguments, result)."""


@dataclass(frozen=True, slots=True)
class Overload:
    signature: types.Signature
    implementation: Callable[..., Any]
    cost: Cost | None = None  # None: one


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    overloads: tuple[Overload, ...]


@dataclass(frozen=True, slots=True)
class Library:
    functions: Mapping[str, Function]

    @classmethod
    def of(cls, *parts: Iterable[Overload]) -> Library:
        gathered: dict[str, list[Overload]] = {}
        for part in parts:
            for overload in part:
                gathered.setdefault(overload.signature.function, []).append(overload)
        return cls({name: Function(name, tuple(overloads)) for name, overloads in gathered.items()})


def overload(text: str, implementation: Callable[..., Any], cost: Cost | None = None) -> Overload:
    return Overload(types.signature(text), implementation, cost)


def traversal(argument: int = 0, factor: float = 1) -> Cost:
    """Of one walk over an argument's text."""
    return lambda arguments, _: math.ceil(size(arguments[argument]) * TRAVERSAL * factor)


def both(arguments: list[Any], _: Any) -> int:
    return math.ceil((size(arguments[0]) + size(arguments[1])) * TRAVERSAL)


def smaller(arguments: list[Any], _: Any) -> int:
    return math.ceil(min(size(arguments[0]), size(arguments[1])) * TRAVERSAL)


def regex(arguments: list[Any], _: Any) -> int:
    text = math.ceil((1 + size(arguments[0])) * TRAVERSAL)
    return text * math.ceil(size(arguments[1]) * REGEX)


def of_result(factor: float) -> Cost:
    return lambda _, result: math.ceil(size(result) * factor * TRAVERSAL)


def whole(arguments: list[Any], _: Any) -> int:
    """A walk over a list as a tree."""
    return _walk(arguments[0])


def _walk(value: Any) -> int:
    if isinstance(value, str | bytes):
        return int(len(value) * TRAVERSAL)
    if isinstance(value, list):
        return sum(map(_walk, value))
    if isinstance(value, dict):
        return sum(_walk(key) + _walk(item) for key, item in value.items())
    return 1


def fixed(amount: int) -> Cost:
    return lambda _arguments, _result: amount


def accepts(kind: Type, value: Any) -> bool:
    """Whether a value may be passed where this type is declared: how overloads are chosen at run time."""
    return _ACCEPTS.get(kind.kind, _by_name)(kind, value)


def _by_name(kind: Type, value: Any) -> bool:
    return type_name(value) == _RUNTIME_NAMES.get(kind.kind, kind.name)


_RUNTIME_NAMES = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}


def _elements(kind: Type, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    inner = kind.parameters[0]
    return inner.kind in ("param", "dyn") or not value or accepts(inner, value[0])


_ACCEPTS: dict[str, Callable[[Type, Any], bool]] = {
    "param": lambda _, value: True,
    "dyn": lambda _, value: True,
    "list": _elements,
    "map": lambda _, value: isinstance(value, dict),
}

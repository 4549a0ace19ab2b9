"""Lists: Kubernetes' own functions (isSorted, sum, min …), cel-go's list library (version 3) and its sets."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from atoll.cluster.apiserver.expressions.conversions import integer
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import Overload, overload, whole
from atoll.cluster.apiserver.expressions.values import compare, equal

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_ZERO = {"int": 0, "uint": 0, "double": 0.0, "duration": timedelta()}
_ORDER = functools.cmp_to_key(compare)


def library() -> Iterator[Overload]:
    for kind in _COMPARABLE:
        yield overload(f"<list({kind})>.isSorted() -> bool", _is_sorted, whole)
        yield overload(f"<list({kind})>.min() -> {kind}", lambda items: _extreme(items, "min", 1), whole)
        yield overload(f"<list({kind})>.max() -> {kind}", lambda items: _extreme(items, "max", -1), whole)
        yield overload(f"<list({kind})>.sort() -> list({kind})", _sorted, whole)
        yield overload(f"<list(A)>.@sortByAssociatedKeys(list({kind})) -> list(A)", _sorted_by, whole)
    for kind, zero in _ZERO.items():
        yield overload(f"<list({kind})>.sum() -> {kind}", functools.partial(_sum, zero), whole)
    yield overload("<list(A)>.indexOf(A) -> int", _index_of, whole)
    yield overload("<list(A)>.lastIndexOf(A) -> int", _last_index_of, whole)
    yield overload("<list(A)>.slice(int, int) -> list(A)", _slice, whole)
    yield overload("<list(list(A))>.flatten() -> list(A)", lambda items: _flat(items, 1), whole)
    yield overload("<list(dyn)>.flatten(int) -> list(dyn)", _flat, whole)
    yield overload("lists.range(int) -> list(int)", _range, lambda _, result: len(result))
    yield overload("<list(A)>.reverse() -> list(A)", lambda items: items[::-1], whole)
    yield overload("<list(A)>.distinct() -> list(A)", _distinct, lambda arguments, _: len(arguments[0]) ** 2)
    product = lambda arguments, _: len(arguments[0]) * len(arguments[1])
    yield overload("sets.contains(list(A), list(A)) -> bool", _contains, product)
    yield overload("sets.equivalent(list(A), list(A)) -> bool", _equivalent, product)
    yield overload("sets.intersects(list(A), list(A)) -> bool", _intersects, product)


def _is_sorted(items: list[Any]) -> bool:
    return all(compare(one, two) <= 0 for one, two in itertools.pairwise(items))


def _extreme(items: list[Any], name: str, replaces: int) -> Any:
    if not items:
        raise EvaluationError(f"{name} called on empty list")
    best = items[0]
    for item in items[1:]:
        if compare(best, item) == replaces:
            best = item
    return best


def _sum(zero: Any, items: list[Any]) -> Any:
    total = sum(items, zero)
    return integer(total) if type(total) is int else total


def _sorted(items: list[Any]) -> list[Any]:
    return sorted(items, key=_ORDER)


def _sorted_by(items: list[Any], keys: list[Any]) -> list[Any]:
    return [items[place] for place in sorted(range(len(items)), key=lambda place: _ORDER(keys[place]))]


def _index_of(items: list[Any], value: Any) -> int:
    return next((place for place, item in enumerate(items) if equal(item, value)), -1)


def _last_index_of(items: list[Any], value: Any) -> int:
    return next((place for place in range(len(items) - 1, -1, -1) if equal(items[place], value)), -1)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(items) < end:
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flat(items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    found: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth:
            found += _flat(item, depth - 1)
        else:
            found.append(item)
    return found


def _range(count: int) -> list[int]:
    if count < 0:
        raise EvaluationError(f"lists.range: size must be non-negative, got {count}")
    if count > 1_000_000:
        raise EvaluationError("lists.range: size is too large")
    return list(range(count))


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not any(equal(item, other) for other in found):
            found.append(item)
    return found


def _contains(items: list[Any], wanted: list[Any]) -> bool:
    return all(any(equal(item, other) for other in items) for item in wanted)


def _equivalent(one: list[Any], two: list[Any]) -> bool:
    return _contains(one, two) and _contains(two, one)


def _intersects(one: list[Any], two: list[Any]) -> bool:
    return any(equal(item, other) for item in one for other in two)

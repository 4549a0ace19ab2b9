"""CEL's own operators and functions (the language's standard library, with cross-type numeric comparison)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cel_expr_python import cel

from atoll.cluster.apiserver.expressions import conversions, values
from atoll.cluster.apiserver.expressions.conversions import integer, unsigned
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import (
    Overload,
    both,
    overload,
    regex,
    smaller,
    traversal,
)
from atoll.cluster.apiserver.expressions.functions import fixed as fixed_cost
from atoll.cluster.apiserver.expressions.values import NONE, Fields, Optional, compare, equal

_ORDERED = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
_NUMBERS = ("int", "uint", "double")


def library() -> Iterator[Overload]:
    yield from _logic()
    yield from _comparisons()
    yield from _arithmetic()
    yield from _containers()
    yield from conversions.library()
    yield from _texts()
    yield from _times()
    yield from _optionals()


def _logic() -> Iterator[Overload]:
    yield overload("_&&_(bool, bool) -> bool", _unreachable)  # the evaluator has these three itself
    yield overload("_||_(bool, bool) -> bool", _unreachable)
    yield overload("_?_:_(bool, A, A) -> A", _unreachable)
    yield overload("!_(bool) -> bool", lambda value: not value)
    yield overload("@not_strictly_false(bool) -> bool", lambda value: value, fixed_cost(1))


def _unreachable(*_: Any) -> Any:
    raise AssertionError


def _comparisons() -> Iterator[Overload]:
    yield overload("_==_(A, A) -> bool", equal, smaller)
    yield overload("_!=_(A, A) -> bool", lambda left, right: not equal(left, right), smaller)
    tests: dict[str, Callable[[int], bool]] = {
        "_<_": lambda order: order < 0,
        "_<=_": lambda order: order <= 0,
        "_>_": lambda order: order > 0,
        "_>=_": lambda order: order >= 0,
    }
    for name, test in tests.items():
        implementation = _ordered(test)
        for kind in _ORDERED:
            cost = smaller if kind in ("string", "bytes") else None
            yield overload(f"{name}({kind}, {kind}) -> bool", implementation, cost)
        for one in _NUMBERS:
            for two in _NUMBERS:
                if one != two:
                    yield overload(f"{name}({one}, {two}) -> bool", implementation)


def _ordered(test: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: test(compare(left, right))


def _truncated(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    return int(math.fmod(left, right)) if abs(left) < 1 << 52 > abs(right) else left - right * _truncated(left, right)


def _divided(left: float, right: float) -> float:
    if right == 0:
        return math.nan if left == 0 or left != left else math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


def _arithmetic() -> Iterator[Overload]:
    whole: dict[str, Callable[[int, int], int]] = {
        "_+_": lambda a, b: a + b,
        "_-_": lambda a, b: a - b,
        "_*_": lambda a, b: a * b,
        "_/_": _truncated,
        "_%_": _remainder,
    }
    for name, operation in whole.items():
        yield overload(f"{name}(int, int) -> int", _checked(integer, operation))
        yield overload(f"{name}(uint, uint) -> uint", _checked(unsigned, operation))
    real: dict[str, Callable[[float, float], float]] = {
        "_+_": lambda a, b: a + b,
        "_-_": lambda a, b: a - b,
        "_*_": lambda a, b: a * b,
        "_/_": _divided,
    }
    for name, calculation in real.items():
        yield overload(f"{name}(double, double) -> double", calculation)
    for kind in ("string", "bytes"):
        yield overload(f"_+_({kind}, {kind}) -> {kind}", lambda a, b: a + b, both)
    yield overload("_+_(list(A), list(A)) -> list(A)", lambda a, b: a + b)
    for left, right, result in (("timestamp", "duration", "timestamp"), ("duration", "timestamp", "timestamp"),
                                ("duration", "duration", "duration")):  # fmt: skip
        yield overload(f"_+_({left}, {right}) -> {result}", _moment(lambda a, b: a + b))
    for left, right, result in (("timestamp", "duration", "timestamp"), ("timestamp", "timestamp", "duration"),
                                ("duration", "duration", "duration")):  # fmt: skip
        yield overload(f"_-_({left}, {right}) -> {result}", _moment(lambda a, b: a - b))
    yield overload("-_(int) -> int", lambda value: integer(-value))
    yield overload("-_(double) -> double", lambda value: -value)


def _checked(check: Callable[[int], int], operation: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda left, right: check(operation(int(left), int(right)))


def _moment(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def calculate(left: Any, right: Any) -> Any:
        try:
            return operation(left, right)
        except OverflowError:
            raise EvaluationError("timestamp overflow") from None

    return calculate


def _containers() -> Iterator[Overload]:
    yield overload("_[_](list(A), int) -> A", index)
    yield overload("_[_](map(A, B), A) -> B", index)
    yield overload("_in_(A, list(A)) -> bool", _in_list, lambda arguments, _: len(arguments[1]))
    yield overload("@in(A, list(A)) -> bool", _in_list, lambda arguments, _: len(arguments[1]))
    yield overload("@in(A, map(A, B)) -> bool", _in_map)
    for kind in ("string", "bytes", "list(A)", "map(A, B)"):
        yield overload(f"size({kind}) -> int", len)
        yield overload(f"<{kind}>.size() -> int", len)
    yield overload("cel.@mapInsert(map(A, B), A, B) -> map(A, B)", _inserted)
    yield overload("cel.@mapInsert(map(A, B), map(A, B)) -> map(A, B)", _joined)


def index(container: Any, key: Any) -> Any:
    """Raises EvaluationError: index out of bounds, no such key."""
    if isinstance(container, list):
        if isinstance(key, bool) or not isinstance(key, int | float) or key != int(key):
            raise EvaluationError(f"unsupported index type '{values.type_name(key)}' in list")
        if not 0 <= key < len(container):
            raise EvaluationError(f"index out of bounds: {int(key)}")
        return container[int(key)]
    if isinstance(container, dict):
        if type(key) is float and key == int(key):
            key = int(key)
        found = container.get(key, _ABSENT)
        if found is _ABSENT:
            if isinstance(container, values.WithDefault):
                return container.default
            raise EvaluationError(f"no such key: {shown_key(key)}")
        return found
    if isinstance(container, Fields) and isinstance(key, str):
        return container.field(key)
    raise values.no_overload()


_ABSENT = object()


def shown_key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _in_list(value: Any, items: list[Any]) -> bool:
    return any(equal(value, item) for item in items)


def _in_map(key: Any, items: Any) -> bool:
    if isinstance(items, Fields):
        return items.has(key)
    return not isinstance(key, list | dict) and key in items


def _inserted(into: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    if key in into:
        raise EvaluationError(f"insert failed: key {shown_key(key)} already exists")
    return {**into, key: value}


def _joined(into: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    for key, value in more.items():
        into = _inserted(into, key, value)
    return into


def _texts() -> Iterator[Overload]:
    yield overload("<string>.startsWith(string) -> bool", str.startswith, traversal(1))
    yield overload("<string>.endsWith(string) -> bool", str.endswith, traversal(1))
    yield overload("<string>.contains(string) -> bool", lambda text, part: part in text, _contains_cost)
    yield overload("<string>.matches(string) -> bool", matches, regex)
    yield overload("matches(string, string) -> bool", matches, regex)


def _contains_cost(arguments: list[Any], _: Any) -> int:
    return math.ceil(len(arguments[0]) * 0.1) * math.ceil(len(arguments[1]) * 0.1)


@functools.cache
def _matcher() -> Any:
    environment = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING})
    return environment.compile("text.matches(pattern)")


def matches(text: str, pattern: str) -> bool:
    """By RE2, which has no bad patterns that take for ever."""
    result = _matcher().eval(data={"text": text, "pattern": pattern})
    if result.type() == cel.Type.ERROR:
        raise EvaluationError(f"error parsing regexp: {_regexp_error(str(result.value()))}")
    return bool(result.plain_value())


_GO_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "trailing \\": "trailing backslash at end of expression",
}


def _regexp_error(text: str) -> str:
    """RE2's message as Go's regexp words it."""
    why, _, part = text.rpartition("invalid regular expression: ")[2].partition(": ")
    told = _GO_WORDS.get(why, why)
    return f"{told}: `{part}`" if part else told


def _times() -> Iterator[Overload]:
    parts: dict[str, Callable[[datetime], int]] = {
        "getFullYear": lambda moment: moment.year,
        "getMonth": lambda moment: moment.month - 1,
        "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
        "getDayOfMonth": lambda moment: moment.day - 1,
        "getDate": lambda moment: moment.day,
        "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
        "getHours": lambda moment: moment.hour,
        "getMinutes": lambda moment: moment.minute,
        "getSeconds": lambda moment: moment.second,
        "getMilliseconds": lambda moment: moment.microsecond // 1000,
    }
    for name, part in parts.items():
        yield overload(f"<timestamp>.{name}() -> int", _in_zone(part))
        yield overload(f"<timestamp>.{name}(string) -> int", _in_zone(part))
    seconds = {"getHours": 3600, "getMinutes": 60, "getSeconds": 1}
    for name, divisor in seconds.items():
        yield overload(f"<duration>.{name}() -> int", _whole(timedelta(seconds=divisor)))
    yield overload("<duration>.getMilliseconds() -> int", _whole(timedelta(milliseconds=1)))


def _whole(unit: timedelta) -> Callable[[timedelta], int]:
    return lambda value: int(value / unit)


def _in_zone(part: Callable[[datetime], int]) -> Callable[..., int]:
    return lambda moment, zone="UTC": part(moment.astimezone(_zone(zone)))


def _zone(name: str) -> Any:
    if ":" in name:
        hours, _, minutes = name.partition(":")
        try:
            offset = timedelta(hours=abs(int(hours)), minutes=int(minutes))
            return timezone(-offset if hours.startswith("-") else offset)
        except ValueError:
            raise EvaluationError(f"unknown time zone {name}") from None
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        raise EvaluationError(f"unknown time zone {name}") from None


def _optionals() -> Iterator[Overload]:
    yield overload("optional.none() -> optional(A)", lambda: NONE)
    yield overload("optional.of(A) -> optional(A)", lambda value: Optional(value, True))
    yield overload("optional.ofNonZeroValue(A) -> optional(A)", _non_zero)
    yield overload("<optional(A)>.hasValue() -> bool", lambda value: value.present)
    yield overload("<optional(A)>.value() -> A", _required)
    yield overload("<optional(A)>.or(optional(A)) -> optional(A)", _unreachable)  # lazily, by the evaluator
    yield overload("<optional(A)>.orValue(A) -> A", _unreachable)
    yield overload("_[?_](list(A), int) -> optional(A)", optional_index)
    yield overload("_[?_](optional(list(A)), int) -> optional(A)", optional_index)
    yield overload("_[?_](map(A, B), A) -> optional(B)", optional_index)
    yield overload("_[?_](optional(map(A, B)), A) -> optional(B)", optional_index)
    yield overload("_[_](optional(list(A)), int) -> optional(A)", optional_index)
    yield overload("_[_](optional(map(A, B)), A) -> optional(B)", optional_index)


def _non_zero(value: Any) -> Optional:
    zero = value is None or (not value and isinstance(value, int | float | str | bytes | list | dict | timedelta))
    return NONE if zero else Optional(value, True)


def _required(value: Optional) -> Any:
    if not value.present:
        raise EvaluationError("optional.none() dereference")
    return value.value


def optional_index(container: Any, key: Any) -> Optional:
    if isinstance(container, Optional):
        if not container.present:
            return NONE
        container = container.value
    if isinstance(container, list):
        inside = isinstance(key, int) and 0 <= key < len(container)
        return Optional(container[key], True) if inside else NONE
    if isinstance(container, Fields):
        return Optional(container.field(key), True) if container.has(key) else NONE
    return Optional(container[key], True) if key in container else NONE

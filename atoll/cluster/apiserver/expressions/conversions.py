"""CEL's conversions between types: int(), uint(), double(), string(), bytes(), bool(), timestamp(), duration()."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from atoll.cluster.apiserver.expressions import values
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import Overload, overload, traversal
from atoll.cluster.apiserver.expressions.values import TypeValue, Uint

_LOW, _HIGH, _HIGH_UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def integer(value: int) -> int:
    if not _LOW <= value <= _HIGH:
        raise EvaluationError("integer overflow")
    return value


def unsigned(value: int) -> Uint:
    if not 0 <= value <= _HIGH_UNSIGNED:
        raise EvaluationError("unsigned integer overflow")
    return Uint(value)


def library() -> Iterator[Overload]:
    for kind in ("int", "uint", "double", "string", "timestamp", "duration"):
        yield overload(f"int({kind}) -> int", _to_int)
    for kind in ("uint", "int", "double", "string"):
        yield overload(f"uint({kind}) -> uint", _to_uint)
    for kind in ("double", "int", "uint", "string"):
        yield overload(f"double({kind}) -> double", _to_double)
    for kind in ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration"):
        yield overload(f"string({kind}) -> string", text_of, traversal() if kind == "bytes" else None)
    yield overload("bytes(bytes) -> bytes", lambda value: value)
    yield overload("bytes(string) -> bytes", lambda value: value.encode(), traversal())
    yield overload("bool(bool) -> bool", lambda value: value)
    yield overload("bool(string) -> bool", _to_bool)
    yield overload("timestamp(timestamp) -> timestamp", lambda value: value)
    yield overload("timestamp(string) -> timestamp", to_timestamp)
    yield overload("timestamp(int) -> timestamp", from_epoch)
    yield overload("duration(duration) -> duration", lambda value: value)
    yield overload("duration(string) -> duration", to_duration)
    yield overload("dyn(A) -> dyn", lambda value: value)
    yield overload("type(A) -> type(A)", lambda value: TypeValue(values.type_name(value)))


def _failed(value: Any, kind: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from '{values.type_name(value)}' to '{kind}'")


def _to_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            if value.strip() != value or "_" in value:
                raise ValueError
            return integer(int(value))
        except (ValueError, EvaluationError):
            raise _failed(value, "int") from None
    if isinstance(value, float):
        if not _LOW < value < _HIGH:
            raise EvaluationError("integer overflow")
        return int(value)
    if isinstance(value, datetime):
        return int(value.timestamp() // 1)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1) * 1000
    return integer(int(value))


def _to_uint(value: Any) -> Uint:
    if isinstance(value, str):
        try:
            return unsigned(int(value))
        except (ValueError, EvaluationError):
            raise _failed(value, "uint") from None
    return unsigned(int(value))


def _to_double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise _failed(value, "double") from None


def _to_bool(value: str) -> bool:
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise _failed(value, "bool")


def text_of(value: Any) -> str:
    """string(): raises EvaluationError for bytes that are no UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _double_text(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, datetime):
        return values.timestamp_text(value)
    if isinstance(value, timedelta):
        return values.duration_text(value)
    raise values.no_overload()


def _double_text(value: float) -> str:
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def to_timestamp(text: str) -> datetime:
    try:
        return values.parse_timestamp(text)
    except ValueError:
        raise _failed(text, "google.protobuf.Timestamp") from None


def from_epoch(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise EvaluationError("timestamp overflow") from None


def to_duration(text: str) -> timedelta:
    try:
        return values.parse_duration(text)
    except (ValueError, OverflowError):
        raise _failed(text, "google.protobuf.Duration") from None

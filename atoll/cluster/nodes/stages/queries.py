"""jq and CEL expressions about an object, as KWOK evaluates them.

A jq expression that fails gives no values; so does null. Plain paths (`.a.b["c"].[]`, with `select(.x == "y")`) are
followed here; anything else is jq's own. CEL sees the object as `self`.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from typing import Any

import jq
from cel_expr_python import cel

from atoll.base.chance import Chance
from atoll.base.clock import Clock, parse_rfc3339
from atoll.base.errors import UserError

Object = dict[str, Any]
Query = Callable[[Any], list[Any]]


class StageError(UserError):
    """A stage document that can't be understood, or can't be played on some object."""


class _JqError(Exception):
    """jq would stop with an error here."""


_STEP = re.compile(
    r"""\.?(?:(?P<name>[A-Za-z_]\w*)|\[\s*"(?P<key>(?:[^"\\]|\\.)*)"\s*\]|\[\s*(?P<place>-?\d+)\s*\]|(?P<each>\[\s*\]))"""
)
_SELECT = re.compile(r"""^select\(\s*(?P<path>\.[^=]*?)\s*==\s*(?P<value>"(?:[^"\\]|\\.)*"|true|false|null)\s*\)$""")
Stride = Callable[[list[Any]], list[Any]]


def query(source: str) -> Query:
    """A compiled jq expression: the values it yields, nulls left out; none when it fails. Raises StageError."""
    strides = _plain(source)
    if strides is not None:
        return _follow(strides)
    try:
        program = jq.compile(source)
    except ValueError as error:
        raise StageError(f"jq {source!r}: {error}") from error

    def run(value: Any) -> list[Any]:
        try:
            return [item for item in program.input_text(json.dumps(value)).all() if item is not None]
        except ValueError:
            return []

    return run


def _follow(strides: list[Stride]) -> Query:
    def run(value: Any) -> list[Any]:
        values = [value]
        try:
            for stride in strides:
                values = stride(values)
        except _JqError:
            return []
        return [item for item in values if item is not None]

    return run


def _plain(source: str) -> list[Stride] | None:
    strides: list[Stride] = []
    for part in (piece.strip() for piece in source.split("|")):
        selected = _SELECT.match(part)
        if selected is not None:
            inner = _path(selected["path"])
            if inner is None:
                return None
            strides.append(_select(inner, json.loads(selected["value"])))
            continue
        found = _path(part)
        if found is None:
            return None
        strides += found
    return strides


def _path(text: str) -> list[Stride] | None:
    if not text.startswith("."):
        return None
    if text == ".":
        return []
    strides: list[Stride] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or (match["name"] is not None and text[position] != "."):
            return None
        if match["each"] is not None:
            strides.append(_each)
        elif match["place"] is not None:
            strides.append(_at(int(match["place"])))
        else:
            strides.append(_key(match["name"] or json.loads(f'"{match["key"]}"')))
        position = match.end()
    return strides


def _key(name: str) -> Stride:
    def stride(values: list[Any]) -> list[Any]:
        found = []
        for value in values:
            if isinstance(value, dict):
                found.append(value.get(name))
            elif value is None:
                found.append(None)
            else:
                raise _JqError
        return found

    return stride


def _at(place: int) -> Stride:
    def stride(values: list[Any]) -> list[Any]:
        found = []
        for value in values:
            if value is not None and not isinstance(value, list):
                raise _JqError
            items = value or []
            found.append(items[place] if -len(items) <= place < len(items) else None)
        return found

    return stride


def _each(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, list):
            found += value
        elif isinstance(value, dict):
            found += value.values()
        else:
            raise _JqError
    return found


def _select(path: list[Stride], wanted: Any) -> Stride:
    def stride(values: list[Any]) -> list[Any]:
        found = []
        for value in values:
            inner = [value]
            for step in path:
                inner = step(inner)
            found += [value for item in inner if item == wanted and isinstance(item, bool) == isinstance(wanted, bool)]
        return found

    return stride


class CelEnvironment:
    """Compiles CEL expressions over `self`, with KWOK's functions Now, Rand, SinceSecond and UnixSecond."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        def now() -> datetime.datetime:
            return datetime.datetime.fromtimestamp(clock.wall(), datetime.UTC)

        def since(obj: Any) -> float:
            metadata = obj["metadata"]
            created = metadata.plain_value() if hasattr(metadata, "plain_value") else metadata
            text = created.get("creationTimestamp")
            return clock.wall() - parse_rfc3339(text) if text else 0.0

        kind = cel.Type
        declared = [
            ("Now", [], kind.TIMESTAMP, now),
            ("Rand", [], kind.DOUBLE, chance.random),
            ("SinceSecond", [kind.Map(kind.DYN, kind.DYN)], kind.DOUBLE, since),
            ("UnixSecond", [kind.TIMESTAMP], kind.DOUBLE, lambda moment: moment.timestamp()),
        ]
        functions = [
            cel.FunctionDecl(name, [cel.Overload(f"kwok_{name}", result, parameters, False, implementation)])
            for name, parameters, result, implementation in declared
        ]
        self._env = cel.NewEnv(variables={"self": kind.DYN}, functions=functions)

    def program(self, source: str) -> Callable[[Object], Any]:
        """A compiled expression: a Python value. Compiling and running raise StageError."""
        try:
            compiled = self._env.compile(source)
        except Exception as error:
            raise StageError(f"cel {source!r}: {error}") from error

        def run(obj: Object) -> Any:
            try:
                value = compiled.eval(data={"self": obj})
                found = value.plain_value()
            except Exception as error:
                raise StageError(f"cel {source!r}: {error}") from error
            if value.type() == cel.Type.ERROR:
                raise StageError(f"cel {source!r}: {found}")
            return found

        return run

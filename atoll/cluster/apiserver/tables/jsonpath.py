"""The simple JSONPaths of a CRD's additionalPrinterColumns, selectable fields and scale paths.

`.spec.a['b.c'][0].d[*]`, filters `[?(@.type=="Ready")]`, and recursive `..name`. Missing keys give no result.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_TOKEN = re.compile(
    r"\.\.(?P<deep>[\w-]+)"
    r"|\.(?P<star>\*)"
    r"|\.(?P<name>(?:[^.\[\]\\]|\\.)+)"
    r"|\[(?P<all>\*)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[(?P<low>-?\d*):(?P<high>-?\d*)\]"
    r"|\[\?\(@(?P<path>[^=!<>)]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>\"[^\"]*\"|'[^']*'|[^)]+?)\s*)?\)\]"
    r"|\[(?P<quote>['\"])(?P<key>.*?)(?P=quote)\]"
)


class PathError(ValueError):
    """The path can't be parsed."""


@functools.lru_cache(maxsize=2048)
def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises PathError."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$")
    if text and text[0] not in ".[":
        text = "." + text
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text[at:] == ".":
            break
        match = _TOKEN.match(text, at)
        if match is None:
            raise PathError(f"unrecognized path {path!r}")
        steps.append(_step(match))
        at = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    groups = match.groupdict()
    if groups["deep"] is not None:
        return functools.partial(_deep, groups["deep"])
    if groups["star"] or groups["all"]:
        return _all
    if groups["name"] is not None:
        return functools.partial(_key, re.sub(r"\\(.)", r"\1", groups["name"]))
    if groups["key"] is not None:
        return functools.partial(_key, groups["key"])
    if groups["index"] is not None:
        return functools.partial(_index, int(groups["index"]))
    if groups["low"] is not None:
        low = int(groups["low"]) if groups["low"] else None
        high = int(groups["high"]) if groups["high"] else None
        return functools.partial(_slice, low, high)
    return functools.partial(_filter, parse(groups["path"]), groups["op"], _literal(groups["value"]))


def _key(name: str, values: list[Any]) -> list[Any]:
    return [value[name] for value in values if isinstance(value, dict) and name in value]


def _all(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return found


def _index(index: int, values: list[Any]) -> list[Any]:
    return [value[index] for value in values if isinstance(value, list) and -len(value) <= index < len(value)]


def _slice(low: int | None, high: int | None, values: list[Any]) -> list[Any]:
    return [item for value in values if isinstance(value, list) for item in value[low:high]]


def _deep(name: str, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            if name in value:
                found.append(value[name])
            found += _deep(name, list(value.values()))
        elif isinstance(value, list):
            found += _deep(name, value)
    return found


def _literal(text: str | None) -> Any:
    if text is None:
        return None
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    ">": lambda left, right: bool(left > right),
    "<=": lambda left, right: bool(left <= right),
    ">=": lambda left, right: bool(left >= right),
}


def _filter(path: tuple[Step, ...], operator: str | None, literal: Any, values: list[Any]) -> list[Any]:
    kept = []
    for item in _all(values):
        found = _run(path, item)
        if not found:
            continue
        try:
            if operator is None or _COMPARE[operator](found[0], literal):
                kept.append(item)
        except TypeError:
            continue
    return kept


def _run(steps: tuple[Step, ...], value: Any) -> list[Any]:
    values = [value]
    for step in steps:
        values = step(values)
        if not values:
            return values
    return values


def find(path: str, value: Any) -> list[Any]:
    """All values at the path, in order. Raises PathError."""
    return _run(parse(path), value)

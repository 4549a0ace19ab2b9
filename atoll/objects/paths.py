"""Reading and changing values inside objects by path. A path is a tuple of field names and list indices.

Text forms: `spec.template.spec.containers[0].image` (dots, with ["a.b"] for names with dots) and JSON pointers.
"""

from __future__ import annotations

import functools
import re
from typing import Any

Path = tuple[str | int, ...]

_STEP = re.compile(r"""\.?([^.\[\]]+)|\[(-?\d+)\]|\[(["'])(.*?)\3\]""")
_PLAIN = re.compile(r"^[^.\[\]\"']+$")
_MISSING: Any = object()


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Path:
    """The path of `a.b[0]["c.d"]`; a leading dot is allowed. Raises ValueError."""
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"not a field path: {text!r} at character {at + 1}")
        steps.append(int(match[2]) if match[2] is not None else match[1] if match[1] is not None else match[4])
        at = match.end()
    return tuple(steps)


def show(path: Path) -> str:
    """The text form of a path."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.match(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def get(value: Any, path: Path, default: Any = None) -> Any:
    """The value at the path, `default` where there is none."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, _MISSING)
            if value is _MISSING:
                return default
        elif isinstance(value, list):
            try:
                value = value[int(step)]
            except (ValueError, IndexError):
                return default
        else:
            return default
    return value


def with_value(value: Any, path: Path, new: Any) -> Any:
    """A copy with `new` at the path; missing objects are made, a list may grow by one. Raises ValueError."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        index = int(step)
        if not -len(value) <= index <= len(value):
            raise ValueError(f"no item {index} in a list of {len(value)}")
        items = list(value)
        if index == len(items):
            items.append(with_value(None, rest, new))
        else:
            items[index] = with_value(items[index], rest, new)
        return items
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{step!r} is inside a {type(value).__name__}")
    found = value or {}
    return {**found, str(step): with_value(found.get(str(step)), rest, new)}


def without(value: Any, path: Path) -> Any:
    """A copy without what is at the path; the value itself if there is nothing."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        index = int(step)
        if not -len(value) <= index < len(value):
            return value
        items = list(value)
        if rest:
            items[index] = without(items[index], rest)
        else:
            del items[index]
        return items
    if not isinstance(value, dict) or step not in value:
        return value
    if not rest:
        return {name: item for name, item in value.items() if name != step}
    return {**value, str(step): without(value[step], rest)}

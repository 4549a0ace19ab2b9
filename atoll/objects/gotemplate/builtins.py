"""text/template's own functions. `and` and `or` are the interpreter's, for they stop early."""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from atoll.objects.gotemplate.printf import sprint, sprintf, sprintln
from atoll.objects.gotemplate.values import NO_VALUE, basic_kind, is_nil, text_of, truth, type_name


class FunctionError(Exception):
    """What a function has to say; the interpreter adds where."""


def equal(first: Any, *others: Any) -> bool:
    """eq: whether the first equals any of the others."""
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    if is_nil(first) or is_nil(second):
        return is_nil(first) and is_nil(second)
    kind, other = basic_kind(first), basic_kind(second)
    if kind != other:
        raise FunctionError("incompatible types for comparison")
    if not kind:
        raise FunctionError(f"non-comparable type {text_of(second)}: {type_name(second)}")
    return bool(first == second)


def _less(first: Any, second: Any) -> bool:
    kind, other = basic_kind(first), basic_kind(second)
    if not kind or not other or kind == "bool":
        raise FunctionError("invalid type for comparison")
    if kind != other:
        raise FunctionError("incompatible types for comparison")
    return bool(first < second)


def index(item: Any, *keys: Any) -> Any:
    """index x 1 "k": x[1]["k"]."""
    if is_nil(item):
        raise FunctionError("index of untyped nil")
    for key in keys:
        if isinstance(item, dict):
            if is_nil(key):
                raise FunctionError("value is nil; should be of type string")
            if not isinstance(key, str):
                raise FunctionError(f"value has type {type_name(key)}; should be string")
            item = item.get(key)
        elif isinstance(item, (list, tuple, str)):
            place = _place(key, len(item) - 1)
            item = item[place] if not isinstance(item, str) else item.encode()[place]
        elif is_nil(item):
            raise FunctionError("index of nil pointer")
        else:
            raise FunctionError(f"can't index item of type {type_name(item)}")
    return item


def _place(key: Any, last: int) -> int:
    if is_nil(key):
        raise FunctionError("cannot index slice/array with nil")
    if isinstance(key, bool) or not isinstance(key, int):
        raise FunctionError(f"cannot index slice/array with type {type_name(key)}")
    if key < 0 or key > last:
        raise FunctionError(f"index out of range: {key}")
    return key


def slice_of(item: Any, *bounds: Any) -> Any:
    if is_nil(item):
        raise FunctionError("slice of untyped nil")
    if not isinstance(item, (list, tuple, str)):
        raise FunctionError(f"can't slice item of type {type_name(item)}")
    places = [_place(bound, len(item)) for bound in bounds[:2]]
    start = places[0] if places else 0
    end = places[1] if len(places) > 1 else len(item)
    if start > end:
        raise FunctionError(f"invalid slice index: {start} > {end}")
    return item[start:end]


def length(item: Any) -> int:
    if is_nil(item):
        raise FunctionError("len of nil pointer")
    if isinstance(item, str):
        return len(item.encode())
    if isinstance(item, (list, tuple, dict)):
        return len(item)
    raise FunctionError(f"len of type {type_name(item)}")


def _call(function: Any, *args: Any) -> Any:
    if not callable(function):
        raise FunctionError(f"non-function {text_of(function)} of type {type_name(function)}")
    return function(*args)


def _html(*args: Any) -> str:
    return html.escape(sprint(*args)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*args: Any) -> str:
    return "".join(_JS.get(char, char if char.isprintable() else f"\\u{ord(char):04X}") for char in sprint(*args))


BUILTINS: Mapping[str, Callable[..., Any]] = {
    "call": _call,
    "eq": equal,
    "ge": lambda a, b: not _less(a, b),
    "gt": lambda a, b: not (_less(a, b) or _same(a, b)),
    "html": _html,
    "index": index,
    "js": _js,
    "le": lambda a, b: _less(a, b) or _same(a, b),
    "len": length,
    "lt": _less,
    "ne": lambda a, b: not _same(a, b),
    "not": lambda value: not truth(value),
    "print": sprint,
    "printf": lambda layout, *args: sprintf(text_of(layout), *args),
    "println": sprintln,
    "slice": slice_of,
    "urlquery": lambda *args: urllib.parse.quote_plus(sprint(*args), safe="-_.~"),
}
SHORT_CIRCUIT = frozenset(("and", "or"))

__all__ = ["BUILTINS", "NO_VALUE", "SHORT_CIRCUIT", "FunctionError"]

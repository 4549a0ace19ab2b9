"""The functions of Masterminds/sprig that manifests use: strings, lists, dicts, numbers, encodings, defaults.

What reads the machine (`env`) answers nothing; what needs chance or the time is in `sprig_more.py`, made for a given
clock and stream of randomness.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from atoll.objects import goyaml
from atoll.objects.gotemplate.builtins import FunctionError
from atoll.objects.gotemplate.values import Number, is_nil, text_of, truth
from atoll.objects.regexp import compile_pattern

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+[a-z]*")


def text(value: Any) -> str:
    """sprig's strval."""
    return "" if is_nil(value) else text_of(value)


def _items(value: Any) -> list[Any]:
    if is_nil(value):
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    raise FunctionError(f"cannot use {text_of(value)} as a list")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text(item) for item in _items(value) if not is_nil(item)]


def to_int(value: Any) -> int:
    """sprig's toInt64: what is no number is 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return int(value)
    try:
        return int(str(value), 0)
    except ValueError:
        try:
            return int(float(str(value)))
        except (ValueError, OverflowError):
            return 0


def to_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def words(value: str) -> list[str]:
    return _WORD.findall(value)


def _camel(value: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_\-\s]+", value))


def indent(spaces: int, value: str) -> str:
    pad = " " * to_int(spaces)
    return pad + text(value).replace("\n", "\n" + pad)


def quote(*values: Any) -> str:
    return " ".join(json.dumps(text(item), ensure_ascii=False) for item in values if not is_nil(item))


def to_json(value: Any) -> str:
    """encoding/json's Marshal: keys in order, HTML characters escaped."""
    raw = to_raw_json(value)
    return raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_raw_json(value: Any) -> str:
    return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS).decode()


def plain(value: Any) -> Any:
    """JSON again: json.Numbers become numbers, no value null."""
    if isinstance(value, Number):
        return json.loads(str(value))
    if is_nil(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise FunctionError(str(error)) from error


def _quiet_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _b64dec(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (ValueError, UnicodeDecodeError) as error:
        return f"illegal base64 data: {error}"


def _default(given: Any, *value: Any) -> Any:
    return value[0] if value and truth(value[0]) else given


def _first_true(*values: Any) -> Any:
    return next((item for item in values if truth(item)), None)


def _substr(start: int, end: int, value: str) -> str:
    if start < 0:
        return value[:end]
    return value[start:] if end < 0 or end > len(value) else value[start:end]


def _trunc(size: int, value: str) -> str:
    if size < 0:
        return value[size:] if -size < len(value) else value
    return value[:size]


def _abbrev(width: int, value: str) -> str:
    return value if len(value) <= width or width < 4 else value[: width - 3] + "..."


def _wrap(width: int, value: str, separator: str = "\n") -> str:
    return separator.join(textwrap.wrap(value, to_int(width), break_long_words=False, replace_whitespace=False))


def _split(separator: str, value: str) -> dict[str, str]:
    return {f"_{place}": part for place, part in enumerate(value.split(separator))}


def _splitn(separator: str, most: int, value: str) -> dict[str, str]:
    return {f"_{place}": part for place, part in enumerate(value.split(separator, most - 1))}


STRINGS: Mapping[str, Callable[..., Any]] = {
    "trim": lambda value: text(value).strip(),
    "trimAll": lambda cut, value: value.strip(cut),
    "trimall": lambda cut, value: value.strip(cut),
    "trimSuffix": lambda end, value: value.removesuffix(end),
    "trimPrefix": lambda start, value: value.removeprefix(start),
    "upper": lambda value: text(value).upper(),
    "lower": lambda value: text(value).lower(),
    "title": lambda value: re.sub(r"(^|\s)(\w)", lambda match: match[1] + match[2].upper(), text(value)),
    "untitle": lambda value: re.sub(r"(^|\s)(\w)", lambda match: match[1] + match[2].lower(), text(value)),
    "repeat": lambda count, value: value * to_int(count),
    "substr": lambda start, end, value: _substr(to_int(start), to_int(end), value),
    "nospace": lambda value: re.sub(r"\s", "", value),
    "trunc": lambda size, value: _trunc(to_int(size), text(value)),
    "abbrev": lambda width, value: _abbrev(to_int(width), value),
    "initials": lambda value: "".join(word[0] for word in value.split()),
    "wrap": _wrap,
    "wrapWith": lambda width, separator, value: _wrap(width, value, separator),
    "contains": lambda part, value: part in text(value),
    "hasPrefix": lambda start, value: text(value).startswith(start),
    "hasSuffix": lambda end, value: text(value).endswith(end),
    "quote": quote,
    "squote": lambda *values: " ".join(f"'{text(item)}'" for item in values if not is_nil(item)),
    "cat": lambda *values: " ".join(text(item) for item in values if not is_nil(item)),
    "indent": indent,
    "nindent": lambda spaces, value: "\n" + indent(spaces, value),
    "replace": lambda old, new, value: text(value).replace(old, new),
    "plural": lambda one, many, count: one if count == 1 else many,
    "snakecase": lambda value: "_".join(words(value)).lower(),
    "kebabcase": lambda value: "-".join(words(value)).lower(),
    "camelcase": _camel,
    "swapcase": lambda value: value.swapcase(),
    "toString": text,
    "toStrings": _texts,
    "join": lambda separator, values: separator.join(_texts(values)),
    "splitList": lambda separator, value: value.split(separator) if separator else list(value),
    "split": _split,
    "splitn": _splitn,
    "sortAlpha": lambda values: sorted(_texts(values)),
    "ascii": lambda value: value,
    "hello": lambda: "Hello!",
    "env": lambda _name: "",
    "expandenv": lambda value: re.sub(r"\$(\w+|\{[^}]*\})", "", value),
    "fail": lambda message: _fail(message),
    "toYaml": lambda value: goyaml.dump(plain(value)).removesuffix("\n"),
    "fromYaml": goyaml.load,
}


def _fail(message: str) -> str:
    raise FunctionError(message)


def _regex(pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        raise FunctionError(f"error parsing regexp: {error}") from error


def _expanded(template: str, match: Any) -> str:
    """Go's $1 and ${name}; a group that is not there is empty."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        try:
            return match.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError):
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, template)


def _replaced(pattern: str, value: str, new: Callable[[Any], str]) -> str:
    parts, end = [], 0
    for match in _regex(pattern).finditer(value):
        parts += [value[end : match.start()], new(match)]
        end = match.end()
    return "".join([*parts, value[end:]])


def _split_by(pattern: str, value: str, most: int) -> list[str]:
    """As Go's Split: at most so many parts, all where `most` is negative; no split before the first character."""
    if most == 0:
        return []
    parts: list[str] = []
    end = 0
    for match in _regex(pattern).finditer(value):
        if most > 0 and len(parts) == most - 1:
            break
        if match.end() == 0 or match.start() == match.end() == len(value):
            continue
        parts.append(value[end : match.start()])
        end = match.end()
    return [*parts, value[end:]]


def _found(pattern: str, value: str) -> str:
    match = _regex(pattern).search(value)
    return match[0] if match else ""


def _find_all(pattern: str, value: str, most: int) -> list[str]:
    found = [match[0] for match in _regex(pattern).finditer(value)]
    return found if most < 0 else found[:most]


REGEXES: Mapping[str, Callable[..., Any]] = {
    "regexMatch": lambda pattern, value: _regex(pattern).search(value) is not None,
    "regexFind": _found,
    "regexFindAll": _find_all,
    "regexReplaceAll": lambda pattern, value, new: _replaced(pattern, value, lambda match: _expanded(new, match)),
    "regexReplaceAllLiteral": lambda pattern, value, new: _replaced(pattern, value, lambda _: new),
    "regexSplit": _split_by,
    "regexQuoteMeta": lambda value: re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value),
}


def _until(start: int, stop: int, step: int) -> list[int]:
    if step == 0 or (stop < start) != (step < 0):
        return []
    return list(range(start, stop, step))


def _quotient(first: Any, second: Any) -> int:
    divisor = to_int(second)
    if divisor == 0:
        raise FunctionError("runtime error: integer divide by zero")
    whole = abs(to_int(first)) // abs(divisor)
    return whole if (to_int(first) < 0) == (divisor < 0) else -whole


def _ratio(first: Any, *others: Any) -> float:
    divisor = math.prod(to_float(item) for item in others)
    if divisor == 0:
        raise FunctionError("runtime error: decimal division by 0")
    return to_float(first) / divisor


def _product(values: Iterable[Any]) -> int:
    total = 1
    for item in values:
        total *= to_int(item)
    return total


def _round(value: Any, places: int, on: float = 0.5) -> float:
    power = 10.0**places
    digit = power * to_float(value)
    whole = float(int(digit))
    return (whole + (1 if digit - whole >= on else 0)) / power


NUMBERS: Mapping[str, Callable[..., Any]] = {
    "atoi": lambda value: to_int(value) if re.fullmatch(r"[-+]?\d+", text(value)) else 0,
    "int": to_int,
    "int64": to_int,
    "float64": to_float,
    "toDecimal": lambda value: int(str(value), 8) if re.fullmatch(r"[0-7]+", text(value)) else 0,
    "add": lambda *values: sum(to_int(item) for item in values),
    "add1": lambda value: to_int(value) + 1,
    "sub": lambda first, second: to_int(first) - to_int(second),
    "div": _quotient,
    "mod": lambda first, second: to_int(first) - _quotient(first, second) * to_int(second),
    "mul": lambda *values: _product(values),
    "addf": lambda *values: sum(to_float(item) for item in values),
    "add1f": lambda value: to_float(value) + 1,
    "mulf": lambda *values: math.prod(to_float(item) for item in values),
    "divf": _ratio,
    "subf": lambda first, *others: to_float(first) - sum(to_float(item) for item in others),
    "max": lambda *values: max(to_int(item) for item in values),
    "biggest": lambda *values: max(to_int(item) for item in values),
    "min": lambda *values: min(to_int(item) for item in values),
    "maxf": lambda *values: max(to_float(item) for item in values),
    "minf": lambda *values: min(to_float(item) for item in values),
    "ceil": lambda value: float(-(-to_float(value) // 1)),
    "floor": lambda value: float(to_float(value) // 1),
    "round": _round,
    "until": lambda count: _until(0, to_int(count), -1 if to_int(count) < 0 else 1),
    "untilStep": lambda start, stop, step: _until(to_int(start), to_int(stop), to_int(step)),
    "seq": lambda *values: " ".join(str(item) for item in _seq([to_int(item) for item in values])),
}


def _seq(values: list[int]) -> list[int]:
    if not values:
        return []
    start, step, end = (values[0], 1, values[1]) if len(values) == 2 else (1, 1, values[0])
    if len(values) == 3:
        start, step, end = values
    elif end < start:
        step = -1
    return _until(start, end + (1 if step > 0 else -1), step)


ENCODINGS: Mapping[str, Callable[..., Any]] = {
    "b64enc": lambda value: base64.b64encode(text(value).encode()).decode(),
    "b64dec": _b64dec,
    "b32enc": lambda value: base64.b32encode(text(value).encode()).decode(),
    "b32dec": lambda value: base64.b32decode(value).decode(),
    "sha1sum": lambda value: hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest(),
    "sha256sum": lambda value: hashlib.sha256(value.encode()).hexdigest(),
    "sha512sum": lambda value: hashlib.sha512(value.encode()).hexdigest(),
    "adler32sum": lambda value: str(zlib.adler32(value.encode())),
    "toJson": to_json,
    "mustToJson": to_json,
    "toRawJson": to_raw_json,
    "mustToRawJson": to_raw_json,
    "toPrettyJson": lambda value: json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False),
    "mustToPrettyJson": lambda value: json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False),
    "fromJson": _quiet_json,
    "mustFromJson": from_json,
}

DEFAULTS: Mapping[str, Callable[..., Any]] = {
    "default": _default,
    "empty": lambda value: not truth(value),
    "coalesce": _first_true,
    "all": lambda *values: all(truth(item) for item in values),
    "any": lambda *values: any(truth(item) for item in values),
    "ternary": lambda yes, no, which: yes if truth(which) else no,
}

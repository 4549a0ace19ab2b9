"""sprig's lists, dicts, types, paths, versions, dates and randomness; and the table of all its functions."""

from __future__ import annotations

import datetime
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from atoll.base.chance import Chance
from atoll.objects.gotemplate import sprig
from atoll.objects.gotemplate.builtins import FunctionError
from atoll.objects.gotemplate.values import is_nil, kind_name, text_of, truth, type_name
from atoll.objects.meta import copy

Functions = Mapping[str, Callable[..., Any]]


def _list(value: Any) -> list[Any]:
    if is_nil(value):
        return []
    if not isinstance(value, (list, tuple)):
        raise FunctionError(f"Cannot find elements on type {kind_name(value)}")
    return list(value)


def _unique(value: Any) -> list[Any]:
    found: list[Any] = []
    for item in _list(value):
        if item not in found:
            found.append(item)
    return found


def _chunk(size: int, value: Any) -> list[list[Any]]:
    items = _list(value)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _slice(value: Any, start: int = 0, end: int | None = None) -> list[Any]:
    return _list(value)[start:end]


def _has(needle: Any, value: Any) -> bool:
    return needle in _list(value)


def _get(value: dict[str, Any], key: str) -> Any:
    return value.get(key, "")


def _set(value: dict[str, Any], key: str, item: Any) -> dict[str, Any]:
    value[key] = item
    return value


def _unset(value: dict[str, Any], key: str) -> dict[str, Any]:
    value.pop(key, None)
    return value


def _dict(*pairs: Any) -> dict[str, Any]:
    return {
        sprig.text(pairs[place]): pairs[place + 1] if place + 1 < len(pairs) else ""
        for place in range(0, len(pairs), 2)
    }


def _pluck(key: str, *values: dict[str, Any]) -> list[Any]:
    return [item[key] for item in values if key in item]


def _merge(target: dict[str, Any], *sources: dict[str, Any], overwrite: bool = False) -> dict[str, Any]:
    for source in sources:
        for key, value in source.items():
            mine = target.get(key)
            if isinstance(mine, dict) and isinstance(value, dict):
                _merge(mine, value, overwrite=overwrite)
            elif overwrite or not truth(mine):
                target[key] = value
    return target


def _dig(*parts: Any) -> Any:
    *keys, default, value = parts
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


LISTS: Functions = {
    "list": lambda *values: list(values),
    "tuple": lambda *values: list(values),
    "first": lambda value: next(iter(_list(value)), None),
    "last": lambda value: next(reversed(_list(value)), None),
    "rest": lambda value: _list(value)[1:],
    "initial": lambda value: _list(value)[:-1],
    "append": lambda value, item: [*_list(value), item],
    "push": lambda value, item: [*_list(value), item],
    "prepend": lambda value, item: [item, *_list(value)],
    "concat": lambda *values: [item for value in values for item in _list(value)],
    "reverse": lambda value: _list(value)[::-1],
    "uniq": _unique,
    "without": lambda value, *unwanted: [item for item in _list(value) if item not in unwanted],
    "has": _has,
    "slice": _slice,
    "chunk": lambda size, value: _chunk(sprig.to_int(size), value),
    "compact": lambda value: [item for item in _list(value) if truth(item)],
    "dict": _dict,
    "get": _get,
    "set": _set,
    "unset": _unset,
    "hasKey": lambda value, key: key in value,
    "pluck": _pluck,
    "keys": lambda *values: [key for value in values for key in value],
    "values": lambda value: list(value.values()),
    "pick": lambda value, *keys: {key: value[key] for key in keys if key in value},
    "omit": lambda value, *keys: {key: item for key, item in value.items() if key not in keys},
    "merge": _merge,
    "mergeOverwrite": lambda target, *sources: _merge(target, *sources, overwrite=True),
    "dig": _dig,
    "deepCopy": copy,
}

TYPES: Functions = {
    "kindOf": kind_name,
    "kindIs": lambda wanted, value: kind_name(value) == wanted,
    "typeOf": type_name,
    "typeIs": lambda wanted, value: type_name(value) == wanted,
    "typeIsLike": lambda wanted, value: type_name(value).lstrip("*") == wanted,
    "deepEqual": lambda first, second: first == second,
}


def _extension(path: str) -> str:
    place = path.rfind(".")
    return path[place:] if place > path.rfind("/") else ""


PATHS: Functions = {
    "base": lambda path: posixpath.basename(path.rstrip("/")) or ("/" if path else "."),
    "dir": lambda path: posixpath.normpath(posixpath.dirname(path) or "."),
    "clean": posixpath.normpath,
    "ext": _extension,
    "isAbs": lambda path: path.startswith("/"),
    "osBase": lambda path: posixpath.basename(path.rstrip("/")) or ("/" if path else "."),
    "osDir": lambda path: posixpath.normpath(posixpath.dirname(path) or "."),
    "osClean": posixpath.normpath,
    "osExt": _extension,
    "osIsAbs": lambda path: path.startswith("/"),
    "urlParse": lambda url: _url(url),
    "urlJoin": lambda parts: _join(parts),
}


def _url(url: str) -> dict[str, Any]:
    found = urllib.parse.urlsplit(url)
    user, _, host = found.netloc.rpartition("@")
    return {
        "scheme": found.scheme,
        "userinfo": user,
        "host": host,
        "hostname": found.hostname or "",
        "path": found.path,
        "query": found.query,
        "opaque": "",
        "fragment": found.fragment,
    }


def _join(parts: dict[str, Any]) -> str:
    user = parts.get("userinfo") or ""
    netloc = (f"{user}@" if user else "") + (parts.get("host") or "")
    url: str = urllib.parse.urlunsplit(
        (
            parts.get("scheme") or "",
            netloc,
            parts.get("path") or "",
            parts.get("query") or "",
            parts.get("fragment") or "",
        )
    )
    return url


_VERSION = re.compile(r"^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")


def _version(value: str) -> tuple[int, int, int, str]:
    match = _VERSION.match(value.strip())
    if match is None:
        raise FunctionError("Invalid Semantic Version")
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), match[4] or ""


def _order(version: tuple[int, int, int, str]) -> tuple[int, int, int, bool, list[tuple[bool, int, str]]]:
    parts = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in version[3].split(".") if part]
    return (*version[:3], not version[3], parts)


def _satisfies(constraint: str, value: str) -> bool:
    version = _version(value)
    return any(
        all(_one(part, version) for part in re.findall(r"(?:[<>=!~^]+)?\s*[^\s,<>=!~^]+", alternative))
        for alternative in constraint.split("||")
    )


def _one(part: str, version: tuple[int, int, int, str]) -> bool:
    match = re.match(r"([<>=!~^]*)\s*v?(.+)", part.strip())
    if match is None:
        return False
    operator, text = match[1], match[2].strip()
    numbers = [piece for piece in text.split("-")[0].split(".") if piece not in ("x", "X", "*")]
    if not numbers:
        return True
    wanted = _version(".".join(numbers) + ("-" + text.split("-", 1)[1] if "-" in text else ""))
    if version[3] and not wanted[3]:
        return False
    mine, other = _order(version), _order(wanted)
    if operator in (">", "<", ">=", "<=", "!="):
        return {">": mine > other, "<": mine < other, ">=": mine >= other, "<=": mine <= other, "!=": mine != other}[
            operator
        ]
    if operator == "~":
        return mine >= other and version[: min(2, len(numbers))] == wanted[: min(2, len(numbers))]
    if operator == "^":
        fixed = next((place for place, number in enumerate(wanted[:3]) if number), 2) + 1
        return mine >= other and version[:fixed] == wanted[:fixed]
    return version[: len(numbers)] == wanted[: len(numbers)] and (len(numbers) < 3 or version[3] == wanted[3])


def _semver(value: str) -> dict[str, Any]:
    major, minor, patch, pre = _version(value)
    return {"Major": major, "Minor": minor, "Patch": patch, "Prerelease": pre, "Metadata": "", "Original": value}


VERSIONS: Functions = {"semver": _semver, "semverCompare": _satisfies}

_LAYOUT = {
    "2006": "%Y", "06": "%y", "January": "%B", "Jan": "%b", "01": "%m", "Monday": "%A", "Mon": "%a", "02": "%d",
    "15": "%H", "03": "%I", "04": "%M", "05": "%S", "PM": "%p", "MST": "%Z", "Z07:00": "%:z", "-0700": "%z",
}  # fmt: skip
_LAYOUT_PATTERN = re.compile("|".join(sorted(map(re.escape, _LAYOUT), key=len, reverse=True)))
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: str) -> float:
    """Go's time.ParseDuration, in seconds. Raises ValueError."""
    sign = -1.0 if value.startswith("-") else 1.0
    body = value.lstrip("+-")
    if body == "0":
        return 0.0
    if not re.fullmatch(r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+", body):
        raise ValueError(f'time: invalid duration "{value}"')
    return sign * sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", body))


def _moment(value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, (int, float)):
        return datetime.datetime.fromtimestamp(value, datetime.UTC)
    try:
        return datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as error:
        raise FunctionError(str(error)) from error


def _date(layout: str, value: Any) -> str:
    moment = _moment(value)

    def replace(match: re.Match[str]) -> str:
        code = _LAYOUT[match[0]]
        if code == "%:z":
            offset = moment.strftime("%z") or "+0000"
            return "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        return moment.strftime(code)

    return _LAYOUT_PATTERN.sub(replace, layout)


def _modified(change: str, value: Any) -> datetime.datetime:
    return _moment(value) + datetime.timedelta(seconds=parse_duration(change))


DATES: Functions = {
    "date": _date,
    "htmlDate": lambda value: _date("2006-01-02", value),
    "dateModify": _modified,
    "date_modify": _modified,
    "unixEpoch": lambda value: str(int(_moment(value).timestamp())),
    "toDate": lambda layout, value: _moment(value),
    "duration": lambda seconds: _go_duration(sprig.to_int(seconds)),
}


def _go_duration(seconds: int) -> str:
    hours, rest = divmod(abs(seconds), 3600)
    minutes, left = divmod(rest, 60)
    sign = "-" if seconds < 0 else ""
    if hours:
        return f"{sign}{hours}h{minutes}m{left}s"
    return f"{sign}{minutes}m{left}s" if minutes else f"{sign}{left}s"


PURE: Functions = {
    **sprig.STRINGS, **sprig.REGEXES, **sprig.NUMBERS, **sprig.ENCODINGS, **sprig.DEFAULTS,
    **LISTS, **TYPES, **PATHS, **VERSIONS, **DATES,
}  # fmt: skip

_ALIASES = ("regexMatch", "regexFind", "regexFindAll", "regexReplaceAll", "regexReplaceAllLiteral", "regexSplit",
            "first", "last", "rest", "initial", "append", "push", "prepend", "reverse", "uniq", "without", "has",
            "slice", "chunk", "compact", "merge", "mergeOverwrite", "deepCopy", "dateModify", "toDate")  # fmt: skip


def functions(chance: Chance, now: Callable[[], float]) -> dict[str, Callable[..., Any]]:
    """All of sprig, with its randomness from `chance` and its time from `now` (seconds since the epoch)."""
    lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"

    def draw(alphabet: str) -> Callable[[Any], str]:
        return lambda count: "".join(chance.choice(list(alphabet)) for _ in range(sprig.to_int(count)))

    def shuffle(value: str) -> str:
        letters = list(value)
        chance.shuffle(letters)
        return "".join(letters)

    table: dict[str, Callable[..., Any]] = dict(PURE)
    table |= {f"must{name[0].upper()}{name[1:]}": table[name] for name in _ALIASES}
    return table | {
        "now": lambda: datetime.datetime.fromtimestamp(now(), datetime.UTC),
        "ago": lambda value: _go_duration(int(now() - _moment(value).timestamp())),
        "uuidv4": chance.uuid,
        "randAlphaNum": draw(lower + lower.upper() + digits),
        "randAlpha": draw(lower + lower.upper()),
        "randNumeric": draw(digits),
        "randAscii": draw("".join(chr(code) for code in range(32, 127))),
        "randInt": lambda low, high: chance.integer(sprig.to_int(low), sprig.to_int(high) - 1),
        "shuffle": shuffle,
    }


__all__ = ["PURE", "functions", "parse_duration", "text_of"]

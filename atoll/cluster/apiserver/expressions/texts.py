"""The string library of cel-go (version 2, as Kubernetes has it) and Kubernetes' regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from atoll.cluster.apiserver.expressions import conversions, values
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import Overload, of_result, overload, regex, traversal
from atoll.objects.regexp import compile_pattern

_VERBS = re.compile(r"%(?:\.(\d+))?(.)", re.DOTALL)
_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
           "\\": "\\\\", '"': '\\"'}  # fmt: skip


def library() -> Iterator[Overload]:
    once, twice = traversal(), traversal(factor=2)
    yield overload("<string>.charAt(int) -> string", _char_at)
    yield overload("<string>.indexOf(string) -> int", _index_of, once)
    yield overload("<string>.indexOf(string, int) -> int", _index_of, once)
    yield overload("<string>.lastIndexOf(string) -> int", _last_index_of, once)
    yield overload("<string>.lastIndexOf(string, int) -> int", _last_index_of, once)
    yield overload("<string>.lowerAscii() -> string", lambda text: _ascii(text, str.lower), once)
    yield overload("<string>.upperAscii() -> string", lambda text: _ascii(text, str.upper), once)
    yield overload("<string>.replace(string, string) -> string", str.replace, twice)
    yield overload("<string>.replace(string, string, int) -> string", str.replace, twice)
    yield overload("<string>.split(string) -> list(string)", _split, twice)
    yield overload("<string>.split(string, int) -> list(string)", _split, twice)
    yield overload("<string>.substring(int) -> string", _substring, once)
    yield overload("<string>.substring(int, int) -> string", _substring, once)
    yield overload("<string>.trim() -> string", str.strip, once)
    yield overload("<string>.format(list(dyn)) -> string", formatted, once)
    yield overload("strings.quote(string) -> string", quoted, once)
    yield overload("<list(string)>.join() -> string", lambda items: _join(items, ""), of_result(2))
    yield overload("<list(string)>.join(string) -> string", _join, of_result(2))
    yield overload("<string>.find(string) -> string", _find, regex)
    yield overload("<string>.findAll(string) -> list(string)", _find_all, regex)
    yield overload("<string>.findAll(string, int) -> list(string)", _find_all, regex)
    yield overload("jsonpatch.escapeKey(string) -> string", _escape_key, once)


def _escape_key(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _char_at(text: str, place: int) -> str:
    if not 0 <= place <= len(text):
        raise EvaluationError(f"index out of range: {place}")
    return text[place : place + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if not 0 <= start <= len(text):
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    at = len(text) if start is None else start
    if not part:
        return at
    if not 0 <= at <= len(text):
        raise EvaluationError(f"index out of range: {at}")
    return text.rfind(part, 0, at + len(part))


def _ascii(text: str, change: Any) -> str:
    return "".join(change(character) if character < "\x80" else character for character in text)


def _split(text: str, separator: str, most: int = -1) -> list[str]:
    if most == 0:
        return []
    if not separator:
        characters = list(text)
        return characters if most < 0 or most >= len(characters) else [*characters[: most - 1], text[most - 1 :]]
    return text.split(separator, most - 1 if most > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    if start > last and end is not None:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    for place in (start, last):
        if not 0 <= place <= len(text):
            raise EvaluationError(f"index out of range: {place}")
    return text[start:last]


def _join(items: list[Any], separator: str) -> str:
    for item in items:
        if not isinstance(item, str):
            raise EvaluationError(f"join: invalid input: {item}")
    return separator.join(items)


def quoted(text: str) -> str:
    return '"' + "".join(_QUOTED.get(character, character) for character in text) + '"'


def formatted(template: str, arguments: list[Any]) -> str:
    """`"%s is %d".format([…])`: %s %d %f %e %x %X %o %b, and %% itself."""
    place = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal place
        if match[2] == "%":
            return "%"
        if place >= len(arguments):
            raise EvaluationError(f"index {place} out of range")
        value = arguments[place]
        place += 1
        return _clause(match[2], match[1], value)

    return _VERBS.sub(replace, template)


def _clause(verb: str, precision: str | None, value: Any) -> str:
    if verb == "s":
        return shown(value)
    if verb == "d" and isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    if verb == "f" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{float(value):.{precision or 6}f}"
    if verb == "e" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{float(value):.{precision or 6}e}"
    if verb == "b" and isinstance(value, int):
        return f"{int(value):b}"
    if verb == "o" and isinstance(value, int) and not isinstance(value, bool):
        return f"{int(value):o}"
    if verb in "xX" and isinstance(value, int | str | bytes) and not isinstance(value, bool):
        data = value.encode() if isinstance(value, str) else value
        text = f"{int(data):x}" if isinstance(data, int) else data.hex()
        return text.upper() if verb == "X" else text
    if verb in "sdfebxXo":
        kinds = {"d": "integer", "x": "hex", "X": "hex", "o": "octal", "b": "binary", "f": "fixed-point"}
        kind = kinds.get(verb, "scientific")
        raise EvaluationError(f"error during formatting: {kind} clause cannot be used on {values.type_name(value)}")
    raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def shown(value: Any) -> str:
    """%s of any value."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{shown(key)}: {shown(item)}" for key, item in value.items())) + "}"
    if isinstance(value, values.TypeValue):
        return value.name
    return conversions.text_of(value)


def _compiled(pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        raise EvaluationError(f"Illegal regex: error parsing regexp: {error}") from None


def pattern_fault(text: str) -> str:
    """What Go's regexp says of a pattern that RE2 can't read; "" where it can."""
    try:
        _compiled(text)
    except EvaluationError as error:
        told, _, part = str(error).removeprefix("Illegal regex: error parsing regexp: ").partition(": ")
        shown = text if told == "missing )" else part
        return f"error parsing regexp: {_GO_WORDS.get(told, told)}: `{shown}`"
    return ""


_GO_WORDS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "unexpected )": "unexpected )",
    "bad repetition operator": "invalid nested repetition operator",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}  # RE2's to Go's


def _find(text: str, pattern: str) -> str:
    match = _compiled(pattern).search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str, most: int = -1) -> list[str]:
    found: list[str] = []
    end = -1
    for match in _compiled(pattern).finditer(text) if most else ():
        if match.start() == match.end() == end:  # Go passes over an empty match right after another one
            continue
        end = match.end()
        found.append(match[0])
        if len(found) == most:
            break
    return found

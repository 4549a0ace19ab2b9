"""Label and field selectors: parsed from query strings or from LabelSelector objects, with upstream's messages.

Parsing raises `SelectorError` (its text is upstream's); the API server answers it as BadRequest, validation as
Invalid. Selectors are immutable, hashable and cheap to match; parsed strings are cached.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from atoll.objects.labels import key_errors, value_errors

Labels = Mapping[str, str]

IN, NOT_IN, EXISTS, NOT_EXISTS = "in", "notin", "exists", "!"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "gt", "lt"
_SYMBOLS = {"in": IN, "=": EQUALS, "==": DOUBLE_EQUALS, ">": GREATER, "<": LESS, "notin": NOT_IN, "!=": NOT_EQUALS}
_BINARY = "in, notin, =, ==, !=, gt, lt"
_INTEGER = re.compile(r"^[+-]?\d+$")


class SelectorError(ValueError):
    """The selector can't be parsed; the text is that of apimachinery."""


class Requirement(Struct, frozen=True):
    """One term, e.g. `app in (a,b)`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        found = labels.get(self.key)
        operator = self.operator
        if operator in (IN, EQUALS, DOUBLE_EQUALS):
            return found is not None and found in self.values
        if operator in (NOT_IN, NOT_EQUALS):
            return found is None or found not in self.values
        if operator == EXISTS:
            return found is not None
        if operator == NOT_EXISTS:
            return found is None
        if found is None or not _INTEGER.match(found):
            return False
        return int(found) > int(self.values[0]) if operator == GREATER else int(found) < int(self.values[0])

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
            case "gt":
                return f"{self.key}>{self.values[0]}"
            case "lt":
                return f"{self.key}<{self.values[0]}"
        return f"{self.key}{self.operator}{self.values[0]}"


class LabelSelector(Struct, frozen=True):
    """All requirements must match; none means everything. `nothing` matches no object."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Labels | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return not self.requirements and not self.nothing

    def exact(self, key: str) -> str | None:
        """The one value that the label must have, if there is one."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in (EQUALS, DOUBLE_EQUALS, IN):
                return requirement.values[0] if len(requirement.values) == 1 else None
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def _check(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    """A validated requirement. Raises SelectorError (all faults in one, as upstream's aggregate)."""
    errors = []
    if problems := key_errors(key):
        errors.append(f'key: Invalid value: "{key}": {"; ".join(problems)}')
    shown = "[" + ",".join(f'"{value}"' for value in values) + "]"
    if operator in (IN, NOT_IN) and not values:
        errors.append("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS) and len(values) != 1:
        errors.append(f"values: Invalid value: {shown}: exact-match compatibility requires one single value")
    elif operator in (EXISTS, NOT_EXISTS) and values:
        errors.append(f"values: Invalid value: {shown}: values set must be empty for exists and does not exist")
    elif operator in (GREATER, LESS):
        if len(values) != 1:
            errors.append(f"values: Invalid value: {shown}: for 'Gt', 'Lt' operators, exactly one value is required")
        errors += [
            f"values[{index}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            for index, value in enumerate(values)
            if not _INTEGER.match(value)
        ]
    for index, value in enumerate(values):
        if problems := value_errors(value):
            errors.append(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
    if errors:
        raise SelectorError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return Requirement(key, operator, values)


@functools.lru_cache(maxsize=4096)
def parse_labels(text: str) -> LabelSelector:
    """Parse `x in (foo,,baz),y,z notin ()`, `a=b,c!=d` …. Raises SelectorError."""
    return LabelSelector(tuple(sorted(_Parser(text).parse(), key=lambda item: item.key)))


def from_labels(labels: Labels | None) -> LabelSelector:
    """Exactly these labels (a Service's selector); None or {} selects everything."""
    return LabelSelector(tuple(Requirement(key, EQUALS, (value,)) for key, value in sorted((labels or {}).items())))


_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS}


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A metav1.LabelSelector: None selects nothing, {} everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    labels = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    key = (
        tuple(sorted(labels.items())),
        tuple((item.get("key", ""), item.get("operator", ""), tuple(item.get("values") or ())) for item in expressions),
    )
    return _from_object(*key)


@functools.lru_cache(maxsize=8192)
def _from_object(
    labels: tuple[tuple[str, str], ...], expressions: tuple[tuple[str, str, tuple[str, ...]], ...]
) -> LabelSelector:
    requirements = [_check(key, EQUALS, (value,)) for key, value in labels]
    for key, name, values in expressions:
        operator = _OPERATORS.get(name)
        if operator is None:
            raise SelectorError(f'"{name}" is not a valid label selector operator')
        requirements.append(_check(key, operator, values))
    return LabelSelector(tuple(sorted(requirements, key=lambda item: item.key)))


def format_object(selector: Mapping[str, Any] | None) -> str:
    """How kubectl shows a LabelSelector object (metav1.FormatLabelSelector)."""
    try:
        found = from_object(selector)
    except SelectorError:
        return "<error>"
    return "<none>" if found.nothing or found.empty else str(found)


_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+|$)")


class _Parser:
    """Upstream's recursive descent over tokens; keywords `in` and `notin` are identifiers where a value may stand."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [token for token in _TOKEN.findall(text) if token] + [""]
        self._at = 0

    def _next(self) -> str:
        token = self._tokens[self._at]
        self._at += 1
        return token

    @property
    def _ahead(self) -> str:
        return self._tokens[self._at]

    @staticmethod
    def _identifier(token: str) -> bool:
        return bool(token) and token not in ("==", "!=", "=", "!", "(", ")", ",", "<", ">")

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            token = self._ahead
            if not token:
                return requirements
            if not self._identifier(token) and token != "!":
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token = self._next()
            if not token:
                return requirements
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
            if not self._identifier(self._ahead) and self._ahead != "!":
                raise SelectorError(f"found '{self._ahead}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        token = self._next()
        absent = token == "!"
        if absent:
            token = self._next()
        if not self._identifier(token):
            raise SelectorError(f"found '{token}', expected: identifier")
        if problems := key_errors(token):
            raise SelectorError(f'<nil>: Invalid value: "{token}": {"; ".join(problems)}')
        if absent:
            return _check(token, NOT_EXISTS, ())
        if self._ahead in ("", ","):
            return _check(token, EXISTS, ())
        symbol = self._next()
        operator = _SYMBOLS.get(symbol)
        if operator is None:
            raise SelectorError(f"found '{symbol}', expected: {_BINARY}")
        values = self._set() if operator in (IN, NOT_IN) else self._exact()
        return _check(token, operator, tuple(sorted(set(values))))

    def _exact(self) -> list[str]:
        if self._ahead in ("", ","):
            return [""]
        token = self._next()
        if not self._identifier(token):
            raise SelectorError(f"found '{token}', expected: identifier")
        return [token]

    def _set(self) -> list[str]:
        token = self._next()
        if token != "(":
            raise SelectorError(f"found '{token}' expected: '('")
        token = self._ahead
        if token == ")":
            self._next()
            return [""]
        if token != "," and not self._identifier(token):
            raise SelectorError(f"found '{token}', expected: ',', ')' or identifier")
        values = self._identifiers()
        if self._next() != ")":
            raise SelectorError(f"found '{token}', expected: ')'")
        return values

    def _identifiers(self) -> list[str]:
        values: list[str] = []
        while True:
            token = self._next()
            if token == ",":
                if not values:
                    values.append("")
                if self._ahead == ")":
                    values.append("")
                    return values
                if self._ahead == ",":
                    values.append("")
            elif self._identifier(token):
                values.append(token)
                if self._ahead == ")":
                    return values
                if self._ahead != ",":
                    raise SelectorError(f"found '{self._ahead}', expected: ',' or ')'")
            else:
                raise SelectorError(f"found '{token}', expected: ',', or identifier")


# --- field selectors ---


class FieldTerm(Struct, frozen=True):
    field: str
    equal: bool
    value: str


class FieldSelector(Struct, frozen=True):
    """Terms joined by "and"."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.terms

    def matches(self, value_of: Callable[[str], str]) -> bool:
        """`value_of` gives a field's value as a string, "" where it is not set."""
        return all((value_of(term.field) == term.value) is term.equal for term in self.terms)

    def exact(self, field: str) -> str | None:
        """The value that the field must have, if one is asked for."""
        return next((term.value for term in self.terms if term.field == field and term.equal), None)

    def __str__(self) -> str:
        return ",".join(f"{term.field}{'=' if term.equal else '!='}{_escape(term.value)}" for term in self.terms)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


@functools.lru_cache(maxsize=4096)
def parse_fields(text: str) -> FieldSelector:
    """Parse `metadata.name=a,status.phase!=Running`. Raises SelectorError."""
    terms = []
    for term in re.findall(r"(?:\\.|[^,\\])*(?:,|$)", text, re.DOTALL):
        term = term.removesuffix(",")
        if not term:
            continue
        match = re.match(r"(.*?)(!=|==|=)(.*)$", term, re.DOTALL)
        if match is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        terms.append(FieldTerm(match[1], match[2] != "!=", _unescape(match[3])))
    return FieldSelector(tuple(sorted(terms, key=lambda item: (item.field, item.value))))


def _unescape(value: str) -> str:
    result, escaped = [], False
    for letter in value:
        if escaped:
            if letter not in "\\,=":
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{letter}")
            result.append(letter)
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(letter)}")
        else:
            result.append(letter)
    if escaped:
        raise SelectorError("invalid field selector: invalid escape sequence: \\")
    return "".join(result)

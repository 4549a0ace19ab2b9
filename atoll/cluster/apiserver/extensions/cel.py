"""CEL rules of CRDs (x-kubernetes-validations): type-checked against the schema when the definition is written, and
run on values as the schema types them (`date-time` is a timestamp), under cel-go's limit of cost.

What a schema says nothing of (`x-kubernetes-preserve-unknown-fields` without properties) is no field, as upstream.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.cluster.apiserver.expressions import types, values
from atoll.cluster.apiserver.expressions.environment import Environment, Program
from atoll.cluster.apiserver.expressions.errors import CompileError, ExpressionError
from atoll.cluster.apiserver.expressions.names import escape, unescape
from atoll.cluster.apiserver.expressions.syntax import mentions
from atoll.cluster.apiserver.expressions.types import Struct, Type
from atoll.cluster.apiserver.expressions.values import NONE, Optional
from atoll.cluster.apiserver.extensions.sizes import Declared, declared

Json = dict[str, Any]
_OLD = "oldSelf"
_SCALARS = {"boolean": types.BOOL, "integer": types.INT, "number": types.DOUBLE}
_FORMATS = {
    "byte": types.BYTES, "duration": types.DURATION, "date": types.TIMESTAMP, "date-time": types.TIMESTAMP,
}  # fmt: skip
_METADATA = types.struct("metadata", {"name": types.STRING, "generateName": types.STRING})


_UNKNOWN: Json = {}  # the schema of what a schema does not name


class CelError(Exception):
    """A rule that does not compile; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`uses_old`: a transition rule; `optional_old`: it runs without an old value too."""

    program: Program
    uses_old: bool
    optional_old: bool

    def evaluate(self, value: Any, old: Any, has_old: bool) -> tuple[Any, str]:
        """(the result, "") or (None, what went wrong). The values are `typed`."""
        names = {"self": value}
        if self.optional_old:
            names[_OLD] = Optional(old, True) if has_old else NONE
        elif has_old:
            names[_OLD] = old
        try:
            return self.program.run(names), ""
        except ExpressionError as error:
            return None, str(error)


class Rules:
    """What compiles the rules of one place of a schema. `root`: of a whole resource."""

    def __init__(self, schema: Json, root: bool) -> None:
        self._schema = schema
        self._root = root
        spelled = f"{schema.get('x-kubernetes-validations')}{schema.get('allOf')}"
        self._aliased = "__" in spelled  # a rule names a property by its CEL name, where that is another
        self._self = type_of(schema, root, "selfType")
        self._rules: dict[tuple[str, bool], Rule] = {}
        self._same: dict[int, bool] = {}  # by the id of a schema below ours, which keeps it alive

    def typed(self, value: Any) -> Any:
        """A value of this place as rules see it; parts that they see as they are, are not copied."""
        return self._typed(value, self._schema)

    def _typed(self, value: Any, schema: Json) -> Any:
        if not isinstance(value, dict | list):
            return typed(value, schema)
        same = self._same.get(id(schema))
        if same is None:
            same = self._same[id(schema)] = _is_same(schema, self._aliased)
        if same:
            return value
        if isinstance(value, list):
            items = schema.get("items")
            return [self._typed(item, items) for item in value] if isinstance(items, dict) else value
        properties = schema.get("properties")
        if not properties or isinstance(schema.get("additionalProperties"), dict):
            return typed(value, schema)
        found = {name: self._typed(item, properties.get(name) or _UNKNOWN) for name, item in value.items()}
        if not self._aliased:
            return found
        return found | {escape(name) or name: item for name, item in found.items()}

    @functools.cached_property
    def _declared(self) -> Declared:
        return declared(self._schema, self._root) or Declared(0)

    def cost(self, rule: Rule) -> int:
        """Of one run, at most."""
        return rule.program.most(self._declared)

    @property
    def repeats(self) -> int:
        """How many values of this schema a request may hold."""
        return self._declared.repeats

    @functools.cached_property
    def _plain(self) -> Environment:
        if self._self is None:
            raise CelError("failed to convert to declType for CEL validation rules")
        return Environment({"self": self._self, _OLD: self._self})

    @functools.cached_property
    def _optional(self) -> Environment:
        return self._plain.extended({_OLD: types.optional_of(self._plain.variables["self"])})

    def rule(self, source: str, optional_old: bool = False) -> Rule:
        """Raises CelError."""
        known = self._rules.get((source, optional_old))
        if known is None:
            program = self._compile(source, optional_old)
            if program.result != types.BOOL:
                raise CelError("cel expression must evaluate to a bool")
            uses_old = mentions(program.root, _OLD)
            known = self._rules[source, optional_old] = Rule(program, uses_old, optional_old and uses_old)
        return known

    def message(self, source: str, optional_old: bool = False) -> Rule:
        """A messageExpression. Raises CelError."""
        try:
            program = self._compile(source, optional_old)
        except CelError as error:
            raise CelError(f"messageExpression {error}") from None
        if program.result != types.STRING:
            raise CelError("messageExpression must evaluate to a string")
        return Rule(program, mentions(program.root, _OLD), optional_old)

    def _compile(self, source: str, optional_old: bool) -> Program:
        environment = self._optional if optional_old else self._plain
        try:
            return environment.compile(source)
        except CompileError as error:
            raise CelError(str(error)) from None


def type_of(schema: Json, root: bool, name: str) -> Type | None:
    """The type of what a structural schema describes; None: it is not seen by rules."""
    if schema.get("x-kubernetes-int-or-string"):
        return types.DYN
    kind = schema.get("type")
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), types.STRING)
    if kind == "array":
        items = schema.get("items")
        element = type_of(items, False, f"{name}.@idx") if isinstance(items, dict) else None
        return None if element is None else types.list_of(element)
    if kind != "object":
        return _SCALARS.get(kind or "")
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        value = type_of(additional, False, f"{name}.@elem")
        return None if value is None else types.map_of(types.STRING, value)
    return Struct("struct", name, (), {}, _fields(schema, root, name))


def _fields(schema: Json, root: bool, name: str) -> Callable[[str], Type | None]:
    properties = schema.get("properties") or {}
    is_whole = root or bool(schema.get("x-kubernetes-embedded-resource"))
    known: dict[str, Type | None] = {}

    def find(field: str) -> Type | None:
        if field not in known:
            known[field] = make(field)
        return known[field]

    def make(field: str) -> Type | None:
        if is_whole and field in ("apiVersion", "kind"):
            return types.STRING
        if is_whole and field == "metadata":
            return _METADATA
        plain = unescape(field)
        found = properties.get(plain)
        is_spelled = field in (escape(plain), plain)
        return type_of(found, False, f"{name}.{field}") if isinstance(found, dict) and is_spelled else None

    return find


def _is_same(schema: Json, aliased: bool) -> bool:
    """Whether rules see every value of the schema as it is: no text is of a format and, where some rule uses
    CEL's own names for properties (`aliased`), none has such a name."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource"):
        return False
    kind = schema.get("type")
    if kind == "object":
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            return _is_same(additional, aliased)
        properties = schema.get("properties") or {}
        if aliased and (not properties or any(escape(name) != name for name in properties)):
            return False
        return all(_is_same(item, aliased) for item in properties.values())
    if kind == "array":
        return isinstance(schema.get("items"), dict) and _is_same(schema["items"], aliased)
    if kind == "string":
        return "format" not in schema
    return kind in ("integer", "boolean") or bool(schema.get("x-kubernetes-int-or-string"))


def typed(value: Any, schema: Json) -> Any:
    """A value as rules see it: properties under their CEL names, formats as their types."""
    if isinstance(value, dict):
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            return {name: typed(item, additional) for name, item in value.items()}
        properties = schema.get("properties") or {}
        found = {name: typed(item, properties.get(name) or {}) for name, item in value.items()}
        return found | {escape(name) or name: item for name, item in found.items()}
    if isinstance(value, list):
        items = schema.get("items")
        return [typed(item, items) for item in value] if isinstance(items, dict) else value
    if isinstance(value, int) and schema.get("type") == "number" and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and "format" in schema:
        return _formatted(value, schema["format"])
    return value


def _formatted(value: str, name: str) -> Any:
    """The text itself where it is not in its format: other checks tell of that."""
    try:
        if name == "date-time":
            return values.parse_timestamp(value)
        if name == "date":
            return values.parse_timestamp(f"{value}T00:00:00Z")
        if name == "duration":
            return values.parse_duration(value)
        if name == "byte":
            return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return value
    return value

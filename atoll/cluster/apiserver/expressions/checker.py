"""The type check of a parsed expression: every fault with its place, in cel-go's words, and the type of each node.

It also settles names: `a.b.c` that is one declared name becomes one identifier, `ip.isCanonical(x)` one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atoll.cluster.apiserver.expressions import types
from atoll.cluster.apiserver.expressions.assignable import (
    Bindings,
    all_assignable,
    assignable,
    more_general,
    substitute,
)
from atoll.cluster.apiserver.expressions.functions import Function, Library
from atoll.cluster.apiserver.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    ObjectLiteral,
    Parsed,
    Select,
)
from atoll.cluster.apiserver.expressions.types import BOOL, DYN, ERROR, INT, STRING, Signature, Struct, Type, shown
from atoll.cluster.apiserver.expressions.values import type_name

_LITERALS = {
    "bool": BOOL, "int": INT, "uint": types.UINT, "double": types.DOUBLE, "string": STRING, "bytes": types.BYTES,
    "null_type": types.NULL,
}  # fmt: skip
_TYPE_NAMES = {
    **{name: kind for name, kind in types.PRIMITIVES.items() if name not in ("dyn", "duration", "timestamp")},
    "google.protobuf.Duration": types.DURATION, "google.protobuf.Timestamp": types.TIMESTAMP,
    "list": types.list_of(types.parameter("T")), "map": types.map_of(types.parameter("K"), types.parameter("V")),
    "type": types.type_of(DYN), "kubernetes.Quantity": types.struct("kubernetes.Quantity"),
    "kubernetes.URL": types.struct("kubernetes.URL"), "net.IP": types.struct("net.IP"),
    "net.CIDR": types.struct("net.CIDR"), "kubernetes.Semver": types.struct("kubernetes.Semver"),
}  # fmt: skip


@dataclass(slots=True)
class Checked:
    root: Node
    result: Type
    errors: list[str]
    types: dict[int, Type] = field(default_factory=dict)
    overloads: dict[int, list[Signature]] = field(default_factory=dict)  # by call: all that may be meant


def check(parsed: Parsed, variables: Mapping[str, Type], library: Library, objects: Mapping[str, Struct]) -> Checked:
    """`objects`: types that literals like `Object.spec{…}` may name."""
    return _Checker(parsed, variables, library, objects).run()


class _Checker:
    def __init__(
        self, parsed: Parsed, variables: Mapping[str, Type], library: Library, objects: Mapping[str, Struct]
    ) -> None:
        self._parsed = parsed
        self._scopes: list[Mapping[str, Type]] = [variables]
        self._functions = library.functions
        self._objects = objects
        self._types: dict[int, Type] = {}
        self._overloads: dict[int, list[Signature]] = {}
        self._bindings: Bindings = {}
        self._free = 0
        self._errors: list[tuple[int, int, str]] = []

    def run(self) -> Checked:
        root, kind = self._check(self._parsed.root)
        done = {node: substitute(self._bindings, found, True) for node, found in self._types.items()}
        self._errors.sort(key=lambda error: error[0])
        texts = [self._parsed.error(node, message) for _, node, message in self._errors]
        return Checked(root, substitute(self._bindings, kind, True), texts, done, self._overloads)

    def _error(self, node: int, message: str) -> Type:
        self._errors.append((self._parsed.positions.get(node, 0), node, message))
        return ERROR

    def _fresh(self) -> Type:
        self._free += 1
        return types.parameter(f"_var{self._free}")

    def _fits(self, one: Type, two: Type) -> bool:
        bound = assignable(self._bindings, one, two)
        if bound is None:
            return False
        self._bindings = bound
        return True

    def _check(self, node: Node) -> tuple[Node, Type]:
        """The node as it is to be run, and its type."""
        if isinstance(node, Constant):
            found: tuple[Node, Type] = (node, _LITERALS[type_name(node.value)])
        elif isinstance(node, Identifier):
            found = (node, self._identifier(node, node.name))
        elif isinstance(node, Select):
            found = self._select(node)
        elif isinstance(node, Call):
            found = self._call(node)
        elif isinstance(node, ListLiteral):
            found = (node, self._list(node))
        elif isinstance(node, MapLiteral):
            found = (node, self._map(node))
        elif isinstance(node, ObjectLiteral):
            found = (node, self._object(node))
        else:
            assert isinstance(node, Comprehension)
            found = (node, self._comprehension(node))
        self._types[node.id] = found[1]
        return found

    def _lookup(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        if name in _TYPE_NAMES:
            return types.type_of(_TYPE_NAMES[name])
        return types.type_of(self._objects[name]) if name in self._objects else None

    def _identifier(self, node: Node, name: str) -> Type:
        found = self._lookup(name.removeprefix("."))
        if found is None:
            return self._error(node.id, f"undeclared reference to '{name}' (in container '')")
        return found

    def _select(self, node: Select) -> tuple[Node, Type]:
        if not node.test_only:
            path = qualified(node)
            if path is not None and self._local(path.split(".")[0]) is None:
                found = self._lookup(path)
                if found is not None:
                    return Identifier(node.id, path), found
        node.operand, operand = self._check(node.operand)
        kind = self._field(node, operand, node.field, False)
        return node, BOOL if node.test_only else substitute(self._bindings, kind, False)

    def _local(self, name: str) -> Type | None:
        for scope in self._scopes[:0:-1]:
            if name in scope:
                return scope[name]
        return None

    def _field(self, node: Node, operand: Type, name: str, optional: bool) -> Type:
        target, was_optional = types.unwrap_optional(substitute(self._bindings, operand, False))
        if target.kind == "map":
            result = target.parameters[1]
        elif target.kind == "struct":
            found = target.find(name) if isinstance(target, Struct) else None
            result = found if found is not None else self._error(node.id, f"undefined field '{name}'")
        elif target.kind == "param":
            self._fits(DYN, target)
            result = DYN
        else:
            if not target.loose:
                self._error(node.id, f"type '{shown(target)}' does not support field selection")
            result = DYN
        return types.optional_of(result) if was_optional or optional else result

    def _call(self, node: Call) -> tuple[Node, Type]:
        if node.function == "_?._" and len(node.arguments) == 2:
            node.arguments[0], operand = self._check(node.arguments[0])
            name = node.arguments[1]
            assert isinstance(name, Constant)
            return node, substitute(self._bindings, self._field(node, operand, name.value, True), False)
        kinds = []
        for place, argument in enumerate(node.arguments):
            node.arguments[place], kind = self._check(argument)
            kinds.append(kind)
        receiver = node.target
        if receiver is not None:
            path = qualified(receiver)
            function = self._functions.get(f"{path}.{node.function}") if path else None
            if function is not None:
                node = Call(node.id, None, function.name, node.arguments)
                return node, self._resolve(node, function, kinds)
            node.target, target = self._check(receiver)
            kinds.insert(0, target)
        function = self._functions.get(node.function)
        if function is None:
            return node, self._error(node.id, f"undeclared reference to '{node.function}' (in container '')")
        return node, self._resolve(node, function, kinds)

    def _resolve(self, node: Call, function: Function, kinds: list[Type]) -> Type:
        if node.function in ("_&&_", "_||_"):
            for argument, kind in zip(node.arguments, kinds, strict=True):
                if not self._fits(kind, BOOL):
                    self._error(argument.id, f"expected type 'bool' but found '{shown(kind)}'")
                    return ERROR
            return BOOL
        result: Type | None = None
        for overload in function.overloads:
            signature = overload.signature
            if signature.member != (node.target is not None):
                continue
            parameters, returned = signature.parameters, signature.result
            if signature.generic or returned.parameters or returned.kind == "param":
                fresh: Bindings = {letter: self._fresh() for letter in "ABT"}
                parameters = tuple(substitute(fresh, item, False) for item in parameters)
                returned = substitute(fresh, returned, False)
            bound = all_assignable(self._bindings, tuple(kinds), parameters)
            if bound is None:
                continue
            self._bindings = bound
            self._overloads.setdefault(node.id, []).append(signature)
            found = substitute(bound, returned, False)
            if result is None:
                result = found
            elif result.kind != "dyn" and result != found:
                result = DYN
        if result is None:
            told = [shown(substitute(self._bindings, kind, True)) for kind in kinds]
            target = f"{told.pop(0)}." if node.target is not None else ""
            applied = f"{target}({', '.join(told)})"
            return self._error(node.id, f"found no matching overload for '{function.name}' applied to '{applied}'")
        return result

    def _joined(self, before: Type | None, kind: Type) -> Type:
        """What is of several types is dyn; whether that may be is `literals`' to say."""
        if before is None:
            return kind
        return more_general(before, kind) if self._fits(before, kind) else DYN

    def _unwrapped(self, node: Node, kind: Type, optional: bool) -> Type:
        if not optional:
            return kind
        inner, was = types.unwrap_optional(kind)
        if not was and not kind.loose:
            self._error(node.id, f"expected type 'optional_type({shown(kind)})' but found '{shown(kind)}'")
        return inner

    def _list(self, node: ListLiteral) -> Type:
        element: Type | None = None
        for place, item in enumerate(node.elements):
            node.elements[place], kind = self._check(item)
            element = self._joined(element, self._unwrapped(item, kind, place in node.optional))
        return types.list_of(element or self._fresh())

    def _map(self, node: MapLiteral) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            entry.key, kind = self._check(entry.key)
            key = self._joined(key, kind)
            entry.value, kind = self._check(entry.value)
            value = self._joined(value, self._unwrapped(entry.value, kind, entry.optional))
        return types.map_of(key or self._fresh(), value or self._fresh())

    def _object(self, node: ObjectLiteral) -> Type:
        found = self._objects.get(node.name)
        if found is None:
            return self._error(node.id, f"undeclared reference to '{node.name}' (in container '')")
        for entry in node.entries:
            entry.value, kind = self._check(entry.value)
            wanted = found.find(entry.key)
            if wanted is None:
                self._error(entry.id, f"undefined field '{entry.key}'")
                continue
            kind = self._unwrapped(entry.value, kind, entry.optional)
            if not self._fits(wanted, kind):
                why = f"expected type of field '{entry.key}' is '{shown(wanted)}' but provided type is '{shown(kind)}'"
                self._error(entry.id, why)
        return found

    def _comprehension(self, node: Comprehension) -> Type:
        node.range, found = self._check(node.range)
        node.initial, accumulated = self._check(node.initial)
        over = substitute(self._bindings, found, False)
        one: Type = DYN
        two: Type = DYN
        if over.kind == "list":
            one = two = over.parameters[0]
            if node.variable2:
                one = INT
        elif over.kind == "map":
            one, two = over.parameters
        elif over.kind in ("dyn", "error", "param"):
            self._fits(DYN, over)
        else:
            why = (
                f"expression of type '{shown(over)}' cannot be range of a comprehension (must be list, map, or dynamic)"
            )
            one = two = self._error(node.range.id, why)
        self._scopes.append({node.accumulator: accumulated})
        self._scopes.append({node.variable: one, node.variable2: two} if node.variable2 else {node.variable: one})
        node.condition, kind = self._check(node.condition)
        self._assert(node.condition, BOOL, kind)
        node.step, kind = self._check(node.step)
        self._assert(node.step, accumulated, kind)
        self._scopes.pop()
        node.result, kind = self._check(node.result)
        self._scopes.pop()
        return substitute(self._bindings, kind, False)

    def _assert(self, node: Node, wanted: Type, kind: Type) -> None:
        if not self._fits(wanted, kind):
            self._error(node.id, f"expected type '{shown(wanted)}' but found '{shown(kind)}'")


def qualified(node: Node) -> str | None:
    """`a.b.c` as one name, if it is nothing but names."""
    if isinstance(node, Identifier):
        return node.name
    if isinstance(node, Select) and not node.test_only:
        before = qualified(node.operand)
        return None if before is None else f"{before}.{node.field}"
    return None

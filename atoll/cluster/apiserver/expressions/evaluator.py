"""Runs a checked expression: the tree is turned into closures once, each run counts its cost as cel-go does.

A run stops with CostExceeded when its limit is used up, so no expression can hold the server: every step of a
loop and every call is counted. Errors are exceptions; `||`, `&&` and `exists` absorb those of one side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from atoll.cluster.apiserver.expressions.errors import CostExceeded, EvaluationError
from atoll.cluster.apiserver.expressions.functions import Function, Library, Overload, accepts
from atoll.cluster.apiserver.expressions.standard import index, optional_index
from atoll.cluster.apiserver.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    ObjectLiteral,
    Select,
)
from atoll.cluster.apiserver.expressions.values import (
    NONE,
    Fields,
    JsonObject,
    Optional,
    TypeValue,
    WithDefault,
    no_overload,
    type_name,
)

_GO_TYPES = {
    str: "types.String", int: "types.Int", float: "types.Double", bool: "types.Bool", bytes: "types.Bytes",
    type(None): "types.Null",
}  # fmt: skip
LIST_COST, MAP_COST, OBJECT_COST = 10, 30, 40  # of making one, whatever is in it


class Frame:
    """One run: the variables in reach, the cost so far and its limit."""

    __slots__ = ("cost", "limit", "names")

    def __init__(self, names: dict[str, Any], limit: int) -> None:
        self.names = names
        self.cost = 0
        self.limit = limit

    def charge(self, amount: int) -> None:
        self.cost += amount
        if self.cost > self.limit:
            raise CostExceeded


Step = Callable[[Frame], Any]


def plan(root: Node, library: Library, type_names: Mapping[str, str]) -> Step:
    """`type_names`: identifiers that are types (`int`), with the names of these."""
    return _Planner(library, type_names).step(root)


class _Planner:
    def __init__(self, library: Library, type_names: Mapping[str, str]) -> None:
        self._functions = library.functions
        self._type_names = type_names

    def step(self, node: Node) -> Step:
        if isinstance(node, Constant):
            value = node.value
            return lambda _: value
        if isinstance(node, Identifier):
            return self._identifier(node.name.removeprefix("."))
        if isinstance(node, Select):
            return _select(self.step(node.operand), node.field, node.test_only)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListLiteral):
            return self._list(node)
        if isinstance(node, MapLiteral):
            return self._map(node)
        if isinstance(node, ObjectLiteral):
            return self._object(node)
        assert isinstance(node, Comprehension)
        return self._comprehension(node)

    def _identifier(self, name: str) -> Step:
        kind = TypeValue(self._type_names[name]) if name in self._type_names else None

        def read(frame: Frame) -> Any:
            frame.charge(1)
            try:
                return frame.names[name]
            except KeyError:
                if kind is not None:
                    return kind
                raise EvaluationError(f"no such attribute(s): {name}") from None

        return read

    def _call(self, node: Call) -> Step:
        name = node.function
        arguments = [self.step(item) for item in node.arguments]
        if name == "_&&_":
            return _logic(arguments, False)
        if name == "_||_":
            return _logic(arguments, True)
        if name == "_?_:_":
            return _conditional(*arguments)
        if name == "_?._":
            field = node.arguments[1]
            assert isinstance(field, Constant)
            return _optional_select(arguments[0], field.value)
        if name == "_[_]" and node.target is None:
            return _index(arguments[0], arguments[1])
        if node.target is not None:
            target = self.step(node.target)
            if name in ("or", "orValue"):
                return _otherwise(target, arguments[0], name == "or")
            arguments.insert(0, target)
        function = self._functions[name]
        return _apply(function, arguments, node.target is not None)

    def _list(self, node: ListLiteral) -> Step:
        steps = [(self.step(item), place in node.optional) for place, item in enumerate(node.elements)]

        def make(frame: Frame) -> list[Any]:
            frame.charge(LIST_COST)
            items = []
            for step, optional in steps:
                value = step(frame)
                if not optional:
                    items.append(value)
                elif value.present:
                    items.append(value.value)
            return items

        return make

    def _map(self, node: MapLiteral) -> Step:
        steps = [(self.step(entry.key), self.step(entry.value), entry.optional) for entry in node.entries]

        def make(frame: Frame) -> dict[Any, Any]:
            frame.charge(MAP_COST)
            found: dict[Any, Any] = {}
            for key_step, value_step, optional in steps:
                key, value = key_step(frame), value_step(frame)
                if optional:
                    if not value.present:
                        continue
                    value = value.value
                if isinstance(key, list | dict | float):
                    raise EvaluationError(f"unsupported key type '{type_name(key)}'")
                if key in found:
                    raise EvaluationError(f"Failed with repeated key: {key}")
                found[key] = value
            return found

        return make

    def _object(self, node: ObjectLiteral) -> Step:
        steps = [(entry.key, self.step(entry.value), entry.optional) for entry in node.entries]
        name = node.name

        def make(frame: Frame) -> JsonObject:
            frame.charge(OBJECT_COST)
            found = JsonObject()
            found.name = name
            for key, step, optional in steps:
                value = step(frame)
                if optional:
                    if not value.present:
                        continue
                    value = value.value
                found[key] = value
            return found

        return make

    def _comprehension(self, node: Comprehension) -> Step:
        over, initial, condition = self.step(node.range), self.step(node.initial), self.step(node.condition)
        step, result = self.step(node.step), self.step(node.result)
        one, two, accumulator = node.variable, node.variable2, node.accumulator

        def run(frame: Frame) -> Any:
            items = over(frame)
            if not isinstance(items, list | dict):
                raise EvaluationError(f"got '{_GO_TYPES.get(type(items), type_name(items))}', expected iterable type")
            names = frame.names
            kept = {name: names[name] for name in (one, two, accumulator) if name in names}
            total: Any = initial(frame)
            try:
                pairs = items.items() if isinstance(items, dict) else enumerate(items)
                keyed = bool(two) or isinstance(items, dict)
                for key, value in pairs:
                    names[one] = key if keyed else value
                    if two:
                        names[two] = value
                    names[accumulator] = total
                    if isinstance(total, _Failed):
                        total = _step_after_failure(frame, step, total)
                        continue
                    if not condition(frame):
                        break
                    try:
                        total = step(frame)
                    except EvaluationError as error:
                        total = _Failed(error)
                names[accumulator] = total
                if isinstance(total, _Failed):
                    raise total.error
                return result(frame)
            finally:
                for name in (one, two, accumulator):
                    names.pop(name, None)
                names.update(kept)

        return run


class _Failed:
    """An error as the value of an accumulator: a later step may absorb it."""

    __slots__ = ("error",)

    def __init__(self, error: EvaluationError) -> None:
        self.error = error


def _step_after_failure(frame: Frame, step: Step, failed: _Failed) -> Any:
    try:
        return step(frame)
    except EvaluationError:
        return failed


def _logic(sides: list[Step], decisive: bool) -> Step:
    left, right = sides

    def run(frame: Frame) -> Any:
        failed: EvaluationError | None = None
        for side in (left, right):
            try:
                value = side(frame)
                if isinstance(value, _Failed):
                    raise value.error
                if value is decisive:
                    return decisive
                if type(value) is not bool:
                    raise no_overload()
            except EvaluationError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decisive

    return run


def _conditional(test: Step, yes: Step, no: Step) -> Step:
    def run(frame: Frame) -> Any:
        chosen = test(frame)
        if type(chosen) is not bool:
            raise no_overload()
        return yes(frame) if chosen else no(frame)

    return run


def _otherwise(target: Step, other: Step, whole: bool) -> Step:
    def run(frame: Frame) -> Any:
        value = target(frame)
        if not isinstance(value, Optional):
            raise no_overload()
        if value.present:
            return value if whole else value.value
        return other(frame)

    return run


def _select(operand: Step, name: str, test_only: bool) -> Step:
    def read(frame: Frame) -> Any:
        target = operand(frame)
        if not test_only:
            frame.charge(1)
        optional = isinstance(target, Optional)
        if optional:
            if not target.present:
                return False if test_only else NONE
            target = target.value
        if isinstance(target, dict):
            if test_only:
                return name in target or isinstance(target, WithDefault)
            if name not in target:
                if isinstance(target, WithDefault):
                    return Optional(target.default, True) if optional else target.default
                if optional:
                    return NONE
                raise EvaluationError(f"no such key: {name}")
            return Optional(target[name], True) if optional else target[name]
        if isinstance(target, Fields):
            if test_only:
                return target.has(name)
            value = target.field(name)
            return Optional(value, True) if optional else value
        if target is None or isinstance(target, str | int | float | list | bytes):
            raise EvaluationError(f"no such key: {name}") if test_only else no_overload()
        raise no_overload()

    return read


def _optional_select(operand: Step, name: str) -> Step:
    def read(frame: Frame) -> Any:
        target = operand(frame)
        frame.charge(1)
        if isinstance(target, Optional):
            if not target.present:
                return NONE
            target = target.value
        if target is None:
            return NONE
        return optional_index(target, name)

    return read


def _index(operand: Step, key: Step) -> Step:
    def read(frame: Frame) -> Any:
        target, at = operand(frame), key(frame)
        frame.charge(1)
        if isinstance(target, Optional):
            return optional_index(target, at)
        return index(target, at)

    return read


def _apply(function: Function, arguments: list[Step], member: bool) -> Step:
    count = len(arguments)
    candidates = [
        item
        for item in function.overloads
        if item.signature.member == member and len(item.signature.parameters) == count
    ]
    only = candidates[0] if len(candidates) == 1 else None

    def run(frame: Frame) -> Any:
        values = [argument(frame) for argument in arguments]
        chosen = only or _choose(candidates, values)
        if chosen is None or (only is not None and not _fits(only, values)):
            for value in values:
                if isinstance(value, _Failed):
                    raise value.error
            raise no_overload()
        try:
            result = chosen.implementation(*values)
        except (TypeError, AttributeError):
            raise no_overload() from None
        frame.charge(1 if chosen.cost is None else chosen.cost(values, result))
        return result

    if function.name == "@not_strictly_false":
        return _tolerant(arguments[0])
    return run


def _tolerant(argument: Step) -> Step:
    """A loop goes on after an error: it may be absorbed yet."""

    def run(frame: Frame) -> Any:
        try:
            value = argument(frame)
        except EvaluationError:
            return True
        return value is not False

    return run


def _fits(overload: Overload, values: list[Any]) -> bool:
    return all(accepts(kind, value) for kind, value in zip(overload.signature.parameters, values, strict=True))


def _choose(candidates: list[Overload], values: list[Any]) -> Overload | None:
    for candidate in candidates:
        if _fits(candidate, values):
            return candidate
    return None

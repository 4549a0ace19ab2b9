"""Variables composed of expressions: `variables.x` in a policy, compiled in order, evaluated once when first read.

`Composition` declares and compiles; `Variables` is the value of one request, and adds up what its variables cost
(apiserver pkg/admission/plugin/cel composition.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.cluster.apiserver.expressions.environment import PER_CALL_LIMIT, Environment, Program
from atoll.cluster.apiserver.expressions.errors import CompileError, EvaluationError, ExpressionError
from atoll.cluster.apiserver.expressions.types import DYN, Struct, Type

_TYPE_NAME = "kubernetes.variables"


class Composition:
    """Over one or more environments that differ in what they declare (messages see no authorizer)."""

    def __init__(self, within: Environment) -> None:
        self._within = within
        self._fields: dict[str, Type] = {}
        self._programs: dict[str, Program | str] = {}

    def environment(self, base: Environment | None = None) -> Environment:
        """`base` (or the composition's own) with the variables declared so far, and later."""
        variables = Struct("struct", _TYPE_NAME, (), self._fields)
        return (base or self._within).extended({"variables": variables})

    def declare(self, name: str, source: str) -> Type:
        """Raises CompileError; the name is declared (as dyn) all the same."""
        self._fields.pop(name, None)
        try:
            program = self.environment().compile(source)
        except CompileError as error:
            self._programs[name] = str(error)
            self._fields[name] = DYN
            raise
        self._programs[name] = program
        self._fields[name] = program.result
        return program.result

    def declare_all(self, variables: Sequence[Mapping[str, Any]]) -> None:
        """Of a stored policy: a variable that does not compile fails when it is read."""
        for variable in variables:
            try:
                self.declare(variable.get("name", ""), variable.get("expression", ""))
            except CompileError:
                continue

    def values(self, names: Mapping[str, Any]) -> Variables:
        return Variables(self._programs, names)


class Variables:
    """A value with lazily made fields (`values.Fields`)."""

    def __init__(self, programs: Mapping[str, Program | str], names: Mapping[str, Any]) -> None:
        self._programs = programs
        self._names = {**names, "variables": self}
        self._made: dict[str, Any] = {}
        self._cost = 0

    @property
    def type_name(self) -> str:
        return _TYPE_NAME

    def has(self, name: str) -> bool:
        return name in self._programs

    def field(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._evaluate(name)
        value = self._made[name]
        if isinstance(value, EvaluationError):
            raise value
        return value

    def _evaluate(self, name: str) -> Any:
        program = self._programs.get(name)
        if program is None:
            return EvaluationError(f"no such key: {name}")
        if isinstance(program, str):
            return EvaluationError(f'composited variable "{name}" fails to compile: {program}')
        try:
            value, cost = program.priced(self._names, PER_CALL_LIMIT)
        except ExpressionError as error:
            self._cost += PER_CALL_LIMIT
            return EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')
        self._cost += cost
        return value

    def take_cost(self) -> int:
        """Of what was evaluated since the last call."""
        cost, self._cost = self._cost, 0
        return cost

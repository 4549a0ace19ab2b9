"""Environments and programs: `Environment({"object": DYN, …}).compile(text, BOOL)` → a program to run on JSON values.

    environment = Environment({"claims": DYN, "user": USER})
    program = environment.compile("claims.email.endsWith('@example.com')", BOOL)   # CompileError: why, where
    program.run({"claims": claims, "user": user})                                  # EvaluationError, CostExceeded

Programs are immutable and kept by text; a run is bounded by its cost, never by a clock.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.cluster.apiserver.expressions import authorization, kubernetes, lists, standard, texts, types
from atoll.cluster.apiserver.expressions.call_costs import call_cost
from atoll.cluster.apiserver.expressions.checker import check
from atoll.cluster.apiserver.expressions.errors import CompileError
from atoll.cluster.apiserver.expressions.estimate import Sizes, estimate
from atoll.cluster.apiserver.expressions.evaluator import Frame, Step, plan
from atoll.cluster.apiserver.expressions.functions import Library
from atoll.cluster.apiserver.expressions.literals import bad_pattern, faults
from atoll.cluster.apiserver.expressions.syntax import Node, parse
from atoll.cluster.apiserver.expressions.types import Signature, Struct, Type

PER_CALL_LIMIT = 1_000_000
"""Of one expression's run (apiserver pkg/apis/cel)."""
BUDGET = 10_000_000
"""Of all expressions of a policy for one request."""
BUDGET_MATCH_CONDITIONS = 2_500_000
_KEPT = 1024
_TYPES = {
    "bool": "bool", "int": "int", "uint": "uint", "double": "double", "string": "string", "bytes": "bytes",
    "list": "list", "map": "map", "null_type": "null_type", "type": "type",
    "google.protobuf.Timestamp": "google.protobuf.Timestamp", "google.protobuf.Duration": "google.protobuf.Duration",
    "net.IP": "net.IP", "net.CIDR": "net.CIDR", "kubernetes.Quantity": "kubernetes.Quantity",
    "kubernetes.URL": "kubernetes.URL", "kubernetes.Semver": "kubernetes.Semver",
}  # fmt: skip


@functools.cache
def default_library() -> Library:
    """All that Kubernetes' base environment has."""
    return Library.of(
        standard.library(), texts.library(), lists.library(), kubernetes.library(), authorization.library()
    )


@dataclass(frozen=True, slots=True)
class Program:
    source: str
    result: Type
    root: Node
    step: Step
    types: Mapping[int, Type]
    overloads: Mapping[int, Sequence[Signature]]

    def run(self, names: Mapping[str, Any], limit: int = PER_CALL_LIMIT) -> Any:
        """The value. Raises EvaluationError, CostExceeded."""
        return self.priced(names, limit)[0]

    def priced(self, names: Mapping[str, Any], limit: int = PER_CALL_LIMIT) -> tuple[Any, int]:
        """The value and what it cost. Raises EvaluationError, CostExceeded."""
        frame = Frame(dict(names), limit)
        return self.step(frame), frame.cost

    def most(self, sizes: Sizes) -> int:
        """What it may cost at most, whatever the values are."""
        return estimate(self.root, self.types, self.overloads, sizes, call_cost).most


class Environment:
    """Variables by name and type, over Kubernetes' libraries. `objects`: what literals like `Object{…}` may make;
    `binding`: whether there is cel.bind."""

    def __init__(
        self, variables: Mapping[str, Type], objects: Mapping[str, Struct] | None = None, *, binding: bool = False
    ) -> None:
        self.variables = dict(variables)
        self.objects = objects or {}
        self.binding = binding
        self._programs: dict[tuple[str, tuple[Type, ...]], Program] = {}

    def extended(self, variables: Mapping[str, Type]) -> Environment:
        return Environment({**self.variables, **variables}, self.objects, binding=self.binding)

    def compile(self, source: str, *results: Type) -> Program:
        """`results`: the types that it may give; none: any. Raises CompileError, in upstream's words."""
        key = (source, results)
        found = self._programs.get(key)
        if found is None:
            found = self._compile(source, results)
            if len(self._programs) >= _KEPT:
                self._programs.clear()
            self._programs[key] = found
        return found

    def _compile(self, source: str, results: Iterable[Type]) -> Program:
        try:
            parsed = parse(source, self.binding)
        except CompileError as error:
            raise CompileError(f"compilation failed: {error}") from None
        checked = check(parsed, self.variables, default_library(), self.objects)
        if checked.errors:
            raise CompileError("compilation failed: " + "\n".join(checked.errors))
        faulty = sorted(faults(checked.root, checked.types), key=lambda fault: parsed.positions.get(fault[0], 0))
        if faulty:
            raise CompileError("compilation failed: " + "\n".join(parsed.error(*fault) for fault in faulty))
        wanted = list(results)
        if wanted and checked.result not in wanted:
            got = types.output_name(checked.result)
            if len(wanted) == 1:
                raise CompileError(f"must evaluate to {types.output_name(wanted[0])} but got {got}")
            told = " ".join(types.output_name(kind) for kind in wanted)
            raise CompileError(f"must evaluate to one of [{told}] but got {got}")
        unreadable = bad_pattern(checked.root)
        if unreadable:
            raise CompileError(f"program instantiation failed: {unreadable}", internal=True)
        step = plan(checked.root, default_library(), _TYPES)
        return Program(source, checked.result, checked.root, step, checked.types, checked.overloads)

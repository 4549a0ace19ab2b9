"""Policies and bindings as configured: compiled once, in upstream's order, read again when one of them changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.apiserver.expressions import admission, mutations
from atoll.cluster.apiserver.expressions.composition import Composition
from atoll.cluster.apiserver.expressions.environment import Environment, Program
from atoll.cluster.apiserver.expressions.errors import CompileError
from atoll.cluster.apiserver.expressions.types import BOOL, NULL, STRING, Type, list_of
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Record, Store
from atoll.objects.selectors import LabelSelector, from_object

_GROUP = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Expression:
    """`error`: why it does not compile; then it fails whenever it is asked."""

    source: str
    program: Program | None
    error: str = ""
    data: Object = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Constraints:
    """MatchResources. Selectors are None where they select everything."""

    rules: Sequence[Object] = ()
    excluded: Sequence[Object] = ()
    namespaces: LabelSelector | None = None
    objects: LabelSelector | None = None
    equivalent: bool = True


@dataclass(frozen=True, slots=True)
class Binding:
    name: str
    constraints: Constraints | None
    param_ref: Object | None
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    constraints: Constraints
    bindings: tuple[Binding, ...]
    conditions: tuple[admission.Condition, ...]
    composition: Composition
    param_kind: Object | None
    failure_policy: str
    validations: tuple[Expression, ...] = ()
    messages: tuple[Expression | None, ...] = ()
    audits: tuple[Expression, ...] = ()
    mutations: tuple[Expression, ...] = ()
    reinvoked: bool = False


class Configured:
    """Policies of one kind (`validating`, `mutating`) that have a binding, in order of their names."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kinds = (f"{kind}admissionpolicies.{_GROUP}", f"{kind}admissionpolicybindings.{_GROUP}")
        self._mutating = kind == "mutating"
        self._read_at = (0, 0)
        self._compiled: dict[tuple[str, int], dict[str, Any]] = {}
        self._policies: tuple[Policy, ...] = ()

    def current(self) -> tuple[Policy, ...]:
        policies, bindings = self._kinds
        changed = (self._store.last_change(policies), self._store.last_change(bindings))
        if changed != self._read_at:
            self._policies = self._read()
            self._read_at = changed
        return self._policies

    def _read(self) -> tuple[Policy, ...]:
        bound: dict[str, list[Binding]] = {}
        for record in self._store.scan(self._kinds[1]):
            spec = record.object.get("spec") or {}
            bound.setdefault(spec.get("policyName") or "", []).append(_binding(record))
        if not bound:
            return ()
        found, kept = [], {}
        for record in self._store.scan(self._kinds[0]):
            name = record.key.name
            if name not in bound:
                continue
            key = (record.uid, int((record.object.get("metadata") or {}).get("generation") or 0))
            parts = kept[key] = self._compiled.get(key) or compile_policy(record.object, self._mutating)
            found.append(Policy(bindings=tuple(bound[name]), **parts))
        self._compiled = kept
        return tuple(found)


def _binding(record: Record) -> Binding:
    spec = record.object.get("spec") or {}
    resources = spec.get("matchResources")
    constraints = None if resources is None else _constraints(resources)
    return Binding(record.key.name, constraints, spec.get("paramRef"), tuple(spec.get("validationActions") or ()))


def _constraints(resources: Object) -> Constraints:
    return Constraints(
        rules=resources.get("resourceRules") or (),
        excluded=resources.get("excludeResourceRules") or (),
        namespaces=_selector(resources.get("namespaceSelector")),
        objects=_selector(resources.get("objectSelector")),
        equivalent=resources.get("matchPolicy", "Equivalent") == "Equivalent",
    )


def _selector(raw: Object | None) -> LabelSelector | None:
    return from_object(raw) if raw and any(raw.values()) else None


def compile_policy(policy: Object, mutating: bool) -> dict[str, Any]:
    """All fields of Policy but its bindings."""
    spec = policy.get("spec") or {}
    has_params = spec.get("paramKind") is not None
    base = mutations.environment(has_params) if mutating else admission.environment(params=has_params)
    composition = Composition(base)
    composition.declare_all(spec.get("variables") or ())
    within = composition.environment()
    parts: dict[str, Any] = {
        "name": policy["metadata"]["name"],
        "constraints": _constraints(spec.get("matchConstraints") or {}),
        "conditions": tuple(admission.compile_conditions(spec.get("matchConditions") or (), within)),
        "composition": composition,
        "param_kind": spec.get("paramKind"),
        "failure_policy": spec.get("failurePolicy") or "Fail",
    }
    if mutating:
        parts["mutations"] = tuple(_mutation(within, item) for item in spec.get("mutations") or ())
        parts["reinvoked"] = spec.get("reinvocationPolicy") == "IfNeeded"
        return parts
    quiet = composition.environment(admission.environment(params=has_params, authorizer=False))
    validations = spec.get("validations") or ()
    parts["validations"] = tuple(_expression(within, item, "expression", BOOL) for item in validations)
    parts["messages"] = tuple(
        _expression(quiet, item, "messageExpression", STRING) if item.get("messageExpression") else None
        for item in validations
    )
    audits = spec.get("auditAnnotations") or ()
    parts["audits"] = tuple(_expression(within, item, "valueExpression", STRING, NULL) for item in audits)
    return parts


def _expression(within: Environment, data: Object, name: str, *results: Type) -> Expression:
    source = data.get(name) or ""
    try:
        return Expression(source, within.compile(source, *results), "", data)
    except CompileError as error:
        return Expression(source, None, str(error), data)


def _mutation(within: Environment, data: Object) -> Expression:
    patch = data.get("patchType") == "JSONPatch"
    inner = data.get("jsonPatch" if patch else "applyConfiguration") or {}
    made = _expression(within, inner, "expression", list_of(mutations.JSON_PATCH) if patch else mutations.OBJECT)
    return Expression(made.source, made.program, made.error, data)

"""What a policy's expressions would do wrong on the kinds that it matches: status.typeChecking (typechecking.go).

Expressions are compiled once more for each matched kind, with `object` and `params` typed by their schemas. It only
warns: a policy acts the same with and without.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.cluster.apiserver.expressions import admission, schema_types
from atoll.cluster.apiserver.expressions.composition import Composition
from atoll.cluster.apiserver.expressions.errors import CompileError
from atoll.cluster.apiserver.expressions.types import DYN, Type
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Registry, Served

_MOST_KINDS = 10


class TypeChecker:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def warnings(self, policy: Object) -> list[Object]:
        """ExpressionWarnings, in the order of the validations."""
        spec = policy.get("spec") or {}
        kinds = self._kinds(spec)
        found: list[Object] = []
        for index, validation in enumerate(spec.get("validations") or ()):
            for field in ("expression", "messageExpression"):
                source = validation.get(field) or ""
                told = [text for served in kinds if source and (text := self._check(spec, served, source))]
                if told:
                    found.append({"fieldRef": f"spec.validations[{index}].{field}", "warning": "\n".join(told)})
        return found

    def _check(self, spec: Object, served: Served, source: str) -> str:
        resource = served.resource
        obj = schema_types.type_of(served.schema, resource.kind) or DYN
        params = self._params(spec)
        base = admission.environment(params=params is not None)
        typed: dict[str, Type] = {"object": obj, "oldObject": obj}
        if params is not None:
            typed["params"] = params
        composition = Composition(base.extended(typed))
        composition.declare_all(spec.get("variables") or ())
        try:
            composition.environment().compile(source)
        except CompileError as error:
            group = f"{resource.group}/" if resource.group else "/"
            return f"{group}{resource.version}, Kind={resource.kind}: {error}\n"
        return ""

    def _params(self, spec: Object) -> Type | None:
        """None: the policy has no params."""
        kind = spec.get("paramKind")
        if kind is None:
            return None
        served = self._registry.of_kind(kind.get("apiVersion") or "", kind.get("kind") or "")
        found = None if served is None else schema_types.type_of(served.schema, f"params.{kind.get('kind')}")
        return found or DYN

    def _kinds(self, spec: Object) -> list[Served]:
        """The kinds that the rules name without wildcards, in order of group, version and kind."""
        found: dict[tuple[str, str, str], Served] = {}
        for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
            groups, versions = _plain(rule.get("apiGroups")), _plain(rule.get("apiVersions"))
            plurals = sorted(name for name in rule.get("resources") or () if "*" not in name and "/" not in name)
            for group in groups:
                for version in versions:
                    for plural in plurals:
                        served = self._registry.find(group, version, plural)
                        if served is not None and len(found) < _MOST_KINDS:
                            found[group, version, served.resource.kind] = served
        return [found[key] for key in sorted(found)]


def _plain(values: Sequence[str] | None) -> list[str]:
    """Nothing, if there is a wildcard."""
    return [] if any("*" in value for value in values or ()) else sorted(values or ())

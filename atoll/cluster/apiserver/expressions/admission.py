"""CEL for admission: the variables object, oldObject, request, namespaceObject, params, authorizer; match conditions.

Policies and webhooks share it (apiserver pkg/admission/plugin/cel): `environment(params=…, authorizer=…)` compiles,
`bindings(…)` makes the values of one request, `matches` runs match conditions under the failure policy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.cluster.apiserver.expressions import types
from atoll.cluster.apiserver.expressions.asking import Answers
from atoll.cluster.apiserver.expressions.authorization import (
    AUTHORIZER,
    RESOURCE_CHECK,
    AuthorizerValue,
    ResourceCheck,
)
from atoll.cluster.apiserver.expressions.environment import (
    BUDGET_MATCH_CONDITIONS,
    PER_CALL_LIMIT,
    Environment,
    Program,
)
from atoll.cluster.apiserver.expressions.errors import CompileError, CostExceeded, EvaluationError
from atoll.cluster.apiserver.expressions.types import BOOL, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of, struct
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Authorizer, Object, user_info
from atoll.kinds.resource import Resource

OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_KIND = struct("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
_RESOURCE = struct("kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
USER_INFO = struct(
    "kubernetes.UserInfo",
    {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
)
REQUEST = struct(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": USER_INFO,
        "dryRun": BOOL,
        "options": DYN,
    },
)
NAMESPACE = struct(
    "kubernetes.Namespace",
    {
        "metadata": struct(
            "kubernetes.NamespaceMetadata",
            {
                **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), STRING),
                **dict.fromkeys(("labels", "annotations"), map_of(STRING, STRING)),
                **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), TIMESTAMP),
                **dict.fromkeys(("deletionGracePeriodSeconds", "generation"), INT),
                "finalizers": list_of(STRING),
            },
        ),
        "spec": struct("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
        "status": struct(
            "kubernetes.NamespaceStatus",
            {
                "phase": STRING,
                "conditions": list_of(
                    struct(
                        "kubernetes.NamespaceCondition",
                        {**dict.fromkeys(("status", "type", "message", "reason"), STRING),
                         "lastTransitionTime": TIMESTAMP},
                    )
                ),
            },
        ),
    },
)  # fmt: skip


@functools.cache
def environment(*, params: bool = False, authorizer: bool = True) -> Environment:
    """What match conditions and policies may name."""
    variables: dict[str, Type] = {"object": DYN, "oldObject": DYN, "namespaceObject": NAMESPACE, "request": REQUEST}
    if params:
        variables["params"] = DYN
    if authorizer:
        variables["authorizer"] = AUTHORIZER
        variables["authorizer.requestResource"] = RESOURCE_CHECK
    return Environment(variables)


def bindings(
    request: AdmissionRequest,
    *,
    namespace: Object | None = None,
    authorizer: Authorizer | None = None,
    params: Object | None = None,
    resource: Resource | None = None,
    kind: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    """The values of one request; what runs on them may raise MustWait (see `asking.settled`).

    `resource`, `kind`: the equivalents that a rule matched, where they are others.
    """
    found: dict[str, Any] = {
        "object": request.obj,
        "oldObject": request.old,
        "namespaceObject": _namespace(namespace),
        "request": admission_request(request, resource=resource, kind=kind),
        "params": params,
    }
    if authorizer is not None:
        owner = AuthorizerValue(request.user, Answers(authorizer))
        at = request.resource
        asked = Attributes(
            request.user, "", at.group, at.version, at.plural, request.subresource, request.namespace, request.name
        )
        found["authorizer"] = owner
        found["authorizer.requestResource"] = ResourceCheck(owner, asked)
    return found


def admission_request(
    request: AdmissionRequest, *, resource: Resource | None = None, kind: tuple[str, str, str] | None = None
) -> Object:
    """`request` as expressions see it: AdmissionRequest v1 without the objects and the uid."""
    asked = request.resource
    own_kind = (asked.group, asked.version, request.kind or asked.kind)
    matched = resource or asked
    made: Object = {
        "kind": _gvk(kind or own_kind),
        "resource": _gvr(matched),
        "requestKind": _gvk(own_kind),
        "requestResource": _gvr(asked),
        "name": request.name,
        "namespace": request.namespace,
        "operation": request.operation,
        "userInfo": {"username": "", "groups": [], **user_info(request.user)},
        "dryRun": request.dry_run,
        "options": request.options or None,
    }
    if request.subresource:
        made["subResource"] = made["requestSubResource"] = request.subresource
    else:
        made["subResource"] = made["requestSubResource"] = ""
    return made


def _gvk(kind: tuple[str, str, str]) -> Object:
    return dict(zip(("group", "version", "kind"), kind, strict=True))


def _gvr(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


_NAMESPACE_METADATA = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "finalizers",
)  # fmt: skip


def _namespace(namespace: Object | None) -> Object | None:
    if namespace is None:
        return None
    metadata = {key: value for key, value in namespace["metadata"].items() if key in _NAMESPACE_METADATA}
    return {"metadata": metadata, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}


@dataclass(frozen=True, slots=True)
class Condition:
    """A match condition, compiled; `error` says why it does not compile."""

    name: str
    source: str
    program: Program | None
    error: str = ""


def compile_conditions(conditions: Sequence[Object], within: Environment) -> list[Condition]:
    """matchConditions of a policy or a webhook. Never raises: what does not compile fails when it is asked."""
    made = []
    for condition in conditions:
        name, source = condition.get("name", ""), condition.get("expression", "")
        try:
            made.append(Condition(name, source, within.compile(source, BOOL)))
        except CompileError as error:
            made.append(Condition(name, source, None, str(error)))
    return made


@dataclass(frozen=True, slots=True)
class Match:
    """`error`: the request fails for it (failure policy Fail); `failed`: the condition that was false."""

    matched: bool
    error: str = ""
    failed: str = ""


def matches(conditions: Sequence[Condition], names: Mapping[str, Any], failure_policy: str) -> Match:
    """Upstream's order: a false one decides over all errors; then errors by the failure policy."""
    errors: list[str] = []
    budget = BUDGET_MATCH_CONDITIONS
    for condition in conditions:
        if condition.program is None:
            errors.append(f"compilation error: {condition.error}")
            continue
        try:
            value, cost = condition.program.priced(names, min(budget, PER_CALL_LIMIT))
        except CostExceeded:
            return Match(False, OUT_OF_BUDGET if failure_policy == "Fail" else "")
        except EvaluationError as error:
            errors.append(f"expression '{condition.source}' resulted in error: {error}")
            continue
        budget -= cost
        if value is False:
            return Match(False, failed=condition.name)
    if not errors:
        return Match(True)
    if failure_policy != "Fail":
        return Match(False)
    return Match(False, aggregate(errors))


def aggregate(errors: Sequence[str]) -> str:
    """As apimachinery's aggregate of errors is written."""
    distinct = list(dict.fromkeys(errors))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


__all__ = [
    "NAMESPACE", "REQUEST", "USER_INFO", "Condition", "Match", "admission_request", "aggregate", "bindings",
    "compile_conditions", "environment", "matches", "types",
]  # fmt: skip

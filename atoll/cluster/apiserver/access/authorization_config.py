"""AuthorizationConfiguration (apiserver.config.k8s.io, KEP-3221): which authorizers, in which order.

Types: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny (ABAC is not there). Source:
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from atoll.base.errors import UserError
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.access import documents
from atoll.cluster.apiserver.access.documents import compile_problem
from atoll.cluster.apiserver.access.outside import Endpoint
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_supported, required

if TYPE_CHECKING:
    from atoll.cluster.apiserver.expressions.environment import Environment, Program

Object = dict[str, Any]
ReadEndpoint = Callable[[str], Endpoint]
"""What a kubeconfig file says of where to call. Raises UserError."""

KIND = "AuthorizationConfiguration"
TYPES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_SHAPE: Object = {
    "authorizers": [
        {
            "type": str, "name": str,
            "webhook": {
                "authorizedTTL": str, "cacheAuthorizedRequests": bool, "unauthorizedTTL": str,
                "cacheUnauthorizedRequests": bool, "timeout": str, "subjectAccessReviewVersion": str,
                "matchConditionSubjectAccessReviewVersion": str, "failurePolicy": str,
                "connectionInfo": {"type": str, "kubeConfigFile": str}, "matchConditions": [{"expression": str}],
            },
        }
    ],
}  # fmt: skip
_DEFAULT_AUTHORIZED, _DEFAULT_UNAUTHORIZED = "5m", "30s"
_MOST_CONDITIONS = 64


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """`conditions`: match conditions, compiled. `deny_on_failure`: else it has no opinion then."""

    name: str
    endpoint: Endpoint
    version: str
    timeout_seconds: float
    authorized_seconds: float
    unauthorized_seconds: float
    deny_on_failure: bool
    conditions: tuple[Program, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizerConfig:
    type: str
    name: str
    webhook: WebhookConfig | None = None


DEFAULT = (AuthorizerConfig("Node", "node"), AuthorizerConfig("RBAC", "rbac"))
"""What a cluster has without a file."""


def parse(text: str, source: str, read_endpoint: ReadEndpoint) -> tuple[AuthorizerConfig, ...]:
    """Raises UserError with all that is wrong."""
    document = documents.read(text, source, KIND, _SHAPE)
    errors: list[Cause] = []
    items = document.get("authorizers") or []
    if not items:
        errors.append(required("authorizers", "at least one authorization mode must be defined"))
    found: list[AuthorizerConfig] = []
    types: set[str] = set()
    known: set[str] = set()
    for index, item in enumerate(items):
        path, kind, name = f"authorizers[{index}]", item.get("type") or "", item.get("name") or ""
        if not kind:
            errors.append(required(f"{path}.type"))
        elif kind not in TYPES:
            errors.append(not_supported(f"{path}.type", kind, TYPES))
        elif kind in types and kind != "Webhook":
            errors.append(duplicate(f"{path}.type", kind))
        else:
            types.add(kind)
            _name(errors, f"{path}.name", name, known)
            known.add(name)
            webhook = _webhook_of(errors, path, kind, name, item.get("webhook"), read_endpoint)
            found.append(AuthorizerConfig(kind, name, webhook))
    documents.refuse(source, errors)
    return tuple(found)


def _name(errors: list[Cause], path: str, name: str, known: set[str]) -> None:
    if not name:
        errors.append(required(path))
    elif name in known:
        errors.append(duplicate(path, name))
    elif wrong := names.dns_subdomain(name):
        errors.append(bad_value(path, name, f"authorizer name is invalid: {', '.join(wrong)}"))


def _webhook_of(
    errors: list[Cause], path: str, kind: str, name: str, given: Object | None, read_endpoint: ReadEndpoint
) -> WebhookConfig | None:
    if kind != "Webhook":
        if given is not None:
            errors.append(bad_value(f"{path}.webhook", "non-null", "may only be specified when type=Webhook"))
        return None
    if given is None:
        errors.append(required(f"{path}.webhook", "required when type=Webhook"))
        return None
    timeout = _duration(errors, f"{path}.timeout", given.get("timeout"), 30.0)
    authorized = _duration(errors, f"{path}.authorizedTTL", given.get("authorizedTTL") or _DEFAULT_AUTHORIZED)
    unauthorized = _duration(errors, f"{path}.unauthorizedTTL", given.get("unauthorizedTTL") or _DEFAULT_UNAUTHORIZED)
    version = _one_of(errors, f"{path}.subjectAccessReviewVersion", given, ("v1", "v1beta1"))
    conditions = given.get("matchConditions") or []
    reviewed = given.get("matchConditionSubjectAccessReviewVersion") or ""
    at = f"{path}.matchConditionSubjectAccessReviewVersion"
    if not reviewed and conditions:
        errors.append(required(at, "required if match conditions are specified"))
    elif reviewed not in ("", "v1"):
        errors.append(not_supported(at, reviewed, ("v1",)))
    policy = _one_of(errors, f"{path}.failurePolicy", given, ("NoOpinion", "Deny"))
    endpoint = _endpoint(errors, f"{path}.connectionInfo", given.get("connectionInfo") or {}, read_endpoint)
    return WebhookConfig(
        name, endpoint, version, timeout,
        authorized if given.get("cacheAuthorizedRequests", True) else 0.0,
        unauthorized if given.get("cacheUnauthorizedRequests", True) else 0.0,
        policy == "Deny", _conditions(errors, f"{path}.matchConditions", conditions),
    )  # fmt: skip


def _duration(errors: list[Cause], path: str, text: str | None, most: float = math.inf) -> float:
    found = documents.seconds(text)
    if not found:
        errors.append(required(path))
    elif not 0 < found <= most:
        why = f"must be > 0s and <= {most:g}s" if most < math.inf else "must be > 0s"
        errors.append(bad_value(path, text, why))
    return found or 0.0


def _one_of(errors: list[Cause], path: str, given: Object, allowed: tuple[str, ...]) -> str:
    value = given.get(path.rpartition(".")[2]) or ""
    if not value:
        errors.append(required(path))
    elif value not in allowed:
        errors.append(not_supported(path, value, allowed))
    return str(value)


def _endpoint(errors: list[Cause], path: str, given: Object, read_endpoint: ReadEndpoint) -> Endpoint:
    kind, file = given.get("type") or "", given.get("kubeConfigFile")
    if not kind:
        errors.append(required(f"{path}.type"))
    elif kind not in ("InClusterConfig", "KubeConfigFile"):
        errors.append(not_supported(f"{path}.type", kind, ("InClusterConfig", "KubeConfigFile")))
    elif kind == "InClusterConfig":
        why = "this API server does not run in a pod; use KubeConfigFile"
        errors.append(bad_value(f"{path}.type", kind, why))
    elif not file:
        errors.append(required(f"{path}.kubeConfigFile"))
    elif not PurePath(file).is_absolute():
        errors.append(bad_value(f"{path}.kubeConfigFile", file, "must be an absolute path"))
    else:
        try:
            return read_endpoint(file)
        except UserError as error:
            errors.append(bad_value(f"{path}.kubeConfigFile", file, f"error loading file: {error.message}"))
    return Endpoint("")


def _conditions(errors: list[Cause], path: str, given: list[Object]) -> tuple[Program, ...]:
    if not given:
        return ()
    if len(given) > _MOST_CONDITIONS:
        why = f"Too many: {len(given)}: must have at most {_MOST_CONDITIONS} items"
        errors.append(Cause("FieldValueTooMany", why, path))
        return ()
    from atoll.cluster.apiserver.expressions.errors import CompileError
    from atoll.cluster.apiserver.expressions.types import BOOL

    programs: list[Program] = []
    seen: set[str] = set()
    for index, item in enumerate(given):
        at, text = f"{path}[{index}].expression", item.get("expression") or ""
        if not text.strip():
            errors.append(required(at))
        elif text in seen:
            errors.append(duplicate(at, text))
        else:
            seen.add(text)
            try:
                programs.append(_environment().compile(text, BOOL))
            except CompileError as error:
                errors.append(bad_value(at, text, compile_problem(error)))
    return tuple(programs)


@cache
def _environment() -> Environment:
    """`request` is the spec of a SubjectAccessReview v1."""
    from atoll.cluster.apiserver.expressions.environment import Environment
    from atoll.cluster.apiserver.expressions.types import STRING, list_of, map_of, struct

    strings = list_of(STRING)
    prefix = "kubernetes."
    requirement = struct(prefix + "SelectorRequirement", {"key": STRING, "operator": STRING, "values": strings})
    fields = {"rawSelector": STRING, "requirements": list_of(requirement)}
    texts = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
    resource = struct(
        prefix + "ResourceAttributes",
        {
            **dict.fromkeys(texts, STRING),
            "fieldSelector": struct(prefix + "FieldSelectorAttributes", fields),
            "labelSelector": struct(prefix + "LabelSelectorAttributes", fields),
        },
    )
    path = struct(prefix + "NonResourceAttributes", {"path": STRING, "verb": STRING})
    request = struct(
        prefix + "SubjectAccessReviewSpec",
        {
            "resourceAttributes": resource, "nonResourceAttributes": path, "user": STRING, "groups": strings,
            "extra": map_of(STRING, strings), "uid": STRING,
        },
    )  # fmt: skip
    return Environment({"request": request})

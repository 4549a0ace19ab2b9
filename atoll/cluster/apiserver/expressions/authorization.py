"""The `authorizer` variable: `authorizer.group('').resource('pods').namespace('x').check('get').allowed()`.

Checks ask the cluster's own authorizer as the user of the request (or as a service account); each is dear (350,000), so
that an expression can make two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.expressions import types
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import Overload, fixed, overload
from atoll.cluster.apiserver.ports import Attributes, Authorizer, Decision, User

_PREFIX = "kubernetes.authorization."
AUTHORIZER = types.struct(_PREFIX + "Authorizer")
RESOURCE_CHECK = types.struct(_PREFIX + "ResourceCheck")


@dataclass(frozen=True, slots=True)
class AuthorizerValue:
    user: User
    authorizer: Authorizer

    @property
    def type_name(self) -> str:
        return AUTHORIZER.name


@dataclass(frozen=True, slots=True)
class _PathCheck:
    owner: AuthorizerValue
    path: str

    @property
    def type_name(self) -> str:
        return _PREFIX + "PathCheck"


@dataclass(frozen=True, slots=True)
class _GroupCheck:
    owner: AuthorizerValue
    group: str

    @property
    def type_name(self) -> str:
        return _PREFIX + "GroupCheck"


@dataclass(frozen=True, slots=True)
class ResourceCheck:
    owner: AuthorizerValue
    attributes: Attributes

    @property
    def type_name(self) -> str:
        return RESOURCE_CHECK.name


@dataclass(frozen=True, slots=True)
class _Decision:
    decision: Decision

    @property
    def type_name(self) -> str:
        return _PREFIX + "Decision"


def library() -> Iterator[Overload]:
    authorizer, group, path, check, decision = (
        _PREFIX + name for name in ("Authorizer", "GroupCheck", "PathCheck", "ResourceCheck", "Decision")
    )
    one = fixed(1)
    yield overload(f"<{authorizer}>.path(string) -> {path}", _path, one)
    yield overload(f"<{authorizer}>.group(string) -> {group}", _GroupCheck, one)
    yield overload(f"<{authorizer}>.serviceAccount(string, string) -> {authorizer}", _service_account, one)
    yield overload(f"<{group}>.resource(string) -> {check}", _resource, one)
    for name in ("subresource", "namespace", "name"):
        yield overload(f"<{check}>.{name}(string) -> {check}", _with(name), one)
    yield overload(f"<{check}>.fieldSelector(string) -> {check}", _with("field_selector"), _selector_cost)
    yield overload(f"<{check}>.labelSelector(string) -> {check}", _with("label_selector"), _selector_cost)
    yield overload(f"<{path}>.check(string) -> {decision}", _check_path, fixed(350_000))
    yield overload(f"<{check}>.check(string) -> {decision}", _check_resource, fixed(350_000))
    yield overload(f"<{decision}>.allowed() -> bool", lambda made: made.decision.allowed, one)
    yield overload(f"<{decision}>.reason() -> string", lambda made: made.decision.reason, one)
    yield overload(f"<{decision}>.errored() -> bool", lambda made: False, one)
    yield overload(f"<{decision}>.error() -> string", lambda made: "", one)


def _selector_cost(arguments: list[Any], _: Any) -> int:
    return 10 + len(arguments[1]) * 26


def _path(owner: AuthorizerValue, path: str) -> _PathCheck:
    if not path.strip():
        raise EvaluationError("path must not be empty")
    return _PathCheck(owner, path)


def _resource(check: _GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise EvaluationError("resource must not be empty")
    attributes = Attributes(check.owner.user, "", check.group, "*", resource)
    return ResourceCheck(check.owner, attributes)


def _service_account(owner: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    if names.dns_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if names.dns_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return AuthorizerValue(User(f"system:serviceaccount:{namespace}:{name}", groups), owner.authorizer)


def _with(field: str) -> Callable[[ResourceCheck, str], ResourceCheck]:
    def change(check: ResourceCheck, value: str) -> ResourceCheck:
        return ResourceCheck(check.owner, replace(check.attributes, **{field: value}))

    return change


def _check_path(check: _PathCheck, verb: str) -> _Decision:
    asked = Attributes(check.owner.user, verb, path=check.path)
    return _Decision(check.owner.authorizer.authorize(asked))


def _check_resource(check: ResourceCheck, verb: str) -> _Decision:
    return _Decision(check.owner.authorizer.authorize(replace(check.attributes, verb=verb)))

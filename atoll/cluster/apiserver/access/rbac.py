"""RBAC (rbac.authorization.k8s.io/v1) over the cluster's own roles and bindings.

The view is the store's newest durable state: a role binding holds from the moment its write was acknowledged.
What a user may do is compiled once per (user, groups, namespace) and forgotten when any RBAC object changes.
Deny by default: no rule, no access. A broken binding (its role is missing) grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from atoll.cluster.apiserver.ports import NO_OPINION, Attributes, Decision, User
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
_GROUP = ".rbac.authorization.k8s.io"
_RESOURCES = tuple(f"{plural}{_GROUP}" for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings"))
_CACHE_LIMIT = 4096


class Rule(Struct, frozen=True):
    """A compiled PolicyRule. `source` is the rule as written, for escalation checks and reviews."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    paths: tuple[str, ...]
    source: Object

    @classmethod
    def compile(cls, rule: Object) -> Rule:
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
            rule,
        )

    def allows(self, asked: Attributes) -> bool:
        """Upstream's RuleAllows: verbs, groups, resources with subresources (`*/scale`, `pods/*`), names, paths."""
        if asked.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not asked.resource:
            return any(_path_matches(pattern, asked.path) for pattern in self.paths)
        if asked.group not in self.groups and "*" not in self.groups:
            return False
        if self.names and asked.name not in self.names:
            return False
        if "*" in self.resources:
            return True
        if not asked.subresource:
            return asked.resource in self.resources
        return f"{asked.resource}/{asked.subresource}" in self.resources or f"*/{asked.subresource}" in self.resources


def _path_matches(pattern: str, path: str) -> bool:
    if pattern == "*" or pattern == path:
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


class RbacAuthorizer:
    """authorize() on each request; rules_for() for reviews and escalation checks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = -1
        self._seen: tuple[int, ...] = ()
        self._rules: dict[tuple[str, tuple[str, ...], str], list[tuple[Rule, str]]] = {}
        self._decisions: dict[tuple[Any, ...], Decision] = {}

    def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if "system:masters" in user.groups:
            return _MASTER
        self._refresh()
        key = (
            user.name,
            user.groups,
            attributes.verb,
            attributes.group,
            attributes.resource,
            attributes.subresource,
            attributes.namespace,
            attributes.name,
            attributes.path,
        )
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decide(attributes)
            if len(self._decisions) >= _CACHE_LIMIT:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def rules_for(self, user: User, namespace: str) -> list[tuple[Rule, str]]:
        """Every rule that holds for the user in a namespace ("" = cluster-wide only), each with why."""
        self._refresh()
        key = (user.name, user.groups, namespace)
        found = self._rules.get(key)
        if found is None:
            found = list(self._bound(user, namespace))
            if len(self._rules) >= _CACHE_LIMIT:
                self._rules.clear()
            self._rules[key] = found
        return found

    def _decide(self, attributes: Attributes) -> Decision:
        for rule, why in self.rules_for(attributes.user, attributes.namespace):
            if rule.allows(attributes):
                return Decision(True, why)
        return NO_OPINION

    def _refresh(self) -> None:
        store = self._store
        version = store.version
        if version == self._version:
            return
        self._version = version
        seen = tuple([store.last_change(resource) for resource in _RESOURCES])
        if seen != self._seen:
            self._seen = seen
            self._rules.clear()
            self._decisions.clear()

    def _bound(self, user: User, namespace: str) -> Iterable[tuple[Rule, str]]:
        for record in self._store.scan(f"clusterrolebindings{_GROUP}"):
            binding = record.object
            subject = _subject(binding, user, "")
            if subject:
                ref = binding["roleRef"]
                why = (
                    f'RBAC: allowed by ClusterRoleBinding "{binding["metadata"]["name"]}" of {_role(ref)} to {subject}'
                )
                yield from self._grant(ref["kind"], ref["name"], "", why)
        if not namespace:
            return
        for record in self._store.scan(f"rolebindings{_GROUP}", namespace):
            binding = record.object
            subject = _subject(binding, user, namespace)
            if subject:
                ref = binding["roleRef"]
                name = f"{binding['metadata']['name']}/{namespace}"
                why = f'RBAC: allowed by RoleBinding "{name}" of {_role(ref)} to {subject}'
                yield from self._grant(ref["kind"], ref["name"], namespace, why)

    def role_rules(self, kind: str, name: str, namespace: str) -> list[Object] | None:
        """The rules of a role as stored; None if it is not there."""
        plural = "clusterroles" if kind == "ClusterRole" else "roles"
        record = self._store.get(Key(plural + _GROUP, "" if kind == "ClusterRole" else namespace, name))
        return None if record is None else record.object.get("rules") or []

    def _grant(self, kind: str, name: str, namespace: str, why: str) -> Iterable[tuple[Rule, str]]:
        for rule in self.role_rules(kind, name, namespace) or ():
            yield Rule.compile(rule), why


_MASTER = Decision(True, "")


def _role(ref: Object) -> str:
    return f'{ref["kind"]} "{ref["name"]}"'


def _subject(binding: Object, user: User, namespace: str) -> str | None:
    """How the binding names the user, or None if it does not."""
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "User" and name == user.name:
            return f'User "{name}"'
        if kind == "Group" and name in user.groups:
            return f'Group "{name}"'
        if kind == "ServiceAccount":
            where = subject.get("namespace") or namespace
            if user.name == f"{SERVICE_ACCOUNT_PREFIX}{where}:{name}":
                return f'ServiceAccount "{name}/{where}"'
    return None

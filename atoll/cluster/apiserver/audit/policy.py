"""An audit.k8s.io/v1 Policy: the first rule that a request matches says how much of it is written. Pure.

What a Policy may say is checked as kube-apiserver does at its start; a request that no rule matches is not audited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from atoll.cluster.apiserver.ports import Attributes

Object = dict[str, Any]
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_GROUP = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_POLICY_KEYS = frozenset({"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"})
_RULE_KEYS = frozenset(
    {"level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs", "omitStages",
     "omitManagedFields"}
)  # fmt: skip


class BadPolicy(Exception):
    """The document is no Policy; the message says each fault."""


class Resources(Struct, frozen=True):
    group: str
    resources: tuple[str, ...]
    names: tuple[str, ...]


class Rule(Struct, frozen=True):
    level: int  # an index of LEVELS
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    resources: tuple[Resources, ...]
    namespaces: frozenset[str]
    paths: tuple[str, ...]
    omitted: frozenset[str]  # stages
    omit_managed_fields: bool

    def matches(self, asked: Attributes) -> bool:
        user = asked.user
        if self.users and user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._is_on(asked)
        if self.paths:
            return not asked.resource and any(_path_matches(path, asked.path) for path in self.paths)
        return True

    def _is_on(self, asked: Attributes) -> bool:
        if not asked.resource or (self.namespaces and asked.namespace not in self.namespaces):
            return False
        return not self.resources or any(_names(item, asked) for item in self.resources)


_NOTHING = Rule(
    0, frozenset(), frozenset(), frozenset(), (), frozenset(), (), frozenset(), omit_managed_fields=False
)  # fmt: skip


class Policy:
    """Use `read_policy`."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)

    def rule(self, asked: Attributes) -> Rule:
        """The rule for a request; one of level None where none matches."""
        return next((rule for rule in self.rules if rule.matches(asked)), _NOTHING)


def read_policy(obj: Any) -> Policy:
    """Raises BadPolicy."""
    if not isinstance(obj, dict) or (obj.get("apiVersion"), obj.get("kind")) != ("audit.k8s.io/v1", "Policy"):
        raise BadPolicy("must be a Policy of audit.k8s.io/v1")
    faults = [f'unknown field "{key}"' for key in obj if key not in _POLICY_KEYS]
    stages = obj.get("omitStages") or []
    faults += _stage_faults(stages, "omitStages")
    rules = obj.get("rules") or []
    if not isinstance(rules, list) or not rules:
        raise BadPolicy("loaded illegal policy with 0 rules")
    for index, rule in enumerate(rules):
        faults += _rule_faults(rule, f"rules[{index}]")
    if faults:
        raise BadPolicy("; ".join(faults))
    return Policy(_rule(rule, stages, bool(obj.get("omitManagedFields"))) for rule in rules)


def _rule(rule: Object, stages: list[str], omit_managed_fields: bool) -> Rule:
    own = rule.get("omitManagedFields")
    return Rule(
        LEVELS.index(rule["level"]),
        frozenset(rule.get("users") or ()),
        frozenset(rule.get("userGroups") or ()),
        frozenset(rule.get("verbs") or ()),
        tuple(
            Resources(
                item.get("group") or "", tuple(item.get("resources") or ()), tuple(item.get("resourceNames") or ())
            )
            for item in rule.get("resources") or ()
        ),
        frozenset(rule.get("namespaces") or ()),
        tuple(rule.get("nonResourceURLs") or ()),
        frozenset([*stages, *(rule.get("omitStages") or ())]),
        omit_managed_fields if own is None else bool(own),
    )


def _rule_faults(rule: Any, path: str) -> list[str]:
    if not isinstance(rule, dict):
        return [f"{path}: must be a mapping"]
    faults = [f'{path}: unknown field "{key}"' for key in rule if key not in _RULE_KEYS]
    for key in ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs", "omitStages"):
        value = rule.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return [*faults, f"{path}.{key}: must be a list of strings"]
    level = rule.get("level")
    if not level:
        faults.append(f"{path}.level: Required value")
    elif level not in LEVELS:
        known = ", ".join(f'"{item}"' for item in LEVELS)
        faults.append(f'{path}.level: Unsupported value: "{level}": supported values: {known}')
    faults += _path_faults(rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs")
    faults += _resource_faults(rule.get("resources") or [], f"{path}.resources")
    faults += _stage_faults(rule.get("omitStages") or [], f"{path}.omitStages")
    if rule.get("nonResourceURLs") and (rule.get("resources") or rule.get("namespaces")):
        faults.append(f"{path}.nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs")
    return faults


def _path_faults(urls: list[str], path: str) -> list[str]:
    faults = []
    for index, url in enumerate(urls):
        if url != "*" and not url.startswith("/"):
            faults.append(f"{path}[{index}]: non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            faults.append(f"{path}[{index}]: non-resource URL wildcards '*' must be the final character of the rule")
    return faults


def _resource_faults(resources: Any, path: str) -> list[str]:
    if not isinstance(resources, list):
        return [f"{path}: must be a list"]
    faults = []
    for item in resources:
        if not isinstance(item, dict):
            faults.append(f"{path}: must hold mappings")
            continue
        group = item.get("group") or ""
        if group not in ("", "*") and not _GROUP.fullmatch(group):
            faults.append(f'{path}.group: Invalid value: "{group}": must be a lowercase RFC 1123 subdomain')
        if item.get("resourceNames") and not item.get("resources"):
            faults.append(f"{path}.resourceNames: using resourceNames requires at least one resource")
    return faults


def _stage_faults(stages: Any, path: str) -> list[str]:
    if not isinstance(stages, list):
        return [f"{path}: must be a list"]
    allowed = ",".join(STAGES)
    return [
        f'{path}[{index}]: Invalid value: "{stage}": allowed stages are {allowed}'
        for index, stage in enumerate(stages)
        if stage not in STAGES
    ]


def _names(item: Resources, asked: Attributes) -> bool:
    if item.group not in ("*", asked.group):
        return False
    if not item.resources:
        return True
    if item.names and asked.name not in item.names:
        return False
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    return any(
        wanted in ("*", whole)
        or (bool(asked.subresource) and wanted == f"*/{asked.subresource}")
        or wanted == f"{asked.resource}/*"
        for wanted in item.resources
    )


def _path_matches(spec: str, path: str) -> bool:
    return spec in ("*", path) or (spec.endswith("*") and path.startswith(spec.rstrip("*")))

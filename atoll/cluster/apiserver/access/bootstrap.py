"""What a new cluster has before anyone writes: namespaces, RBAC, priority classes, its own Service.

The default roles and bindings are the real kube-apiserver's, recorded by tests/real/record_defaults.py (which is
also their drift test).
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import orjson

from atoll.base.clock import Clock, rfc3339

Object = dict[str, Any]
_RBAC_KINDS = {
    "clusterroles": "ClusterRole",
    "clusterrolebindings": "ClusterRoleBinding",
    "roles": "Role",
    "rolebindings": "RoleBinding",
}
NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")
PRIORITY_CLASSES = (
    (
        "system-node-critical",
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


def default_objects() -> list[Object]:
    """Everything in creation order, without what the API server fills in (uid, times, defaults)."""
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]
    for name, value, description in PRIORITY_CLASSES:
        objects.append(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                "description": description,
            }
        )
    return objects + default_rbac()


def legacy_token_tracking(clock: Clock) -> Object:
    """Since when the use of tokens kept in Secrets is known; kube-controller-manager's cleaner waits for it."""
    since = rfc3339(clock.wall())[:10]
    metadata = {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"since": since}}


def default_rbac() -> list[Object]:
    """The default roles and bindings; aggregated cluster roles with their rules already filled in."""
    text = resources.files("atoll.cluster.apiserver.access").joinpath("data/default_rbac.json").read_bytes()
    recorded = orjson.loads(text)
    roles = recorded["clusterroles"]
    for role in roles:
        if "aggregationRule" in role:
            role["rules"] = aggregated_rules(role, roles)
    api_version = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": api_version, "kind": kind, **item}
        for plural, kind in _RBAC_KINDS.items()
        for item in recorded[plural]
    ]


def aggregated_rules(role: Object, roles: list[Object]) -> list[Object]:
    """Rules of all roles that the aggregation rule selects (by matchLabels), in name order, without repeats."""
    rules: list[Object] = []
    for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
        wanted = selector.get("matchLabels") or {}
        for other in sorted(roles, key=lambda item: str(item["metadata"]["name"])):
            labels = other["metadata"].get("labels") or {}
            if other is not role and all(labels.get(key) == value for key, value in wanted.items()):
                source = aggregated_rules(other, roles) if "aggregationRule" in other else other.get("rules") or []
                rules += [rule for rule in source if rule not in rules]
    return rules

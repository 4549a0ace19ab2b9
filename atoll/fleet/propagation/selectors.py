"""Which clusters a ClusterAffinity means, and which objects a ResourceSelector means. Pure."""

from __future__ import annotations

from typing import Any

from atoll.fleet.model import ClusterView
from atoll.scheduling.matching import label_selector

Object = dict[str, Any]

# How precisely a selector names an object; more wins among policies, and is applied later among overrides.
NO_MATCH, ALL_KINDS, BY_KIND, BY_LABEL, BY_NAME = -1, 0, 1, 2, 3


def mismatch(affinity: Object | None, cluster: ClusterView) -> str:
    """Why the cluster is not in the affinity; "" when it is. No affinity means every cluster."""
    if not affinity:
        return ""
    if cluster.name in (affinity.get("exclude") or ()):
        return "excluded by the affinity"
    labels = affinity.get("labelSelector")
    if labels and not label_selector(labels)(cluster.labels):
        return "its labels do not match the affinity's labelSelector"
    for item in (affinity.get("fieldSelector") or {}).get("matchExpressions") or ():
        if not _field_matches(item, cluster):
            values = ", ".join(item.get("values") or ())
            return f"its {item['key']} is not {item['operator']} ({values})"
    names = affinity.get("clusterNames")
    if names and cluster.name not in names:
        return "not among the affinity's clusterNames"
    return ""


def _field_matches(requirement: Object, cluster: ClusterView) -> bool:
    """A cluster of several zones matches In where one of them, and NotIn where none of them, is listed."""
    have = cluster.field(requirement["key"])
    wanted = requirement.get("values") or ()
    operator = requirement["operator"]
    if operator == "In":
        return any(value in wanted for value in have)
    if operator == "NotIn":
        return not any(value in wanted for value in have)
    if operator == "Exists":
        return bool(have)
    if operator == "DoesNotExist":
        return not have
    return False


def precision(selector: Object, template: Object, policy_namespace: str | None) -> int:
    """How precisely the selector names the template (NO_MATCH where it does not).

    A namespaced policy's selector inherits the policy's namespace; a cluster-wide one's means every namespace.
    """
    if selector.get("apiVersion") != template.get("apiVersion") or selector.get("kind") != template.get("kind"):
        return NO_MATCH
    metadata = template["metadata"]
    namespace = selector.get("namespace") or policy_namespace
    if namespace and namespace != metadata.get("namespace"):
        return NO_MATCH
    if selector.get("name"):
        return BY_NAME if selector["name"] == metadata["name"] else NO_MATCH
    labels = selector.get("labelSelector")
    if labels is not None:
        matches = label_selector(labels)(metadata.get("labels") or {})
        return BY_LABEL if matches else NO_MATCH
    return BY_KIND


def best_precision(selectors: list[Object] | None, template: Object, policy_namespace: str | None) -> int:
    """The most precise match among selectors; none at all means everything (override policies only)."""
    if not selectors:
        return ALL_KINDS
    return max(precision(selector, template, policy_namespace) for selector in selectors)

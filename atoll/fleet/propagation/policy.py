"""Which propagation policy governs a template: namespaced before cluster-wide, priority, precision, name. Pure.

A claimed template stays with its policy while that still matches, unless a policy of higher priority that may
preempt (spec.preemption: Always) matches too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atoll.fleet import names
from atoll.fleet.propagation.selectors import BY_NAME, NO_MATCH, best_precision

Object = dict[str, Any]
_HOW = {1: "kind", 2: "labels", BY_NAME: "name"}


@dataclass(frozen=True, slots=True)
class Match:
    policy: Object
    priority: int
    precision: int
    why: str

    @property
    def is_cluster_wide(self) -> bool:
        return not self.policy["metadata"].get("namespace")

    @property
    def label(self) -> str:
        """PropagationPolicy ns/name, for people."""
        metadata = self.policy["metadata"]
        if self.is_cluster_wide:
            return f"ClusterPropagationPolicy {metadata['name']}"
        return f"PropagationPolicy {metadata['namespace']}/{metadata['name']}"

    def claim(self) -> dict[str, str | None]:
        """The template's annotations that say who governs it; None takes one away."""
        metadata = self.policy["metadata"]
        if self.is_cluster_wide:
            return {names.CLUSTER_POLICY_NAME: metadata["name"], names.POLICY_NAMESPACE: None, names.POLICY_NAME: None}
        return {
            names.CLUSTER_POLICY_NAME: None,
            names.POLICY_NAMESPACE: metadata["namespace"],
            names.POLICY_NAME: metadata["name"],
        }


def select(template: Object, policies: Iterable[Object]) -> Match | None:
    """The policy that governs the template, of all PropagationPolicies and ClusterPropagationPolicies given."""
    matches = [match for policy in policies if (match := _match(template, policy)) is not None]
    if not matches:
        return None
    ranked = sorted(matches, key=_rank)
    claimed = _claimed(template, matches)
    if claimed is None:
        return ranked[0]
    rivals = [
        match for match in ranked if match.policy["spec"].get("preemption") == "Always" and _beats(match, claimed)
    ]
    return rivals[0] if rivals else claimed


def _match(template: Object, policy: Object) -> Match | None:
    metadata = policy["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    namespace = metadata.get("namespace")
    space = template["metadata"].get("namespace")
    if namespace and namespace != space:
        return None
    if not namespace and space and names.is_reserved(space):
        return None
    precision = best_precision(policy["spec"].get("resourceSelectors") or [], template, namespace)
    if precision in (NO_MATCH, 0):
        return None
    priority = int(policy["spec"].get("priority") or 0)
    why = f"matches by {_HOW[precision]}, priority {priority}"
    return Match(policy, priority, precision, why)


def _rank(match: Match) -> tuple[bool, int, int, str]:
    """Least first: namespaced, then higher priority, then more precise, then the lower name."""
    return match.is_cluster_wide, -match.priority, -match.precision, match.policy["metadata"]["name"]


def _beats(match: Match, claimed: Match) -> bool:
    """A preempting policy needs a higher priority; a namespaced one also takes from a cluster-wide one."""
    if match.policy is claimed.policy:
        return False
    if match.is_cluster_wide != claimed.is_cluster_wide:
        return claimed.is_cluster_wide
    return match.priority > claimed.priority


def _claimed(template: Object, matches: list[Match]) -> Match | None:
    annotations = template["metadata"].get("annotations") or {}
    wide = annotations.get(names.CLUSTER_POLICY_NAME)
    name, namespace = annotations.get(names.POLICY_NAME), annotations.get(names.POLICY_NAMESPACE)
    for match in matches:
        metadata = match.policy["metadata"]
        if match.is_cluster_wide and wide == metadata["name"]:
            return match
        if not match.is_cluster_wide and (namespace, name) == (metadata["namespace"], metadata["name"]):
            return match
    return None


def claimed_by(template: Object) -> str:
    """The policy that the template's annotations name, for people; "" for none."""
    annotations = template["metadata"].get("annotations") or {}
    if annotations.get(names.CLUSTER_POLICY_NAME):
        return f"ClusterPropagationPolicy {annotations[names.CLUSTER_POLICY_NAME]}"
    if annotations.get(names.POLICY_NAME):
        return f"PropagationPolicy {annotations.get(names.POLICY_NAMESPACE)}/{annotations[names.POLICY_NAME]}"
    return ""

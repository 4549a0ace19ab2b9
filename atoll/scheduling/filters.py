"""Filters that look at one node and what is on it; those that look around are `topology.py`'s."""

from __future__ import annotations

from atoll.scheduling import status
from atoll.scheduling.matching import tolerates, untolerated
from atoll.scheduling.pod import Template, ports_conflict
from atoll.scheduling.resources import PODS
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status


def static(template: Template, node: NodeState) -> Status | None:
    """NodeUnschedulable, TaintToleration, NodeAffinity: what pods on the node do not change."""
    if node.unschedulable and not template.tolerates_unschedulable:
        return status.UNSCHEDULABLE
    if node.taints and untolerated(node.taints, template.tolerations):
        return status.UNTOLERATED
    if not template.matches_node(node.name, node.labels):
        return status.NODE_AFFINITY
    return None


def fit(template: Template, node: NodeState) -> Status | None:
    """NodeResourcesFit."""
    allocatable, requested = node.allocatable, node.requested
    reasons: list[str] | None = None
    resolvable = True
    if len(node.pods) + 1 > allocatable.get(PODS, 0):
        reasons = ["Too many pods"]
    for name, want in template.requests.items():
        if want <= 0 or name == PODS:
            continue
        have = allocatable.get(name, 0)
        if want > have - requested.get(name, 0):
            if reasons is None:
                reasons = []
            reasons.append(f"Insufficient {name}")
            if want > have:
                resolvable = False
    return None if reasons is None else Status(tuple(reasons), resolvable)


def dynamic(template: Template, node: NodeState) -> Status | None:
    """NodePorts and NodeResourcesFit."""
    if template.ports and node.ports and ports_conflict(template.ports, node.ports):
        return status.PORTS
    return fit(template, node)


def intolerable(template: Template, node: NodeState) -> int:
    """How many PreferNoSchedule taints the pod does not tolerate (a score)."""
    count = 0
    for taint in node.taints:
        if taint.get("effect") == "PreferNoSchedule" and not any(
            tolerates(item, taint)
            for item in template.tolerations
            if item.get("effect") in (None, "", "PreferNoSchedule")
        ):
            count += 1
    return count


def preference(template: Template, node: NodeState) -> int:
    """The summed weights of the preferred node affinity terms that the node matches (a score)."""
    return sum(weight for weight, matcher in template.preferred_nodes if matcher(node.name, node.labels))

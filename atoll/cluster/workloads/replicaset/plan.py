"""How many pods to create, which to delete, and the status that follows (pkg/controller/replicaset). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError
from atoll.cluster.workloads.common import conditions, pods
from atoll.cluster.workloads.common.selectors import Matcher
from atoll.objects.meta import Object, is_deleting, labels

BURST_REPLICAS = 500
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Scale:
    """At most one of the two is not empty."""

    create: int = 0
    delete: list[Object] = field(default_factory=list)


def plan_scale(owner: Object, active: list[Object], related: Callable[[], Iterable[Object]], now: float) -> Scale:
    """`related` gives the pods of all replica sets of the same Deployment (asked only when pods must go)."""
    if is_deleting(owner):
        return Scale()
    difference = len(active) - wanted(owner)
    if difference < 0:
        return Scale(create=min(-difference, BURST_REPLICAS))
    if difference == 0:
        return Scale()
    count = min(difference, BURST_REPLICAS)
    ordered = pods.deletion_order(active, related(), now) if count < len(active) else active
    return Scale(delete=ordered[:count])


def survey(controlled: Iterable[Object], matches: Matcher) -> tuple[list[Object], int]:
    """The active pods, and how many of those that match are on their way out. On the hot path of big sets."""
    active: list[Object] = []
    leaving = 0
    for pod in controlled:
        status = pod.get("status")
        if status is not None and status.get("phase") in _ENDED:
            continue
        if "deletionTimestamp" not in pod["metadata"]:
            active.append(pod)
        elif matches(labels(pod)):
            leaving += 1
    return active, leaving


def wanted(owner: Object) -> int:
    replicas = owner["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def calculate_status(
    owner: Object,
    active: list[Object],
    terminating: int | None,
    error: AtollError | None,
    now: float,
) -> tuple[Object, float | None]:
    """The status, and in how many seconds a ready pod may become available.

    `terminating` is None for a ReplicationController, whose status doesn't tell.
    """
    spec = owner["spec"]
    template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    pairs = template_labels.items()
    minimum = int(spec.get("minReadySeconds") or 0)
    fully = ready = available = 0
    next_check: float | None = None
    for pod in active:
        if pairs <= labels(pod).items():
            fully += 1
        wait = pods.available_in(pod, minimum, now)
        if wait is None:
            ready += minimum > 0 and pods.is_ready(pod)
        elif wait == 0:
            ready += 1
            available += 1
        else:
            ready += 1
            next_check = wait if next_check is None else min(next_check, wait)
    old = owner.get("status") or {}
    status: Object = {"replicas": len(active)}
    for name, count in (("fullyLabeledReplicas", fully), ("readyReplicas", ready), ("availableReplicas", available)):
        if count:
            status[name] = count
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = owner["metadata"].get("generation", 0)
    failures = _failure_condition(old.get("conditions"), owner, len(active), error, now)
    if failures:
        status["conditions"] = failures
    return status, next_check


def _failure_condition(
    present: list[Object] | None, owner: Object, active: int, error: AtollError | None, now: float
) -> list[Object]:
    failed = conditions.find(present, "ReplicaFailure")
    if error is not None and failed is None:
        difference = active - wanted(owner)
        reason = "FailedCreate" if difference < 0 else "FailedDelete" if difference > 0 else ""
        new = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": rfc3339(now),
            "reason": reason,
            "message": error.message,
        }
        return conditions.with_condition(present, new)
    if error is None and failed is not None:
        return conditions.without(present, "ReplicaFailure")
    return list(present or ())

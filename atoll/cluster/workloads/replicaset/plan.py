"""How many pods to create, which to delete, and the status that follows (pkg/controller/replicaset). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError
from atoll.cluster.workloads.common import conditions, pods
from atoll.cluster.workloads.common.batches import most_of_a_pass
from atoll.cluster.workloads.common.selectors import Matcher
from atoll.objects.meta import Object, is_deleting, labels

_ENDED = ("Succeeded", "Failed")


class Counts(NamedTuple):
    """Of the active pods; `again`: in how many seconds a ready one may become available."""

    active: int
    fully: int
    ready: int
    available: int
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """At most one of the two is not empty."""

    create: int = 0
    delete: list[Object] = field(default_factory=list)


def plan_scale(owner: Object, active: list[Object], related: Callable[[], Iterable[Object]], now: float) -> Scale:
    """`related` gives the pods of all replica sets of the same Deployment (asked only when pods must go)."""
    difference = len(active) - wanted(owner)
    if difference <= 0 or is_deleting(owner):
        return plan_growth(owner, len(active))
    count = min(difference, most_of_a_pass(len(active)))
    ordered = pods.deletion_order(active, related(), now) if count < len(active) else active
    return Scale(delete=ordered[:count])


def plan_growth(owner: Object, active: int) -> Scale:
    """The same where there are not too many."""
    missing = 0 if is_deleting(owner) else wanted(owner) - active
    return Scale(create=max(0, min(missing, most_of_a_pass(active))))


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


def template_labels(owner: Object) -> Object:
    found: Object = ((owner["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    return found


def min_ready_seconds(owner: Object) -> int:
    return int(owner["spec"].get("minReadySeconds") or 0)


def count(owner: Object, active: list[Object], now: float) -> Counts:
    """Look at each pod."""
    pairs = template_labels(owner).items()
    minimum = min_ready_seconds(owner)
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
    return Counts(len(active), fully, ready, available, next_check)


def calculate_status(
    owner: Object, counts: Counts, terminating: int | None, error: AtollError | None, now: float
) -> Object:
    """`terminating` is None for a ReplicationController, whose status doesn't tell."""
    old = owner.get("status") or {}
    status: Object = {"replicas": counts.active}
    for name, number in (
        ("fullyLabeledReplicas", counts.fully),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
    ):
        if number:
            status[name] = number
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = owner["metadata"].get("generation", 0)
    failures = _failure_condition(old.get("conditions"), owner, counts.active, error, now)
    if failures:
        status["conditions"] = failures
    return status


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

"""A pod's health, and which pod goes first when there are too many (pkg/controller/controller_utils.go). Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.objects.meta import Object, owner_reference

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and phase(pod) not in ("Succeeded", "Failed")


def is_terminating(pod: Object) -> bool:
    """Being deleted, and not yet finished."""
    return "deletionTimestamp" in pod["metadata"] and phase(pod) not in ("Succeeded", "Failed")


def ready_condition(pod: Object) -> Object | None:
    status = pod.get("status")
    for condition in (status.get("conditions") if status else None) or ():
        if condition["type"] == "Ready":
            return condition if condition["status"] == "True" else None
    return None


def is_ready(pod: Object) -> bool:
    return ready_condition(pod) is not None


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """0 when available; seconds until it will be; None while it isn't ready."""
    condition = ready_condition(pod)
    if condition is None:
        return None
    if min_ready_seconds == 0:
        return 0.0
    since = condition.get("lastTransitionTime")
    if not since:
        return None
    return max(0.0, parse_rfc3339(since) + min_ready_seconds - now)


def is_available(pod: Object, min_ready_seconds: int, now: float) -> bool:
    return available_in(pod, min_ready_seconds, now) == 0.0


def deletion_order(pods: Iterable[Object], related: Iterable[Object], now: float) -> list[Object]:
    """Who goes first: not assigned, pending, not ready, cheap, doubled up on a node, newly ready, restarted, young.

    `related` are the active pods of all replica sets of the same owner: their number on a pod's node is its rank.
    """
    doubled = Counter(str(pod["spec"].get("nodeName") or "") for pod in related if is_active(pod))
    log_age = cache(partial(_log_age, now=now))  # pods of one second have one

    def order(pod: Object) -> tuple[Any, ...]:
        node = str(pod["spec"].get("nodeName") or "")
        ready = ready_condition(pod)
        return (
            node != "",
            _PHASES.get(phase(pod), 0),
            ready is not None,
            deletion_cost(pod),
            -doubled[node],
            log_age((ready or {}).get("lastTransitionTime")),
            -most_restarts(pod),
            log_age(pod["metadata"].get("creationTimestamp")),
            pod["metadata"].get("uid", ""),
        )

    return sorted(pods, key=order)


def deletion_cost(pod: Object) -> int:
    """0 where it is absent or not an integer."""
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST)
    try:
        return int(text) if text else 0
    except ValueError:
        return 0


def most_restarts(pod: Object) -> int:
    status = pod.get("status") or {}
    return max((int(item.get("restartCount") or 0) for item in status.get("containerStatuses") or ()), default=0)


def _log_age(time: str | None, now: float) -> int:
    if not time:
        return -2
    age = now - parse_rfc3339(time)
    return int(math.log2(age * 1e9)) if age > 0 else -1


def pod_from_template(template: Object, owner: Object) -> Object:
    """The pod that a controller creates; the parts of the template are shared, not copied."""
    given = template.get("metadata") or {}
    name = owner["metadata"]["name"]
    metadata: Object = {"generateName": f"{name}-", "ownerReferences": [owner_reference(owner)]}
    for part in ("labels", "annotations"):
        if given.get(part):
            metadata[part] = dict(given[part])
    if given.get("finalizers"):
        metadata["finalizers"] = list(given["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}

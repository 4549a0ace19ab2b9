"""The status of a Deployment: counts, and the conditions Available, Progressing and ReplicaFailure. Pure.

Reasons and messages are those of pkg/controller/deployment, on which `kubectl rollout status` depends.
"""

from __future__ import annotations

from collections.abc import Iterable

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common.counts import fenceposts
from atoll.cluster.workloads.deployment.revisions import UNLIMITED
from atoll.objects.meta import Object


def replicas(obj: Object) -> int:
    found = obj["spec"].get("replicas")
    return 1 if found is None else int(found)


def is_rolling(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def surge_and_unavailable(deployment: Object) -> tuple[int, int]:
    """Resolved against the wanted replicas; (0, 0) for Recreate."""
    if not is_rolling(deployment):
        return 0, 0
    desired = replicas(deployment)
    rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate") or {}
    surge, unavailable = fenceposts(rolling.get("maxSurge"), rolling.get("maxUnavailable"), desired)
    return surge, min(unavailable, desired)


def deadline(deployment: Object) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == UNLIMITED else int(seconds)


def total(replica_sets: Iterable[Object], name: str) -> int:
    return sum(int((item.get("status") or {}).get(name) or 0) for item in replica_sets)


def condition(kind: str, status: str, reason: str, message: str, now: float) -> Object:
    at = rfc3339(now)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": at,
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }


def calculate(
    deployment: Object, all_sets: list[Object], new_set: Object | None, present: list[Object], now: float
) -> Object:
    """Counts and Available; `present` are the conditions so far."""
    available = total(all_sets, "availableReplicas")
    created = total(all_sets, "replicas")
    wanted_total = sum(replicas(item) for item in all_sets)
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": created,
        "updatedReplicas": total([new_set], "replicas") if new_set is not None else 0,
        "readyReplicas": total(all_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted_total - available),
    }
    status: Object = {name: count for name, count in counts.items() if count}
    terminating = _terminating(all_sets)
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions is not None:
        status["collisionCount"] = collisions
    if available >= replicas(deployment) - surge_and_unavailable(deployment)[1]:
        minimum = condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now
        )
    else:
        minimum = condition(
            "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now
        )
    status["conditions"] = conditions.with_condition(present, minimum)
    return status


def _terminating(all_sets: list[Object]) -> int | None:
    count = 0
    for item in all_sets:
        status = item.get("status") or {}
        told = status.get("terminatingReplicas")
        if told is None:
            if status.get("observedGeneration"):
                return None
            continue
        count += int(told)
    return count


def is_complete(deployment: Object, status: Object) -> bool:
    wanted = replicas(deployment)
    return bool(
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def with_progress(
    deployment: Object, all_sets: list[Object], new_set: Object | None, status: Object, now: float
) -> Object:
    """`status` of `calculate`, with the conditions Progressing and ReplicaFailure brought up to date."""
    present: list[Object] = status["conditions"]
    current = conditions.find(present, "Progressing")
    seconds = deadline(deployment)
    if seconds is None:
        present = conditions.without(present, "Progressing")
    finished = status.get("replicas", 0) == status.get("updatedReplicas", 0) and (current or {}).get("reason") == (
        "NewReplicaSetAvailable"
    )
    if seconds is not None and not finished:
        present = _progress(deployment, new_set, status, present, current, seconds, now)
    failure = _replica_failure(all_sets, new_set)
    if failure is not None:
        present = conditions.with_condition(present, failure)
    else:
        present = conditions.without(present, "ReplicaFailure")
    return {**status, "conditions": present}


def _progress(
    deployment: Object,
    new_set: Object | None,
    status: Object,
    present: list[Object],
    current: Object | None,
    seconds: int,
    now: float,
) -> list[Object]:
    named = (
        f'ReplicaSet "{new_set["metadata"]["name"]}"'
        if new_set is not None
        else f'Deployment "{deployment["metadata"]["name"]}"'
    )
    if is_complete(deployment, status):
        message = f"{named} has successfully progressed."
        done = condition("Progressing", "True", "NewReplicaSetAvailable", message, now)
        return conditions.with_condition(present, done)
    if _is_progressing(deployment.get("status") or {}, status):
        made = condition("Progressing", "True", "ReplicaSetUpdated", f"{named} is progressing.", now)
        if current is not None and current["status"] == "True":
            made["lastTransitionTime"] = current.get("lastTransitionTime", made["lastTransitionTime"])
        return [*conditions.without(present, "Progressing"), made]
    if _has_timed_out(current, seconds, now):
        message = f"{named} has timed out progressing."
        late = condition("Progressing", "False", "ProgressDeadlineExceeded", message, now)
        return conditions.with_condition(present, late)
    return present


def _is_progressing(old: Object, new: Object) -> bool:
    def count(status: Object, name: str) -> int:
        return int(status.get(name) or 0)

    left_before = count(old, "replicas") - count(old, "updatedReplicas")
    left_now = count(new, "replicas") - count(new, "updatedReplicas")
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return left_now < left_before or any(count(new, name) > count(old, name) for name in grown)


def _has_timed_out(current: Object | None, seconds: int, now: float) -> bool:
    if current is None or current.get("reason") == "NewReplicaSetAvailable":
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    since = current.get("lastUpdateTime")
    return bool(since) and parse_rfc3339(str(since)) + seconds < now


def seconds_to_deadline(deployment: Object, status: Object, now: float) -> float | None:
    """When to look again whether the deadline has passed; None where there is nothing to wait for."""
    seconds = deadline(deployment)
    current = conditions.find(status.get("conditions"), "Progressing")
    if seconds is None or current is None or not current.get("lastUpdateTime"):
        return None
    if is_complete(deployment, status) or current.get("reason") == "ProgressDeadlineExceeded":
        return None
    return max(1.0, parse_rfc3339(current["lastUpdateTime"]) + seconds - now + 1.0)


def _replica_failure(all_sets: list[Object], new_set: Object | None) -> Object | None:
    for item in [*([new_set] if new_set is not None else []), *all_sets]:
        found = conditions.find((item.get("status") or {}).get("conditions"), "ReplicaFailure")
        if found is not None:
            at = found.get("lastTransitionTime")
            return {**found, "lastUpdateTime": at}
    return None

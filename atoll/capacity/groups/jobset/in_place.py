"""Restart strategy InPlaceRestart: healthy pods are restarted where they are. Pure.

An agent in each pod (JobSet's own image, which users put into their templates) counts in the pod's annotation how often
it began, holds the workers back until all pods are at the same count, and restarts its pod when it is told that its
count is of the past. Here is the other half, JobSet's KEP-467: from the counts of all pods follow the two numbers in
the JobSet's status that agents read. While they differ, all below the highest are of the past; once all are equal, that
is the current one. A pod that failed for good is made anew by its Job; a Job that failed restarts all as Recreate does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atoll.capacity.groups.jobset import model, policies
from atoll.capacity.groups.jobset.model import Object, Plan
from atoll.objects import meta

STRATEGY: Final = "InPlaceRestart"
ATTEMPT: Final = f"{model.PREFIX}/in-place-restart-attempt"
CURRENT, PREVIOUS = "currentInPlaceRestartAttempt", "previousInPlaceRestartAttempt"


def is_in_place(jobset: Object) -> bool:
    return (jobset["spec"].get("failurePolicy") or {}).get("restartStrategy") == STRATEGY


def follow(jobset: Object, pods: Sequence[Object], plan: Plan, now: float) -> None:
    """Put into the plan's status what agents are to do; `pods`: all of the JobSet's."""
    most = int(jobset["spec"]["failurePolicy"].get("maxRestarts") or 0)
    attempts = [found for pod in pods if (found := _attempt(pod)) is not None]
    status = plan.status
    uncounted = int(status.get("restarts") or 0) - int(status.get("restartsCountTowardsMax") or 0)
    if max(attempts, default=0) - uncounted > most or max(map(_container_restarts, pods), default=0) > most:
        policies.fail(plan, "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts", now)
    elif len(attempts) == _size(jobset) and len(set(attempts)) == 1:
        status[CURRENT] = attempts[0]
    elif attempts and max(attempts) > 0:
        status[PREVIOUS] = max(max(attempts) - 1, int(status.get(PREVIOUS) or 0))


def _attempt(pod: Object) -> int | None:
    """None: its agent has not said, or the pod is one that failed and may still be there beside its replacement."""
    text = meta.annotations(pod).get(ATTEMPT, "")
    return int(text) if text.isdigit() and (pod.get("status") or {}).get("phase") != "Failed" else None


def _container_restarts(pod: Object) -> int:
    """A container that fails too fast for its agent to count is told by the kubelet's counter."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return max((int(item.get("restartCount") or 0) for item in containers), default=0)


def _size(jobset: Object) -> int:
    jobs = jobset["spec"].get("replicatedJobs") or ()
    return sum(int(item.get("replicas", 1)) * int(item["template"]["spec"].get("parallelism", 1)) for item in jobs)

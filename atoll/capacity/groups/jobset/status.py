"""A JobSet's status, of its Jobs: counts by replicated job, and conditions. Pure."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.capacity.groups.jobset import model
from atoll.capacity.groups.jobset.model import Children, Object
from atoll.objects.meta import labels


def with_counts(jobset: Object, children: Children) -> Object:
    """A copy of the status in which each replicated job's Jobs are counted anew."""
    old = jobset.get("status") or {}
    known = {item["name"]: item for item in old.get("replicatedJobsStatus") or ()}
    counts = []
    for replicated in jobset["spec"].get("replicatedJobs") or ():
        name = replicated["name"]
        active = [job for job in children.active if labels(job).get(model.REPLICATED_JOB) == name]
        kept = {key: value for key, value in known.get(name, {}).items() if key.startswith("jobRestarts")}
        counts.append(
            {
                "name": name,
                "ready": sum(map(is_ready, active)),
                "succeeded": sum(labels(job).get(model.REPLICATED_JOB) == name for job in children.succeeded),
                "failed": sum(labels(job).get(model.REPLICATED_JOB) == name for job in children.failed),
                "active": sum(bool((job.get("status") or {}).get("active")) for job in active),
                "suspended": sum(map(model.is_suspended, active)),
                **kept,
            }
        )
    return {**old, "restarts": int(old.get("restarts") or 0), "replicatedJobsStatus": counts}


def is_ready(job: Object) -> bool:
    """Whether all pods that run beside each other are ready or done."""
    spec, status = job["spec"], job.get("status") or {}
    pods = int(spec.get("parallelism", 1))
    if spec.get("completions") is not None:
        pods = min(pods, int(spec["completions"]))
    return int(status.get("ready") or 0) + int(status.get("succeeded") or 0) >= pods


def has_started(status: Object, replicated: Object) -> bool:
    """Whether each of its Jobs is ready or over."""
    found = _counts(status, replicated["name"])
    return int(found["ready"] + found["succeeded"] + found["failed"]) == int(replicated.get("replicas", 1))


def may_start(status: Object, replicated: Object, jobs: list[Object]) -> bool:
    """Whether all that it depends on has come so far."""
    sizes = {item["name"]: int(item.get("replicas", 1)) for item in jobs}
    for wanted in replicated.get("dependsOn") or ():
        found = _counts(status, wanted["name"])
        done = found["succeeded"]
        if wanted["status"] == "Ready":
            done += found["ready"] + found["failed"]
        if done != sizes.get(wanted["name"]):
            return False
    return True


def _counts(status: Object, name: str) -> Object:
    empty = {"ready": 0, "succeeded": 0, "failed": 0}
    return next((item for item in status["replicatedJobsStatus"] if item["name"] == name), empty)


def with_condition(status: Object, kind: str, holds: bool, reason: str, message: str, now: float) -> Object:
    """A copy with that condition; nothing changes where it says so already, or is to be untrue and is not there."""
    wanted = "True" if holds else "False"
    listed = list(status.get("conditions") or ())
    fresh = {"type": kind, "status": wanted, "reason": reason, "message": message, "lastTransitionTime": rfc3339(now)}
    for index, old in enumerate(listed):
        if old["type"] == kind:
            if old["status"] == wanted:
                return status
            listed[index] = fresh
            return {**status, "conditions": listed}
    return {**status, "conditions": [*listed, fresh]} if holds else status

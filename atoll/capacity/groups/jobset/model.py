"""What is read of a JobSet and its Jobs, and what a pass over it decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from atoll.objects.meta import condition, labels

Object = dict[str, Any]

PREFIX: Final = "jobset.sigs.k8s.io"
NAME: Final = f"{PREFIX}/jobset-name"
UID: Final = f"{PREFIX}/jobset-uid"
REPLICATED_JOB: Final = f"{PREFIX}/replicatedjob-name"
REPLICAS: Final = f"{PREFIX}/replicatedjob-replicas"
JOB_INDEX: Final = f"{PREFIX}/job-index"
JOB_KEY: Final = f"{PREFIX}/job-key"
GLOBAL_INDEX: Final = f"{PREFIX}/job-global-index"
GLOBAL_REPLICAS: Final = f"{PREFIX}/global-replicas"
GROUP: Final = f"{PREFIX}/group-name"
GROUP_REPLICAS: Final = f"{PREFIX}/group-replicas"
GROUP_INDEX: Final = f"{PREFIX}/job-group-index"
RESTARTS: Final = f"{PREFIX}/restart-attempt"
JOB_RESTARTS: Final = f"{PREFIX}/job-restart-attempt"
COORDINATOR: Final = f"{PREFIX}/coordinator"
EXCLUSIVE: Final = f"alpha.{PREFIX}/exclusive-topology"
NODE_SELECTOR_STRATEGY: Final = f"alpha.{PREFIX}/node-selector"
NAMESPACED_JOB: Final = f"alpha.{PREFIX}/namespaced-job"
NO_SCHEDULE_TAINT: Final = f"alpha.{PREFIX}/no-schedule"
CONTROLLER: Final = f"{PREFIX}/jobset-controller"

COMPLETED, FAILED, SUSPENDED = "Completed", "Failed", "Suspended"
IN_PROGRESS, STARTED = "StartupPolicyInProgress", "StartupPolicyCompleted"


@dataclass(slots=True)
class Children:
    """The Jobs of a JobSet by what became of them; `previous` are of a run that was given up."""

    active: list[Object] = field(default_factory=list)
    succeeded: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)
    previous: list[Object] = field(default_factory=list)

    def names(self) -> set[str]:
        return {job["metadata"]["name"] for job in (*self.active, *self.succeeded, *self.failed, *self.previous)}


@dataclass(slots=True)
class Plan:
    """One step: what is written, in this order. An event is (type, reason, message) and told once its step is done."""

    status: Object
    delete: list[Object] = field(default_factory=list)
    service: Object | None = None
    claims: list[Object] = field(default_factory=list)
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    again_seconds: float | None = None
    remove: bool = False  # its time to live is over


def restarts(jobset: Object) -> int:
    return int((jobset.get("status") or {}).get("restarts") or 0)


def job_restarts(status: Object, replicated: str, index: int, counted: bool = False) -> int:
    """How often that one Job was restarted by itself; `counted`: as far as that counts towards the maximum."""
    name = "jobRestartsCountTowardsMax" if counted else "jobRestarts"
    for item in status.get("replicatedJobsStatus") or ():
        if item["name"] == replicated:
            found = item.get(name) or ()
            return int(found[index]) if index < len(found) else 0
    return 0


def sorted_out(jobset: Object, jobs: Iterable[Object]) -> Children:
    found = Children()
    status = jobset.get("status") or {}
    attempt = restarts(jobset)
    for job in jobs:
        own = labels(job)
        again = job_restarts(status, own.get(REPLICATED_JOB, ""), number(own.get(JOB_INDEX)))
        if number(own.get(RESTARTS)) < attempt or number(own.get(JOB_RESTARTS)) < again:
            found.previous.append(job)
        elif is_true(job, "Failed"):
            found.failed.append(job)
        elif is_true(job, "Complete"):
            found.succeeded.append(job)
        else:
            found.active.append(job)
    return found


def number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def is_true(obj: Object, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


def is_suspended(obj: Object) -> bool:
    return bool(obj["spec"].get("suspend"))


def is_over(jobset: Object) -> bool:
    return is_true(jobset, COMPLETED) or is_true(jobset, FAILED)


def subdomain(jobset: Object) -> str:
    return str((jobset["spec"].get("network") or {}).get("subdomain") or jobset["metadata"]["name"])


def in_order(jobset: Object) -> bool:
    return (jobset["spec"].get("startupPolicy") or {}).get("startupPolicyOrder") == "InOrder"

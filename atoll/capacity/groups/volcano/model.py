"""What is read of a Volcano Job and its pods, and what a pass over it decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from atoll.objects import meta
from atoll.objects.meta import is_deleting

Object = dict[str, Any]

JOB_NAME: Final = "volcano.sh/job-name"
JOB_NAMESPACE: Final = "volcano.sh/job-namespace"
JOB_VERSION: Final = "volcano.sh/job-version"
JOB_RETRIES: Final = "volcano.sh/job-retry-count"
QUEUE_NAME: Final = "volcano.sh/queue-name"
TASK: Final = "volcano.sh/task-spec"
TASK_INDEX: Final = "volcano.sh/task-index"
GROUP_NAME: Final = "scheduling.k8s.io/group-name"
SCHEDULER: Final = "volcano"

FINISHED: Final = ("Completed", "Failed", "Terminated", "Aborted")
ENDING: Final = {"Aborting": "Aborted", "Terminating": "Terminated", "Completing": "Completed"}
_OVER = ("Succeeded", "Failed")


@dataclass(slots=True)
class Plan:
    """One step, in this order: pods that go, objects that must exist, pods that come, the status, then the events."""

    status: Object
    delete: list[Object] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    create: list[Object] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    again_seconds: float | None = None
    remove: bool = False
    drop_group: bool = False  # its PodGroup goes: it takes nothing of its queue any more


def phase_of(job: Object) -> str:
    return str(((job.get("status") or {}).get("state") or {}).get("phase") or "")


def tasks(job: Object) -> list[Object]:
    return job["spec"].get("tasks") or []


def task_name(task: Object, index: int) -> str:
    return str(task.get("name") or f"default{index}")


def task_least(task: Object) -> int:
    """How many of its pods make sense at all."""
    replicas = int(task.get("replicas", 1))
    found = task.get("minAvailable")
    return replicas if found is None else int(found)


def least(job: Object) -> int:
    found = job["spec"].get("minAvailable")
    return sum(map(task_least, tasks(job))) if found is None else int(found)


def pod_phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_over(pod: Object) -> bool:
    return pod_phase(pod) in _OVER


def is_alive(pod: Object) -> bool:
    return not is_over(pod) and not is_deleting(pod)


def version_of(pod: Object) -> int:
    text = meta.annotations(pod).get(JOB_VERSION, "0")
    return int(text) if text.isdigit() else 0


def task_of(pod: Object) -> str:
    return meta.annotations(pod).get(TASK, "")


def index_of(pod: Object) -> int:
    text = meta.annotations(pod).get(TASK_INDEX, "")
    return int(text) if text.isdigit() else -1

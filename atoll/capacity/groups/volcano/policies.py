"""Which action a Volcano Job's policies want, of what is seen of its pods. Pure.

A task's policies come before the Job's. Events are read from the pods as they are, so none is lost while nobody looks:
PodFailed (or an exit code), PodEvicted (a pod is deleted that was not to go), PodPending and PodRunning with a
time-out, TaskCompleted, TaskFailed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atoll.base.clock import parse_rfc3339
from atoll.capacity.groups.volcano import model
from atoll.capacity.groups.volcano.model import Object
from atoll.objects.gotemplate.sprig_more import parse_duration
from atoll.objects.meta import condition, is_deleting

SYNC = "SyncJob"


@dataclass(frozen=True, slots=True)
class Seen:
    """An event, of a task ("" for none) and pod."""

    event: str
    task: str = ""
    pod: Object | None = None
    exit_code: int = 0
    since: float | None = None  # of a state that policies may give a time-out


@dataclass(frozen=True, slots=True)
class Wanted:
    action: str
    seen: Seen


def wanted(job: Object, pods: Sequence[Object], now: float) -> tuple[Wanted | None, float | None]:
    """The first action that a policy wants, if any; and in how many seconds a time-out may want one."""
    again: float | None = None
    for seen in _events(job, pods):
        for policy in _policies(job, seen.task):
            if not _applies(policy, seen):
                continue
            left = _left(policy, seen, now)
            if left > 0:
                again = left if again is None else min(again, left)
                continue
            if policy.get("action") and policy["action"] != SYNC:
                return Wanted(str(policy["action"]), seen), None
            break
    return None, again


def _events(job: Object, pods: Sequence[Object]) -> Iterator[Seen]:
    for pod in pods:
        phase, task = model.pod_phase(pod), model.task_of(pod)
        if is_deleting(pod):
            yield Seen("PodEvicted", task, pod)
        elif phase == "Failed":
            yield Seen("PodFailed", task, pod, _exit_code(pod))
        elif phase in ("Pending", "Running"):
            yield Seen(f"Pod{phase}", task, pod, since=_since(pod, phase))
    for place, item in enumerate(model.tasks(job)):
        name, replicas = model.task_name(item, place), int(item.get("replicas", 1))
        phases = [model.pod_phase(pod) for pod in pods if model.task_of(pod) == name]
        if replicas and phases.count("Succeeded") >= replicas:
            yield Seen("TaskCompleted", name)
        elif replicas and phases.count("Failed") >= replicas:
            yield Seen("TaskFailed", name)


def _policies(job: Object, task: str) -> Iterator[Object]:
    for place, item in enumerate(model.tasks(job)):
        if task and model.task_name(item, place) == task:
            yield from item.get("policies") or ()
    yield from job["spec"].get("policies") or ()


def _applies(policy: Object, seen: Seen) -> bool:
    named = {policy.get("event"), *(policy.get("events") or ())} - {None, ""}
    if policy.get("exitCode"):
        return seen.event == "PodFailed" and int(policy["exitCode"]) == seen.exit_code
    if seen.event in named:
        return True
    return "*" in named and seen.event in ("PodFailed", "PodEvicted", "TaskFailed")


def _left(policy: Object, seen: Seen, now: float) -> float:
    if seen.since is None:
        return 0.0
    return seen.since + parse_duration(policy.get("timeout") or "0s") - now


def _since(pod: Object, phase: str) -> float:
    kind = "Ready" if phase == "Running" else "PodScheduled"
    text = (condition(pod, kind) or {}).get("lastTransitionTime") if phase == "Running" else None
    return parse_rfc3339(text or pod["metadata"]["creationTimestamp"])


def _exit_code(pod: Object) -> int:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code:
            return int(code)
    return 0

"""What Volcano's webhooks do, as admission: a Job's defaults, and mistakes refused when they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

from atoll.capacity.groups.checks import Problem
from atoll.capacity.groups.volcano import model
from atoll.capacity.groups.volcano.model import Object
from atoll.capacity.queueing.admission import Request

_ACTIONS = (
    "AbortJob", "RestartJob", "RestartTask", "RestartPod", "RestartPartition", "TerminateJob", "CompleteJob",
    "ResumeJob", "SyncJob", "EnqueueJob",
)  # fmt: skip


_MOST_PODS = 100_000  # of one Job, as of an indexed one of Kubernetes: their names are listed in memory


class VolcanoDefaults:
    """Mutating."""

    resources = frozenset({"jobs.batch.volcano.sh"})

    def __init__(self, on: Callable[[], bool]) -> None:
        self._on = on

    def mutate(self, request: Request) -> Awaitable[None] | None:
        if request.operation == "CREATE" and not request.subresource and request.obj is not None and self._on():
            set_defaults(request.obj)
        return None


def set_defaults(job: Object) -> None:
    """In place."""
    spec = job.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("queue", "default")
    spec.setdefault("schedulerName", model.SCHEDULER)
    spec.setdefault("maxRetry", 3)
    for place, task in enumerate(spec.get("tasks") or ()):
        if isinstance(task, dict):
            task.setdefault("name", f"default{place}")
            task.setdefault("maxRetry", 3)
            task.setdefault("replicas", 1)
            task.setdefault("minAvailable", task["replicas"])
    if not spec.get("minAvailable"):
        spec["minAvailable"] = sum(int(task.get("minAvailable", 1)) for task in spec.get("tasks") or ())


def problems_of(job: Object) -> Iterator[Problem]:
    """(field, why)."""
    tasks = model.tasks(job)
    names = Counter(model.task_name(task, place) for place, task in enumerate(tasks))
    for place, task in enumerate(tasks):
        at, name = f"spec.tasks[{place}]", model.task_name(task, place)
        if names[name] > 1:
            yield f"{at}.name", f"{name!r} is the name of another task too"
        if model.task_least(task) > int(task.get("replicas", 1)):
            yield f"{at}.minAvailable", f"{task['minAvailable']} is more than its {task.get('replicas', 1)} replicas"
        for other in (task.get("dependsOn") or {}).get("name") or ():
            if other not in names or other == name:
                yield f"{at}.dependsOn", f"{other!r} is no other task of the job"
        yield from _policy_problems(task.get("policies") or (), at)
    replicas = sum(int(task.get("replicas", 1)) for task in tasks)
    if model.least(job) > replicas:
        yield "spec.minAvailable", f"{model.least(job)} is more than the {replicas} pods of all tasks"
    if replicas > _MOST_PODS:
        yield "spec.tasks", f"{replicas} pods are more than the {_MOST_PODS} of one Job: make several"
    yield from _policy_problems(job["spec"].get("policies") or (), "spec")


def changes_of(new: Object, old: Object) -> Iterator[Problem]:
    """What a Job runs is fixed, but for how many pods of it."""
    yield from problems_of(new)
    if _fixed(new) != _fixed(old):
        yield "spec", "may change in minAvailable, and in replicas and minAvailable of tasks only"


def _fixed(job: Object) -> Object:
    def without(task: Object) -> Object:
        return {name: value for name, value in task.items() if name not in ("replicas", "minAvailable")}

    return {**job["spec"], "minAvailable": None, "tasks": [without(task) for task in model.tasks(job)]}


def _policy_problems(policies: Iterable[Object], at: str) -> Iterator[Problem]:
    for place, policy in enumerate(policies):
        where = f"{at}.policies[{place}]"
        events = [*(policy.get("events") or ()), *([policy["event"]] if policy.get("event") else [])]
        if bool(events) == (policy.get("exitCode") is not None):
            yield where, "names either events or an exitCode"
        if policy.get("exitCode") == 0:
            yield f"{where}.exitCode", "0 is no error"
        if policy.get("action") and policy["action"] not in _ACTIONS:
            yield f"{where}.action", f"{policy['action']!r} is none of {', '.join(_ACTIONS)}"

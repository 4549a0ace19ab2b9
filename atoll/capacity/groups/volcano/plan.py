"""The next step of a Volcano Job: a machine of states over its pods. Pure.

Pending → Running when enough pods run; from both a policy's action leads to Restarting, Aborting, Terminating or
Completing, in which pods go, and from there on. A Job's version rises whenever its pods are to go, so what happens to
pods of an older version is no event. Restarts count up to maxRetry.

A command (bus.volcano.sh) is carried out like a policy's action where the Job's phase has a meaning for it: ResumeJob
once it is Aborting or Aborted, others while it is Pending or Running. The status that is written remembers it: one that
is seen again finds the Job in another phase, and is nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.capacity.groups.volcano import construct, model, policies
from atoll.capacity.groups.volcano.model import Object, Plan
from atoll.capacity.groups.volcano.policies import Wanted
from atoll.objects.meta import is_deleting
from atoll.runtime.events import NORMAL, WARNING

MOST_PER_PASS = 500
"""Pods created at once; the next pass makes more."""
_DEFAULT_RETRIES = 3
_KILLS = {
    "AbortJob": "Aborting",
    "TerminateJob": "Terminating",
    "CompleteJob": "Completing",
    "RestartJob": "Restarting",
}
_SOME = ("RestartTask", "RestartPod", "RestartPartition")


def plan_job(job: Object, pods: Sequence[Object], group: Object | None, now: float, command: str = "") -> Plan:
    """`pods`: those that it controls; `group`: its PodGroup, if that exists; `command`: the action asked for."""
    phase = model.phase_of(job) or "Pending"
    version = int((job.get("status") or {}).get("version") or 0)
    current = [pod for pod in pods if model.version_of(pod) >= version]
    plan = Plan(_counted(job, pods, phase, now))
    if command in (*_KILLS, "ResumeJob") and _commanded(command, phase, plan, now):
        return plan
    if phase in model.FINISHED:
        plan.drop_group = group is not None and not (phase == "Completed" and _whole(job, pods))
        _after_the_end(job, phase, pods, plan, now)
    elif phase in model.ENDING:
        alive = [pod for pod in pods if not model.is_over(pod)]
        plan.delete = [pod for pod in alive if not is_deleting(pod)]
        if not alive:
            _enter(plan, model.ENDING[phase], now)
    elif phase == "Restarting":
        _restarting(job, pods, version, plan, now)
    else:
        _running(job, phase, current, group, plan, now)
    return plan


def _whole(job: Object, pods: Sequence[Object]) -> bool:
    """Whether all of its minimum came to an end by themselves: its PodGroup says Completed, and holds nothing."""
    return sum(model.is_over(pod) for pod in pods) >= model.least(job)


def _commanded(action: str, phase: str, plan: Plan, now: float) -> bool:
    """Whether that means anything to a Job of this phase."""
    if (phase not in ("Aborting", "Aborted")) if action == "ResumeJob" else (phase not in ("Pending", "Running")):
        return False
    plan.status["version"] = int(plan.status.get("version") or 0) + 1
    if action in ("RestartJob", "ResumeJob"):
        plan.status["retryCount"] = int(plan.status.get("retryCount") or 0) + 1
    _enter(plan, _KILLS.get(action, "Restarting"), now, action, f"{action}, by command")
    return True


def _enter(plan: Plan, phase: str, now: float, reason: str = "", message: str = "") -> None:
    state = {"phase": phase, "reason": reason, "message": message, "lastTransitionTime": rfc3339(now)}
    plan.status["state"] = {name: value for name, value in state.items() if value}
    conditions = plan.status.get("conditions") or []
    plan.status["conditions"] = [*conditions, {"status": phase, "lastTransitionTime": rfc3339(now)}]
    kind = WARNING if phase in ("Failed", "Aborting", "Aborted") else NORMAL
    plan.events.append((kind, f"Job{phase}", message or f"the job is {phase.lower()}"))


def _counted(job: Object, pods: Sequence[Object], phase: str, now: float) -> Object:
    old = job.get("status") or {}
    leaving = [pod for pod in pods if is_deleting(pod)]
    found = Counter(model.pod_phase(pod) for pod in pods if not is_deleting(pod))
    tasks: dict[str, Counter[str]] = {}
    for pod in pods:
        if not is_deleting(pod):
            tasks.setdefault(model.task_of(pod), Counter())[model.pod_phase(pod)] += 1
    names = ("pending", "running", "succeeded", "failed", "unknown", "terminating", "taskStatusCount")
    kept = {name: value for name, value in old.items() if name not in names}
    counts = {name: found[name.capitalize()] for name in names[:5] if found[name.capitalize()]}
    status = {**kept, **counts, "minAvailable": model.least(job)}
    if leaving:
        status["terminating"] = len(leaving)
    if tasks:
        status["taskStatusCount"] = {
            name: {"phase": dict(sorted(found.items()))} for name, found in sorted(tasks.items())
        }
    if not model.phase_of(job):
        status["state"] = {"phase": phase, "lastTransitionTime": rfc3339(now)}
        status["conditions"] = [{"status": phase, "lastTransitionTime": rfc3339(now)}]
    return status


def _after_the_end(job: Object, phase: str, pods: Sequence[Object], plan: Plan, now: float) -> None:
    """What still runs goes; what is over stays, to be looked at, until the time to live ends."""
    plan.delete = [pod for pod in pods if model.is_alive(pod)]
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    ended = ((job.get("status") or {}).get("state") or {}).get("lastTransitionTime")
    if seconds is not None and ended and phase != "Aborted":
        left = parse_rfc3339(ended) + float(seconds) - now
        plan.remove, plan.again_seconds = left <= 0, (left if left > 0 else None)


def _restarting(job: Object, pods: Sequence[Object], version: int, plan: Plan, now: float) -> None:
    most = int(job["spec"].get("maxRetry") or _DEFAULT_RETRIES)
    if int(plan.status.get("retryCount") or 0) >= most:
        _enter(plan, "Failed", now, "RetriesExhausted", f"it was restarted {most} times, as often as maxRetry allows")
        return
    old = [pod for pod in pods if model.version_of(pod) < version]
    plan.delete = [pod for pod in old if not is_deleting(pod)]
    if not old and not any(map(is_deleting, pods)):
        _enter(plan, "Pending", now)


def _running(job: Object, phase: str, current: list[Object], group: Object | None, plan: Plan, now: float) -> None:
    action, plan.again_seconds = policies.wanted(job, current, now)
    if action is not None and action.action in (*_KILLS, *_SOME):
        _act(action, current, plan, now)
        return
    if not model.phase_of(job):
        plan.events += _not_made(job)
    plan.objects = construct.objects_of(job)
    queued = ((group or {}).get("status") or {}).get("phase") or "Pending"
    if group is not None and queued != "Pending":  # its queue has let it in
        plan.create = _missing(job, current)
    plan.delete = _surplus(job, current)
    _move_on(job, phase, plan, now)


def _not_made(job: Object) -> list[tuple[str, str, str]]:
    """Told once, when the Job is first seen."""
    names = sorted(set(job["spec"].get("plugins") or {}) - set(construct.PLUGINS))
    if not names:
        return []
    return [
        (WARNING, "PluginNotMade", f"plugins {', '.join(names)} are not made here: pods start without what they bring")
    ]


def _act(wanted: Wanted, current: list[Object], plan: Plan, now: float) -> None:
    action, seen = wanted.action, wanted.seen
    about = f" of pod {seen.pod['metadata']['name']}" if seen.pod is not None else f" of task {seen.task}"
    message = f"{action}, by policy: {seen.event}{about}"
    if action in _SOME:
        mine = [pod for pod in current if model.task_of(pod) == seen.task]
        chosen = mine if action == "RestartTask" else [pod for pod in mine if pod is seen.pod]
        plan.delete = [pod for pod in chosen if not is_deleting(pod)]
    else:
        plan.status["version"] = int(plan.status.get("version") or 0) + 1
    restarts = action.startswith("Restart")
    if restarts:
        plan.status["retryCount"] = int(plan.status.get("retryCount") or 0) + 1
    _enter(plan, _KILLS.get(action, "Restarting"), now, action, message)


def _missing(job: Object, current: list[Object]) -> list[Object]:
    there = {pod["metadata"]["name"] for pod in current}
    found = []
    for place, task in enumerate(model.tasks(job)):
        name = model.task_name(task, place)
        if not _may_start(job, task, current):
            continue
        for index in range(int(task.get("replicas", 1))):
            if construct.pod_name(job, name, index) not in there:
                found.append(construct.new_pod(job, task, name, index))
                if len(found) == MOST_PER_PASS:
                    return found
    return found


def _may_start(job: Object, task: Object, current: list[Object]) -> bool:
    """Whether the tasks that it depends on (all of them, or any) have their minimum running or done."""
    depends = task.get("dependsOn") or {}
    names = depends.get("name") or ()
    if not names:
        return True
    sizes = {model.task_name(item, place): model.task_least(item) for place, item in enumerate(model.tasks(job))}
    running = Counter(model.task_of(pod) for pod in current if model.pod_phase(pod) in ("Running", "Succeeded"))
    started = [running[name] >= sizes.get(name, 0) for name in names]
    return any(started) if depends.get("iteration") == "any" else all(started)


def _surplus(job: Object, current: list[Object]) -> list[Object]:
    sizes = {model.task_name(item, place): int(item.get("replicas", 1)) for place, item in enumerate(model.tasks(job))}
    return [
        pod
        for pod in current
        if not is_deleting(pod) and model.index_of(pod) >= sizes.get(model.task_of(pod), 0)
    ]  # fmt: skip


def _move_on(job: Object, phase: str, plan: Plan, now: float) -> None:
    status, total = plan.status, sum(int(task.get("replicas", 1)) for task in model.tasks(job))
    running, succeeded, failed = (int(status.get(name) or 0) for name in ("running", "succeeded", "failed"))
    enough = job["spec"].get("minSuccess")
    if total == 0:
        return
    if enough is not None and succeeded >= int(enough):
        _enter(plan, "Completed", now)
    elif succeeded + failed >= total:
        done = succeeded >= (int(enough) if enough is not None else model.least(job)) and _tasks_did(job, status)
        _enter(plan, "Completed" if done else "Failed", now)
    elif phase == "Pending" and running + succeeded >= model.least(job):
        _enter(plan, "Running", now)


def _tasks_did(job: Object, status: Object) -> bool:
    """Whether each task that names a minimum has so many successes; asked only if the Job's minimum covers theirs."""
    if model.least(job) < sum(map(model.task_least, model.tasks(job))):
        return True
    counts = status.get("taskStatusCount") or {}
    for place, task in enumerate(model.tasks(job)):
        found = counts.get(model.task_name(task, place)) or {"phase": {}}
        if task.get("minAvailable") is not None and found["phase"].get("Succeeded", 0) < int(task["minAvailable"]):
            return False
    return True

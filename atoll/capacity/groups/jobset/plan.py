"""The next step of a JobSet, of the JobSet and its Jobs. Pure.

The order is JobSet's own: what is over is cleaned up; Jobs of a run that was given up go; a failed Job asks the failure
policy, a finished one the success policy; then what is missing is made, in the order that startup policy or dependsOn
want; then Jobs are suspended or let go. A plan that changes what a later plan depends on (restart counters, the end)
does only that: the next one sees it written.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from atoll.base.clock import parse_rfc3339
from atoll.capacity.groups.jobset import construct, in_place, model, policies
from atoll.capacity.groups.jobset.model import Children, Object, Plan
from atoll.capacity.groups.jobset.status import has_started, may_start, with_condition, with_counts
from atoll.objects.meta import condition, is_deleting, labels
from atoll.runtime.events import NORMAL

MOST_PER_PASS = 500
"""Jobs created at once; the next pass makes more."""


def plan_jobset(jobset: Object, jobs: Sequence[Object], now: float, pods: Sequence[Object] = ()) -> Plan:
    """`jobs`: those that it controls; `pods`: theirs, where it restarts in place. `now`: wall seconds."""
    children = model.sorted_out(jobset, jobs)
    plan = Plan(with_counts(jobset, children))
    if model.is_over(jobset):
        _clean_up(jobset, children, plan, now)
        return plan
    plan.delete = _still_there(children.previous)
    if children.failed:
        policies.apply_failure_policy(jobset, children, plan, now)
    elif policies.has_succeeded(jobset, children):
        policies.complete(plan, now)
    else:
        plan.service = construct.headless_service(jobset)
        plan.claims = construct.shared_claims(jobset)
        _create(jobset, children, plan, now)
        if model.is_suspended(jobset):
            _suspend(children, plan, now)
        else:
            _resume(jobset, children, plan, now)
        if in_place.is_in_place(jobset):
            in_place.follow(jobset, pods, plan, now)
    return plan


def _still_there(jobs: Sequence[Object]) -> list[Object]:
    return [job for job in jobs if not is_deleting(job)]


def _clean_up(jobset: Object, children: Children, plan: Plan, now: float) -> None:
    plan.delete = _still_there([*children.active, *children.previous])
    seconds = jobset["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return
    ended = condition(jobset, model.COMPLETED if model.is_true(jobset, model.COMPLETED) else model.FAILED) or {}
    left = parse_rfc3339(ended["lastTransitionTime"]) + float(seconds) - now
    plan.remove, plan.again_seconds = left <= 0, (left if left > 0 else None)


def _create(jobset: Object, children: Children, plan: Plan, now: float) -> None:
    strategy = (jobset["spec"].get("failurePolicy") or {}).get("restartStrategy", "Recreate")
    if children.previous and strategy == "BlockingRecreate":
        return  # all of the old run must be gone first
    there, replicated_jobs = children.names(), jobset["spec"].get("replicatedJobs") or []
    ordered = model.in_order(jobset) and not model.is_suspended(jobset)
    for replicated in replicated_jobs:
        if not may_start(plan.status, replicated, replicated_jobs):
            continue
        if ordered and has_started(plan.status, replicated):
            continue
        plan.create += islice(construct.missing_jobs(jobset, replicated, there), MOST_PER_PASS - len(plan.create))
        if ordered:
            _say(plan, model.IN_PROGRESS, True, "InOrderStartupPolicyInProgress",
                 "in order startup policy is in progress", now)  # fmt: skip
            plan.status = _without(plan.status, model.STARTED)
            return
    if ordered:
        _say(plan, model.STARTED, True, "InOrderStartupPolicyCompleted", "in order startup policy has completed", now)
        plan.status = _without(plan.status, model.IN_PROGRESS)


def _suspend(children: Children, plan: Plan, now: float) -> None:
    for job in children.active:
        if not model.is_suspended(job) and not is_deleting(job):
            plan.update.append({**job, "spec": {**job["spec"], "suspend": True}})
    _say(plan, model.SUSPENDED, True, "SuspendedJobs", "jobset is suspended", now)


def _resume(jobset: Object, children: Children, plan: Plan, now: float) -> None:
    replicated_jobs = jobset["spec"].get("replicatedJobs") or []
    for replicated in replicated_jobs:
        if not may_start(plan.status, replicated, replicated_jobs):
            continue
        if model.in_order(jobset) and has_started(plan.status, replicated):
            continue
        for job in children.active:
            mine = labels(job).get(model.REPLICATED_JOB) == replicated["name"]
            if mine and model.is_suspended(job) and not is_deleting(job):
                plan.update.append(construct.resumed(jobset, job, replicated))
        if model.in_order(jobset):
            return
    _say(plan, model.SUSPENDED, False, "ResumeJobs", "jobset is resumed", now)


def _say(plan: Plan, kind: str, holds: bool, reason: str, message: str, now: float) -> None:
    """A condition, and an event where it is news."""
    status = with_condition(plan.status, kind, holds, reason, message, now)
    if status is not plan.status:
        plan.status = status
        plan.events.append((NORMAL, reason, message))


def _without(status: Object, kind: str) -> Object:
    """That condition untrue, if it is there: starting in order is in progress or completed, never both."""
    listed = [
        {**item, "status": "False"} if item["type"] == kind and item["status"] == "True" else item
        for item in status.get("conditions") or ()
    ]
    return {**status, "conditions": listed} if listed else status

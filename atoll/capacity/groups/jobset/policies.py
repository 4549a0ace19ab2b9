"""What a failed or finished Job means for the whole: failure rules, restarts, success. Pure.

Rules are tried in order against all failed Jobs; the first that fits decides, by the Job that failed first. Without a
rule that fits, all Jobs are restarted, up to maxRestarts. A restart raises a counter in the status: Jobs with a lower
one are of a run that was given up, and are deleted and made anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.capacity.groups.jobset import model
from atoll.capacity.groups.jobset.model import Children, Object, Plan
from atoll.capacity.groups.jobset.status import with_condition
from atoll.objects.meta import condition, labels
from atoll.objects.regexp import compile_pattern
from atoll.runtime.events import NORMAL, WARNING


def apply_failure_policy(jobset: Object, children: Children, plan: Plan, now: float) -> None:
    """Decide on the failed Jobs (there is one at least): the plan's status and events say what comes of it."""
    policy = jobset["spec"].get("failurePolicy")
    failed = sorted(children.failed, key=_failed_at)
    if policy is None:
        fail(plan, "FailedJobs", _told("jobset failed due to one or more job failures", failed[0]), now)
        return
    action, job = _matching(policy.get("rules") or (), failed) or ("RestartJobSet", failed[0])
    if action == "FailJobSet":
        fail(plan, "FailJobSetFailurePolicyAction", _told("applying FailJobSet failure policy action", job), now)
        return
    counts = not action.endswith("AndIgnoreMaxRestarts")
    if counts and _used(plan.status, job) >= int(policy.get("maxRestarts") or 0):
        fail(plan, "ReachedMaxRestarts", _told("jobset failed due to reaching max number of restarts", job), now)
        return
    if action.startswith("RestartJobSet"):
        plan.status["restarts"] = int(plan.status.get("restarts") or 0) + 1
        if counts:
            plan.status["restartsCountTowardsMax"] = int(plan.status.get("restartsCountTowardsMax") or 0) + 1
    else:
        _restart_one(plan.status, job, counts)
    plan.events.append(
        (WARNING, f"{action}FailurePolicyAction", _told(f"applying {action} failure policy action", job))
    )


def _failed_at(job: Object) -> tuple[str, str]:
    return str((condition(job, "Failed") or {}).get("lastTransitionTime") or ""), str(job["metadata"]["name"])


def _told(text: str, job: Object) -> str:
    return f"{text} (first failed job: {job['metadata']['name']})"


def _matching(rules: Sequence[Object], failed: Sequence[Object]) -> tuple[str, Object] | None:
    for rule in rules:
        for job in failed:
            if _fits(rule, job):
                return str(rule["action"]), job
    return None


def _fits(rule: Object, job: Object) -> bool:
    why = condition(job, "Failed") or {}
    reasons, targets = rule.get("onJobFailureReasons"), rule.get("targetReplicatedJobs")
    patterns = rule.get("onJobFailureMessagePatterns")
    if reasons and why.get("reason") not in reasons:
        return False
    if targets and labels(job).get(model.REPLICATED_JOB) not in targets:
        return False
    return not patterns or any(compile_pattern(pattern).search(why.get("message") or "") for pattern in patterns)


def _used(status: Object, job: Object) -> int:
    """Restarts of the Job that count: with all others, and by itself."""
    own = labels(job)
    alone = model.job_restarts(status, own.get(model.REPLICATED_JOB, ""), model.number(own.get(model.JOB_INDEX)), True)
    return int(status.get("restartsCountTowardsMax") or 0) + alone


def _restart_one(status: Object, job: Object, counts: bool) -> None:
    own = labels(job)
    index = model.number(own.get(model.JOB_INDEX))
    names = ("jobRestarts", "jobRestartsCountTowardsMax") if counts else ("jobRestarts",)
    items = []
    for item in status.get("replicatedJobsStatus") or ():
        if item["name"] == own.get(model.REPLICATED_JOB):
            size = max(index + 1, model.number(own.get(model.REPLICAS)))
            item = dict(item)
            for name in names:
                values = [*(item.get(name) or ()), *[0] * size][:size]
                values[index] += 1
                item[name] = values
        items.append(item)
    status["replicatedJobsStatus"] = items


def fail(plan: Plan, reason: str, message: str, now: float) -> None:
    plan.status = with_condition(plan.status, model.FAILED, True, reason, message, now)
    plan.status["terminalState"] = model.FAILED
    plan.events.append((WARNING, reason, message))


def has_succeeded(jobset: Object, children: Children) -> bool:
    """Any or all Jobs of the replicated jobs that the success policy names (of all without names)."""
    policy = jobset["spec"].get("successPolicy") or {}
    targets = policy.get("targetReplicatedJobs")
    done = [job for job in children.succeeded if not targets or labels(job).get(model.REPLICATED_JOB) in targets]
    wanted = sum(
        int(item.get("replicas", 1))
        for item in jobset["spec"].get("replicatedJobs") or ()
        if not targets or item["name"] in targets
    )
    return bool(done) and (policy.get("operator") == "Any" or len(done) >= wanted)


def complete(plan: Plan, now: float) -> None:
    message = "jobset completed successfully"
    plan.status = with_condition(plan.status, model.COMPLETED, True, "AllJobsCompleted", message, now)
    plan.status["terminalState"] = model.COMPLETED
    plan.events.append((NORMAL, "AllJobsCompleted", message))

"""A CronJob, its Jobs and the time → what to start, replace and remove (pkg/controller/cronjob). Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.cluster.workloads.cronjob.schedule import BadSchedule, Schedule, find_zone, parse
from atoll.objects.meta import Object, controller_of, is_deleting, owner_reference

_MARGIN_SECONDS = 0.1
Told = tuple[str, str, str]


@dataclass(slots=True)
class Plan:
    """In this order: remove, replace (running ones), create; then the status without what was removed."""

    status: Object = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    remove: list[Object] = field(default_factory=list)
    replace: list[Object] = field(default_factory=list)
    create: Object | None = None
    scheduled: float = 0.0
    again_seconds: float | None = None


def finished_type(job: Object) -> str:
    """Complete, Failed or ""."""
    for item in (job.get("status") or {}).get("conditions") or ():
        if item["type"] in ("Complete", "Failed") and item["status"] == "True":
            return str(item["type"])
    return ""


def plan_cron_job(cron_job: Object, jobs: Iterable[Object], exists: Callable[[str, str], bool], now: float) -> Plan:
    """`jobs` are those it controls; `exists(name, uid)` asks whether an active one is still there."""
    children = list(jobs)
    plan = Plan()
    _follow(plan, cron_job, children, exists)
    plan.remove = _beyond_history(cron_job, children)
    if is_deleting(cron_job) or cron_job["spec"].get("suspend"):
        if cron_job["spec"].get("timeZone") and not is_deleting(cron_job):
            _schedule(plan, cron_job)
        return plan
    schedule = _schedule(plan, cron_job)
    if schedule is not None:
        _start(plan, cron_job, schedule, children, now)
    return plan


def _follow(plan: Plan, cron_job: Object, children: list[Object], exists: Callable[[str, str], bool]) -> None:
    """Bring status.active and lastSuccessfulTime up to date."""
    status = dict(cron_job.get("status") or {})
    active = list(status.get("active") or ())
    for job in children:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        listed = any(item["uid"] == uid for item in active)
        ended = finished_type(job)
        if not listed and not ended:
            message = f"Saw a job that the controller did not create or forgot: {name}"
            plan.told.append(("Warning", "UnexpectedJob", message))
        elif listed and ended:
            active = [item for item in active if item["uid"] != uid]
            plan.told.append(("Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {ended}"))
        completed = (job.get("status") or {}).get("completionTime")
        if ended == "Complete" and completed and completed > status.get("lastSuccessfulTime", ""):
            status["lastSuccessfulTime"] = completed
    known = {job["metadata"]["uid"] for job in children}
    for item in list(active):
        if item["uid"] not in known and not exists(item["name"], item["uid"]):
            plan.told.append(("Normal", "MissingJob", f"Active job went missing: {item['name']}"))
            active.remove(item)
    plan.status = with_active(status, active)


def unlisted(cron_job: Object, jobs: Iterable[Object]) -> bool:
    """Whether a Job runs that status.active doesn't have."""
    active = {item["uid"] for item in (cron_job.get("status") or {}).get("active") or ()}
    return any(job["metadata"]["uid"] not in active and not finished_type(job) for job in jobs)


def with_active(status: Object, active: list[Object]) -> Object:
    made = {name: value for name, value in status.items() if name != "active"}
    return {"active": active, **made} if active else made


def _beyond_history(cron_job: Object, children: list[Object]) -> list[Object]:
    doomed = []
    for kind, name, default in (
        ("Complete", "successfulJobsHistoryLimit", 3),
        ("Failed", "failedJobsHistoryLimit", 1),
    ):
        limit = cron_job["spec"].get(name)
        ended = sorted(
            (job for job in children if finished_type(job) == kind),
            key=lambda job: ((job.get("status") or {}).get("startTime") or "9", job["metadata"]["name"]),
        )
        excess = len(ended) - (default if limit is None else int(limit))
        doomed += ended[: max(0, excess)]
    return doomed


def _schedule(plan: Plan, cron_job: Object) -> Schedule | None:
    spec = cron_job["spec"]
    try:
        find_zone(spec.get("timeZone"))
    except BadSchedule as error:
        message = f'invalid timeZone: "{spec["timeZone"]}": {error}'
        plan.told.append(("Warning", "UnknownTimeZone", message))
        return None
    if spec.get("suspend"):
        return None
    try:
        return parse(spec["schedule"], spec.get("timeZone"))
    except BadSchedule as error:
        message = f'unparseable schedule: "{spec["schedule"]}" : {error}'
        plan.told.append(("Warning", "UnparseableSchedule", message))
        return None


@dataclass(frozen=True, slots=True)
class _Missed:
    earliest: float
    latest: float | None
    few: bool
    many: bool


def _missed(cron_job: Object, schedule: Schedule, now: float, *, deadline: bool) -> _Missed:
    """The most recent time that should have been, and how many were missed."""
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    earliest = parse_rfc3339(last or cron_job["metadata"]["creationTimestamp"])
    seconds = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline and seconds is not None:
        earliest = max(earliest, now - seconds)
    first = schedule.next(earliest)
    second = schedule.next(first) if first is not None else None
    if first is None or now < first:
        return _Missed(earliest, None, False, False)
    if second is None or now < second:
        return _Missed(earliest, first, False, False)
    gap = max(1, round(second - first))
    count = int(now - first) // gap + 1
    latest: float | None = None
    candidate = schedule.next(first + (count - 2) * gap)
    while candidate is not None and candidate <= now:
        latest = candidate
        candidate = schedule.next(candidate)
    return _Missed(earliest, latest, count > 0, count > 100)


def _until_next(cron_job: Object, schedule: Schedule, now: float) -> float | None:
    missed = _missed(cron_job, schedule, now, deadline=False)
    base = missed.latest if missed.latest is not None else (now if missed.few else missed.earliest)
    following = schedule.next(base)
    return None if following is None else max(0.0, following + _MARGIN_SECONDS - now)


def _start(plan: Plan, cron_job: Object, schedule: Schedule, children: list[Object], now: float) -> None:
    spec, status = cron_job["spec"], plan.status
    missed = _missed(cron_job, schedule, now, deadline=True)
    plan.again_seconds = _until_next(cron_job, schedule, now)
    due = missed.latest
    if due is None or due > now:
        return
    if missed.many:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        plan.told.append(("Warning", "TooManyMissedTimes", message))
    seconds = spec.get("startingDeadlineSeconds")
    if seconds is not None and due + seconds < now:
        when = datetime.datetime.fromtimestamp(due, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        plan.told.append(("Warning", "MissSchedule", f"Missed scheduled time to start a job: {when}"))
        return
    active = status.get("active") or []
    name = f"{cron_job['metadata']['name']}-{int(due) // 60}"
    if any(item["name"] == name for item in active) or status.get("lastScheduleTime") == rfc3339(due):
        return
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        plan.told.append(("Normal", "JobAlreadyActive", message))
        return
    if policy == "Replace":
        running = {item["uid"] for item in active}
        plan.replace = [job for job in children if job["metadata"]["uid"] in running]
    plan.create = new_job(cron_job, due, name)
    plan.scheduled = due


def new_job(cron_job: Object, due: float, name: str) -> Object:
    template = cron_job["spec"]["jobTemplate"]
    given = template.get("metadata") or {}
    local = datetime.datetime.fromtimestamp(due, find_zone(cron_job["spec"].get("timeZone")))
    stamp = local.isoformat(timespec="seconds").replace("+00:00", "Z")
    notes = {**(given.get("annotations") or {}), "batch.kubernetes.io/cronjob-scheduled-timestamp": stamp}
    metadata: Object = {"name": name, "namespace": cron_job["metadata"]["namespace"], "annotations": notes}
    if given.get("labels"):
        metadata["labels"] = dict(given["labels"])
    metadata["ownerReferences"] = [owner_reference(cron_job)]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def reference_to(job: Object) -> Object:
    metadata = job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": metadata["resourceVersion"],
        "uid": metadata["uid"],
    }


def is_controlled_by(job: Object, cron_job: Object) -> bool:
    owner = controller_of(job)
    return owner is not None and bool(owner["uid"] == cron_job["metadata"]["uid"])

"""Job and CronJob. Of a divided Job both parallelism and completions are divided, in proportion."""

from __future__ import annotations

from typing import Any

from atoll.fleet.propagation.interpreters.pods import pod_references, prune_pod_parent
from atoll.fleet.propagation.interpreters.table import HEALTHY, UNHEALTHY, Aggregation, Interpreter, Reference
from atoll.fleet.propagation.interpreters.workloads import reflected

Object = dict[str, Any]
_GENERATED = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name")
_FIELDS = ("active", "ready", "succeeded", "failed", "startTime", "completionTime", "conditions")


def _parallelism(obj: Object) -> int | None:
    value = obj["spec"].get("parallelism")
    return 1 if value is None else int(value)


def _set_parallelism(obj: Object, replicas: int) -> None:
    obj["spec"]["parallelism"] = replicas


def _prune(obj: Object) -> None:
    """Selector and labels of a Job are made from its uid, which each member gives anew."""
    spec = obj["spec"]
    if not spec.get("manualSelector"):
        spec.pop("selector", None)
        for metadata in (obj["metadata"], spec["template"].get("metadata") or {}):
            labels = metadata.get("labels")
            for key in _GENERATED:
                if labels:
                    labels.pop(key, None)
            if labels is not None and not labels:
                del metadata["labels"]
    prune_pod_parent(spec["template"])


def _reflect(live: Object) -> Object:
    return reflected(live, _FIELDS)


def is_finished(job: Object) -> bool:
    """Complete or failed, which is for good."""
    status = job.get("status") or {}
    return _is(status, "Complete") or _is(status, "Failed")


def _aggregate(given: Aggregation) -> Object | None:
    known = given.known()
    if not known or is_finished(given.template):
        return None
    status: Object = {}
    for field in ("active", "ready", "succeeded", "failed"):
        count = sum(int(item.status.get(field) or 0) for item in known)
        if count or field == "ready":
            status[field] = count
    started = [item.status["startTime"] for item in known if item.status.get("startTime")]
    if started:
        status["startTime"] = min(started)
    failed = [item.cluster for item in known if _is(item.status, "Failed")]
    complete = len(known) == len(given.items) and all(_is(item.status, "Complete") for item in known)
    conditions: list[Object] = []
    if failed:
        message = f"Job failed in {', '.join(failed)}"
        kinds = (("FailureTarget", "JobFailed"), ("Failed", "JobFailed"))
        conditions = [given.condition(kind, "True", reason, message) for kind, reason in kinds]
        status.pop("active", None)
    elif complete:
        message = "Reached expected number of succeeded pods in every cluster"
        kinds = (("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached"))
        conditions = [given.condition(kind, "True", reason, message) for kind, reason in kinds]
        finished = [item.status["completionTime"] for item in known if item.status.get("completionTime")]
        status["completionTime"] = max(finished) if finished else given.now
    for condition in conditions:
        condition["lastProbeTime"] = condition["lastTransitionTime"]
    if conditions:
        status["conditions"] = conditions
        status["ready"] = 0
    status["uncountedTerminatedPods"] = {}
    return status


def _is(status: Object, kind: str) -> bool:
    return any(item["type"] == kind and item["status"] == "True" for item in status.get("conditions") or ())


def _health(live: Object) -> str:
    return UNHEALTHY if _is(live.get("status") or {}, "Failed") else HEALTHY


def _references(obj: Object) -> list[Reference]:
    return pod_references(obj["spec"]["template"].get("spec") or {}, obj["metadata"].get("namespace"))


def _prune_cron(obj: Object) -> None:
    prune_pod_parent(obj["spec"]["jobTemplate"]["spec"]["template"])


def _cron_references(obj: Object) -> list[Reference]:
    pod = obj["spec"]["jobTemplate"]["spec"]["template"].get("spec") or {}
    return pod_references(pod, obj["metadata"].get("namespace"))


def _aggregate_cron(given: Aggregation) -> Object | None:
    known = given.known()
    if not known:
        return None
    status: Object = {}
    active = [entry for item in known for entry in item.status.get("active") or ()]
    if active:
        status["active"] = active
    for field in ("lastScheduleTime", "lastSuccessfulTime"):
        times = [item.status[field] for item in known if item.status.get(field)]
        if times:
            status[field] = max(times)
    return status


TABLE: dict[tuple[str, str], Interpreter] = {
    ("batch", "Job"): Interpreter(
        ("spec", "template"), _parallelism, _set_parallelism, _prune, _reflect, _aggregate, _health, _references
    ),
    ("batch", "CronJob"): Interpreter(
        ("spec", "jobTemplate", "spec", "template"), prune=_prune_cron, aggregate=_aggregate_cron,
        references=_cron_references,
    ),
}  # fmt: skip

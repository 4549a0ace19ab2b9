"""Jobs and their pods as objects: what they say of themselves, and the pod that a Job makes. Pure."""

from __future__ import annotations

from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.job import indexes
from atoll.cluster.workloads.job.policies import rule_failure
from atoll.objects.meta import Object

FINALIZER = "batch.kubernetes.io/job-tracking"


def is_finished(job: Object) -> bool:
    found = (job.get("status") or {}).get("conditions")
    return conditions.is_true(found, "Complete") or conditions.is_true(found, "Failed")


def is_tracked(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def new_pod(job: Object, index: int | None, replaces: Object | None) -> Object:
    """The pod of that index; it says how often the index had failed before."""
    template = job["spec"]["template"]
    pod = health.pod_from_template(template, job)
    metadata = pod["metadata"]
    finalizers = metadata.get("finalizers") or []
    metadata["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
    if index is None:
        return pod
    name = job["metadata"]["name"]
    suffix = f"-{index}-"
    metadata["generateName"] = f"{name[: 58 - len(suffix)]}{suffix}"
    metadata["labels"] = {**(metadata.get("labels") or {}), indexes.INDEX: str(index)}
    notes = {**(metadata.get("annotations") or {}), indexes.INDEX: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        failed, ignored = 0, 0
        if replaces is not None:
            counts = rule_failure(job["spec"].get("podFailurePolicy"), replaces).counts
            failed = indexes.failures(replaces) + counts
            ignored = indexes.ignored_failures(replaces) + (not counts)
        notes[indexes.FAILURES] = str(failed)
        if ignored:
            notes[indexes.IGNORED_FAILURES] = str(ignored)
    metadata["annotations"] = notes
    spec = {**template["spec"], "hostname": f"{name}-{index}"}
    for part in ("initContainers", "containers"):
        if spec.get(part):
            spec[part] = [_with_index_variable(container) for container in spec[part]]
    pod["spec"] = spec
    return pod


def _with_index_variable(container: Object) -> Object:
    given = container.get("env") or []
    if any(item["name"] == "JOB_COMPLETION_INDEX" for item in given):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.INDEX}']"}}
    return {**container, "env": [*given, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}

"""The Workload of a job: its name, owner, queue and priority."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Final

from atoll.base.errors import AlreadyExists, AtollError
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.objects.meta import is_deleting, labels, owner_reference
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informer

JOB_INDEX_LABEL: Final = "batch.kubernetes.io/job-completion-index"
_MOST_NAME = 253
_LOOK_SECONDS = 2.0


def workload_name(kind: str, group: str, owner: Object) -> str:
    """KIND-NAME-HASH: of one owner always the same, so that it can't be made twice."""
    metadata = owner["metadata"]
    text = f"{kind}\n{group}\n{metadata['name']}\n{metadata.get('uid', '')}"
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:5]
    return f"{kind.lower()}-{metadata['name']}"[: _MOST_NAME - 6] + f"-{digest}"


Priority = tuple[int, Object | None]
"""(value, priorityClassRef) of a Workload."""


class UnknownPriorityClass(AtollError):
    """The label names a WorkloadPriorityClass that is not there (yet)."""

    retryable = True


def priority_of(
    events: EventRecorder,
    owner: Object,
    template: Object,
    classes: Informer,
    pod_classes: Informer,
    workload: Object | None = None,
) -> Priority:
    """Of the WorkloadPriorityClass that the label names, else of the pods' class. Raises UnknownPriorityClass, told.

    `workload`: that there is; it keeps the value of a class that is gone.
    """
    name = labels(owner).get(kueue.PRIORITY_CLASS_LABEL)
    if name:
        found = classes.get(name)
        spec = workload["spec"] if workload is not None else {}
        if found is None and (spec.get("priorityClassRef") or {}).get("name") == name:
            return int(spec.get("priority") or 0), spec["priorityClassRef"]
        if found is None:
            lacks = f"there is no WorkloadPriorityClass {name!r}: create it, or name another"
            events.event(owner, WARNING, "PriorityClassNotFound", lacks)
            raise UnknownPriorityClass(lacks)
        return int(found["value"]), {"group": kueue.GROUP, "kind": "WorkloadPriorityClass", "name": name}
    spec = template.get("spec") or {}
    pod_class = pod_classes.get(spec.get("priorityClassName") or "")
    if pod_class is None and not spec.get("priorityClassName"):
        pod_class = next((item for item in pod_classes if item.get("globalDefault")), None)
    if pod_class is not None:
        reference = {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": pod_class["metadata"]["name"]}
        return int(pod_class["value"]), reference
    return int(spec.get("priority") or 0), None


def set_workload(kind: str, group: str, owner: Object, pod_sets: list[Object], priority: Priority) -> Object:
    metadata = owner["metadata"]
    spec: dict[str, Any] = {
        "podSets": pod_sets,
        "priority": priority[0],
        "active": True,
    }
    if labels(owner).get(kueue.QUEUE_LABEL):
        spec["queueName"] = labels(owner)[kueue.QUEUE_LABEL]
    if priority[1] is not None:
        spec["priorityClassRef"] = priority[1]
    seconds = labels(owner).get(kueue.MAX_EXEC_LABEL, "")
    if seconds.isdigit():
        spec["maximumExecutionTimeSeconds"] = int(seconds)
    own: dict[str, Any] = {
        "name": workload_name(kind, group, owner),
        "namespace": metadata["namespace"],
        "labels": {kueue.JOB_UID_LABEL: metadata["uid"]},
        "finalizers": [kueue.FINALIZER],
        "ownerReferences": [owner_reference(owner)],
    }
    passed_on = {k: v for k, v in meta.annotations(owner).items() if k.startswith(kueue.PROVISIONING_PREFIX)}
    if passed_on:
        own["annotations"] = passed_on
    return {"apiVersion": f"{kueue.GROUP}/{kueue.VERSION}", "kind": "Workload", "metadata": own, "spec": spec}


async def made_workload(parts: Parts, workload: Object) -> None:
    """Create it; that it is there already is as good."""
    with suppress(AlreadyExists):
        await parts.client.create(kueue.WORKLOADS, workload)


async def adopted(parts: Parts, job: Object, workload: Object | None) -> float | None:
    """The Workload that the job names was made by somebody else, before it or yet to come: it becomes the job's."""
    if workload is None or is_deleting(workload):
        return _LOOK_SECONDS
    await own(parts, workload, [owner_reference(job)])
    return None


async def own(parts: Parts, workload: Object, owners: list[Object]) -> None:
    """Theirs, and kept until it is over."""
    metadata = workload["metadata"]
    finalizers = list(dict.fromkeys([*(metadata.get("finalizers") or ()), kueue.FINALIZER]))
    owned = {**metadata, "ownerReferences": owners, "finalizers": finalizers}
    await parts.client.update(kueue.WORKLOADS, {**workload, "metadata": owned})


async def reprioritised(parts: Parts, job: Object, workload: Object, classes: Informer) -> bool:
    """Whether the Workload was given another WorkloadPriorityClass, which the job names now: it may run already."""
    name, was = labels(job).get(kueue.PRIORITY_CLASS_LABEL), workload["spec"].get("priorityClassRef") or {}
    found = classes.get(name) if name else None
    if found is None or was.get("kind") != "WorkloadPriorityClass" or was.get("name") == name:
        return False
    spec = {**workload["spec"], "priority": int(found["value"]), "priorityClassRef": {**was, "name": name}}
    await parts.client.update(kueue.WORKLOADS, {**workload, "spec": spec})
    return True

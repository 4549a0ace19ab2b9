"""What runs on a worker cluster of MultiKueue for what its user made here: made there once, its status told here.

Bound to the Workload's copy by the label prebuilt-workload-name, and marked with the manager's origin: an object of
that name without the two is somebody else's, and neither read nor deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from atoll.base.errors import AlreadyExists, NotFound, UserError
from atoll.capacity.queueing import status
from atoll.capacity.queueing.members import is_gated, is_over, role_of
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.podinfo import restored
from atoll.capacity.queueing.pods import QUEUED, index_queued
from atoll.capacity.queueing.workers import ORIGIN, Worker
from atoll.client.port import Client, DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import JOBS, PODS
from atoll.kinds.resource import Resource
from atoll.objects import meta
from atoll.objects.meta import controller_of, is_deleting, labels

LATER_SECONDS: Final = 2.0
_GIVEN_LABELS = ("controller-uid", "job-name")  # by the Job controller to its pods, also under its own prefix
_OF_ONE_CLUSTER = ("nodeName", "priority", "preemptionPolicy", "schedulingGates")


class NotOurs(UserError):
    """The worker has an object of that name which this manager did not make."""


class NoReservation(UserError):
    """The copy has no quota there any more."""


class Mirror(Protocol):
    """Of one kind of owner of Workloads."""

    resource: Resource
    keeps_pending: bool  # the check never says Ready: what its user made is not to start here

    async def refusal(self, workload: Object) -> str:
        """Why it can't run elsewhere; "" if it can."""

    async def follow(self, worker: Worker, workload: Object, finished: bool) -> float | None:
        """One step: what is missing there is made, unless it is `finished`; what is told there is told here.

        Seconds until another look. Raises NotOurs, NoReservation.
        """


class JobMirror:
    """A Job or JobSet, which says by spec.managedBy that its own controller leaves it alone here."""

    keeps_pending = False

    def __init__(self, parts: Parts, resource: Resource) -> None:
        self.resource = resource
        self._client = parts.client

    async def refusal(self, workload: Object) -> str:
        job = await self._job(workload)
        manager = kueue.MULTIKUEUE if job is None else str(job["spec"].get("managedBy") or "")
        if manager == kueue.MULTIKUEUE:
            return ""
        return f'The owner is not managed by Kueue: Expecting spec.managedBy to be "{kueue.MULTIKUEUE}" not "{manager}"'

    async def follow(self, worker: Worker, workload: Object, finished: bool) -> float | None:
        job = await self._job(workload)
        if job is None:
            return LATER_SECONDS
        worker.watch(self.resource)
        remote = await _found(worker, self.resource, job["metadata"]["name"], workload)
        if remote is None and finished:
            return None
        if remote is None:
            await _has_quota(worker, workload)
            with suppress(AlreadyExists):
                await worker.client.create(self.resource, job_for_worker(job, workload, worker.origin))
            return None
        if is_deleting(remote) or job["spec"].get("suspend"):
            return LATER_SECONDS  # an earlier one that is going; or it is about to be started here
        if remote.get("status") and remote["status"] != job.get("status"):
            await self._client.update(self.resource, {**job, "status": remote["status"]}, subresource="status")
        return None

    async def _job(self, workload: Object) -> Object | None:
        owner = controller_of(workload)
        if owner is None:
            return None
        try:
            found = await self._client.get(self.resource, owner["name"], workload["metadata"]["namespace"])
        except NotFound:
            return None
        return found if found["metadata"]["uid"] == owner["uid"] else None


class PodMirror:
    """A plain pod or a group: the pods here stay gated, and say what those on the worker do."""

    keeps_pending = True
    resource = PODS

    def __init__(self, parts: Parts) -> None:
        self._client = parts.client
        self._pods = parts.informers.of(PODS)
        index_queued(self._pods)

    async def refusal(self, workload: Object) -> str:
        return ""

    async def follow(self, worker: Worker, workload: Object, finished: bool) -> float | None:
        worker.watch(PODS)
        metadata = workload["metadata"]
        selector = f"{worker.mine},{kueue.PREBUILT_LABEL}={metadata['name']}"
        found = await worker.client.list(PODS, metadata["namespace"], label_selector=selector)
        there = {pod["metadata"]["name"]: pod for pod in found.items}
        here = [pod for pod in self._of(workload) if not is_deleting(pod)]
        missing = [pod for pod in here if pod["metadata"]["name"] not in there and not is_over(pod)]
        if missing and finished:
            missing = []
        elif missing:
            await _has_quota(worker, workload)
        await asyncio.gather(*(self._make(worker, pod, workload) for pod in missing))
        await asyncio.gather(
            *(self._tell(pod, there[pod["metadata"]["name"]]) for pod in here if pod["metadata"]["name"] in there)
        )
        names = {pod["metadata"]["name"] for pod in here}
        left = [pod for name, pod in there.items() if name not in names and not is_deleting(pod)]
        await asyncio.gather(*(delete(worker.client, PODS, pod) for pod in left))
        return None

    def _of(self, workload: Object) -> list[Object]:
        metadata = workload["metadata"]
        owner = controller_of(workload)
        unit = ("group", metadata["name"]) if owner is None else ("pod", owner["name"])
        return self._pods.by_index(QUEUED, (metadata["namespace"], *unit))

    async def _make(self, worker: Worker, pod: Object, workload: Object) -> None:
        try:
            await worker.client.create(PODS, pod_for_worker(pod, workload, worker.origin))
        except AlreadyExists:
            await _found(worker, PODS, pod["metadata"]["name"], workload)

    async def _tell(self, pod: Object, remote: Object) -> None:
        """A gated pod's condition PodScheduled stays its own: whoever adds nodes here must not see a pod that waits."""
        told = dict(remote.get("status") or {})
        scheduled = [it for it in (pod.get("status") or {}).get("conditions") or () if it["type"] == "PodScheduled"]
        if is_gated(pod) and scheduled:
            told["conditions"] = [it for it in told.get("conditions") or () if it["type"] != "PodScheduled"] + scheduled
        if told and told != pod.get("status"):
            with suppress(NotFound):
                await self._client.update(PODS, {**pod, "status": told}, subresource="status")


def mirrors(parts: Parts) -> Mapping[tuple[str, str], Mirror]:
    """By the owner's (group, kind)."""
    jobs, sets, pods = JobMirror(parts, JOBS), JobMirror(parts, JOB_SETS), PodMirror(parts)
    return {(it.resource.group, it.resource.kind): it for it in (jobs, sets, pods)}


# -- what goes to a worker


def copy_of(workload: Object, origin: str) -> Object:
    """The Workload as workers get it."""
    metadata = workload["metadata"]
    return {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels(workload), ORIGIN: origin},
        },
        "spec": workload["spec"],
    }


def job_for_worker(job: Object, workload: Object, origin: str) -> Object:
    """The job as the chosen worker gets it: as its user wrote it, bound to the Workload's copy.

    It is deleted there once its end is told here, so its own time to live does not count there.
    """
    spec = {name: value for name, value in job["spec"].items() if name not in ("managedBy", "ttlSecondsAfterFinished")}
    pod_sets = {item["name"]: item["template"] for item in workload["spec"]["podSets"]}
    if job["kind"] == JOBS.kind:
        if not spec.get("manualSelector"):
            spec.pop("selector", None)
        spec["template"] = _plain(next(iter(pod_sets.values())))
    else:
        spec["replicatedJobs"] = [_replicated(item, pod_sets) for item in spec.get("replicatedJobs") or ()]
    return _bound(job, {**spec, "suspend": True}, workload, origin)


def _plain(template: Object) -> Object:
    """Without the labels that tie pods to the Job here."""
    found = template.get("metadata") or {}
    given = (found.get("labels") or {}).items()
    kept = {name: value for name, value in given if name.removeprefix("batch.kubernetes.io/") not in _GIVEN_LABELS}
    return {**template, "metadata": {**found, "labels": kept}}


def _replicated(item: Object, pod_sets: Mapping[str, Object]) -> Object:
    """A replicated job whose pods are as they were before this cluster's flavours were put in."""
    job = item["template"]
    original = pod_sets.get(item["name"])
    if original is None:
        return item
    template = restored(job["spec"]["template"], original)
    return {**item, "template": {**job, "spec": {**job["spec"], "template": template}}}


def pod_for_worker(pod: Object, workload: Object, origin: str) -> Object:
    """Without what admission and the scheduler of this cluster gave it."""
    spec = {name: value for name, value in pod["spec"].items() if name not in _OF_ONE_CLUSTER}
    made = _bound(pod, spec, workload, origin)
    if kueue.POD_GROUP_LABEL in labels(pod):
        made["metadata"]["annotations"] = {**meta.annotations(pod), kueue.ROLE_HASH: role_of(pod)}
    return made


def _bound(obj: Object, spec: Object, workload: Object, origin: str) -> Object:
    metadata = obj["metadata"]
    made: dict[str, Any] = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "labels": {**labels(obj), ORIGIN: origin, kueue.PREBUILT_LABEL: workload["metadata"]["name"]},
    }
    if metadata.get("annotations"):
        made["annotations"] = metadata["annotations"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": made, "spec": spec}


# -- what is there


async def _found(worker: Worker, resource: Resource, name: str, workload: Object) -> Object | None:
    """Raises NotOurs."""
    metadata = workload["metadata"]
    try:
        remote = await worker.client.get(resource, name, metadata["namespace"])
    except NotFound:
        return None
    marks = labels(remote)
    if marks.get(ORIGIN) != worker.origin or marks.get(kueue.PREBUILT_LABEL) != metadata["name"]:
        what = f"{resource.kind} {metadata['namespace']}/{name}"
        raise NotOurs(f"there is another {what}, which this manager did not make: rename one of them, or delete it")
    return remote


async def _has_quota(worker: Worker, workload: Object) -> None:
    """By the worker's API server itself: caches may be behind, and nothing is to run twice. Raises NoReservation."""
    metadata = workload["metadata"]
    try:
        copy = await worker.client.get(kueue.WORKLOADS, metadata["name"], metadata["namespace"])
    except NotFound:
        raise NoReservation("the copy is gone") from None
    if not status.is_true(copy, "QuotaReserved"):
        raise NoReservation("the copy has no quota")


async def delete(client: Client, resource: Resource, obj: Object) -> None:
    """That very object, with what it owns; that it is gone already is as good."""
    metadata = obj["metadata"]
    options = DeleteOptions(propagation="Background", uid=metadata["uid"])
    with suppress(NotFound):
        await client.delete(resource, metadata["name"], metadata.get("namespace"), options=options)

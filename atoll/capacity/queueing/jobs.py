"""batch/v1 Jobs of a queue: their Workloads are made, they are started when admitted, stopped when evicted.

Each pass makes one step towards what the objects say, in the order of Kueue's job framework, so it may be killed at
any point. A Job runs only while its Workload is Admitted and not Evicted; its quota is freed once no pod is active.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from atoll.base.errors import NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.admission import is_of_queued_job
from atoll.capacity.queueing.asked import topology_request
from atoll.capacity.queueing.job_checks import is_synced
from atoll.capacity.queueing.leaving import let_go
from atoll.capacity.queueing.made import (
    JOB_INDEX_LABEL,
    adopted,
    made_workload,
    priority_of,
    reprioritised,
    set_workload,
    workload_name,
)
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.podinfo import PodInfo, injected, pod_infos, restored
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import JOBS, PRIORITY_CLASSES
from atoll.objects import meta
from atoll.objects.meta import condition, controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key
from atoll.scheduling.groups.owned import pods_at_once

_OF_A_RUN = ("startTime", "active", "ready", "terminating")  # of a Job's status


class JobQueueing:
    """Jobs with the label kueue.x-k8s.io/queue-name and, where so configured, those without (`manages` says)."""

    def __init__(self, parts: Parts, manages: Callable[[Object], bool]) -> None:
        self.name = "queueing-jobs"
        self._manages = manages
        self._parts = parts
        of = parts.informers.of
        self._jobs, self._workloads = of(JOBS), of(kueue.WORKLOADS)
        self._flavors = of(kueue.RESOURCE_FLAVORS)
        self._classes, self._pod_classes = of(kueue.WORKLOAD_PRIORITY_CLASSES), of(PRIORITY_CLASSES)
        waits = (self._jobs, self._workloads, self._flavors, self._classes, self._pod_classes)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._jobs.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        owner = controller_of(new or old or {})
        if owner is not None and owner["kind"] == "Job":
            self.loop.queue.add(((new or old or {})["metadata"].get("namespace"), owner["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        job = self._jobs.by_key(name)
        if job is None or is_deleting(job) or not self._parts.on() or is_of_queued_job(job):
            return None
        if not self._manages(job):
            return None
        prebuilt = labels(job).get(kueue.PREBUILT_LABEL)
        workload = self._workloads.get(prebuilt or workload_name("Job", "batch", job), name[0])
        done = _outcome(job)
        if prebuilt and (workload is None or controller_of(workload) is None):
            return await adopted(self._parts, job, workload)
        if workload is None:
            if done is None:
                await self._make(job)
            return None
        if status.is_true(workload, "Finished"):
            return None
        if done is not None:
            await self._write(workload, status.finished(workload, *done, self._now()))
            self._parts.events.event(
                job, NORMAL, "FinishedWorkload", f"Workload '{_path(workload)}' is declared finished"
            )
            return None
        if await reprioritised(self._parts, job, workload, self._classes):
            return None
        if prebuilt or fits(job, workload):
            await self._step(job, workload)
        else:
            await self._replace(job, workload)
        return None

    async def _step(self, job: Object, workload: Object) -> None:
        leaves = is_deleting(workload)
        may_run = status.is_true(workload, "Admitted") and not status.is_true(workload, "Evicted") and not leaves
        suspended = bool(job["spec"].get("suspend"))
        if may_run and suspended:
            await self._start(job, workload)
        elif may_run:
            await self._follow(job, workload)
        elif not suspended:
            await self._stop(job, workload)
        elif leaves or (status.is_true(workload, "Evicted") and status.is_true(workload, "QuotaReserved")):
            await self._release(job, workload)
        elif not status.is_true(workload, "QuotaReserved") and kueue.PREBUILT_LABEL not in labels(job):
            await self._renew(job, workload)

    def _now(self) -> float:
        return self._parts.clock.wall()

    async def _write(self, old: Object, new: Object) -> None:
        await write_status(self._parts.client, kueue.WORKLOADS, old, new)

    # -- the Workload

    async def _make(self, job: Object) -> None:
        """A Job that runs already is suspended first: nothing runs without quota."""
        if not job["spec"].get("suspend"):
            await self._parts.client.update(JOBS, {**job, "spec": {**job["spec"], "suspend": True}})
            return
        new = self._new(job)
        await made_workload(self._parts, new)
        self._parts.events.event(job, NORMAL, "CreatedWorkload", f"Created Workload: {_path(new)}")

    async def _replace(self, job: Object, workload: Object) -> None:
        """It has quota for other pods than the Job has by now: it goes once nothing runs, and the Job queues anew.

        By the API server itself: the cache may be behind what was started last.
        """
        metadata = workload["metadata"]
        with suppress(NotFound):
            newest = await self._parts.client.get(JOBS, job["metadata"]["name"], metadata["namespace"])
            if newest["metadata"]["uid"] != job["metadata"]["uid"] or fits(newest, workload):
                return  # its change comes back here
            exactly = DeleteOptions(uid=metadata["uid"], resource_version=metadata["resourceVersion"])
            await self._parts.client.delete(kueue.WORKLOADS, metadata["name"], metadata["namespace"], options=exactly)
            text = f"Deleted not matching Workload: {_path(workload)}"
            self._parts.events.event(job, NORMAL, "DeletedWorkload", text)

    def _new(self, job: Object, workload: Object | None = None) -> Object:
        template = job["spec"]["template"]
        priority = priority_of(self._parts.events, job, template, self._classes, self._pod_classes, workload)
        return set_workload("Job", "batch", job, [_pod_set(job)], priority)

    async def _renew(self, job: Object, workload: Object) -> None:
        """A Job that was changed while it waits: its Workload follows."""
        new = self._new(job, workload)["spec"]
        spec = workload["spec"]
        fields = ("queueName", "priority", "priorityClassRef", "maximumExecutionTimeSeconds")
        changed = {name: new.get(name) for name in fields if new.get(name) != spec.get(name)}
        if not _alike(new["podSets"], spec["podSets"]):
            changed["podSets"] = new["podSets"]
        if changed:
            kept = {name: value for name, value in {**spec, **changed}.items() if value is not None}
            await self._parts.client.update(kueue.WORKLOADS, {**workload, "spec": kept})

    # -- the Job

    async def _start(self, job: Object, workload: Object) -> None:
        infos = pod_infos(workload, self._flavors)
        if infos is None:
            return  # a flavour is not in the cache yet: its arrival in the status comes with another event
        info = infos.get("main", PodInfo())
        spec = {**job["spec"], "suspend": False, "template": injected(job["spec"]["template"], info)}
        if info.count is not None and meta.annotations(job).get(kueue.MIN_PARALLELISM):
            spec |= _of_size(job, info.count)
        await self._parts.client.update(JOBS, {**job, "spec": spec})
        self._parts.events.event(job, NORMAL, "Started", f"Admitted by clusterQueue {_queue(workload)}")

    async def _stop(self, job: Object, workload: Object) -> None:
        evicted = condition(workload, "Evicted") or {}
        message = evicted.get("message") or "Not admitted by cluster queue"
        message = "Workload is deleted" if is_deleting(workload) else message
        await self._parts.client.update(JOBS, {**job, "spec": {**job["spec"], "suspend": True}})
        self._parts.events.event(job, NORMAL, "Stopped", message)

    async def _release(self, job: Object, workload: Object) -> None:
        """Once nothing of it runs: the template is as it was, then the quota is free."""
        if not _is_elsewhere(job) and ((job.get("status") or {}).get("active") or not _rests(job)):
            return  # its next status comes back here
        spec = _restored(job, workload)
        if spec != job["spec"]:
            job = await self._not_started(job)
            await self._parts.client.update(JOBS, {**job, "spec": spec})
            return
        if is_deleting(workload):
            await let_go(self._parts, workload)
        else:
            await self._write(workload, status.released(workload, self._now(), status.requeue_at(workload)))

    async def _not_started(self, job: Object) -> Object:
        """Of one that ran elsewhere no controller here takes back that it runs, and till then its template is fixed."""
        found = job.get("status") or {}
        kept = {name: value for name, value in found.items() if name not in _OF_A_RUN}
        if not _is_elsewhere(job) or kept == found:
            return job
        return await self._parts.client.update(JOBS, {**job, "status": kept}, subresource="status")

    async def _follow(self, job: Object, workload: Object) -> None:
        """PodsReady, and the pods that are done."""
        new = _with_pods_ready(workload, job, self._now())
        done = _reclaimable(job)
        if done and status.is_true(workload, "Admitted"):
            new = {**new, "status": {**new["status"], "reclaimablePods": [{"name": "main", "count": done}]}}
        await self._write(workload, new)


def _pod_set(job: Object) -> Object:
    spec = job["spec"]
    count = pods_at_once(spec)
    found: dict[str, Any] = {"name": "main", "count": count, "template": spec["template"]}
    indexed = spec.get("completionMode") == "Indexed"
    request = topology_request(spec["template"], JOB_INDEX_LABEL if indexed else "")
    if request:
        found["topologyRequest"] = request
    least = meta.annotations(job).get(kueue.MIN_PARALLELISM)
    if least is not None and least.isdigit() and 0 < int(least) < count:
        found["minCount"] = int(least)
    return found


def fits(job: Object, workload: Object) -> bool:
    """Whether a Workload that has quota has it for the Job as it is now. Before the Job is let go that is all of it;
    then it is how many pods it runs beside each other, since all else of it is fixed."""
    leaves = is_deleting(workload) or status.is_true(workload, "Evicted")
    if leaves or not status.is_true(workload, "QuotaReserved"):
        return True
    now, given = _pod_set(job), workload["spec"]["podSets"][0]
    counts = {_admitted_count(workload) if given.get("minCount") else int(given["count"])}
    if job["spec"].get("suspend"):
        counts.add(int(given["count"]))
    if now["count"] not in counts:
        return False
    waits = job["spec"].get("suspend") and not status.is_true(workload, "Admitted")
    return not waits or _alike([now], [given])


def _admitted_count(workload: Object) -> int:
    assigned = ((workload.get("status") or {}).get("admission") or {}).get("podSetAssignments") or [{}]
    return int(assigned[0].get("count") or workload["spec"]["podSets"][0]["count"])


def _of_size(job: Object, count: int) -> Object:
    """What of a Job's spec says how many pods it has."""
    return {"parallelism": count, "completions": count} if is_synced(job) else {"parallelism": count}


def _outcome(job: Object) -> tuple[str, str] | None:
    """(reason, message) of a Job that is over."""
    for kind, reason, text in (
        ("Complete", "Succeeded", "Job finished successfully"),
        ("Failed", "Failed", "Job failed"),
    ):
        found = condition(job, kind)
        if found is not None and found["status"] == "True":
            return reason, found.get("message") or text
    return None


def _is_elsewhere(job: Object) -> bool:
    """It runs on another cluster: here nothing of it does."""
    return bool(job["spec"].get("managedBy") == kueue.MULTIKUEUE)


def _rests(job: Object) -> bool:
    """Whether the job controller has seen the suspension."""
    found = condition(job, "Suspended")
    started = (job.get("status") or {}).get("startTime")
    return (found is not None and found["status"] == "True") or not started


def _restored(job: Object, workload: Object) -> Object:
    """The Job's spec as it was before it was admitted; a size that was not given by that is its user's."""
    spec, original = job["spec"], workload["spec"]["podSets"][0]
    found = {**spec, "template": restored(spec["template"], original["template"])}
    if original.get("minCount") and spec.get("parallelism") == _admitted_count(workload) != original["count"]:
        found |= _of_size(job, original["count"])
    return found


def _alike(new: list[Object], old: list[Object]) -> bool:
    def essence(pod_set: Object) -> Any:
        return {**pod_set, "template": {**pod_set["template"], "metadata": None}}

    return [essence(item) for item in new] == [essence(item) for item in old]


def _with_pods_ready(workload: Object, job: Object, now: float) -> Object:
    found = job.get("status") or {}
    assigned = ((workload["status"].get("admission") or {}).get("podSetAssignments") or [{}])[0]
    wanted = int(assigned.get("count") or job["spec"].get("parallelism", 1))
    uncounted = len((found.get("uncountedTerminatedPods") or {}).get("succeeded") or ())
    if int(found.get("ready") or 0) + int(found.get("succeeded") or 0) + uncounted >= wanted:
        text = "All pods were ready or succeeded since the workload admission"
        return status.with_condition(workload, "PodsReady", True, "Started", text, now)
    was = condition(workload, "PodsReady") or {}
    if was.get("status") == "True":
        return status.with_condition(
            workload, "PodsReady", False, "WaitForRecovery", "At least one pod has failed", now
        )
    if not was:
        text = "Not all pods are ready or succeeded"
        return status.with_condition(workload, "PodsReady", False, "WaitForStart", text, now)
    return workload


def _reclaimable(job: Object) -> int:
    """How many of its pods will not run again: fewer completions are left than may run at once. Of a Job without
    completions none is made once one has succeeded."""
    spec, succeeded = job["spec"], int((job.get("status") or {}).get("succeeded") or 0)
    parallelism = int(spec.get("parallelism", 1))
    completions = int(parallelism if spec.get("completions") is None else spec["completions"])
    if parallelism <= 1 or not succeeded:
        return 0
    return max(0, min(parallelism, completions) - max(0, completions - succeeded))


def _path(workload: Object) -> str:
    return f"{workload['metadata']['namespace']}/{workload['metadata']['name']}"


def _queue(workload: Object) -> str:
    return str((workload["status"].get("admission") or {}).get("clusterQueue", ""))

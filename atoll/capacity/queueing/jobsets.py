"""JobSets of a queue: one Workload of several pod sets, a replicated job each; started and stopped as a whole.

As `jobs.py` does for Jobs, in the same order, one step a pass. A JobSet's Jobs are not queued by themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from atoll.capacity.queueing import status
from atoll.capacity.queueing.admission import QueueRules, Request
from atoll.capacity.queueing.asked import topology_request
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
from atoll.capacity.queueing.podinfo import PodInfo, injected, pod_infos
from atoll.capacity.queueing.podinfo import restored as restored_template
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import PRIORITY_CLASSES
from atoll.objects.meta import condition, controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key
from atoll.scheduling.groups.owned import pods_at_once

_JOB_INDEX: Final = "jobset.sigs.k8s.io/job-index"


class QueuedJobSets:
    """Mutating admission: a JobSet that names a queue is created suspended. One that names none is as a Job is."""

    resources = frozenset({JOB_SETS.group_resource})

    def __init__(self, rules: QueueRules) -> None:
        self._rules = rules

    def mutate(self, request: Request) -> Awaitable[None] | None:
        obj = request.obj
        if request.operation == "CREATE" and not request.subresource and obj is not None and self._rules.on():
            self._rules.take_in(request.namespace, obj, "jobset.sigs.k8s.io/jobset-controller")
        return None


class JobSetQueueing:
    """JobSets with the label kueue.x-k8s.io/queue-name and, where so configured, those without (`manages` says)."""

    def __init__(self, parts: Parts, manages: Callable[[Object], bool]) -> None:
        self.name = "queueing-jobsets"
        self._manages = manages
        self._parts = parts
        of = parts.informers.of
        self._sets, self._workloads, self._flavors = of(JOB_SETS), of(kueue.WORKLOADS), of(kueue.RESOURCE_FLAVORS)
        self._classes, self._pod_classes = of(kueue.WORKLOAD_PRIORITY_CLASSES), of(PRIORITY_CLASSES)
        waits = (self._sets, self._workloads, self._flavors, self._classes, self._pod_classes)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._sets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        workload = new or old or {}
        owner = controller_of(workload)
        if owner is not None and owner["kind"] == JOB_SETS.kind:
            self.loop.queue.add((workload["metadata"].get("namespace"), owner["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        found = self._sets.by_key(name)
        if found is None or is_deleting(found) or not self._parts.on() or not self._manages(found):
            return None
        prebuilt = labels(found).get(kueue.PREBUILT_LABEL)
        workload = self._workloads.get(prebuilt or workload_name(JOB_SETS.kind, JOB_SETS.group, found), name[0])
        done = outcome(found)
        if prebuilt and (workload is None or controller_of(workload) is None):
            return await adopted(self._parts, found, workload)
        if workload is None:
            if done is None:
                await self._make(found)
        elif not status.is_true(workload, "Finished"):
            if done is not None:
                await self._write(workload, status.finished(workload, *done, self._parts.clock.wall()))
            elif not await reprioritised(self._parts, found, workload, self._classes):
                await self._step(found, workload)
        return None

    async def _write(self, old: Object, new: Object) -> None:
        await write_status(self._parts.client, kueue.WORKLOADS, old, new)

    async def _set(self, jobset: Object, spec: Object, reason: str, message: str) -> None:
        await self._parts.client.update(JOB_SETS, {**jobset, "spec": spec})
        self._parts.events.event(jobset, NORMAL, reason, message)

    async def _make(self, jobset: Object) -> None:
        """One that runs already is suspended first: nothing runs without quota."""
        if not jobset["spec"].get("suspend"):
            await self._set(
                jobset, {**jobset["spec"], "suspend": True}, "Suspended", "Kueue managed child job suspended"
            )
            return
        new = self._new(jobset)
        await made_workload(self._parts, new)
        text = f"Created Workload: {new['metadata']['namespace']}/{new['metadata']['name']}"
        self._parts.events.event(jobset, NORMAL, "CreatedWorkload", text)

    def _new(self, jobset: Object, workload: Object | None = None) -> Object:
        sets = pod_sets(jobset)
        template = sets[0]["template"] if sets else {}
        priority = priority_of(self._parts.events, jobset, template, self._classes, self._pod_classes, workload)
        return set_workload(JOB_SETS.kind, JOB_SETS.group, jobset, sets, priority)

    async def _step(self, jobset: Object, workload: Object) -> None:
        evicted, reserved = status.is_true(workload, "Evicted"), status.is_true(workload, "QuotaReserved")
        leaves = is_deleting(workload)
        may_run = status.is_true(workload, "Admitted") and not evicted and not leaves
        suspended = bool(jobset["spec"].get("suspend"))
        if may_run and suspended:
            infos = pod_infos(workload, self._flavors)
            if infos is not None:  # else a flavour is not in the cache yet: it comes with another event
                queue = (workload["status"].get("admission") or {}).get("clusterQueue", "")
                await self._set(jobset, started(jobset, infos), "Started", f"Admitted by clusterQueue {queue}")
        elif may_run:
            new = with_pods_ready(workload, jobset, self._parts.clock.wall())
            await self._write(workload, with_reclaimable(new, jobset))
        elif not suspended:
            message = (condition(workload, "Evicted") or {}).get("message") or "Not admitted by cluster queue"
            message = "Workload is deleted" if leaves else message
            await self._set(jobset, {**jobset["spec"], "suspend": True}, "Stopped", message)
        elif leaves or (evicted and reserved):
            await self._release(jobset, workload)
        elif not reserved and kueue.PREBUILT_LABEL not in labels(jobset):
            await self._renew(jobset, workload)

    async def _release(self, jobset: Object, workload: Object) -> None:
        """Once nothing of it runs: the templates are as they were, then the quota is free."""
        if not rests(jobset):
            return
        spec = restored(jobset["spec"], workload)
        if spec != jobset["spec"]:
            await self._parts.client.update(JOB_SETS, {**jobset, "spec": spec})
            return
        if is_deleting(workload):
            await let_go(self._parts, workload)
            return
        at = status.requeue_at(workload)
        await self._write(workload, status.released(workload, self._parts.clock.wall(), at))

    async def _renew(self, jobset: Object, workload: Object) -> None:
        """One that was changed while it waits: its Workload follows."""
        new, spec = self._new(jobset, workload)["spec"], workload["spec"]
        fields = ("queueName", "priority", "priorityClassRef")
        changed = {name: new.get(name) for name in fields if new.get(name) != spec.get(name)}
        if list(map(_changeable, new["podSets"])) != list(map(_changeable, spec["podSets"])):
            changed["podSets"] = new["podSets"]
        if changed:
            kept = {name: value for name, value in {**spec, **changed}.items() if value is not None}
            await self._parts.client.update(kueue.WORKLOADS, {**workload, "spec": kept})


def pod_sets(jobset: Object) -> list[Object]:
    """One a replicated job: as many pods as its Jobs run beside each other."""
    found = []
    for replicated in jobset["spec"].get("replicatedJobs") or ():
        job = replicated["template"]["spec"]
        pods = pods_at_once(job)
        count = int(replicated.get("replicas", 1)) * pods
        entry = {"name": replicated["name"].lower(), "count": count, "template": job["template"]}
        request = topology_request(job["template"], JOB_INDEX_LABEL, slice_size=pods)
        if request:
            groups = {"subGroupIndexLabel": _JOB_INDEX, "subGroupCount": int(replicated.get("replicas", 1))}
            entry["topologyRequest"] = {**request, **groups}
        found.append(entry)
    return found


def _changeable(pod_set: Object) -> tuple[object, ...]:
    """What of it may change while a JobSet is suspended, as far as it decides about flavours and places."""
    pod = pod_set["template"].get("spec") or {}
    return pod.get("nodeSelector") or {}, pod.get("tolerations") or [], pod_set.get("topologyRequest")


def with_reclaimable(workload: Object, jobset: Object) -> Object:
    """With the pods of Jobs that are done. Where a failure may restart the whole none is given back: it would run again
    without quota."""
    if int((jobset["spec"].get("failurePolicy") or {}).get("maxRestarts") or 0):
        return workload
    counts = (jobset.get("status") or {}).get("replicatedJobsStatus") or ()
    done = {it["name"]: int(it.get("succeeded") or 0) for it in counts}
    found = []
    for replicated in jobset["spec"].get("replicatedJobs") or ():
        jobs = min(done.get(replicated["name"], 0), int(replicated.get("replicas", 1)))
        if jobs:
            pods = jobs * pods_at_once(replicated["template"]["spec"])
            found.append({"name": replicated["name"].lower(), "count": pods})
    return {**workload, "status": {**workload["status"], "reclaimablePods": found}} if found else workload


def outcome(jobset: Object) -> tuple[str, str] | None:
    """(reason, message) of one that is over."""
    for kind, reason in (("Completed", "Succeeded"), ("Failed", "Failed")):
        found = condition(jobset, kind)
        if found is not None and found["status"] == "True":
            return reason, str(found.get("message") or f"JobSet {kind.lower()}")
    return None


def _with_templates(spec: Object, change: Callable[[str, Object], Object]) -> Object:
    """The spec with each replicated job's pod template changed."""
    jobs = []
    for replicated in spec.get("replicatedJobs") or ():
        job = replicated["template"]["spec"]
        pod = change(replicated["name"].lower(), job["template"])
        jobs.append({**replicated, "template": {**replicated["template"], "spec": {**job, "template": pod}}})
    return {**spec, "replicatedJobs": jobs}


def started(jobset: Object, infos: dict[str, PodInfo]) -> Object:
    """Its spec, let go on its flavours' nodes."""
    spec = _with_templates(jobset["spec"], lambda name, pod: injected(pod, infos.get(name, PodInfo())))
    return {**spec, "suspend": False}


def restored(spec: Object, workload: Object) -> Object:
    originals = {item["name"]: item["template"] for item in workload["spec"]["podSets"]}

    def back(name: str, pod: Object) -> Object:
        return restored_template(pod, originals.get(name, {}))

    return _with_templates(spec, back)


def rests(jobset: Object) -> bool:
    """Whether JobSet's controller has seen the suspension, and no Job of it is active."""
    if jobset["spec"].get("managedBy") == kueue.MULTIKUEUE:  # it runs on another cluster
        return True
    found = jobset.get("status") or {}
    active = any(item.get("active") for item in found.get("replicatedJobsStatus") or ())
    return not active and (condition(jobset, "Suspended") or {}).get("status") == "True"


def with_pods_ready(workload: Object, jobset: Object, now: float) -> Object:
    counts = {item["name"]: item for item in (jobset.get("status") or {}).get("replicatedJobsStatus") or ()}
    ready = all(
        int(counts.get(item["name"], {}).get("ready", 0)) + int(counts.get(item["name"], {}).get("succeeded", 0))
        >= int(item.get("replicas", 1))
        for item in jobset["spec"].get("replicatedJobs") or ()
    )
    was = condition(workload, "PodsReady") or {}
    if ready:
        text = "All pods were ready or succeeded since the workload admission"
        return status.with_condition(workload, "PodsReady", True, "Started", text, now)
    if was.get("status") == "True":
        text = "At least one pod has failed"
        return status.with_condition(workload, "PodsReady", False, "WaitForRecovery", text, now)
    if not was:
        text = "Not all pods are ready or succeeded"
        return status.with_condition(workload, "PodsReady", False, "WaitForStart", text, now)
    return workload

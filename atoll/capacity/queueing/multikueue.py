"""MultiKueue (KEP 693): workloads of a manager cluster run on the first worker cluster that has quota for them.

The admission check kueue.x-k8s.io/multikueue of a Workload with quota here: a copy of it goes to every worker of the
MultiKueueConfig; the first that reserves quota there wins and the other copies go; the job is made there, bound to the
copy by the label prebuilt-workload-name; the status comes back, and what was made there goes when all is over here.
Jobs and JobSets with spec.managedBy kueue.x-k8s.io/multikueue are mirrored in full; others only hold their queue here.

A worker that can't be reached is not one where things are gone: what is there stays until it answers, and only after
`workerLostTimeout` its workloads are queued anew. Names follow from the local ones, so each step may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.config import MultiKueueOptions
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.provisioning import Verdict, with_verdict
from atoll.capacity.queueing.workers import Worker, Workers
from atoll.client.port import Client, DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import JOBS
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

CONTROLLER: Final = kueue.MULTIKUEUE
ORIGIN: Final = f"{kueue.MULTIKUEUE}-origin"
_LOOK_SECONDS = 5.0
_KINDS: Final[Mapping[str, Resource]] = {JOBS.kind: JOBS, JOB_SETS.kind: JOB_SETS}
_GIVEN_LABELS = ("controller-uid", "job-name")  # by the Job controller to its pods, also under its own prefix


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
    """The job as the chosen worker gets it: as its user wrote it, bound to the Workload's copy."""
    metadata = job["metadata"]
    spec = {name: value for name, value in job["spec"].items() if name != "managedBy"}
    if job["kind"] == JOBS.kind:
        if not spec.get("manualSelector"):
            spec.pop("selector", None)
        template = dict(workload["spec"]["podSets"][0]["template"])
        found = template.get("metadata") or {}
        given = (found.get("labels") or {}).items()
        kept = {name: value for name, value in given if name.removeprefix("batch.kubernetes.io/") not in _GIVEN_LABELS}
        spec["template"] = {**template, "metadata": {**found, "labels": kept}}
    made: Object = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels(job), ORIGIN: origin, kueue.PREBUILT_LABEL: workload["metadata"]["name"]},
        },
        "spec": {**spec, "suspend": True},
    }
    if metadata.get("annotations"):
        made["metadata"]["annotations"] = metadata["annotations"]
    return made


class MultiKueue:
    """Carries it out, worker by worker."""

    def __init__(
        self, parts: Parts, connect: Callable[[str], Client], options: Callable[[], MultiKueueOptions]
    ) -> None:
        """`connect`: a client of the cluster that a kubeconfig (its text) names; raises UserError."""
        self._options = options
        self.name = "queueing-multikueue"
        self._parts = parts
        of = parts.informers.of
        self._workloads, self._checks = of(kueue.WORKLOADS), of(kueue.ADMISSION_CHECKS)
        self._configs, self._clusters = of(kueue.MULTIKUEUE_CONFIGS), of(kueue.MULTIKUEUE_CLUSTERS)
        self._workers = Workers(parts, connect, self._remote_changed)
        waits = (self._workloads, self._checks, self._configs, self._clusters)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._workloads.add_handler(self._workload_changed)
        for informer in (self._checks, self._configs, self._clusters):
            informer.add_handler(lambda old, new: self._setup_changed())

    async def run(self) -> None:
        try:
            await self.loop.run()
        finally:
            await self._workers.close()

    # -- what is to be looked at

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        if any(self._is_ours(item["name"]) for item in (obj.get("status") or {}).get("admissionChecks") or ()):
            self.loop.queue.add(key(obj))

    def _remote_changed(self, name: Key) -> None:
        self.loop.queue.add(name)

    def _setup_changed(self) -> None:
        for obj in self._clusters:
            self.loop.queue.add(("", f"cluster/{obj['metadata']['name']}"))
        for obj in self._checks:
            if self._is_ours(obj["metadata"]["name"]):
                self.loop.queue.add(("", f"check/{obj['metadata']['name']}"))

    def _is_ours(self, check: str) -> bool:
        found = self._checks.get(check)
        return found is not None and found["spec"].get("controllerName") == CONTROLLER

    async def _reconcile(self, name: Key) -> float | None:
        if not self._parts.on():
            return None
        if name[0]:
            return await self._workload(name)
        kind, _, own = name[1].partition("/")
        if kind == "cluster":
            again = await self._workers.follow(own, self._clusters.get(own))
            self._setup_checks()
            return again
        await self._tell_check(self._checks.get(own))
        return None

    def _setup_checks(self) -> None:
        for obj in self._checks:
            if self._is_ours(obj["metadata"]["name"]):
                self.loop.queue.add(("", f"check/{obj['metadata']['name']}"))

    def _names(self, check: Object) -> list[str]:
        config = self._configs.get((check["spec"].get("parameters") or {}).get("name") or "")
        return list((config or {}).get("spec", {}).get("clusters") or ())

    async def _tell_check(self, check: Object | None) -> None:
        if check is None:
            return
        names = self._names(check)
        missing = [name for name in names if not self._workers.reachable(name)]
        if not names:
            active, reason, text = False, "BadConfig", "its MultiKueueConfig names no cluster, or is not there"
        elif len(missing) == len(names):
            active, reason, text = False, "NoUsableClusters", f"Inactive clusters: {', '.join(missing)}"
        else:
            active, reason, text = True, "Active", "The admission check is active"
        new = status.with_condition(check, "Active", active, reason, text, self._parts.clock.wall())
        await write_status(self._parts.client, kueue.ADMISSION_CHECKS, check, new)

    # -- one workload

    async def _workload(self, name: Key) -> float | None:
        workload = self._workloads.by_key(name)
        entry = None if workload is None else self._entry(workload)
        if workload is None or entry is None or not _wants(workload):
            return await self._withdraw(name, keep="")
        check = self._checks.get(entry["name"])
        assert check is not None
        names = self._names(check)
        chosen = workload["status"].get("clusterName") or self._first(name, names)
        if not chosen:
            await self._offer(workload, names)
            return _LOOK_SECONDS
        await self._withdraw(name, keep=chosen)
        if workload["status"].get("clusterName") != chosen:
            await self._choose(workload, entry, chosen)
            return _LOOK_SECONDS
        return await self._follow(workload, entry, chosen)

    def _entry(self, workload: Object) -> Object | None:
        listed = (workload.get("status") or {}).get("admissionChecks") or ()
        return next((item for item in listed if self._is_ours(item["name"])), None)

    def _first(self, name: Key, names: list[str]) -> str:
        """Of those in the config's order, the first that has quota for it."""
        for worker_name in names:
            worker = self._workers.get(worker_name)
            copy = worker.workload(name) if worker is not None else None
            if copy is not None and status.is_true(copy, "QuotaReserved"):
                return worker_name
        return ""

    async def _offer(self, workload: Object, names: list[str]) -> None:
        for worker in filter(None, map(self._workers.get, names)):
            if worker.workload(key(workload)) is None:
                with suppress(AlreadyExists, NotFound):  # NotFound: it lacks the namespace
                    await worker.client.create(kueue.WORKLOADS, copy_of(workload, self._options().origin))
        if names and not workload["status"].get("nominatedClusterNames"):
            new = {**workload, "status": {**workload["status"], "nominatedClusterNames": names[:10]}}
            await write_status(self._parts.client, kueue.WORKLOADS, workload, new)

    async def _choose(self, workload: Object, entry: Object, chosen: str) -> None:
        job = await self._job(workload)
        managed = job is not None and job["spec"].get("managedBy") == CONTROLLER
        verdict = Verdict("Ready" if managed else "Pending", f'The workload got reservation on "{chosen}"')
        new = with_verdict(workload, entry["name"], verdict, self._parts.clock.wall())
        kept = {name: value for name, value in new["status"].items() if name != "nominatedClusterNames"}
        await write_status(
            self._parts.client, kueue.WORKLOADS, workload, {**new, "status": {**kept, "clusterName": chosen}}
        )

    async def _follow(self, workload: Object, entry: Object, chosen: str) -> float | None:
        """The job runs there; what it comes to is told here."""
        worker, name = self._workers.get(chosen), key(workload)
        if worker is None:
            return await self._lost(workload, entry, chosen)
        copy = worker.workload(name)
        if copy is None or not (status.is_true(copy, "QuotaReserved") or status.is_true(copy, "Finished")):
            await self._retry(workload, entry, f'The workload lost its reservation on "{chosen}"')
            return None
        job = await self._job(workload)
        if job is None:
            return _LOOK_SECONDS
        remote = await self._mirror(worker, job, workload)
        if status.is_true(copy, "Finished"):
            ended = next(item for item in copy["status"]["conditions"] if item["type"] == "Finished")
            now = self._parts.clock.wall()
            new = status.finished(workload, ended["reason"], ended["message"], now)
            await write_status(self._parts.client, kueue.WORKLOADS, workload, new)
            return None
        return _LOOK_SECONDS if remote is not None else 1.0

    async def _mirror(self, worker: Worker, job: Object, workload: Object) -> Object | None:
        """The worker's job, made where it is not there; its status goes to the local one."""
        resource, metadata = _KINDS[job["kind"]], job["metadata"]
        try:
            remote = await worker.client.get(resource, metadata["name"], metadata["namespace"])
        except NotFound:
            with suppress(AlreadyExists):
                await worker.client.create(resource, job_for_worker(job, workload, self._options().origin))
            return None
        managed = job["spec"].get("managedBy") == CONTROLLER and not job["spec"].get("suspend")
        if managed and remote.get("status") and remote["status"] != job.get("status"):
            await self._parts.client.update(resource, {**job, "status": remote["status"]}, subresource="status")
        return remote

    async def _job(self, workload: Object) -> Object | None:
        owner = controller_of(workload)
        resource = _KINDS.get(owner["kind"]) if owner is not None else None
        if owner is None or resource is None:
            return None
        try:
            found = await self._parts.client.get(resource, owner["name"], workload["metadata"]["namespace"])
        except NotFound:
            return None
        return found if found["metadata"]["uid"] == owner["uid"] else None

    async def _lost(self, workload: Object, entry: Object, chosen: str) -> float | None:
        left = self._workers.lost_at(chosen) + self._options().lost_seconds - self._parts.clock.monotonic()
        if left > 0:
            return min(left, _LOOK_SECONDS)
        await self._retry(workload, entry, f'Worker "{chosen}" is lost')
        return None

    async def _retry(self, workload: Object, entry: Object, message: str) -> None:
        verdict = Verdict("Retry", message)
        new = with_verdict(workload, entry["name"], verdict, self._parts.clock.wall())
        await write_status(self._parts.client, kueue.WORKLOADS, workload, new)

    async def _withdraw(self, name: Key, keep: str) -> float | None:
        """Take the copies (and their jobs) of all workers but `keep` away; of those that do not answer, later."""
        again = None
        for worker_name, worker in self._workers.all():
            copy = worker.workload(name)
            if worker_name == keep or copy is None or labels(copy).get(ORIGIN) != self._options().origin:
                continue
            try:
                await _take_away(worker.client, copy)
            except AtollError:
                again = _LOOK_SECONDS
        return again


def _wants(workload: Object) -> bool:
    return (
        status.is_true(workload, "QuotaReserved")
        and not status.is_true(workload, "Evicted")
        and not status.is_true(workload, "Finished")
    )


async def _take_away(client: Client, copy: Object) -> None:
    metadata = copy["metadata"]
    owner: Any = controller_of(copy)
    resource = _KINDS.get(owner["kind"]) if owner else None
    if owner and resource is not None:
        options = DeleteOptions(propagation="Background", uid=owner["uid"])
        with suppress(NotFound):
            await client.delete(resource, owner["name"], metadata["namespace"], options=options)
    with suppress(NotFound):
        options = DeleteOptions(uid=metadata["uid"])
        await client.delete(kueue.WORKLOADS, metadata["name"], metadata["namespace"], options=options)

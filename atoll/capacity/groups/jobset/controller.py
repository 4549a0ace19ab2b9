"""Carries out plans for JobSets. Killed at any await it takes up from what the API server has.

Jobs are created under names that follow from the JobSet, so none is made twice; statuses are written with their
resourceVersion; a Job is deleted by its UID. JobSets with another `managedBy` are left alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.capacity.groups.jobset import in_place, model
from atoll.capacity.groups.jobset.model import Object, Plan
from atoll.capacity.groups.jobset.plan import plan_jobset
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.client.port import DeleteOptions
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import WARNING
from atoll.runtime.informer import Key

_INDEX = "jobset"


class JobSets:
    """One key a JobSet."""

    def __init__(self, parts: Parts) -> None:
        self.name = "jobset"
        self._parts = parts
        of = parts.informers.of
        self._sets, self._jobs, self._services = of(JOB_SETS), of(JOBS), of(SERVICES)
        self._claims = of(PERSISTENT_VOLUME_CLAIMS)
        self._jobs.add_index(_INDEX, lambda job: [owner["uid"]] if (owner := _owner(job)) else [])
        self._pods = of(PODS)
        self._pods.add_index(_INDEX, lambda pod: [name] if (name := _set_of(pod)) is not None else [])
        waits = (self._sets, self._jobs, self._services, self._claims, self._pods)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._sets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._jobs.add_handler(self._owned_changed)
        self._services.add_handler(self._owned_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _owned_changed(self, old: Object | None, new: Object | None) -> None:
        owned = new or old or {}
        owner = _owner(owned)
        if owner is not None:
            self.loop.queue.add((owned["metadata"].get("namespace"), owner["name"]))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        name = _set_of(new or old or {})
        jobset = None if name is None else self._sets.by_key(name)
        if name is not None and jobset is not None and in_place.is_in_place(jobset):
            self.loop.queue.add(name)

    async def _reconcile(self, name: Key) -> float | None:
        jobset = self._sets.by_key(name)
        if jobset is None or is_deleting(jobset) or not self._parts.on():
            return None
        if jobset["spec"].get("managedBy", model.CONTROLLER) != model.CONTROLLER:
            return None
        jobs = self._jobs.by_index(_INDEX, jobset["metadata"]["uid"])
        pods = self._pods.by_index(_INDEX, name) if in_place.is_in_place(jobset) else []
        plan = plan_jobset(jobset, jobs, self._parts.clock.wall(), pods)
        await self._carry_out(jobset, plan)
        return plan.again_seconds

    async def _carry_out(self, jobset: Object, plan: Plan) -> None:
        events = self._parts.events
        await asyncio.gather(*map(self._delete, plan.delete))
        for claim in plan.claims:
            if self._claims.get(claim["metadata"]["name"], claim["metadata"]["namespace"]) is None:
                await self._make(jobset, PERSISTENT_VOLUME_CLAIMS, claim, "PVCCreationFailed")
        if plan.service is not None:
            metadata = plan.service["metadata"]
            if self._services.get(metadata["name"], metadata["namespace"]) is None:
                await self._make(jobset, SERVICES, plan.service, "HeadlessServiceCreationFailed")
        await asyncio.gather(*(self._make(jobset, JOBS, job, "JobCreationFailed") for job in plan.create))
        for job in plan.update:
            await self._update(job)
        await write_status(self._parts.client, JOB_SETS, jobset, {**jobset, "status": plan.status})
        for kind, reason, message in plan.events:
            events.event(jobset, kind, reason, message)
        if plan.remove:
            metadata = jobset["metadata"]
            options = DeleteOptions(uid=metadata["uid"], propagation="Foreground")
            with suppress(NotFound):
                await self._parts.client.delete(JOB_SETS, metadata["name"], metadata["namespace"], options=options)

    async def _make(self, jobset: Object, resource: Resource, obj: Object, reason: str) -> None:
        metadata = obj["metadata"]
        try:
            await self._parts.client.create(resource, obj, metadata["namespace"])
        except AlreadyExists as error:
            there = await self._parts.client.get(resource, metadata["name"], metadata["namespace"])
            owner = controller_of(there)
            if resource is JOBS and (owner is None or owner["uid"] != jobset["metadata"]["uid"]):
                self._parts.events.event(jobset, WARNING, reason, f"{error.message}, and it is not of this JobSet")
                raise
        except AtollError as error:
            self._parts.events.event(jobset, WARNING, reason, error.message)
            raise

    async def _delete(self, job: Object) -> None:
        metadata = job["metadata"]
        options = DeleteOptions(uid=metadata["uid"], propagation="Foreground")
        with suppress(NotFound):
            await self._parts.client.delete(JOBS, metadata["name"], metadata["namespace"], options=options)

    async def _update(self, job: Object) -> None:
        """A Job's template may change only before it has started: one that was suspended is as if it never had."""
        if not job["spec"]["suspend"] and (job.get("status") or {}).get("startTime"):
            status = {name: value for name, value in job["status"].items() if name != "startTime"}
            written = await self._parts.client.update(JOBS, {**job, "status": status}, subresource="status")
            job = {**job, "metadata": written["metadata"]}
        await self._parts.client.update(JOBS, job)


def _set_of(pod: Object) -> Key | None:
    name = labels(pod).get(model.NAME)
    return (pod["metadata"].get("namespace"), name) if name else None


def _owner(obj: Object) -> Object | None:
    owner = controller_of(obj)
    mine = owner is not None and owner["kind"] == JOB_SETS.kind and owner["apiVersion"] == JOB_SETS.api_version
    return owner if mine else None

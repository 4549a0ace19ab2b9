"""The loop of CronJobs: woken by their Jobs and by the clock."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common import owners
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.cronjob.plan import (
    Plan,
    is_controlled_by,
    plan_cron_job,
    reference_to,
    unlisted,
    with_active,
)
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import CRON_JOBS, JOBS
from atoll.objects.meta import controller_of, is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "cronjob-controller"


class CronJobController:
    """A Job's name holds its minute, so that a start is never doubled."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._cron_jobs = context.informers.of(CRON_JOBS)
        self._jobs = context.informers.of(JOBS)
        owners.index_by_controller(self._jobs)
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=context.options.workers, wait_for=(self._cron_jobs, self._jobs)
        )
        self._cron_jobs.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._jobs.add_handler(self._job_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        job = new or old or {}
        reference = controller_of(job)
        if reference is not None and reference["kind"] == "CronJob":
            self.loop.queue.add((job["metadata"].get("namespace"), reference["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        cron_job = self._cron_jobs.by_key(name)
        if cron_job is None:
            return None
        jobs = [job for job in owners.children(self._jobs, cron_job) if not is_deleting(job)]
        if unlisted(cron_job, jobs):  # a Job that was started a moment ago, and the cached status is behind?
            try:
                cron_job = await self._client.get(CRON_JOBS, name[1], name[0])
            except NotFound:
                return None
        absent = await self._absent(cron_job, jobs)
        plan = plan_cron_job(cron_job, jobs, lambda _, uid: uid not in absent, self._clock.wall())
        for kind, reason, message in plan.told:
            self._events.event(cron_job, kind, reason, message)
        error: AtollError | None = None
        try:
            await self._apply(cron_job, plan)
        except AtollError as problem:
            error = problem
        if plan.status != (cron_job.get("status") or {}):
            await self._client.update(CRON_JOBS, {**cron_job, "status": plan.status}, subresource="status")
        if error is not None:
            raise error
        return plan.again_seconds

    async def _absent(self, cron_job: Object, jobs: list[Object]) -> set[str]:
        """Active ones that the cache doesn't have, and the server neither."""
        known = {job["metadata"]["uid"] for job in jobs}
        gone = set()
        for item in (cron_job.get("status") or {}).get("active") or ():
            if item["uid"] in known:
                continue
            try:
                await self._client.get(JOBS, item["name"], cron_job["metadata"]["namespace"])
            except NotFound:
                gone.add(item["uid"])
        return gone

    async def _apply(self, cron_job: Object, plan: Plan) -> None:
        for job in [*plan.remove, *plan.replace]:
            await self._delete(cron_job, job)
            active = [item for item in plan.status.get("active") or () if item["uid"] != job["metadata"]["uid"]]
            plan.status = with_active(plan.status, active)
        if plan.create is None:
            return
        try:
            made = await self._client.create(JOBS, plan.create)
        except AlreadyExists:
            metadata = plan.create["metadata"]
            made = await self._client.get(JOBS, metadata["name"], metadata["namespace"])
            if not is_controlled_by(made, cron_job):
                return
        except AtollError as error:
            if not namespace_terminates(error):
                self._events.event(cron_job, WARNING, "FailedCreate", f"Error creating job: {error.message}")
            raise
        else:
            self._events.event(cron_job, NORMAL, "SuccessfulCreate", f"Created job {made['metadata']['name']}")
        active = [*(plan.status.get("active") or ()), reference_to(made)]
        plan.status = {**with_active(plan.status, active), "lastScheduleTime": rfc3339(plan.scheduled)}

    async def _delete(self, cron_job: Object, job: Object) -> None:
        metadata = job["metadata"]
        options = DeleteOptions(propagation="Background", uid=metadata["uid"])
        try:
            await self._client.delete(JOBS, metadata["name"], metadata["namespace"], options=options)
        except NotFound:
            return
        except AtollError as error:
            self._events.event(cron_job, WARNING, "FailedDelete", f"Deleted job: {error.message}")
            raise
        self._events.event(cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {metadata['name']}")

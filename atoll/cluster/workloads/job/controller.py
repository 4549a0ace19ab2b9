"""The loop of Jobs, and of pods whose job is gone but whose finalizer remains."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from atoll.base.errors import AtollError, NotFound
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions, Object
from atoll.cluster.workloads.common import batches, owners
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.expectations import Expectations
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.cluster.workloads.job.objects import FINALIZER, is_finished, is_tracked, new_pod
from atoll.cluster.workloads.job.plan import Decision, JobSync
from atoll.cluster.workloads.job.policies import Failures
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import JOBS, PODS
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "job-controller"
_BATCH_SECONDS = 0.02
_MANAGER = "kubernetes.io/job-controller"
_UNTRACK = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}


class JobController:
    """Guarantees that no pod is counted twice or never, over crashes too."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._jobs = context.informers.of(JOBS)
        self._pods = context.pod_events.pods
        self._jobs.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self._expectations = Expectations()
        self._removed: dict[Key, set[str]] = {}
        self._failures: dict[Key, Failures] = {}
        self._finished: set[str] = set()
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=context.options.workers, wait_for=(self._jobs, self._pods)
        )
        self._orphans: Controller[Key] = Controller(
            f"{NAME}-orphans", self._release_orphan, wait_for=(self._jobs, self._pods)
        )
        self._jobs.add_handler(self._job_changed)
        context.pod_events.follow("Job", self._pod_changed, self._orphaned)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run(), name=NAME)
            group.create_task(self._orphans.run(), name=f"{NAME}-orphans")

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            name = key(old)
            self._expectations.forget(name)
            self._removed.pop(name, None)
            self._failures.pop(name, None)
            self._finished.discard(old["metadata"]["uid"])
            for pod in owners.children(self._pods, old):
                if is_tracked(pod):
                    self._orphans.queue.add(key(pod))
            return
        self.loop.queue.add(key(new or {}))

    def _orphaned(self, pod: Object) -> None:
        if is_tracked(pod):
            self._orphans.queue.add(key(pod))
        for job in self._jobs.by_index("namespace", pod["metadata"].get("namespace")):
            if compile_selector(job["spec"].get("selector"))(labels(pod)):
                self.loop.queue.add(key(job))

    def _pod_changed(self, old: Object | None, new: Object | None, reference: Object) -> None:
        pod = new or old or {}
        name = (pod["metadata"].get("namespace"), reference["name"])
        uid = pod["metadata"]["uid"]
        if new is None or is_deleting(new):
            self._expectations.deletion_observed(name, uid)
        elif old is None:
            self._expectations.creation_observed(name)
        if new is None or not is_tracked(new):
            self._removed.get(name, set()).discard(uid)
        owner = self._jobs.by_key(name)
        if owner is None or owner["metadata"]["uid"] != reference["uid"] or is_finished(owner):
            if new is not None and is_tracked(new):
                self._orphans.queue.add(key(new))
            return
        self.loop.queue.add_after(name, _BATCH_SECONDS)

    # -- pods without a job

    async def _release_orphan(self, name: Key) -> float | None:
        pod = self._pods.by_key(name)
        if pod is None or not is_tracked(pod):
            return None
        reference = controller_of(pod)
        if reference is not None and reference["kind"] == "Job":
            fresh: Object | None = None
            with suppress(NotFound):
                fresh = await self._client.get(JOBS, reference["name"], name[0])
            if fresh is not None and fresh["metadata"]["uid"] == reference["uid"] and not is_finished(fresh):
                return None
        await self._untrack(pod)
        return None

    async def _untrack(self, pod: Object) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.patch(
                PODS, metadata["name"], _UNTRACK, metadata["namespace"], content_type=STRATEGIC_PATCH
            )
        except NotFound:
            return

    # -- jobs

    async def _reconcile(self, name: Key) -> float | None:
        job = self._jobs.by_key(name)
        if job is None or is_finished(job) or job["metadata"]["uid"] in self._finished:
            return None
        if job["spec"].get("managedBy", _MANAGER) != _MANAGER:
            return None
        pods = await self._claim(job)
        may_act = self._expectations.satisfied(name, self._clock.monotonic())
        removed = frozenset(self._removed.get(name, ()))
        failures = self._failures.get(name, Failures())
        sync = JobSync(job, pods, failures, removed, self._clock.wall())
        decision = sync.decide(may_act=may_act)
        active, error = await self._act(name, job, sync, decision)
        for kind, reason, message in sync.conclude(decision, active):
            self._events.event(job, kind, reason, message)
        await self._track(name, job, sync, decision, active)
        if error is not None:
            raise error
        return decision.again_seconds

    async def _claim(self, job: Object) -> list[Object]:
        claim = owners.plan_claim(
            job,
            compile_selector(job["spec"].get("selector")),
            owners.children(self._pods, job),
            owners.orphans(self._pods, job["metadata"]["namespace"]),
        )
        pods = await owners.apply_claim(self._client, job, JOBS, claim, PODS)
        missing = [pod for pod in claim.adopt if not is_tracked(pod)]
        if missing and len(pods) > len(claim.owned):
            await asyncio.gather(*(self._add_finalizer(pod) for pod in missing))
        return pods

    async def _add_finalizer(self, pod: Object) -> None:
        metadata = pod["metadata"]
        patch = {"metadata": {"finalizers": [FINALIZER]}}
        try:
            await self._client.patch(PODS, metadata["name"], patch, metadata["namespace"], content_type=STRATEGIC_PATCH)
        except NotFound:
            return

    async def _act(self, name: Key, job: Object, sync: JobSync, decision: Decision) -> tuple[int, AtollError | None]:
        """Delete or create; how many are active then."""
        active = len(sync.active)
        if decision.delete:
            deleted, error = await self._delete(name, job, sync, decision)
            if deleted < len(decision.delete) and not decision.untrack:
                decision.finished = None
            return active - deleted, error
        if decision.create:
            created, error = await self._create(name, job, decision)
            return active + created, error
        return active, None

    async def _delete(self, name: Key, job: Object, sync: JobSync, decision: Decision) -> tuple[int, AtollError | None]:
        if decision.untrack:
            uids = [pod["metadata"]["uid"] for pod in decision.delete]
            self._expectations.expect_deletions(name, uids, self._clock.monotonic())
        failed: set[str] = set()

        async def delete(pod: Object) -> None:
            metadata = pod["metadata"]
            try:
                if decision.untrack and is_tracked(pod):
                    await self._untrack(pod)
                options = DeleteOptions(uid=metadata["uid"])
                await self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
            except NotFound:
                self._expectations.deletion_observed(name, metadata["uid"])
            except AtollError as error:
                self._expectations.deletion_observed(name, metadata["uid"])
                failed.add(metadata["uid"])
                self._events.event(job, WARNING, "FailedDelete", f"Error deleting: {error.message}")
                raise
            else:
                self._events.event(job, NORMAL, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")

        error = await batches.all_of(decision.delete, delete)
        gone = [pod for pod in decision.delete if pod["metadata"]["uid"] not in failed]
        sync.terminating += len(gone)
        sync.ready -= sum(1 for pod in gone if health.is_ready(pod))
        return len(gone), error

    async def _create(self, name: Key, job: Object, decision: Decision) -> tuple[int, AtollError | None]:
        self._expectations.expect_creations(name, len(decision.create), self._clock.monotonic())

        async def create(index: int | None) -> None:
            pod = new_pod(job, index, decision.replaces.get(index) if index is not None else None)
            try:
                made = await self._client.create(PODS, pod, job["metadata"]["namespace"])
            except AtollError as error:
                if not namespace_terminates(error):
                    self._events.event(job, WARNING, "FailedCreate", f"Error creating: {error.message}")
                raise
            self._events.event(job, NORMAL, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

        created, error = await batches.slow_start(decision.create, create)
        if created < len(decision.create):
            self._expectations.creation_observed(name, len(decision.create) - created)
        return created, error

    async def _track(self, name: Key, job: Object, sync: JobSync, decision: Decision, active: int) -> None:
        released, all_seen = sync.track(decision, active)
        job = await self._write(job, sync.status)
        self._failures[name] = sync.failures
        held = {pod["metadata"]["uid"] for pod in sync.pods if is_tracked(pod)} - sync.removed
        error: AtollError | None = None
        if released:
            waiting = self._removed.setdefault(name, set())
            waiting |= {pod["metadata"]["uid"] for pod in released}

            async def release(pod: Object) -> None:
                try:
                    await self._untrack(pod)
                except AtollError:
                    waiting.discard(pod["metadata"]["uid"])
                    raise
                held.discard(pod["metadata"]["uid"])
                cached = self._pods.by_key(key(pod))
                if cached is None or not is_tracked(cached):
                    waiting.discard(pod["metadata"]["uid"])

            error = await batches.all_of(released, release)
        sync.settle(held)
        finished = error is None and all_seen and sync.finish(decision)
        await self._write(job, sync.status)
        if finished and decision.finished is not None:
            self._finished.add(job["metadata"]["uid"])
            self._tell_finished(job, sync, decision.finished)
        if error is not None:
            raise error

    async def _write(self, job: Object, status: Object) -> Object:
        if status == (job.get("status") or {}):
            return job
        return await self._client.update(JOBS, {**job, "status": dict(status)}, subresource="status")

    def _tell_finished(self, job: Object, sync: JobSync, condition: Object) -> None:
        if condition["type"] != "Complete":
            self._events.event(job, WARNING, condition["reason"], condition["message"])
            return
        completions = job["spec"].get("completions")
        if completions is not None and int(sync.status.get("succeeded") or 0) > completions:
            message = "Too many succeeded pods running after completion count reached"
            self._events.event(job, WARNING, "TooManySucceededPods", message)
        self._events.event(job, NORMAL, "Completed", "Job completed")

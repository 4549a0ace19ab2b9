"""A Workload that is deleted keeps its quota while anything of it runs: the finalizer kueue.x-k8s.io/resource-in-use.
One whose owner was deleted without it (kubectl delete --cascade=orphan) is finished.

Whoever runs its job or pods stops them once it is leaving, and a Job's or JobSet's controller takes the finalizer off
when the job rests. Here that is done for the others: those that are over, whose job is gone or going, and those of pods
of which none runs any more. (A job that is deleted in the foreground waits for its Workload: so that does not wait for
it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from atoll.base.errors import NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.members import is_gated, is_over
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.pods import QUEUED, index_queued, unit_of
from atoll.capacity.queueing.workers import ORIGIN
from atoll.kinds import kueue
from atoll.kinds.builtin import JOBS, PODS
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer, Key

_LOOK_SECONDS = 1.0


class LeavingWorkloads:
    """Takes the finalizer off Workloads that are deleted, and off those that nothing is left of.

    `jobs`: the kinds whose controllers do it themselves.
    """

    def __init__(self, parts: Parts, jobs: tuple[Resource, ...] = (JOBS,)) -> None:
        self.name = "queueing-leaving"
        self._parts = parts
        of = parts.informers.of
        self._workloads, self._pods = of(kueue.WORKLOADS), of(PODS)
        index_queued(self._pods)
        self._jobs: Mapping[str, Informer] = {it.kind: of(it) for it in jobs}
        waits = (self._workloads, self._pods, *self._jobs.values())
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, wait_for=waits)
        self._workloads.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (is_deleting(new) or _is_orphan(new)):
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        workload = self._workloads.by_key(name)
        if workload is None or not self._parts.on() or not (is_deleting(workload) or _is_orphan(workload)):
            return None
        if self._is_held(workload):
            return _LOOK_SECONDS
        if not is_deleting(workload) and not status.is_true(workload, "Finished"):
            over = "OwnerNotFound", "The workload's owner no longer exists"
            new = status.finished(workload, *over, self._parts.clock.wall())
            workload = await write_status(self._parts.client, kueue.WORKLOADS, workload, new)
        await let_go(self._parts, workload)
        return None

    def _is_held(self, workload: Object) -> bool:
        if status.is_true(workload, "Finished"):
            return False
        owner = controller_of(workload)
        if owner is not None and owner["kind"] in self._jobs:
            job = self._jobs[owner["kind"]].get(owner["name"], workload["metadata"]["namespace"])
            return job is not None and job["metadata"]["uid"] == owner["uid"] and not is_deleting(job)
        unit = unit_of(workload)
        if unit is None:
            return True  # of a kind that others run: theirs to say
        pods = self._pods.by_index(QUEUED, unit)
        return any(not is_gated(pod) and not is_over(pod) for pod in pods)


def _is_orphan(workload: Object) -> bool:
    """It was made for something that is gone: its user's own Workloads, and what another cluster made here, are not."""
    metadata = workload["metadata"]
    made_here = kueue.JOB_UID_LABEL in labels(workload) and ORIGIN not in labels(workload)
    return made_here and not metadata.get("ownerReferences") and kueue.FINALIZER in (metadata.get("finalizers") or ())


async def let_go(parts: Parts, workload: Object) -> None:
    """Without the finalizer: if it is deleted, it goes now, and its quota is free."""
    left = [name for name in workload["metadata"].get("finalizers") or () if name != kueue.FINALIZER]
    if left != (workload["metadata"].get("finalizers") or []):
        with suppress(NotFound):
            await parts.client.update(
                kueue.WORKLOADS, {**workload, "metadata": {**workload["metadata"], "finalizers": left}}
            )

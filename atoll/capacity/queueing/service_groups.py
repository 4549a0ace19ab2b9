"""The Workloads of StatefulSets and LeaderWorkerSets of a queue: one a group, as `services.py` says.

Level-triggered: those missing are made, those that wait follow their owner, and those of groups that are no more are
deleted; one that has quota but fits its owner no longer (another queue, other requests) is deleted, and made anew. A
deleted one has its quota until its pods are gone (`leaving.py`). Pods are let go and stopped by `pods.py`.
"""

from __future__ import annotations

from contextlib import suppress

from atoll.base.errors import Conflict, NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.made import made_workload, priority_of, reprioritised, set_workload
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.services import PARENTS, essence_of_sets, groups_of, is_queued
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import PRIORITY_CLASSES, STATEFUL_SETS
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, is_deleting, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL

Name = tuple[str, str, str]
"""(kind, namespace, name)."""
_INDEX = "of-service"


class ServiceQueueing:
    """`resources`: StatefulSets and, where they are served, LeaderWorkerSets."""

    def __init__(self, parts: Parts, resources: tuple[Resource, ...] = (STATEFUL_SETS,)) -> None:
        self.name = "queueing-services"
        self._parts = parts
        of = parts.informers.of
        self._owners = {it.kind: (it, of(it)) for it in resources}
        self._workloads = of(kueue.WORKLOADS)
        self._workloads.add_index(_INDEX, lambda obj: [name] if (name := _owner_of(obj)) else [])
        self._classes, self._pod_classes = of(kueue.WORKLOAD_PRIORITY_CLASSES), of(PRIORITY_CLASSES)
        informers = [informer for _, informer in self._owners.values()]
        waits = (*informers, self._workloads, self._classes, self._pod_classes)
        self.loop: Controller[Name] = Controller(self.name, self._reconcile, workers=2, wait_for=waits)
        for informer in informers:
            informer.add_handler(self._owner_changed)
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_queued(new):
            self.loop.queue.add((new["kind"], new["metadata"]["namespace"], new["metadata"]["name"]))

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        name = _owner_of(new or old or {})
        if name is not None:
            self.loop.queue.add(name)

    async def _reconcile(self, name: Name) -> float | None:
        if name[0] not in self._owners or not self._parts.on():
            return None
        resource, informer = self._owners[name[0]]
        owner = informer.get(name[2], name[1])
        if owner is None or is_deleting(owner) or not is_queued(owner):
            return None
        uid = owner["metadata"]["uid"]
        mine = [obj for obj in self._workloads.by_index(_INDEX, name) if (controller_of(obj) or {})["uid"] == uid]
        known = {obj["metadata"]["name"]: obj for obj in mine}
        wanted = groups_of(owner)
        for group, pod_sets in wanted.items():
            if group not in known:
                await self._make(resource, owner, group, pod_sets)
            elif not is_deleting(known[group]):
                await self._follow(resource, owner, known[group], pod_sets)
        for group, workload in known.items():
            if group not in wanted and not is_deleting(workload):
                await self._delete(workload)
        return None

    def _new(self, resource: Resource, owner: Object, group: str, pod_sets: list[Object]) -> Object:
        priority = priority_of(self._parts.events, owner, pod_sets[0]["template"], self._classes, self._pod_classes)
        workload = set_workload(resource.kind, resource.group, owner, pod_sets, priority)
        workload["metadata"]["name"] = group
        return workload

    async def _make(self, resource: Resource, owner: Object, group: str, pod_sets: list[Object]) -> None:
        await made_workload(self._parts, self._new(resource, owner, group, pod_sets))
        text = f"Created Workload: {owner['metadata']['namespace']}/{group}"
        self._parts.events.event(owner, NORMAL, "CreatedWorkload", text)

    async def _follow(self, resource: Resource, owner: Object, workload: Object, pod_sets: list[Object]) -> None:
        spec = workload["spec"]
        same = essence_of_sets(pod_sets) == essence_of_sets(spec["podSets"])
        queue = labels(owner)[kueue.QUEUE_LABEL]
        if same and spec.get("queueName") == queue:
            await reprioritised(self._parts, owner, workload, self._classes)
        elif status.is_true(workload, "QuotaReserved"):
            await self._delete(workload)
        else:
            changed = {**spec, "queueName": queue, "podSets": spec["podSets"] if same else pod_sets}
            await self._parts.client.update(kueue.WORKLOADS, {**workload, "spec": changed})

    async def _delete(self, workload: Object) -> None:
        metadata = workload["metadata"]
        with suppress(NotFound, Conflict):  # gone, or a namesake by now
            options = DeleteOptions(uid=metadata["uid"])
            await self._parts.client.delete(kueue.WORKLOADS, metadata["name"], metadata["namespace"], options=options)


def _owner_of(workload: Object) -> Name | None:
    owner = controller_of(workload)
    if owner is None or owner["kind"] not in PARENTS:
        return None
    return owner["kind"], workload["metadata"]["namespace"], owner["name"]

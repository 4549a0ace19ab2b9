"""Carries out plans for Volcano's Jobs, PodGroups and Queues. Killed at any await it takes up from what is stored.

Pods have names that follow from their Job, so none is made twice; one is deleted by its UID; statuses are written with
their resourceVersion. A command is deleted once the status that answers it is written.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from atoll.base.errors import AlreadyExists, AtollError, Conflict, NotFound
from atoll.capacity.groups.volcano import construct, model, queues
from atoll.capacity.groups.volcano.model import Object, Plan
from atoll.capacity.groups.volcano.plan import plan_job
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.client.port import DeleteOptions
from atoll.kinds.batch import VOLCANO_COMMANDS, VOLCANO_JOBS, VOLCANO_POD_GROUPS, VOLCANO_QUEUES
from atoll.kinds.builtin import CONFIGMAPS, NODES, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from atoll.kinds.resource import Resource
from atoll.objects import meta
from atoll.objects.meta import controller_of, is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Informer, Key
from atoll.scheduling import resources

_JOB, _GROUP, _TARGET = "volcano-job", "volcano-group", "volcano-target"
_RESOURCES = {
    it.kind: it for it in (CONFIGMAPS, PERSISTENT_VOLUME_CLAIMS, SERVICES, VOLCANO_POD_GROUPS)
}  # fmt: skip
_CYCLE_SECONDS = 0.2  # between looks at all groups: many changes are one cycle


class VolcanoJobs:
    """One key a Job."""

    def __init__(self, parts: Parts) -> None:
        self.name = "volcano-jobs"
        self._parts = parts
        of = parts.informers.of
        self._jobs, self._pods = of(VOLCANO_JOBS), of(PODS)
        self._made: dict[str, Informer] = {kind: of(resource) for kind, resource in _RESOURCES.items()}
        self._pods.add_index(_JOB, lambda pod: [owner["uid"]] if (owner := _owner(pod)) else [])
        self._commands = commands_of(parts)
        self._commands.add_handler(self._commanded)
        waits = (self._jobs, self._pods, self._commands, *self._made.values())
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._jobs.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        for informer in (self._pods, self._made["PodGroup"]):
            informer.add_handler(self._owned_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _commanded(self, old: Object | None, new: Object | None) -> None:
        command = new or old or {}
        target = command.get("target") or {}
        if target.get("kind") == "Job":
            self.loop.queue.add((command["metadata"].get("namespace"), target["name"]))

    def _owned_changed(self, old: Object | None, new: Object | None) -> None:
        owned = new or old or {}
        owner = _owner(owned)
        if owner is not None:
            self.loop.queue.add((owned["metadata"].get("namespace"), owner["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        job = self._jobs.by_key(name)
        if job is None or is_deleting(job) or not self._parts.on():
            return None
        pods = self._pods.by_index(_JOB, job["metadata"]["uid"])
        pods.sort(key=lambda pod: str(pod["metadata"]["name"]))
        group = self._made["PodGroup"].get(construct.group_name(job), name[0])
        commands = in_order(self._commands.by_index(_TARGET, job["metadata"]["uid"]))
        asked = str(commands[0].get("action") or "") if commands else ""
        plan = plan_job(job, pods, group, self._parts.clock.wall(), asked)
        await self._carry_out(job, plan)
        if commands:
            await delete(self._parts, VOLCANO_COMMANDS, commands[0])  # comes back here, for the next one
        return plan.again_seconds

    async def _carry_out(self, job: Object, plan: Plan) -> None:
        client = self._parts.client
        await asyncio.gather(*(delete_pod(self._parts, pod) for pod in plan.delete))
        for obj in plan.objects:
            await self._ensure(obj)
        await asyncio.gather(*(self._create(job, pod) for pod in plan.create))
        await write_status(client, VOLCANO_JOBS, job, {**job, "status": plan.status})
        for kind, reason, message in plan.events:
            self._parts.events.event(job, kind, reason, message)
        if plan.drop_group:
            group = self._made["PodGroup"].get(construct.group_name(job), job["metadata"]["namespace"])
            if group is not None and _owner(group) is not None:
                await delete(self._parts, VOLCANO_POD_GROUPS, group)
        if plan.remove:
            metadata = job["metadata"]
            options = DeleteOptions(uid=metadata["uid"], propagation="Background")
            with suppress(NotFound):
                await client.delete(VOLCANO_JOBS, metadata["name"], metadata["namespace"], options=options)

    async def _ensure(self, wanted: Object) -> None:
        """It exists; a PodGroup also asks for what the Job asks for now."""
        metadata, resource = wanted["metadata"], _RESOURCES[wanted["kind"]]
        there = self._made[wanted["kind"]].get(metadata["name"], metadata["namespace"])
        if there is None:
            with suppress(AlreadyExists):
                await self._parts.client.create(resource, wanted, metadata["namespace"])
        elif wanted["kind"] == "PodGroup" and any(there["spec"].get(k) != v for k, v in wanted["spec"].items()):
            await self._parts.client.update(resource, {**there, "spec": {**there["spec"], **wanted["spec"]}})

    async def _create(self, job: Object, pod: Object) -> None:
        try:
            await self._parts.client.create(PODS, pod, pod["metadata"]["namespace"])
        except AlreadyExists:
            return  # the cache is behind, or an old one is on its way out: its deletion comes back here
        except AtollError as error:
            self._parts.events.event(job, WARNING, "FailedCreate", f"{pod['metadata']['name']}: {error.message}")
            raise


async def delete_pod(parts: Parts, pod: Object) -> None:
    await delete(parts, PODS, pod)


async def delete(parts: Parts, resource: Resource, obj: Object) -> None:
    """That very object; one that is gone, or another of its name, is no error."""
    metadata = obj["metadata"]
    with suppress(NotFound, Conflict):
        options = DeleteOptions(uid=metadata["uid"])
        await parts.client.delete(resource, metadata["name"], metadata["namespace"], options=options)


def commands_of(parts: Parts) -> Informer:
    """Commands by the UID of what they are for."""
    found = parts.informers.of(VOLCANO_COMMANDS)
    found.add_index(_TARGET, lambda item: [uid] if (uid := (item.get("target") or {}).get("uid")) else [])
    return found


def in_order(commands: list[Object]) -> list[Object]:
    """As they came."""
    return sorted(commands, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]))


def _owner(obj: Object) -> Object | None:
    owner = controller_of(obj)
    mine = owner is not None and owner["kind"] == "Job" and owner["apiVersion"] == VOLCANO_JOBS.api_version
    return owner if mine else None


class VolcanoQueues:
    """Lets PodGroups in and tells what queues hold: one cycle over all of them, at a pace."""

    def __init__(self, parts: Parts) -> None:
        self.name = "volcano-queues"
        self._parts = parts
        of = parts.informers.of
        self._groups, self._queues = of(VOLCANO_POD_GROUPS), of(VOLCANO_QUEUES)
        self._pods, self._nodes = of(PODS), of(NODES)
        self._commands = commands_of(parts)
        self._commands.add_handler(lambda old, new: self._wake.set())
        self._pods.add_index(_GROUP, lambda pod: [found] if (found := _group_of(pod)) is not None else [])
        self._wake = asyncio.Event()
        for informer in (self._groups, self._queues):
            informer.add_handler(lambda old, new: self._wake.set())
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if _group_of(new or old or {}) is not None:
            self._wake.set()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if _allocatable(old) != _allocatable(new):
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A write that fails comes again with the next cycle."""
        for informer in (self._groups, self._queues, self._pods, self._nodes, self._commands):
            await informer.synced.wait()
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._parts.on():
                await self._cycle()
            await asyncio.sleep(_CYCLE_SECONDS)

    async def _cycle(self) -> None:
        if not self._queues.get("default"):
            spec = {"weight": 1, "reclaimable": True}
            metadata = {"name": "default"}
            default = {"apiVersion": VOLCANO_QUEUES.api_version, "kind": "Queue", "metadata": metadata, "spec": spec}
            await self._again_if_it_fails(lambda: self._parts.client.create(VOLCANO_QUEUES, default))
            return
        groups = [queues.read(obj, self._pods.by_index(_GROUP, key(obj))) for obj in self._groups]
        known = {obj["metadata"]["name"]: obj for obj in self._queues}
        total: Counter[str] = Counter()
        for node in self._nodes:
            total.update(_allocatable(node))
        commands = {name: in_order(self._commands.by_index(_TARGET, obj["metadata"]["uid"]))
                    for name, obj in known.items()}  # fmt: skip
        asked = {name: str(found[0].get("action") or "") for name, found in commands.items() if found}
        cycle = queues.plan_cycle(groups, known, total, asked)
        for group in groups:
            status = cycle.groups[group.key]
            if status != group.obj.get("status"):  # the kind has no status subresource
                new = {**group.obj, "status": status}
                await self._again_if_it_fails(lambda new=new: self._parts.client.update(VOLCANO_POD_GROUPS, new))
        for group in cycle.reclaimed:
            for pod in self._pods.by_index(_GROUP, group.key):
                if model.is_alive(pod):
                    await delete_pod(self._parts, pod)
            self._parts.events.event(group.obj, NORMAL, "Reclaimed", "its queue has given back what is another's share")
        for name, status in cycle.queues.items():
            new = {**known[name], "status": status}
            await self._again_if_it_fails(lambda old=known[name], new=new: self._write(old, new))

            if commands[name]:
                await self._again_if_it_fails(
                    lambda found=commands[name][0]: delete(self._parts, VOLCANO_COMMANDS, found)
                )
                self._wake.set()

    async def _write(self, old: Object, new: Object) -> None:
        await write_status(self._parts.client, VOLCANO_QUEUES, old, new)

    async def _again_if_it_fails(self, work: Callable[..., Any]) -> None:
        try:
            await work()
        except AtollError:
            self._wake.set()


def _group_of(pod: Object) -> Key | None:
    name = meta.annotations(pod).get(model.GROUP_NAME)
    return (pod["metadata"].get("namespace"), name) if name else None


def _allocatable(node: Object | None) -> dict[str, int]:
    if node is None or (node.get("spec") or {}).get("unschedulable"):
        return {}
    return resources.amounts((node.get("status") or {}).get("allocatable"))

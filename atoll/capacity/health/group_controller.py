"""The loop of jobs that stop as one. All state is on the Jobs: it may be killed at any await."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from atoll.base.errors import Conflict, NotFound
from atoll.capacity import names
from atoll.capacity.health import groups
from atoll.capacity.health.groups import GroupView, Note, Rest, Stop
from atoll.capacity.health.model import Object
from atoll.capacity.nodes import annotation, is_simulated
from atoll.capacity.parts import Parts
from atoll.client.port import DeleteOptions
from atoll.kinds.builtin import JOBS, NODES, PODS
from atoll.objects.meta import controller_of, key
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key

NAME = "job-groups"
_INDEX = "stop-as-one"
_DELETES = 64  # at once


class GroupController:
    """Keys are Jobs."""

    def __init__(self, parts: Parts) -> None:
        self.name = NAME
        self._parts = parts
        self._jobs = parts.informers.of(JOBS)
        self._pods = parts.informers.of(PODS)
        self._nodes = parts.informers.of(NODES)
        self._pods.add_index(_INDEX, _group_uid)
        self._lost = parts.metrics.counter(
            "atoll_lost_work_seconds_total", "Pod-seconds since the last checkpoint that stops and evictions have cost."
        )
        self._restarts = parts.metrics.counter("atoll_group_restarts_total", "Jobs that stopped as one, and resumed.")
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=4, wait_for=(self._jobs, self._pods, self._nodes)
        )
        self._jobs.add_handler(self._job_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and groups.is_group(new):
            self.loop.queue.add(key(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        owner = controller_of(pod)
        if owner is not None and owner["kind"] == "Job" and annotation(pod, names.STOP_AS_ONE):
            self.loop.queue.add_after((pod["metadata"].get("namespace"), owner["name"]), 0.05)

    async def _reconcile(self, name: Key) -> float | None:
        job = self._jobs.by_key(name)
        if job is None or not groups.is_group(job):
            return None
        pods = self._pods.by_index(_INDEX, job["metadata"]["uid"])
        view = GroupView(job, pods, self._parts.clock.wall(), any(self._is_played(pod) for pod in pods))
        match groups.plan_group(view):
            case Rest(again_seconds):
                return again_seconds
            case Note(group, lost):
                namespace, own = name
                await self._parts.client.patch(JOBS, own, groups.note(job, group), namespace)
                if group.stopping:
                    self._restarts.of().value += 1
                    self._lost.of().value += lost
                    told = f"a member was lost: all stop, and resume from {group.saved_seconds:g} s"
                    self._parts.events.event(job, NORMAL, "StoppedAsOne", told)
            case Stop(members):
                for first in range(0, len(members), _DELETES):
                    await asyncio.gather(*map(self._delete, members[first : first + _DELETES]))
        return None

    def _is_played(self, pod: Object) -> bool:
        node = self._nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        return node is not None and is_simulated(node)

    async def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        with suppress(NotFound, Conflict):
            options = DeleteOptions(uid=metadata["uid"])
            await self._parts.client.delete(PODS, metadata["name"], metadata["namespace"], options=options)


def _group_uid(pod: Object) -> tuple[str, ...]:
    if not annotation(pod, names.STOP_AS_ONE):
        return ()
    owner = controller_of(pod)
    return (owner["uid"],) if owner is not None and owner["kind"] == "Job" else ()

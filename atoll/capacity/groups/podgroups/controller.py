"""Writes the status of coscheduling PodGroups."""

from __future__ import annotations

from typing import Any

from atoll.capacity.groups.podgroups.plan import plan_status
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.kinds.batch import POD_GROUP_LABEL, POD_GROUPS
from atoll.kinds.builtin import PODS
from atoll.objects.meta import key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

Object = dict[str, Any]
_INDEX = "pod-group"


class PodGroups:
    """Level-triggered by pods and groups."""

    def __init__(self, parts: Parts) -> None:
        self.name = "pod-groups"
        self._parts = parts
        self._groups, self._pods = parts.informers.of(POD_GROUPS), parts.informers.of(PODS)
        self._pods.add_index(_INDEX, lambda pod: [found] if (found := _group(pod)) is not None else [])
        self.loop: Controller[Key] = Controller(
            self.name, self._reconcile, workers=4, wait_for=(self._groups, self._pods)
        )
        self._groups.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            group = None if pod is None else _group(pod)
            if group is not None:
                self.loop.queue.add(group)

    async def _reconcile(self, name: Key) -> float | None:
        group = self._groups.by_key(name)
        if group is None or not self._parts.on():
            return None
        pods = sorted(self._pods.by_index(_INDEX, name), key=lambda pod: str(pod["metadata"]["name"]))
        status = plan_status(group, pods, self._parts.clock.wall())
        await write_status(self._parts.client, POD_GROUPS, group, {**group, "status": status})
        return None


def _group(pod: Object) -> Key | None:
    name = labels(pod).get(POD_GROUP_LABEL)
    return (pod["metadata"].get("namespace"), name) if name else None

"""Says in a PodGroup (`scheduling.k8s.io/v1alpha2`) whether its pods have nodes: condition PodGroupScheduled.

Upstream's kube-scheduler writes it; here it follows the pods, so a scheduler that is killed leaves nothing unsaid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.base.clock import rfc3339
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.kinds.builtin import PODS
from atoll.kinds.workload import WORKLOAD_POD_GROUPS
from atoll.objects.meta import condition, is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

Object = dict[str, Any]
_INDEX = "scheduling-group"


class WorkloadPodGroups:
    """Level-triggered by pods and groups."""

    def __init__(self, parts: Parts) -> None:
        self.name = "workload-pod-groups"
        self._parts = parts
        self._groups, self._pods = parts.informers.of(WORKLOAD_POD_GROUPS), parts.informers.of(PODS)
        self._pods.add_index(_INDEX, lambda pod: [found] if (found := _group(pod)) is not None else [])
        waits = (self._groups, self._pods)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=2, wait_for=waits)
        self._groups.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        group = _group(new or old or {})
        if group is not None:
            self.loop.queue.add(group)

    async def _reconcile(self, name: Key) -> float | None:
        group = self._groups.by_key(name)
        if group is not None and self._parts.on():
            new = with_scheduled(group, self._pods.by_index(_INDEX, name), self._parts.clock.wall())
            await write_status(self._parts.client, WORKLOAD_POD_GROUPS, group, new)
        return None


def _group(pod: Object) -> Key | None:
    name = ((pod.get("spec") or {}).get("schedulingGroup") or {}).get("podGroupName")
    return (pod["metadata"].get("namespace"), name) if name else None


def with_scheduled(group: Object, pods: Sequence[Object], now: float) -> Object:
    """The group with its condition. Pure; `now`: wall seconds."""
    gang = (group["spec"].get("schedulingPolicy") or {}).get("gang") or {}
    least = int(gang.get("minCount") or 1)
    placed = sum(bool(pod["spec"].get("nodeName")) and not is_deleting(pod) for pod in pods)
    holds = placed >= least
    told = next((text for pod in pods if (text := _why(pod))), "")
    message = f"{placed} of at least {least} pods have nodes" + (f": {told}" if told and not holds else "")
    reason = "Scheduled" if holds else "Unschedulable" if told else "Pending"
    old = condition(group, "PodGroupScheduled") or {}
    status = "True" if holds else "False"
    if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
        return group
    fresh = {
        "type": "PodGroupScheduled",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else rfc3339(now),
        "observedGeneration": group["metadata"].get("generation", 1),
    }
    found = group.get("status") or {}
    others = [item for item in found.get("conditions") or () if item["type"] != "PodGroupScheduled"]
    return {**group, "status": {**found, "conditions": [*others, fresh]}}


def _why(pod: Object) -> str:
    found = condition(pod, "PodScheduled") or {}
    return str(found.get("message") or "") if found.get("status") == "False" else ""

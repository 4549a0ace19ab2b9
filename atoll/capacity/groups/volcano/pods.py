"""Makes a PodGroup of Volcano's for each pod that asks for Volcano's scheduler and names no group.

So queues hold for these pods too: the pod is placed once its queue (annotation `scheduling.volcano.sh/queue-name`, else
`default`) has let its group in. Volcano makes one group for all pods of a ReplicaSet; here each pod has its own, since
what a queue may have is asked group by group. Killed between the two writes it finds the group by its name.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from atoll.base.errors import AlreadyExists, NotFound
from atoll.capacity.groups.volcano import model
from atoll.capacity.groups.volcano.construct import as_quantities
from atoll.capacity.queueing.parts import Parts
from atoll.client.port import MERGE_PATCH
from atoll.kinds.batch import VOLCANO_POD_GROUPS
from atoll.kinds.builtin import PODS
from atoll.objects import meta
from atoll.objects.meta import is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key
from atoll.scheduling import resources
from atoll.scheduling.groups.owned import JobSets, KueuePodGroups, LeaderWorkers
from atoll.scheduling.groups.podgroups import Coscheduling, VolcanoPods, WorkloadPodGroups

Object = dict[str, Any]
QUEUE = "scheduling.volcano.sh/queue-name"
_POD = VolcanoPods()
_OTHERS = (WorkloadPodGroups(), Coscheduling(), KueuePodGroups(), LeaderWorkers(), JobSets())  # these come first


class PodGroupsOfPods:
    """One key a pod."""

    def __init__(self, parts: Parts) -> None:
        self.name = "volcano-pods"
        self._parts = parts
        self._pods, self._groups = parts.informers.of(PODS), parts.informers.of(VOLCANO_POD_GROUPS)
        waits = (self._pods, self._groups)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._pods.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and lacks_group(new):
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        pod = self._pods.by_key(name)
        if pod is None or not lacks_group(pod) or not self._parts.on():
            return None
        group = pod_group(pod)
        metadata = group["metadata"]
        if self._groups.get(metadata["name"], metadata["namespace"]) is None:
            with suppress(AlreadyExists):
                await self._parts.client.create(VOLCANO_POD_GROUPS, group, metadata["namespace"])
        patch = {"metadata": {"uid": pod["metadata"]["uid"], "annotations": {model.GROUP_NAME: metadata["name"]}}}
        with suppress(NotFound):
            await self._parts.client.patch(
                PODS, pod["metadata"]["name"], patch, metadata["namespace"], content_type=MERGE_PATCH
            )
        return None


def lacks_group(pod: Object) -> bool:
    """A pod of Volcano's scheduler that waits and is of no group in any dialect."""
    if pod["spec"].get("nodeName") or is_deleting(pod) or model.GROUP_NAME in meta.annotations(pod):
        return False
    return _POD.group_name(pod) is not None and not any(other.group_name(pod) for other in _OTHERS)


def pod_group(pod: Object) -> Object:
    """Its own, and gone with it."""
    metadata, spec = pod["metadata"], pod["spec"]
    wanted: Object = {
        "minMember": 1,
        "queue": meta.annotations(pod).get(QUEUE) or "default",
        "minResources": as_quantities(resources.pod_requests(spec)),
    }
    if spec.get("priorityClassName"):
        wanted["priorityClassName"] = spec["priorityClassName"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    named = {"name": _POD.group_name(pod), "namespace": metadata["namespace"], "ownerReferences": [owner]}
    return {"apiVersion": VOLCANO_POD_GROUPS.api_version, "kind": "PodGroup", "metadata": named, "spec": wanted}

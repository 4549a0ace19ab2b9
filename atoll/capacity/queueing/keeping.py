"""What is in use is not deleted: Kueue's finalizer kueue.x-k8s.io/resource-in-use on its configuration objects.

A ClusterQueue goes once no workload has quota in it (it admits none meanwhile), a ResourceFlavor, an AdmissionCheck and
a Topology once nothing names them. Level-triggered: one pass puts the finalizer on, or takes it off one that is to go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from atoll.base.errors import NotFound
from atoll.capacity.queueing import read, status
from atoll.capacity.queueing.controller import QueueController
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.kinds import kueue
from atoll.kinds.resource import Resource
from atoll.objects.meta import is_deleting
from atoll.runtime.controller import Controller

Name = tuple[str, str]
"""(plural, name)."""


class Keepers:
    """Of ClusterQueues, ResourceFlavors, AdmissionChecks and Topologies."""

    def __init__(self, parts: Parts, queues: QueueController) -> None:
        self.name = "queueing-keepers"
        self._parts = parts
        self._queues = queues
        of = parts.informers.of
        self._kinds: Mapping[str, tuple[Resource, Callable[[str], bool]]] = {
            "clusterqueues": (kueue.CLUSTER_QUEUES, self._has_workloads),
            "resourceflavors": (kueue.RESOURCE_FLAVORS, self._flavor_is_named),
            "admissionchecks": (kueue.ADMISSION_CHECKS, self._check_is_named),
            "topologies": (kueue.TOPOLOGIES, self._topology_is_named),
        }
        informers = {plural: of(resource) for plural, (resource, _) in self._kinds.items()}
        self._informers = informers
        waits = (*informers.values(), queues.workloads)
        self.loop: Controller[Name] = Controller(self.name, self._reconcile, wait_for=waits)
        for plural, informer in informers.items():
            informer.add_handler(partial(self._changed, plural))
        queues.workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, plural: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add((plural, new["metadata"]["name"]))
        if old is None or new is None or old.get("spec") != new.get("spec"):
            self._free_others(plural)

    def _free_others(self, plural: str) -> None:
        """Those that are to go may not be named any more."""
        for other, informer in self._informers.items():
            if other != plural:
                for obj in informer:
                    if is_deleting(obj):
                        self.loop.queue.add((other, obj["metadata"]["name"]))

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None:
            return
        before = ((old.get("status") or {}).get("admission") or {}).get("clusterQueue")
        if before and is_deleting(self._informers["clusterqueues"].get(before) or {"metadata": {}}):
            self.loop.queue.add(("clusterqueues", before))

    async def _reconcile(self, name: Name) -> float | None:
        plural, own = name
        resource, in_use = self._kinds[plural]
        obj = self._informers[plural].get(own)
        if obj is None or not self._parts.on():
            return None
        finalizers = list(obj["metadata"].get("finalizers") or ())
        kept = kueue.FINALIZER in finalizers
        if is_deleting(obj):
            if not kept:
                return None
            if in_use(own):
                return 5.0 if plural == "clusterqueues" else None
            finalizers.remove(kueue.FINALIZER)
        elif kept:
            return None
        else:
            finalizers.append(kueue.FINALIZER)
        try:
            await self._parts.client.update(
                resource, {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}}
            )
        except NotFound:
            return None
        return None

    # -- in use

    def _has_workloads(self, name: str) -> bool:
        """By the caches and by what is being decided: the state alone may not be set up yet."""
        node = self._queues.state.nodes.get(name)
        if node is not None and node.workloads:
            return True
        for obj in self._queues.workloads:
            admission = (obj.get("status") or {}).get("admission") or {}
            if admission.get("clusterQueue") == name and not status.is_true(obj, "Finished"):
                return True
        return False

    def _flavor_is_named(self, name: str) -> bool:
        return any(name in read.cluster_queue(obj).flavors for obj in self._informers["clusterqueues"])

    def _check_is_named(self, name: str) -> bool:
        queues = map(read.cluster_queue, self._informers["clusterqueues"])
        return any(name == check for queue in queues for check, _ in queue.checks)

    def _topology_is_named(self, name: str) -> bool:
        flavors = self._informers["resourceflavors"]
        return any((flavor.get("spec") or {}).get("topologyName") == name for flavor in flavors)

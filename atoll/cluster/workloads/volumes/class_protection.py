"""A VolumeAttributesClass stays until no claim and no volume goes by it (kubernetes.io/vac-protection)."""

from __future__ import annotations

from atoll.base.errors import NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from atoll.kinds.resource import Resource
from atoll.objects.meta import is_deleting
from atoll.runtime.controller import Controller

FINALIZER = "kubernetes.io/vac-protection"
VOLUME_ATTRIBUTES_CLASSES = Resource("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", False)


def classes_of(obj: Object) -> set[str]:
    """The classes that a claim or a volume goes by, or is on the way to."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    names = {spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target}
    return {name for name in names if name}


class ClassProtectionController:
    """Removes the finalizer of a class that is being deleted, once nothing uses it."""

    def __init__(self, context: Context) -> None:
        self.name = "volumeattributesclass-protection-controller"
        self._client = context.client(self.name)
        self._classes = context.informers.of(VOLUME_ATTRIBUTES_CLASSES)
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self.loop: Controller[str] = Controller(
            self.name, self._reconcile, wait_for=(self._classes, self._claims, self._volumes)
        )
        self._classes.add_handler(self._class_changed)
        self._claims.add_handler(self._user_changed)
        self._volumes.add_handler(self._user_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_deleting(new):
            self.loop.queue.add(new["metadata"]["name"])

    def _user_changed(self, old: Object | None, new: Object | None) -> None:
        left = (classes_of(old) if old is not None else set()) - (classes_of(new) if new is not None else set())
        for name in left:
            self.loop.queue.add(name)

    async def _reconcile(self, name: str) -> float | None:
        found = self._classes.get(name)
        if found is None or not is_deleting(found) or FINALIZER not in (found["metadata"].get("finalizers") or []):
            return None
        for resource in (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES):  # the caches may be behind
            listed = await self._client.list(resource)
            if any(name in classes_of(item) for item in listed.items):
                return None
        kept = [item for item in found["metadata"]["finalizers"] if item != FINALIZER]
        try:
            await self._client.update(
                VOLUME_ATTRIBUTES_CLASSES, {**found, "metadata": {**found["metadata"], "finalizers": kept}}
            )
        except NotFound:
            return None
        return None

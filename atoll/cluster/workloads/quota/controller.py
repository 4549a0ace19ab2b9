"""The loop of ResourceQuotas: status.hard follows spec.hard, status.used is counted from the caches.

Admission charges what is created; this loop gives back what is gone, and repairs the count now and then.
"""

from __future__ import annotations

from functools import partial

from atoll.base import quantity
from atoll.base.errors import AtollError, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.discovery import collectable, served_resources
from atoll.kinds.builtin import (
    CONFIGMAPS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
)
from atoll.kinds.resource import Resource
from atoll.objects import quota as quotas
from atoll.objects.meta import key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer, Key

NAME = "resourcequota-controller"
_RESYNC_SECONDS = 300.0
_BATCH_SECONDS = 0.1
_CORE = (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS, CONFIGMAPS, SECRETS, REPLICATION_CONTROLLERS, RESOURCE_QUOTAS)
_BYTES = ("memory", "storage", "ephemeral-storage")


def total_usage(quota: Object, objects: dict[str, list[Object]], now: float) -> Object:
    """status.used: objects by group resource. Pure."""
    hard = quota["spec"].get("hard") or {}
    used = dict.fromkeys(hard, 0)
    for group_resource, found in objects.items():
        counted = [name for name in hard if quotas.concerns(name, group_resource)]
        if not counted:
            continue
        for obj in found:
            if not quotas.in_scope(quota, group_resource, obj):
                continue
            amounts = quotas.usage(group_resource, obj, now)
            for name in counted:
                used[name] += amounts.get(name, 0)
    return {name: amount_text(name, amount) for name, amount in used.items()}


def amount_text(name: str, nano: int) -> str:
    """Bytes in binary units, all else in decimal."""
    if name.endswith(_BYTES) and nano % quantity.NANO == 0:
        whole = nano // quantity.NANO
        return quantity.from_units_binary(whole) if whole >= 1024 else str(whole)
    return quantity.from_nano(nano)


class ResourceQuotaController:
    """Follows only the resources that some quota counts."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._clock = context.clock
        self._informers = context.informers
        self._quotas = context.informers.of(RESOURCE_QUOTAS)
        self._quotas.add_index("namespace", _namespace)
        self._followed: dict[str, Informer] = {}
        self._served: dict[str, Resource] = {resource.group_resource: resource for resource in _CORE}
        self.loop: Controller[Key] = Controller(NAME, self._reconcile, workers=2, wait_for=(self._quotas,))
        self._quotas.add_handler(self._quota_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _quota_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or old["spec"] != new["spec"] or not (new.get("status") or {}).get("hard")):
            self.loop.queue.add(key(new))

    def _changed(self, group_resource: str, old: Object | None, new: Object | None) -> None:
        """Something went, or ended, or shrank: what came was charged by admission."""
        if old is None:
            return
        if new is not None:
            if group_resource == "pods":
                if health.is_finished(old) == health.is_finished(new):
                    return
            elif group_resource not in ("services", "persistentvolumeclaims") or old["spec"] == new["spec"]:
                return
        for quota in self._quotas.by_index("namespace", old["metadata"].get("namespace")):
            self.loop.queue.add_after(key(quota), _BATCH_SECONDS)

    async def _reconcile(self, name: Key) -> float | None:
        quota = self._quotas.by_key(name)
        if quota is None:
            return None
        hard = quota["spec"].get("hard") or {}
        objects: dict[str, list[Object]] = {}
        for group_resource in await self._concerned(hard):
            informer = await self._follow(group_resource)
            objects[group_resource] = informer.by_index("namespace", name[0])
        status = {"hard": hard, "used": total_usage(quota, objects, self._clock.wall())}
        if status != (quota.get("status") or {}):
            try:
                await self._client.update(RESOURCE_QUOTAS, {**quota, "status": status}, subresource="status")
            except NotFound:
                return None
        return _RESYNC_SECONDS

    async def _concerned(self, hard: Object) -> list[str]:
        counted = {name.removeprefix("count/") for name in hard if name.startswith("count/")}
        if counted - self._served.keys():
            try:
                for resource in collectable(await served_resources(self._client)):
                    self._served.setdefault(resource.group_resource, resource)
            except AtollError:
                pass  # those that are known are counted; the others stay at nothing until the next pass
        return [item for item in self._served if any(quotas.concerns(name, item) for name in hard)]

    async def _follow(self, group_resource: str) -> Informer:
        informer = self._followed.get(group_resource)
        if informer is None:
            informer = self._informers.of(self._served[group_resource])
            informer.add_index("namespace", _namespace)
            self._followed[group_resource] = informer
            await informer.synced.wait()
            informer.add_handler(partial(self._changed, group_resource))
        await informer.synced.wait()
        return informer


def _namespace(obj: Object) -> tuple[str | None]:
    return (obj["metadata"].get("namespace"),)

"""The loop of the garbage collector: follows every collectable resource, verifies owners live, deletes.

Never deletes on doubt: an object goes only when each of its owners was looked up and is absent (or of another uid),
or is being deleted in the foreground; and only in the version in which that was seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from itertools import repeat

from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.client.port import MERGE_PATCH, DeleteOptions
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.discovery import Discovery, Served, collectable
from atoll.cluster.workloads.garbage.graph import FOREGROUND, ORPHAN, Graph, Node, Work, judge
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS
from atoll.kinds.resource import Resource
from atoll.objects.meta import Object
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer

NAME = "generic-garbage-collector"
REDISCOVERY_SECONDS = 30.0
_SYNC_PATIENCE_SECONDS = 30.0
_ABSENT_SIZE = 500

log = logging.getLogger(__name__)


class GarbageCollector:
    """run() discovers, follows, and works."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._discovery = Discovery(self._client)
        self._served: list[Served] | None = None  # as last discovered and followed
        self._events = context.recorder("garbage-collector-controller")
        self._informers = context.informers
        self._graph = Graph()
        self._followed: dict[Resource, Informer] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._absent: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        self._rediscover = asyncio.Event()
        self.loop: Controller[str] = Controller(NAME, self._check, workers=20)
        self._orphaning: Controller[str] = Controller(f"{NAME}-orphan", self._orphan, workers=4)
        crds = context.informers.of(CUSTOM_RESOURCE_DEFINITIONS)
        crds.add_handler(lambda old, new: self._rediscover.set())

    async def run(self) -> None:
        await self._discover_at_last()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_discovering(), name=f"{NAME}-discovery")
            await self._wait_synced()
            group.create_task(self.loop.run(), name=NAME)
            group.create_task(self._orphaning.run(), name=f"{NAME}-orphan")

    async def _discover_at_last(self) -> None:
        for seconds in repeat(1.0):
            if await self._discover():
                return
            await asyncio.sleep(seconds)

    async def _wait_synced(self) -> None:
        """Of what is followed; one that doesn't come (a broken API service) holds the others up only so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SYNC_PATIENCE_SECONDS):
                for informer in list(self._followed.values()):
                    await informer.synced.wait()

    async def _keep_discovering(self) -> None:
        while True:
            try:
                async with asyncio.timeout(REDISCOVERY_SECONDS):
                    await self._rediscover.wait()
                    await asyncio.sleep(0.2)  # a CRD is served a moment after it is written
            except TimeoutError:
                pass
            self._rediscover.clear()
            await self._discover()

    async def _discover(self) -> bool:
        try:
            served = await self._discovery.served()
        except AtollError as error:
            log.info("garbage collector: %s", error)
            return False
        if served is self._served:
            return True
        self._by_kind = {(item.resource.api_version, item.resource.kind): item.resource for item in served}
        wanted = {resource.group_resource: resource for resource in collectable(served)}
        present = {resource.group_resource for resource in self._followed}
        for name, resource in wanted.items():
            if name not in present:
                informer = self._informers.of(resource)
                self._followed[resource] = informer
                informer.add_handler(partial(self._changed, resource))
        for resource in [item for item in self._followed if item.group_resource not in wanted]:
            informer = self._followed.pop(resource)
            for obj in informer:
                self._queue(self._graph.forget(obj["metadata"]["uid"]))
            await self._informers.drop(resource)
        self._served = served
        return True

    # -- changes

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._queue(self._graph.forget(old["metadata"]["uid"]))
            return
        if old is not None and old["metadata"]["uid"] != new["metadata"]["uid"]:
            self._queue(self._graph.forget(old["metadata"]["uid"]))
        self._queue(self._graph.observe(resource, new))

    def _queue(self, work: Work) -> None:
        for node in work.check:
            self.loop.queue.add(node.uid)
        for node in work.orphan:
            self._orphaning.queue.add(node.uid)

    # -- one object

    async def _check(self, uid: str) -> float | None:
        node = self._graph.get(uid)
        if node is None:
            return None
        if node.resource is not None and not node.waits_for_dependents and (node.deleting or not node.owners):
            return None
        resource = node.resource or self._by_kind.get((node.api_version, node.kind))
        if resource is None:
            return 5.0  # its kind is not served (any more, or yet): nothing can be concluded
        try:
            latest = await self._client.get(resource, node.name, node.namespace if resource.namespaced else None)
        except NotFound:
            latest = None
        if latest is None or latest["metadata"]["uid"] != uid:
            self._remember_absent(uid, None if node.resource else node.namespace)
            if node.resource is None:
                self._queue(self._graph.forget(uid))
            return None  # a real node goes with its DELETED event
        if node.resource is None:
            return 1.0  # it exists, and will be observed
        if node.waits_for_dependents:
            return await self._finish_foreground(node, latest)
        return await self._collect(node, latest)

    async def _finish_foreground(self, node: Node, latest: Object) -> float | None:
        blocking = node.blocking_dependents()
        if not blocking:
            await self._remove_finalizer(node, latest, FOREGROUND)
            return None
        for child in blocking:
            if not child.waits_for_dependents:
                self.loop.queue.add(child.uid)
        return None

    async def _collect(self, node: Node, latest: Object) -> float | None:
        absent, waiting = [], []
        for reference in latest["metadata"].get("ownerReferences") or ():
            resource = self._by_kind.get((reference["apiVersion"], reference["kind"]))
            if resource is None:
                return 5.0
            if resource.namespaced and node.namespace is None:
                self._tell_invalid(node, latest, reference)
                return None
            state = await self._owner_state(reference, resource, node)
            if state == "absent":
                absent.append(reference["uid"])
            elif state == "waiting":
                waiting.append(reference["uid"])
        verdict = judge(latest, node, absent, waiting)
        assert node.resource is not None
        metadata = latest["metadata"]
        if verdict.drop_owners:
            await self._drop_owners(node, latest, verdict.drop_owners)
        if verdict.unblock_first:
            latest = await self._unblock(node, latest)
            metadata = latest["metadata"]
        if verdict.delete:
            options = DeleteOptions(
                propagation=verdict.delete, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
            )
            try:
                await self._client.delete(node.resource, node.name, node.namespace, options=options)
            except NotFound:
                return None
        return None

    async def _owner_state(self, reference: Object, resource: Resource, node: Node) -> str:
        """solid, absent or waiting, as the server says now."""
        uid = reference["uid"]
        namespace = node.namespace if resource.namespaced else None
        if (uid, None) in self._absent or (uid, namespace) in self._absent:
            return "absent"
        try:
            owner = await self._client.get(resource, reference["name"], namespace)
        except NotFound:
            self._remember_absent(uid, namespace)
            return "absent"
        metadata = owner["metadata"]
        if metadata["uid"] != uid:
            self._remember_absent(uid, namespace)
            return "absent"
        if "deletionTimestamp" in metadata and FOREGROUND in (metadata.get("finalizers") or ()):
            return "waiting"
        return "solid"

    def _remember_absent(self, uid: str, namespace: str | None) -> None:
        self._absent[(uid, namespace)] = None
        while len(self._absent) > _ABSENT_SIZE:
            self._absent.popitem(last=False)

    def _tell_invalid(self, node: Node, latest: Object, reference: Object) -> None:
        message = (
            f"ownerRef [{reference['apiVersion']}/{reference['kind']}, namespace: , name: {reference['name']}, "
            f'uid: {reference["uid"]}] does not exist in namespace "{node.namespace or ""}"'
        )
        self._events.event(latest, "Warning", "OwnerRefInvalidNamespace", message)

    # -- writes

    async def _drop_owners(self, node: Node, latest: Object, gone: frozenset[str]) -> None:
        kept = [owner for owner in latest["metadata"].get("ownerReferences") or () if owner["uid"] not in gone]
        await self._patch(node, latest, {"ownerReferences": kept})

    async def _unblock(self, node: Node, latest: Object) -> Object:
        """Break a circle of foreground deletions: this node no longer holds its owners."""
        references = [{**owner, "blockOwnerDeletion": False} for owner in latest["metadata"]["ownerReferences"]]
        return await self._patch(node, latest, {"ownerReferences": references})

    async def _remove_finalizer(self, node: Node, latest: Object, finalizer: str) -> None:
        present = latest["metadata"].get("finalizers") or []
        if finalizer in present:
            try:
                await self._patch(node, latest, {"finalizers": [item for item in present if item != finalizer]})
            except NotFound:
                return

    async def _patch(self, node: Node, latest: Object, metadata: Object) -> Object:
        assert node.resource is not None
        fixed = {"resourceVersion": latest["metadata"]["resourceVersion"], "uid": latest["metadata"]["uid"]}
        patch = {"metadata": {**metadata, **fixed}}
        return await self._client.patch(node.resource, node.name, patch, node.namespace, content_type=MERGE_PATCH)

    async def _orphan(self, uid: str) -> float | None:
        node = self._graph.get(uid)
        if node is None or node.resource is None:
            return None
        await asyncio.gather(*(self._set_free(child, uid) for child in list(node.dependents.values())))
        try:
            latest = await self._client.get(node.resource, node.name, node.namespace)
        except NotFound:
            return None
        if latest["metadata"]["uid"] == uid:
            await self._remove_finalizer(node, latest, ORPHAN)
        return None

    async def _set_free(self, child: Node, owner: str) -> None:
        if child.resource is None:
            return
        while True:
            try:
                latest = await self._client.get(child.resource, child.name, child.namespace)
                if latest["metadata"]["uid"] == child.uid:
                    await self._drop_owners(child, latest, frozenset({owner}))
                return
            except NotFound:
                return
            except Conflict:
                continue

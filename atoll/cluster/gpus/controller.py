"""The agents of simulated nodes' GPUs: mig-manager, feature discovery, device plugin and DRA driver, as one loop.

Level-triggered over the nodes that declare GPUs: `plan.py` says what is missing, this writes it. Of a Node it writes
NVIDIA's labels, the layout's annotation and the resources that it advertises, nothing else; slices are its Node's and
go with it. Killed between any two writes it goes on from what the API says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from atoll.base.errors import AlreadyExists, Conflict, NotFound
from atoll.client.port import MERGE_PATCH, Client
from atoll.cluster.gpus.health import device_health
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.mig import STATE_LABEL
from atoll.cluster.gpus.plan import holders, plan_node, plan_slices
from atoll.cluster.gpus.slices import DRIVER, device_classes
from atoll.cluster.gpus.survey import Survey, has_gpus, pools_of
from atoll.kinds.builtin import DEVICE_CLASSES, NODES, PODS, RESOURCE_SLICES
from atoll.runtime.controller import Controller
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]
NAME = "gpu-node-agents"
_WORKERS = 8
_SLICE_SECONDS = 1.0  # someone else's hand on a slice is undone at this pace, and not faster


class GpuNodeAgents:
    """`run` sleeps until a node declares GPUs."""

    name = NAME

    def __init__(self, client: Client, informers: Informers, inventory: Inventory, events: EventRecorder) -> None:
        self._client = client
        self._informers = informers
        self._inventory = inventory
        self._events = events
        self.loop: Controller[str] = Controller(NAME, self.reconcile, workers=_WORKERS)
        self._first = asyncio.Event()

    async def run(self) -> None:
        await self._inventory.synced()
        self._inventory.nodes.add_handler(self._on_node)
        await self._first.wait()
        self._slices = self._informers.of(RESOURCE_SLICES)
        self._slices.add_index("node", _node_of)
        await self._slices.synced.wait()
        for device_class in device_classes():
            with suppress(AlreadyExists):
                await self._client.create(DEVICE_CLASSES, device_class)
        self._inventory.pods.add_handler(self._on_pod)
        self._inventory.claims.add_handler(self._on_claim)
        self._inventory.config_maps.add_handler(self._on_settings)
        self._slices.add_handler(self._on_slice)
        await self.loop.run()

    async def reconcile(self, name: str) -> None:
        """One node, as it should be."""
        node = self._inventory.nodes.get(name)
        if node is None:
            await self._withdraw(name)
        if node is None or not has_gpus(node):
            return
        found, pods = self._inventory.survey(name), self._inventory.pods_on(name)
        plan = plan_node(node, found, self._inventory.settings, pods, self._inventory.claimed(name, found))
        for reason, message in plan.events:
            self._events.event(node, WARNING, reason, message)
        try:
            if plan.metadata:
                await self._client.patch(NODES, name, {"metadata": plan.metadata})
            if plan.status:
                await self._client.patch(NODES, name, {"status": plan.status}, subresource="status")
        except NotFound:
            return
        if "annotations" in plan.metadata:
            return  # another layout: the node comes again, with its slices
        held = holders(pods, found) if self._tells_held(found) else {}
        await self._publish(node, found, sorted(held))
        await self._tell_health(found, pods)

    async def _withdraw(self, name: str) -> None:
        """The slices of a node that is gone."""
        for item in self._slices.by_index("node", name):
            if item["spec"]["driver"] == DRIVER:
                with suppress(NotFound):
                    await self._client.delete(RESOURCE_SLICES, item["metadata"]["name"])

    async def _publish(self, node: Object, found: Survey, held: Sequence[int]) -> None:
        metadata = node["metadata"]
        existing = [
            item for item in self._slices.by_index("node", metadata["name"]) if item["spec"]["driver"] == DRIVER
        ]
        wanted, gone = plan_slices(metadata["name"], found, existing, held)
        owner = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        have = {item["metadata"]["name"]: item for item in existing}
        for item in wanted:
            old = have.get(item["metadata"]["name"])
            if old is None:
                with suppress(AlreadyExists):
                    await self._client.create(
                        RESOURCE_SLICES, {**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}}
                    )
            else:
                await self._client.update(RESOURCE_SLICES, {**item, "metadata": old["metadata"]})
        for name in gone:
            with suppress(NotFound):
                await self._client.delete(RESOURCE_SLICES, name)

    async def _tell_health(self, found: Survey, pods: Sequence[Object]) -> None:
        """Pods on simulated nodes show their devices' health; a pod that changed meanwhile comes again by itself."""
        for pod in pods:
            patch = device_health(pod, found.advertised.units)
            if patch is not None:
                metadata = pod["metadata"]
                with suppress(NotFound, Conflict):
                    await self._client.patch(
                        PODS,
                        metadata["name"],
                        patch,
                        metadata["namespace"],
                        content_type=MERGE_PATCH,
                        subresource="status",
                    )

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if has_gpus(new or old or {"metadata": {}}):
            self._first.set()
            self.loop.queue.add((new or old or {})["metadata"]["name"])

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        name = ((new or old or {}).get("spec") or {}).get("nodeName")
        if name and self._minds_pods(name):
            self.loop.queue.add(name)

    def _minds_pods(self, name: str) -> bool:
        """Whether anything that this writes of a node depends on its pods: for most nodes nothing does."""
        found = self._inventory.survey(name)
        if not found.gpus:
            return False
        node = self._inventory.nodes.get(name)
        pending = node is not None and (node["metadata"].get("labels") or {}).get(STATE_LABEL) == "pending"
        return pending or bool(found.faults) or self._tells_held(found)

    def _tells_held(self, found: Survey) -> bool:
        """Whether slices say what the device plugin gave out: a write for each pod that starts, so only where it tells
        something. Between a first claim and that word a node refuses (`manager.py`)."""
        return found.mode == "partitions" or len(self._inventory.claims) > 0

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        if (
            len(self._inventory.claims) <= 1
        ):  # the first and the last: what the plugin gave out begins or ceases to matter
            self._on_settings(None, None)
        for claim in (old, new):
            for name in pools_of(claim) if claim is not None else ():
                self.loop.queue.add(name)

    def _on_settings(self, old: Object | None, new: Object | None) -> None:
        for node in self._inventory.gpu_nodes():
            self.loop.queue.add(node["metadata"]["name"])

    def _on_slice(self, old: Object | None, new: Object | None) -> None:
        for name in _node_of(new or old or {}):
            self.loop.queue.add_after(name, _SLICE_SECONDS)


def _node_of(item: Object) -> tuple[str, ...]:
    name = (item.get("spec") or {}).get("nodeName")
    return (name,) if name else ()

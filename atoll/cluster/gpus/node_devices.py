"""A process node's devices: the device manager decides who gets which, the port lets a container have them.

Implements `nodes.process.devices.NodeDevices`. What real devices suffer is written to the node's annotation of faults
(`watch`), from which the node's agents, its metrics and the health controller go on, as with simulated ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from atoll.base.clock import Clock
from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.cluster.gpus.advertise import REPLICA_SEPARATOR
from atoll.cluster.gpus.allotment import VISIBLE_DEVICES
from atoll.cluster.gpus.dcgm import exposition
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.manager import DeviceManager
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.port import Access, DevicePort, visible
from atoll.kinds.builtin import NODES
from atoll.objects.gpu_faults import ANNOTATION, format_faults

Object = dict[str, Any]
log = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0
MPS_PIPES, MPS_ROOT = "CUDA_MPS_PIPE_DIRECTORY", "/mps"


class GpuNodeDevices:
    """Of the node `name`, over `port`."""

    def __init__(self, name: str, port: DevicePort, inventory: Inventory, manager: DeviceManager, clock: Clock) -> None:
        self._name = name
        self._port = port
        self._inventory = inventory
        self._manager = manager
        self._clock = clock

    async def ready(self) -> None:
        await self._manager.ready()

    def give(self, pod: Mapping[str, Any]) -> Mapping[str, list[Object]]:
        return self._manager.give(pod)

    def access(self, pod: Mapping[str, Any], container: str) -> Access:
        uid = pod["metadata"]["uid"]
        resources = self._manager.give(pod).get(container, ())
        ids = [item["resourceID"] for resource in resources for item in resource["resources"]]
        uuids = list(dict.fromkeys(item.partition(REPLICA_SEPARATOR)[0] for item in ids))
        shared = any(REPLICA_SEPARATOR in item for item in ids)
        own = self._port.allocate(uid, uuids, shared=shared) if ids else Access()
        if shared and self._inventory.survey(self._name).config.mps:
            pipes = f"{MPS_ROOT}/{next(iter(resources))['name']}/pipe"  # where the plugin's daemon listens
            own = Access({**own.env, MPS_PIPES: pipes}, own.files)
        return _joined(own, self._claimed(uid, container))

    def _claimed(self, uid: str, container: str) -> Access:
        """By ResourceClaims, which several pods may share. A partition that is made for its claim is a name only."""
        found = self._inventory.survey(self._name)
        devices = self._inventory.claimed_devices(self._name, found).get(uid, {}).get(container, ())
        if not devices:
            return Access()
        whole = [device.uuid for device in devices if isinstance(device, Gpu)]
        files = self._port.allocate(uid, whole, shared=True).files if whole else ()
        return Access(visible([device.uuid for device in devices]), files)

    def release(self, uid: str) -> None:
        self._port.release(uid)

    def metrics(self) -> str:
        found = self._inventory.survey(self._name)
        pods, claimed = self._inventory.pods_on(self._name), self._inventory.claimed_devices(self._name, found)
        measured = self._port.readings(found, pods, self._clock.wall(), claimed)
        return exposition(self._name, measured)

    async def watch(self, client: Client) -> None:
        """Keep the node's annotation equal to what the port says is wrong, until cancelled."""
        try:
            while True:
                await self._tell(client)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._port.close()

    async def _tell(self, client: Client) -> None:
        node = self._inventory.nodes.get(self._name)
        if node is None:
            return
        faults = self._port.faults()
        wanted = format_faults(faults) if faults else None
        if (node["metadata"].get("annotations") or {}).get(ANNOTATION) == wanted:
            return
        try:
            await client.patch(NODES, self._name, {"metadata": {"annotations": {ANNOTATION: wanted}}})
        except AtollError as error:
            log.info("faults of %s: %s", self._name, error)


def _joined(first: Access, second: Access) -> Access:
    uuids = [access.env[VISIBLE_DEVICES] for access in (first, second) if access.env]
    env = {**first.env, **second.env, **(visible(uuids) if uuids else {})}
    return Access(env, tuple(dict.fromkeys((*first.files, *second.files))))

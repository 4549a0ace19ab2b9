"""The simulated provider: machines are entries of a ConfigMap, and simulated nodes once they have booted.

Boot times and stock-outs are functions of the seed and the machine's name or the hour, so a seed replays them; the
state outlives the process. It removes a Node only where its own ConfigMap is there and no longer has the machine.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import msgspec

from atoll.base.chance import Chance
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.capacity import names
from atoll.capacity.autoscale.model import Machine
from atoll.capacity.autoscale.provider import OutOfStock
from atoll.capacity.autoscale.settings import AutoscaleSettings, Pool
from atoll.capacity.settings import Live
from atoll.client.port import Client, DeleteOptions
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, NODES
from atoll.objects.meta import labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informers

Object = dict[str, Any]
CONFIG_MAP = "atoll-simulated-machines"
NAME = "simulated-provider"
_KWOK = {"kwok.x-k8s.io/node": "fake"}
log = logging.getLogger(__name__)


class SimulatedProvider:
    """Implements `Provider`; `run` boots machines and takes the Nodes of those that are gone away."""

    def __init__(self, client: Client, informers: Informers, clock: Clock, settings: Live[AutoscaleSettings]) -> None:
        self.name = NAME
        self._client = client
        self._clock = clock
        self._settings = settings
        self._maps = informers.of(CONFIGMAPS, namespace=names.SYSTEM_NAMESPACE)
        self._nodes = informers.of(NODES)
        self.loop: Controller[str] = Controller(NAME, self._reconcile, workers=8, wait_for=(self._maps, self._nodes))
        self._maps.add_handler(self._map_changed)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    # -- the port

    async def machines(self) -> list[Machine]:
        return await read_machines(self._client)

    async def create(self, pool: Pool, name: str, replaces: str = "") -> None:
        now = self._clock.wall()
        known = await self.machines()
        if any(machine.name == name for machine in known):
            return
        if self._is_out(pool, now, sum(machine.pool == pool.name for machine in known)):
            raise OutOfStock(f"pool {pool.name}: no machine is to be had now")
        entry = msgspec.json.encode(Machine(name, pool.name, now, replaces)).decode()
        await self._patch({name: entry})

    async def delete(self, name: str) -> None:
        with suppress(NotFound):
            await self._client.patch(CONFIGMAPS, CONFIG_MAP, {"data": {name: None}}, names.SYSTEM_NAMESPACE)

    def _is_out(self, pool: Pool, now: float, have: int) -> bool:
        hour = int(now // 3600)
        drawn = Chance(self._settings.value.seed, f"stock/{pool.name}/{hour}").random()
        return have >= pool.simulated.stock or drawn < pool.simulated.stockout_share

    async def _patch(self, data: dict[str, str]) -> None:
        try:
            await self._client.patch(CONFIGMAPS, CONFIG_MAP, {"data": data}, names.SYSTEM_NAMESPACE)
        except NotFound:
            with suppress(AlreadyExists):
                await self._client.create(NAMESPACES, {"metadata": {"name": names.SYSTEM_NAMESPACE}})
            with suppress(AlreadyExists):
                made = {"metadata": {"name": CONFIG_MAP}, "data": {}}
                await self._client.create(CONFIGMAPS, made, names.SYSTEM_NAMESPACE)
            await self._client.patch(CONFIGMAPS, CONFIG_MAP, {"data": data}, names.SYSTEM_NAMESPACE)

    # -- machines become nodes

    def _map_changed(self, old: Object | None, new: Object | None) -> None:
        if (new or old or {})["metadata"]["name"] != CONFIG_MAP:
            return
        before, after = ((obj or {}).get("data") or {} for obj in (old, new))
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                self.loop.queue.add(name)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old or {}
        if names.MACHINE in labels(node) and (new is None or old is None):
            self.loop.queue.add(node["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        found = self._maps.get(CONFIG_MAP, names.SYSTEM_NAMESPACE)
        if found is None:
            return None
        machine = next((it for it in _machines(found) if it.name == name), None)
        node = self._nodes.get(name)
        if machine is None:
            if node is not None and names.MACHINE in labels(node):
                with suppress(NotFound):
                    await self._client.delete(NODES, name, options=DeleteOptions(uid=node["metadata"]["uid"]))
            return None
        pool = self._settings.value.pool(machine.pool)
        if node is not None or pool is None:
            return None
        left = machine.created + self._boots_in(pool, name) - self._clock.wall()
        if left > 0:
            return left
        try:
            await self._client.create(NODES, node_object(pool, machine, rfc3339(self._clock.wall())))
        except AlreadyExists:
            return None
        except AtollError as error:
            log.info("node %s: %s", name, error)
            raise
        return None

    def _boots_in(self, pool: Pool, name: str) -> float:
        jitter = pool.simulated.boot_jitter_seconds
        return max(0.0, pool.simulated.boot_seconds + Chance(self._settings.value.seed, name).uniform(-jitter, jitter))


async def read_machines(client: Client) -> list[Machine]:
    """As the provider's ConfigMap has them. Raises AtollError."""
    try:
        return _machines(await client.get(CONFIGMAPS, CONFIG_MAP, names.SYSTEM_NAMESPACE))
    except NotFound:
        return []


def _machines(found: Object) -> list[Machine]:
    items = []
    for name, text in sorted((found.get("data") or {}).items()):
        try:
            items.append(msgspec.json.decode(text, type=Machine))
        except (msgspec.DecodeError, ValueError):
            log.warning("%s: the entry %s can't be read", CONFIG_MAP, name)
    return items


def node_object(pool: Pool, machine: Machine, now: str) -> Object:
    """The Node as its kubelet would register it; simulated nodes fill in the rest."""
    shape = pool.node
    known = {"nvidia.com/gpu.count": str(shape.gpus), "nvidia.com/gpu.present": "true"} if shape.gpus else {}
    labels = {
        **known,
        "kubernetes.io/hostname": machine.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        names.MACHINE: machine.name,
        **pool.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine.name, "labels": labels, "annotations": _KWOK | shape.annotations},
        "spec": {"taints": [dict(taint) for taint in shape.taints]} if shape.taints else {},
        "status": {"capacity": shape.capacity, "allocatable": shape.capacity},
    }

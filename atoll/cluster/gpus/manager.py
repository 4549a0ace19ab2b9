"""kubelet's device manager for simulated nodes: gives a pod its devices when it starts, none twice.

What pods hold is read from their status; beside that only those are remembered whose status is on its way to the API.
A manager that is made anew knows the rest from the API, so that after a restart every pod has what it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll.cluster.gpus.allotment import Allotment, NoDevices, allot, asks_for_devices, held, recorded, status_of
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.plan import holders
from atoll.cluster.gpus.survey import Survey

Object = dict[str, Any]


class DeviceManager:
    """`give(pod)` for a pod that is bound to a node whose GPUs the inventory knows."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._underway: dict[str, dict[str, Allotment]] = {}  # node → pod's uid → what it was given

    async def ready(self) -> None:
        await self._inventory.synced()

    def give(self, pod: Mapping[str, Any]) -> Mapping[str, list[Object]]:
        """allocatedResourcesStatus by container; the same again for the same pod. Raises NoDevices.

        A node that declares no GPUs has no devices to tell apart: then nothing is given, and nothing refused.
        """
        claims = bool(pod["spec"].get("resourceClaims"))
        if not claims and not asks_for_devices(pod):
            return {}
        node = pod["spec"]["nodeName"]
        found = self._inventory.survey(node)
        if not found.gpus:
            return {}
        if claims:
            self._check_claims(pod, node, found)
        uid = pod["metadata"]["uid"]
        underway = self._still_underway(node)
        chosen = recorded(pod) or underway.get(uid)
        if chosen is None:
            units, claimed = found.advertised.units, self._inventory.claimed(node, found)
            taken = {unit.id for unit in units if unit.gpu in claimed}
            for other in self._inventory.pods_on(node):
                taken |= held(other)
            for allotment in underway.values():
                taken.update(item for by_resource in allotment.values() for ids in by_resource.values() for item in ids)
            chosen = allot(pod, units, taken, shared_at_most_one=found.config.fail_above_one)
            self._underway.setdefault(node, {})[uid] = chosen
        return {name: status_of(by_resource, found.advertised.units) for name, by_resource in chosen.items()}

    def _check_claims(self, pod: Mapping[str, Any], node: str, found: Survey) -> None:
        """A pod that is to start is refused a claim's GPU that another has from here. Raises NoDevices."""
        if (pod.get("status") or {}).get("phase") == "Running":
            return
        claimed = self._inventory.claimed_devices(node, found).get(pod["metadata"]["uid"], {})
        wanted = {
            device.index if isinstance(device, Gpu) else device.gpu.index
            for devices in claimed.values()
            for device in devices
        }
        others = [
            other for other in self._inventory.pods_on(node) if other["metadata"]["uid"] != pod["metadata"]["uid"]
        ]
        had = holders(others, found) | self._gpus_underway(node, found) if wanted else {}
        both = sorted(wanted & set(had))
        if both:
            raise NoDevices(
                f"a ResourceClaim has GPU {both[0]}, which the device plugin has given to {had[both[0]]}, "
                "which is unexpected"
            )

    def _gpus_underway(self, node: str, found: Survey) -> dict[int, str]:
        """GPUs of which something was given that no status tells yet."""
        gpus = {unit.id: unit.gpu for unit in found.advertised.units}
        given = [ids for item in self._still_underway(node).values() for by in item.values() for ids in by.values()]
        return {gpus[item]: "a pod that is starting" for ids in given for item in ids if item in gpus}

    def _still_underway(self, node: str) -> Mapping[str, Allotment]:
        """Without those whose status has arrived, and pods that are gone."""
        underway = self._underway.get(node)
        if not underway:
            return {}
        waiting = {
            pod["metadata"]["uid"]
            for pod in self._inventory.pods_on(node)
            if (pod.get("status") or {}).get("phase") == "Pending"
        }
        left = self._underway[node] = {uid: given for uid, given in underway.items() if uid in waiting}
        return left

"""Which container of a pod gets which of its node's devices. Pure.

What a pod holds is in its status, where kubelet tells of allotted devices and their health
(`status.containerStatuses[].allocatedResourcesStatus`, KEP-4680): written with the status that says Running, read
again by whoever starts later. A pod that has ended holds nothing.

Whole devices are given by index, replicas of shared ones from the GPU of which fewest are out, as the device plugin
prefers. An app container may have again what an init container had (kubelet's device manager).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from atoll.base import quantity
from atoll.base.errors import AtollError
from atoll.cluster.gpus.advertise import REPLICA_SEPARATOR, Unit

Object = dict[str, Any]
Allotment = Mapping[str, Mapping[str, Sequence[str]]]
"""Container → resource → ids of its units."""

PREFIX = "nvidia.com/"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
REFUSED = "UnexpectedAdmissionError"


class NoDevices(AtollError):
    """The node has not what the pod was promised; worded as kubelet's."""


def asks_for_devices(pod: Mapping[str, Any]) -> bool:
    """Cheap: whether a container names a resource of NVIDIA's."""
    spec = pod["spec"]
    return any(
        name.startswith(PREFIX)
        for container in (*spec["containers"], *(spec.get("initContainers") or ()))
        for name in (container.get("resources") or {}).get("limits") or ()
    )


def held(pod: Mapping[str, Any]) -> set[str]:
    """The ids that a pod holds by its status."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return set()
    return {
        item["resourceID"]
        for kind in ("containerStatuses", "initContainerStatuses")
        for container in status.get(kind) or ()
        for resource in container.get("allocatedResourcesStatus") or ()
        if resource["name"].startswith(PREFIX)
        for item in resource.get("resources") or ()
    }


def recorded(pod: Mapping[str, Any]) -> Allotment:
    """The allotment that a pod's status tells."""
    status = pod.get("status") or {}
    return {
        container["name"]: {
            resource["name"]: [item["resourceID"] for item in resource.get("resources") or ()]
            for resource in container["allocatedResourcesStatus"]
            if resource["name"].startswith(PREFIX)
        }
        for kind in ("containerStatuses", "initContainerStatuses")
        for container in status.get(kind) or ()
        if container.get("allocatedResourcesStatus")
    }


def allot(
    pod: Mapping[str, Any], units: Sequence[Unit], taken: Collection[str], *, shared_at_most_one: bool = False
) -> Allotment:
    """Devices for all containers of a pod. `taken`: ids that others hold. Raises NoDevices."""
    out: dict[str, dict[str, Sequence[str]]] = {}
    gone = set(taken)
    again: dict[str, list[str]] = {}  # what init containers had, which later ones may have
    spec = pod["spec"]
    for container in spec.get("initContainers") or ():
        lasting = container.get("restartPolicy") == "Always"
        out[container["name"]] = chosen = _container(container, units, gone, again, shared_at_most_one)
        if not lasting:
            for resource, ids in chosen.items():
                again.setdefault(resource, []).extend(item for item in ids if item not in again.get(resource, ()))
    for container in spec["containers"]:
        out[container["name"]] = chosen = _container(container, units, gone, again, shared_at_most_one)
        for resource, ids in chosen.items():
            again[resource] = [item for item in again.get(resource, ()) if item not in ids]
    return {name: chosen for name, chosen in out.items() if chosen}


def environment(allotted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the device plugin sets for a container: the UUIDs of its devices, each once."""
    ids = [item.partition(REPLICA_SEPARATOR)[0] for found in allotted.values() for item in found]
    return {VISIBLE_DEVICES: ",".join(dict.fromkeys(ids))} if ids else {}


def status_of(allotted: Mapping[str, Sequence[str]], units: Iterable[Unit]) -> list[Object]:
    """allocatedResourcesStatus of a container."""
    healthy = {unit.id: unit.healthy for unit in units}
    return [
        {
            "name": resource,
            "resources": [
                {"resourceID": item, "health": "Healthy" if healthy.get(item, True) else "Unhealthy"} for item in ids
            ],
        }
        for resource, ids in allotted.items()
    ]


def _container(
    container: Object, units: Sequence[Unit], gone: set[str], again: Mapping[str, list[str]], at_most_one: bool
) -> dict[str, Sequence[str]]:
    chosen: dict[str, Sequence[str]] = {}
    for resource, text in ((container.get("resources") or {}).get("limits") or {}).items():
        count = quantity.units(text) if resource.startswith(PREFIX) else 0
        if count:
            chosen[resource] = ids = _choose(resource, count, units, gone, again.get(resource, ()), at_most_one)
            gone.update(ids)
    return chosen


def _choose(
    resource: str, count: int, units: Sequence[Unit], gone: set[str], again: Sequence[str], at_most_one: bool
) -> list[str]:
    own = [unit for unit in units if unit.resource == resource]
    shared = any(REPLICA_SEPARATOR in unit.id for unit in own)
    if shared and at_most_one and count > 1:
        raise NoDevices(
            f"Allocate failed due to request for '{resource}: {count}' too large: maximum request size for shared "
            "resources is 1, which is unexpected"
        )
    ids = list(again[:count])
    free = [unit for unit in own if unit.healthy and unit.id not in gone]
    if len(free) < count - len(ids):
        raise NoDevices(
            f"Allocate failed due to requested number of devices unavailable for {resource}. "
            f"Requested: {count}, Available: {len(free) + len(ids)}, which is unexpected"
        )
    if not shared:
        return [*ids, *(unit.id for unit in free[: count - len(ids)])]
    out = Counter(unit.gpu for unit in own if unit.id in gone)
    while len(ids) < count:
        unit = min(free, key=lambda item: out[item.gpu])
        free.remove(unit)
        out[unit.gpu] += 1
        ids.append(unit.id)
    return ids

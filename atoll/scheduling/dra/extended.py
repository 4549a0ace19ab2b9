"""Extended resources that devices stand for (KEP-5004): a pod asks for `nvidia.com/gpu: 2`, a DeviceClass says
`extendedResourceName: nvidia.com/gpu`, and a node that has no such resource of its own gives it devices of that class.

What is asked is written as one claim of the pod's: a request a container and resource. Containers that run one after
the other (init containers) use the devices of those that run later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from atoll.base import quantity
from atoll.scheduling.dra.model import DeviceClass, Object

PREFIX = "deviceclass.resource.kubernetes.io/"
"""`deviceclass.resource.kubernetes.io/NAME` asks for devices of any class by its name."""


def by_resource(classes: Iterable[DeviceClass]) -> dict[str, DeviceClass]:
    """Which class stands for a resource: of several the newest, then the first by name."""
    found: dict[str, DeviceClass] = {}
    for kind in sorted(classes, key=lambda each: each.name, reverse=True):
        found[PREFIX + kind.name] = kind
        name = kind.extended_resource
        if name and (name not in found or kind.created >= found[name].created):
            found[name] = kind
    return found


def delegated(requests: Mapping[str, int], classes: Mapping[str, DeviceClass]) -> frozenset[str]:
    """Of a pod's requests those that devices may stand for."""
    return frozenset(name for name, amount in requests.items() if amount > 0 and name in classes)


def claim_requests(
    spec: Object, resources: Collection[str], classes: Mapping[str, DeviceClass]
) -> tuple[list[Object], list[Object]]:
    """(the claim's requests, and which container uses which: `requestMappings`) of a pod's spec."""
    requests: list[Object] = []
    mappings: list[Object] = []
    for resource in sorted(resources):
        lasting, passing = _Asked(resource, classes[resource].name), _Asked(resource, classes[resource].name)
        early = spec.get("initContainers") or []
        containers = [*early, *(spec.get("containers") or [])]
        own: list[Object | None] = [None] * len(containers)
        for index, container in enumerate(containers):
            if index >= len(early) or container.get("restartPolicy") == "Always":
                own[index] = lasting.ask(index, container, ())
        most: Object | None = None
        for index, container in enumerate(containers):
            if index < len(early) and container.get("restartPolicy") != "Always":
                asked = passing.ask(index, container, own[index:])
                if asked is not None and (most is None or _count(most) < _count(asked)):
                    most = asked
        if most is not None:
            passing.use(most["name"])
            requests.append(most)
        requests += [item for item in own if item is not None]
        mappings += [*lasting.mappings, *passing.mappings]
    requests.sort(key=lambda item: str(item["name"]))
    return requests, mappings


def _count(request: Object) -> int:
    return int(request["exactly"]["count"])


class _Asked:
    """What containers ask of one resource."""

    def __init__(self, resource: str, class_name: str) -> None:
        self.mappings: list[Object] = []
        self._made: set[str] = set()
        self._resource = resource
        self._class = class_name

    def ask(self, index: int, container: Object, reusable: Iterable[Object | None]) -> Object | None:
        """A request for what is not had by reusing others'; None where nothing more is needed."""
        asked = (container.get("resources") or {}).get("requests") or {}
        wanted = quantity.units(asked.get(self._resource, 0))
        if not wanted:
            return None
        for other in reusable:
            if other is not None:
                wanted -= _count(other)
                self._map(container, other["name"])
                if wanted <= 0:
                    return None
        name = f"container-{index}-request-{sorted(asked).index(self._resource)}"
        self._made.add(name)
        self._map(container, name)
        exactly = {"deviceClassName": self._class, "allocationMode": "ExactCount", "count": wanted}
        return {"name": name, "exactly": exactly}

    def use(self, name: str) -> None:
        """One of the requests that were made will do for all of them."""
        for mapping in self.mappings:
            if mapping["requestName"] in self._made:
                mapping["requestName"] = name

    def _map(self, container: Object, request: str) -> None:
        self.mappings.append(
            {"containerName": container["name"], "resourceName": self._resource, "requestName": request}
        )

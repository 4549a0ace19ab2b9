"""How much of a GPU one unit of a resource is on a node: all of it, an instance's part, a time slice's. Pure.

An instance counts by its compute slices (a `2g` of an A100 is 2/7 of it), one of several replicas as its part of the
device. It follows from what the node declares and from the configurations of the GPU operator's namespace; no agent is
believed. GPUs that are not declared count as they are: nvidia.com/gpu, and those given in thousandths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from atoll.cluster.gpus.claims import device_of
from atoll.cluster.gpus.mig import ANNOTATION as MIG_ANNOTATION
from atoll.cluster.gpus.model import ANNOTATION, Gpu, MigDevice
from atoll.cluster.gpus.settings import PLUGIN_LABEL, Settings, read_settings
from atoll.cluster.gpus.survey import Survey, has_gpus, survey
from atoll.objects import meta
from atoll.simulate.scenario.model import GPU

Object = dict[str, Any]
Parts = Mapping[str, float]
"""Resource → GPUs that one unit of it is."""

WHOLE: Parts = {GPU: 1.0}


def parts_of(found: Survey) -> Parts:
    """Where a resource has units of several sizes, their mean."""
    sizes = {gpu.uuid: 1.0 for gpu in found.gpus}
    for devices in found.layout.values():
        sizes |= {item.uuid: size_of(item) for item in devices}
    units = found.advertised.units
    replicas = Counter(unit.uuid for unit in units)
    shares: dict[str, list[float]] = {}
    for unit in units:
        shares.setdefault(unit.resource, []).append(sizes[unit.uuid] / replicas[unit.uuid])
    return {resource: sum(values) / len(values) for resource, values in shares.items()}


def size_of(device: Gpu | MigDevice) -> float:
    """Of a GPU."""
    return 1.0 if isinstance(device, Gpu) else device.profile.compute_slices / device.gpu.type.compute_slices


class Declared(NamedTuple):
    """What a node's GPUs are: physical ones, and what units of resources are of them."""

    gpus: tuple[Gpu, ...]
    units: Parts

    def claimed(self, device: str) -> float:
        """How much of a GPU a ResourceClaim's device is, by its name."""
        found = device_of(self.gpus, device)
        return 0.0 if found is None else size_of(found)


class Shares:
    """Of nodes, by what they say; remembered by that."""

    def __init__(self) -> None:
        self._settings = Settings()
        self._known: dict[tuple[str | None, ...], Declared] = {}

    def configure(self, config_maps: Iterable[Object]) -> None:
        """By the ConfigMaps of the GPU operator's namespace."""
        self._settings = read_settings(config_maps)
        self._known.clear()

    def of(self, node: Object) -> Declared | None:
        """None for a node that declares no GPUs."""
        if not has_gpus(node):
            return None
        notes = meta.annotations(node)
        key = (notes.get(ANNOTATION), notes.get(MIG_ANNOTATION), meta.labels(node).get(PLUGIN_LABEL))
        known = self._known.get(key)
        if known is None:
            found = survey(node, self._settings)
            known = self._known[key] = Declared(found.gpus, parts_of(found))
        return known

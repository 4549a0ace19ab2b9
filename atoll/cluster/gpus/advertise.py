"""What a node says of its GPUs: labels as GPU feature discovery, resources as the device plugin. Pure.

Sources: NVIDIA/k8s-device-plugin, internal/lm (labels) and internal/rm (resources, replicas). MIG strategies: `none`
(partitions are not looked at), `single` (every GPU partitioned alike: instances are nvidia.com/gpu; anything else is
invalid and nothing is advertised), `mixed` (instances are nvidia.com/mig-PROFILE). Time slicing and MPS advertise each
device, or those chosen, so many times, under the same name or a new one; by MPS whole GPUs only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atoll.cluster.gpus.mig import Layout
from atoll.cluster.gpus.model import Gpu, MigDevice
from atoll.cluster.gpus.settings import PluginConfig, Sharing
from atoll.cluster.gpus.types import driver

GPU_RESOURCE = "nvidia.com/gpu"
REPLICA_SEPARATOR = "::"  # between a device's UUID and its replica's number, as in the plugin's device ids


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing that can be given to a container."""

    id: str
    resource: str
    gpu: int
    healthy: bool = True

    @property
    def uuid(self) -> str:
        return self.id.partition(REPLICA_SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class Advertised:
    """`capacity` counts all units of a resource, `allocatable` those that may be given out as devices of the plugin."""

    labels: Mapping[str, str] = field(default_factory=dict)
    units: tuple[Unit, ...] = ()

    @property
    def capacity(self) -> dict[str, str]:
        return _counted(self.units)

    def allocatable(self, claimed: Collection[int] = ()) -> dict[str, str]:
        """`claimed`: indices of GPUs that ResourceClaims have."""
        none = dict.fromkeys(self.capacity, "0")
        return none | _counted(unit for unit in self.units if unit.healthy and unit.gpu not in claimed)


def advertise(
    gpus: Sequence[Gpu], layout: Layout, config: PluginConfig, out: Collection[int] = (), machine: str = "simulated"
) -> Advertised:
    """`out`: indices of GPUs that are not to be given out."""
    if not gpus:
        return Advertised()
    devices, labels = _devices(gpus, layout, config)
    units: list[Unit] = []
    for resource, found in devices.items():
        sharing = config.shared.get(resource, Sharing(1))
        for place, device in enumerate(found):
            gpu = device if isinstance(device, Gpu) else device.gpu
            shared = sharing.shares(place, *_names(device, layout))
            name = sharing.rename or resource if shared else resource
            ids = _replicas(device.uuid, sharing.replicas) if shared and sharing.replicas > 1 else [device.uuid]
            if not (config.mps and gpu.index in layout):
                units += [Unit(item, name, gpu.index, gpu.index not in out) for item in ids]
    return Advertised(_common_labels(gpus, config, machine) | labels, tuple(units))


def _names(device: Gpu | MigDevice, layout: Layout) -> tuple[str, ...]:
    """What a configuration may call a device: its index (of an instance: GPU:place), or its UUID."""
    if isinstance(device, Gpu):
        return str(device.index), device.uuid
    return f"{device.gpu.index}:{layout[device.gpu.index].index(device)}", device.uuid


def _replicas(uuid: str, count: int) -> list[str]:
    return [f"{uuid}{REPLICA_SEPARATOR}{number}" for number in range(count)]


Devices = Mapping[str, Sequence[Gpu | MigDevice]]


def _devices(gpus: Sequence[Gpu], layout: Layout, config: PluginConfig) -> tuple[Devices, dict[str, str]]:
    """What is advertised under which resource, and the labels about it."""
    whole = [gpu for gpu in gpus if gpu.index not in layout]
    instances = [device for gpu in gpus for device in layout.get(gpu.index, ())]
    strategy = {} if config.mig_strategy == "none" else {"nvidia.com/mig.strategy": config.mig_strategy}
    labels = _gpu_labels(gpus, config if whole else None) | strategy
    if config.mig_strategy == "none" or not layout:
        return {GPU_RESOURCE: list(gpus)}, labels
    if config.mig_strategy == "mixed":
        by_resource: dict[str, list[Gpu | MigDevice]] = {GPU_RESOURCE: list(whole)} if whole else {}
        for device in instances:
            by_resource.setdefault(device.profile.resource, []).append(device)
        for resource, found in by_resource.items():
            if resource != GPU_RESOURCE:
                labels |= _mig_labels(resource, [item for item in found if isinstance(item, MigDevice)], config)
        return by_resource, labels
    alike = len({(device.gpu.type, device.profile) for device in instances}) == 1
    if whole or not alike or any(not found for found in layout.values()):
        return {}, labels | _invalid_labels(gpus[0])
    return {GPU_RESOURCE: instances}, _mig_labels(GPU_RESOURCE, instances, config) | strategy


def _common_labels(gpus: Sequence[Gpu], config: PluginConfig, machine: str) -> dict[str, str]:
    version = driver()
    major, minor, revision = (*version.version.split("."), "")[:3]
    cuda_major, cuda_minor = version.cuda.split(".")
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.machine": machine,
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/mig.capable": "true" if any(gpu.type.mig for gpu in gpus) else "false",
        "nvidia.com/mps.capable": "true" if config.mps and any(map(_is_shared, config.shared.values())) else "false",
        "nvidia.com/cuda.driver.major": major,
        "nvidia.com/cuda.driver.minor": minor,
        "nvidia.com/cuda.driver.rev": revision,
        "nvidia.com/cuda.runtime.major": cuda_major,
        "nvidia.com/cuda.runtime.minor": cuda_minor,
        "nvidia.com/cuda.driver-version.full": version.version,
        "nvidia.com/cuda.driver-version.major": major,
        "nvidia.com/cuda.driver-version.minor": minor,
        "nvidia.com/cuda.driver-version.revision": revision,
        "nvidia.com/cuda.runtime-version.full": version.cuda,
        "nvidia.com/cuda.runtime-version.major": cuda_major,
        "nvidia.com/cuda.runtime-version.minor": cuda_minor,
    }


def _gpu_labels(gpus: Sequence[Gpu], config: PluginConfig | None) -> dict[str, str]:
    """Of whole GPUs; without `config` sharing is not for them (they are all partitioned)."""
    kind = gpus[0].type
    sharing = config.shared.get(GPU_RESOURCE, Sharing(1)) if config is not None else Sharing(0)
    return {
        "nvidia.com/gpu.product": _product((kind.product,), sharing),
        "nvidia.com/gpu.count": str(len(gpus)),
        "nvidia.com/gpu.replicas": str(sharing.replicas),
        "nvidia.com/gpu.sharing-strategy": _strategy(sharing, config),
        "nvidia.com/gpu.memory": str(kind.memory_mib),
        "nvidia.com/gpu.family": kind.family,
        "nvidia.com/gpu.compute.major": str(kind.compute[0]),
        "nvidia.com/gpu.compute.minor": str(kind.compute[1]),
    }


def _mig_labels(resource: str, devices: Sequence[MigDevice], config: PluginConfig) -> dict[str, str]:
    profile, kind = devices[0].profile, devices[0].gpu.type
    sharing = config.shared.get(resource, Sharing(1))
    values = {
        "product": _product((kind.product, "MIG", profile.name), sharing),
        "count": len(devices),
        "replicas": sharing.replicas,
        "sharing-strategy": _strategy(sharing, config),
        "memory": profile.memory_mib,
        "multiprocessors": profile.sms,
        "slices.gi": profile.compute_slices,
        "slices.ci": profile.compute_slices,
        "engines.copy": profile.copy_engines,
        "engines.decoder": profile.decoders,
        "engines.encoder": profile.encoders,
        "engines.jpeg": profile.jpeg_engines,
        "engines.ofa": profile.ofa_engines,
    }
    labels = {f"{resource}.{name}": str(value) for name, value in values.items()}
    if resource == GPU_RESOURCE:
        labels |= {
            "nvidia.com/gpu.family": kind.family,
            "nvidia.com/gpu.compute.major": str(kind.compute[0]),
            "nvidia.com/gpu.compute.minor": str(kind.compute[1]),
        }
    return labels


def _invalid_labels(gpu: Gpu) -> dict[str, str]:
    return {
        "nvidia.com/gpu.product": _product((gpu.type.product, "MIG", "INVALID"), Sharing(0)),
        "nvidia.com/gpu.count": "0",
        "nvidia.com/gpu.replicas": "0",
        "nvidia.com/gpu.memory": "0",
    }


def _product(parts: Sequence[str], sharing: Sharing) -> str:
    """A label's value: what it has no place for (the + of +me) is left out."""
    plain = ["-".join(re.sub(r"[^A-Za-z0-9-_. ]", "", part).split()) for part in parts]
    return "-".join([*plain, "SHARED"] if _is_shared(sharing) and not sharing.rename else plain)


def _is_shared(sharing: Sharing) -> bool:
    return sharing.replicas > 1


def _strategy(sharing: Sharing, config: PluginConfig | None) -> str:
    if config is None or not _is_shared(sharing):
        return "none"
    return "mps" if config.mps else "time-slicing"


def _counted(units: Iterable[Unit]) -> dict[str, str]:
    return {resource: str(count) for resource, count in sorted(Counter(unit.resource for unit in units).items())}

"""What simulated GPUs measure: a pure function of who runs on them, of faults, seeds and the time.

The seeds are UUIDs (the GPU's and its pods'), so the same cluster shows the same values at the same time, in every
process. A pod says what it does with its GPUs by annotations; without them it is busy, as a training job is:

    atoll.dev/gpu-utilization: "40"     percent of each device
    atoll.dev/gpu-memory: 20Gi          of each device's memory

Of a GPU that fell off the bus only the XID is left, as DCGM has it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.base import quantity
from atoll.base.names import LABEL_PREFIX
from atoll.cluster.gpus.allotment import recorded
from atoll.cluster.gpus.claims import ClaimedDevices
from atoll.cluster.gpus.faults import last_xid
from atoll.cluster.gpus.model import Gpu, MigDevice
from atoll.cluster.gpus.settings import PluginConfig
from atoll.cluster.gpus.survey import Survey
from atoll.cluster.gpus.types import GpuType
from atoll.objects.gpu_faults import GpuFault

Object = dict[str, Any]
UTILIZATION = f"{LABEL_PREFIX}gpu-utilization"
MEMORY = f"{LABEL_PREFIX}gpu-memory"
_WAVE_SECONDS = 90.0
_THROTTLED = 0.55  # of the clock, when it is too hot
_TENSOR, _MEMORY, _NVLINK = 0.52, 0.6, 0.3  # of what there is, at full load
_PCIE_SENT, _PCIE_RECEIVED = 0.4e9, 1.5e9  # bytes per second, likewise


@dataclass(frozen=True, slots=True)
class Holder:
    """A container that has a device, or a time slice of it."""

    namespace: str
    pod: str
    container: str
    replica: str = ""  # of a shared device
    running: bool = True
    utilization: float = 0.0  # percent
    memory_share: float = 0.0  # of the device's memory
    memory_mib: int = 0  # in its place, where the pod says so
    peers: bool = False  # the pod has more GPUs here


@dataclass(frozen=True, slots=True)
class Activity:
    """What is only known by profiling: ratios from 0 to 1, and bytes per second."""

    tensor: float
    memory: float
    pcie_sent: float
    pcie_received: float
    nvlink: float  # both ways, over all links


@dataclass(frozen=True, slots=True)
class Totals:
    """What a whole GPU has used; None: not counted."""

    energy_millijoules: int
    pcie_sent_kb: int | None = None
    pcie_received_kb: int | None = None
    nvlink_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A GPU, or (`instance` is set) a MIG instance of it, at one time. Memory in MiB, power in watts."""

    gpu: Gpu
    instance: MigDevice | None
    holders: tuple[Holder, ...]
    lost: bool
    xid: int
    utilization: float
    memory_total: int
    memory_used: int
    temperature: int
    memory_temperature: int
    power: float
    sm_clock: int
    memory_clock: int
    ecc_uncorrected: int
    nvlink_crc: int
    memory_utilization: float = 0.0  # percent of the time that it is read or written
    pcie_replays: int = 0
    activity: Activity | None = None
    totals: Totals | None = None

    @property
    def uuid(self) -> str:
        return self.instance.uuid if self.instance is not None else self.gpu.uuid


def readings(
    found: Survey, pods: Iterable[Mapping[str, Any]], wall: float, claimed: ClaimedDevices | None = None
) -> list[Reading]:
    """By GPU and instance. `wall`: seconds since the epoch. `claimed`: what pods have by ResourceClaims."""
    claimed = claimed or {}
    holders = _limited(holders_by_device(pods, wall, claimed), found.config)
    made = {
        device.uuid: device
        for containers in claimed.values()
        for devices in containers.values()
        for device in devices
        if isinstance(device, MigDevice) and device.gpu.index not in found.layout
    }
    out: list[Reading] = []
    for gpu in found.gpus:
        instances = found.layout.get(gpu.index) or tuple(item for item in made.values() if item.gpu == gpu)
        own = [holders.get(device.uuid, ()) for device in instances] if instances else [holders.get(gpu.uuid, ())]
        weights = [device.profile.compute_slices / gpu.type.compute_slices for device in instances] or [1.0]
        busy = [min(100.0, sum(it.utilization for it in found_here)) for found_here in own]
        whole = sum(share * weight for share, weight in zip(busy, weights, strict=True))
        for device, found_here, load in zip(instances or (None,), own, busy, strict=True):
            out.append(_reading(gpu, device, found_here, load, whole, found.faults, wall))
    return out


def _limited(holders: dict[str, list[Holder]], config: PluginConfig) -> dict[str, list[Holder]]:
    """With MPS each of those who share a GPU has its part of the threads and of the memory, and no more."""
    if not config.mps:
        return holders
    replicas = max((sharing.replicas for sharing in config.shared.values()), default=1)
    return {
        uuid: [
            replace(it, utilization=min(it.utilization, 100 / replicas), memory_share=it.memory_share / replicas)
            if it.replica
            else it
            for it in found
        ]
        for uuid, found in holders.items()
    }


def _reading(
    gpu: Gpu, instance: MigDevice | None, holders: Sequence[Holder], load: float, whole: float,
    faults: Sequence[GpuFault], wall: float,
) -> Reading:  # fmt: skip
    own = [fault for fault in faults if fault.concerns(gpu.index)]
    values = {kind: sum(fault.value for fault in own if fault.kind == kind) for kind in ("ecc", "nvlink")}
    hot = max((fault.value for fault in own if fault.kind == "thermal"), default=0)
    kind = gpu.type
    total = instance.profile.memory_mib if instance is not None else kind.memory_mib
    idle = max(1, total // 200)  # what the driver keeps for itself
    used = min(total, idle + sum(it.memory_mib or round(total * it.memory_share) for it in holders))
    temperature = hot or round(31 + 0.37 * whole + 2 * _wave(gpu.uuid, wall))
    clock = kind.sm_clock_mhz * (_THROTTLED if hot else 1.0) if whole else kind.sm_clock_mhz * 0.17
    power = kind.power_watts * (0.11 + 0.0083 * whole * (_THROTTLED if hot else 1.0))
    return Reading(
        gpu=gpu,
        instance=instance,
        holders=tuple(holders),
        lost=any(fault.kind == "lost" for fault in own),
        xid=last_xid(own, gpu.index),
        utilization=round(load, 1),
        memory_total=total,
        memory_used=used,
        temperature=temperature,
        memory_temperature=temperature + (6 if kind.memory_mib > 40_000 else 0),
        power=round(power, 3),
        sm_clock=round(clock),
        memory_clock=kind.memory_clock_mhz,
        ecc_uncorrected=values["ecc"],
        nvlink_crc=values["nvlink"] if kind.nvlink_links else 0,
        memory_utilization=round(load * _MEMORY, 1),
        activity=_activity(kind, load / 100, any(it.peers for it in holders)),
    )


def _activity(kind: GpuType, busy: float, talks: bool) -> Activity:
    """Of a training job: it computes mostly on the tensor cores, is fed by PCIe, and talks to its other GPUs."""
    nvlink = _NVLINK * kind.nvlink_gb_per_second * 1e9 if talks else 0.0
    return Activity(
        tensor=_TENSOR * busy,
        memory=_MEMORY * busy,
        pcie_sent=_PCIE_SENT * busy,
        pcie_received=_PCIE_RECEIVED * busy,
        nvlink=nvlink * busy,
    )


def holders_by_device(
    pods: Iterable[Mapping[str, Any]], wall: float, claimed: ClaimedDevices | None = None
) -> dict[str, list[Holder]]:
    """UUID → who has it."""
    out: dict[str, list[Holder]] = {}
    for pod in pods:
        phase = (pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            continue
        metadata = pod["metadata"]
        had = {name: [item for ids in found.values() for item in ids] for name, found in recorded(pod).items()}
        for container, devices in (claimed or {}).get(metadata["uid"], {}).items():
            had.setdefault(container, []).extend(device.uuid for device in devices)
        uuids = {item.partition("::")[0] for items in had.values() for item in items}
        for container, items in had.items():
            for item in items:
                uuid, _, replica = item.partition("::")
                used = _use(metadata, item, wall) if phase == "Running" else (0.0, 0.0, 0)
                names = (metadata["namespace"], metadata["name"], container)
                peers = phase == "Running" and len(uuids) > 1
                out.setdefault(uuid, []).append(Holder(*names, replica, phase == "Running", *used, peers))
    return out


def _use(metadata: Mapping[str, Any], device: str, wall: float) -> tuple[float, float, int]:
    """(percent busy, share of the memory, MiB instead) of a device that a running pod has."""
    annotations, seed = metadata.get("annotations") or {}, f"{metadata['uid']}/{device}"
    busy = _number(annotations.get(UTILIZATION))
    if busy is None:
        busy = 84 + 11 * _draw(seed) + 5 * _wave(seed, wall)
    share = 0.55 + 0.35 * _draw(seed + "/memory")
    return min(100.0, max(0.0, busy)), share, _mib(annotations.get(MEMORY))


def _mib(text: str | None) -> int:
    try:
        return quantity.units(text) >> 20 if text else 0
    except ValueError:
        return 0


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _draw(seed: str) -> float:
    """From 0 to 1, by the seed."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest()) / 0xFFFFFFFF


def _wave(seed: str, wall: float) -> float:
    """From -1 to 1, slowly up and down."""
    return math.sin(2 * math.pi * (wall / _WAVE_SECONDS + _draw(seed)))

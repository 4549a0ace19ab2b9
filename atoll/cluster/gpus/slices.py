"""ResourceSlices of a node's GPUs, as NVIDIA's DRA driver publishes them (resource.k8s.io/v1). Pure.

Names, attributes and capacities are those of kubernetes-sigs/dra-driver-nvidia-gpu. A node chooses by the annotation
`atoll.dev/gpu-dra` what is published: `none`; `gpus` (the default: whole GPUs, and the instances of GPUs that are
partitioned); `partitions` (the driver's DynamicMIG gate: each GPU that can be partitioned also offers every instance
that it could have, and counters say which exclude each other, KEP-4815).

Limits of the API: 64 devices in a slice where one has counters or taints, else 128; eight counter sets in a slice, and
sets and devices in slices of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from atoll.base import quantity
from atoll.base.errors import UserError
from atoll.base.names import LABEL_PREFIX
from atoll.cluster.gpus.faults import taints
from atoll.cluster.gpus.mig import Layout
from atoll.cluster.gpus.model import Gpu, MigDevice
from atoll.cluster.gpus.types import MigProfile, driver
from atoll.objects.gpu_faults import GpuFault

Object = dict[str, Any]
Mode = Literal["none", "gpus", "partitions"]

DRIVER = "gpu.nvidia.com"
ANNOTATION = f"{LABEL_PREFIX}gpu-dra"
HELD_TAINT = f"{LABEL_PREFIX}held-by-device-plugin"
_MODES = get_args(Mode)
_MOST_DEVICES, _MOST_WITH_COUNTERS, _MOST_SETS = 128, 64, 8


def mode_of(node: Mapping[str, Any]) -> Mode:
    """What a Node wants published. Raises UserError."""
    text = (node["metadata"].get("annotations") or {}).get(ANNOTATION, "gpus")
    if text not in _MODES:
        raise UserError(f"{ANNOTATION} is one of {', '.join(_MODES)}, not {text!r}")
    return text  # type: ignore[no-any-return]


def resource_slices(
    node: str,
    gpus: Sequence[Gpu],
    layout: Layout,
    mode: Mode,
    faults: Iterable[GpuFault] = (),
    held: Collection[int] = (),
    generation: int = 1,
) -> list[Object]:
    """The slices of a node's pool. `held`: indices of GPUs that containers have from the device plugin."""
    if mode == "none" or not gpus:
        return []
    faults = tuple(faults)
    devices: list[Object] = []
    sets: list[Object] = []
    for gpu in gpus:
        found = _devices(gpu, layout, mode)
        marks = taints(faults, gpu.index)
        if gpu.index in held:
            marks.append({"key": HELD_TAINT, "effect": "NoSchedule"})
        devices += [device | {"taints": marks} if marks else device for device in found]
        if mode == "partitions" and gpu.type.mig and gpu.index not in layout:
            sets.append({"name": _set_name(gpu), "counters": _counters(_most(gpu), 0, gpu.type.memory_slices)})
    limited = any("consumesCounters" in device or "taints" in device for device in devices)
    contents: list[Object] = [{"sharedCounters": part} for part in _parts(sets, _MOST_SETS)]
    contents += [{"devices": part} for part in _parts(devices, _MOST_WITH_COUNTERS if limited else _MOST_DEVICES)]
    pool = {"name": node, "generation": generation, "resourceSliceCount": len(contents)}
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-{DRIVER}-{number}"},
            "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, **content},
        }
        for number, content in enumerate(contents)
    ]


def device_classes() -> list[Object]:
    """The DeviceClasses that the driver's chart installs."""
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": f"{kind}.nvidia.com"},
            "spec": {"selectors": [{"cel": {"expression": _of_type(kind)}}]},
        }
        for kind in ("gpu", "mig")
    ]


def gpu_of_device(name: str) -> int | None:
    """The minor number in a device's name: gpu-3, gpu-3-mig-1g10gb-19-0."""
    match = re.match(r"gpu-(\d+)(-mig-|$)", name)
    return int(match[1]) if match else None


def _of_type(kind: str) -> str:
    return f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{kind}'"


def _devices(gpu: Gpu, layout: Layout, mode: Mode) -> list[Object]:
    if gpu.index in layout:
        return [_instance(device) for device in layout[gpu.index]]
    whole: Object = {
        "name": f"gpu-{gpu.minor}",
        "attributes": {"type": {"string": "gpu"}, "uuid": {"string": gpu.uuid}, **_attributes(gpu)},
        "capacity": _values({"memory": gpu.type.memory_mib << 20}),
    }
    if mode != "partitions" or not gpu.type.mig:
        return [whole]
    most = _most(gpu)
    whole["capacity"] = _values(most)
    whole["consumesCounters"] = [_consumption(gpu, most, 0, gpu.type.memory_slices)]
    return [whole, *(_partition(gpu, profile, start) for profile in gpu.type.mig for start in profile.starts)]


def _partition(gpu: Gpu, profile: MigProfile, start: int) -> Object:
    amounts = _amounts(profile)
    return {
        "name": _mig_name(gpu, profile, start),
        "attributes": _mig_attributes(gpu, profile),
        "capacity": _values(amounts),
        "consumesCounters": [_consumption(gpu, amounts, start, profile.size)],
    }


def _instance(device: MigDevice) -> Object:
    gpu, profile = device.gpu, device.profile
    places = range(device.start, device.start + profile.size)
    return {
        "name": _mig_name(gpu, profile, device.start),
        "attributes": {**_mig_attributes(gpu, profile), "uuid": {"string": device.uuid}},
        "capacity": _values(_amounts(profile)) | {f"memorySlice{place}": {"value": "1"} for place in places},
    }


def _mig_name(gpu: Gpu, profile: MigProfile, start: int) -> str:
    short = profile.name.replace(".", "").replace("+", "-")
    return f"gpu-{gpu.minor}-mig-{short}-{profile.id}-{start}"


def _mig_attributes(gpu: Gpu, profile: MigProfile) -> Object:
    own = {"type": {"string": "mig"}, "parentUUID": {"string": gpu.uuid}, "profile": {"string": profile.name}}
    return {**own, **_attributes(gpu)}


def _attributes(gpu: Gpu) -> Object:
    kind, version = gpu.type, driver()
    brand = "Tesla" if kind.product.startswith("Tesla") else "Nvidia"
    texts = {"productName": kind.product, "brand": brand, "architecture": kind.architecture}
    versions = {
        "cudaComputeCapability": f"{kind.compute[0]}.{kind.compute[1]}.0",
        "driverVersion": _semver(version.version),
        "cudaDriverVersion": _semver(version.cuda),
    }
    places = {
        "resource.kubernetes.io/pciBusID": gpu.pci_bus_id,
        "resource.kubernetes.io/pcieRoot": "pci" + gpu.pci_bus_id[:7],
    }
    return {
        **{name: {"string": text} for name, text in texts.items()},
        **{name: {"version": text} for name, text in versions.items()},
        **{name: {"string": text} for name, text in places.items()},
    }


def _semver(text: str) -> str:
    """Three numbers without leading zeros: 580.95.05 → 580.95.5."""
    numbers = [int(part) for part in text.split(".")]
    return ".".join(str(number) for number in (*numbers, 0, 0)[:3])


def _amounts(profile: MigProfile) -> dict[str, int]:
    """By the driver's names of capacities; memory in bytes."""
    return {
        "multiprocessors": profile.sms,
        "copyEngines": profile.copy_engines,
        "decoders": profile.decoders,
        "encoders": profile.encoders,
        "jpegEngines": profile.jpeg_engines,
        "ofaEngines": profile.ofa_engines,
        "memory": profile.memory_mib << 20,
    }


def _most(gpu: Gpu) -> dict[str, int]:
    """What all of a GPU is, to its partitions: the most of each that any of them has."""
    amounts = [_amounts(profile) for profile in gpu.type.mig]
    return {name: max(item[name] for item in amounts) for name in amounts[0]}


def _text(name: str, value: int) -> str:
    """In the form that the API server keeps, so that what is there can be compared with what is wanted."""
    return quantity.from_units_binary(value) if name == "memory" else str(value)


def _values(amounts: Mapping[str, int]) -> Object:
    return {name: {"value": _text(name, value)} for name, value in amounts.items()}


def _counters(amounts: Mapping[str, int], start: int, size: int) -> Object:
    hyphened = {
        re.sub(r"([a-z])([A-Z])", r"\1-\2", name).lower(): _text(name, value) for name, value in amounts.items()
    }
    slices = {f"memory-slice-{place}": "1" for place in range(start, start + size)}
    return {name: {"value": value} for name, value in (hyphened | slices).items()}


def _consumption(gpu: Gpu, amounts: Mapping[str, int], start: int, size: int) -> Object:
    return {"counterSet": _set_name(gpu), "counters": _counters(amounts, start, size)}


def _set_name(gpu: Gpu) -> str:
    return f"gpu-{gpu.minor}-counter-set"


def _parts(items: Sequence[Object], most: int) -> list[Sequence[Object]]:
    return [items[start : start + most] for start in range(0, len(items), most)]

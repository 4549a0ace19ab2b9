"""A node's GPUs, and the annotation in which it declares them.

    atoll.dev/gpus: '[{"type": "h100-sxm5-80gb", "count": 8}]'
    atoll.dev/gpus: '[{"type": "a100-sxm4-40gb", "machine": "rack7", "indices": [1, 2, 3]}]'
    atoll.dev/gpus: '[{"product": "NVIDIA H200", "uuid": "GPU-…", "memory_mib": 143771, "compute": "9.0", "minor": 0}]'

The first two are simulated: UUIDs follow from the machine's name (without `machine`: the node's) and the index on it,
so that they outlive every process. The third is a real GPU that a process node found by NVML. On the node GPUs are
counted from 0 in the order of the annotation, whatever their index on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from atoll.base.errors import UserError
from atoll.base.names import LABEL_PREFIX
from atoll.cluster.gpus.types import GpuType, MigProfile, gpu_type, gpu_types

Object = dict[str, Any]
ANNOTATION = f"{LABEL_PREFIX}gpus"
NVLINK_DOMAIN = f"{LABEL_PREFIX}nvlink-domain"
"""Annotation: the name of the NVLink fabric that a node's GPUs share with those of other nodes."""
MOST_GPUS = 64


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node. `minor`: its number on the machine, as in /dev/nvidiaN."""

    index: int
    minor: int
    uuid: str
    type: GpuType
    simulated: bool = True

    @property
    def pci_bus_id(self) -> str:
        """domain:bus:device.function, of simulated ones by their place on the machine."""
        return f"0000:{0x10 + 3 * self.minor:02x}:00.0"


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A partition that exists on a GPU."""

    gpu: Gpu
    profile: MigProfile
    start: int

    @property
    def uuid(self) -> str:
        return "MIG-" + _uuid(f"{self.gpu.uuid}/{self.profile.id}/{self.start}")

    def overlaps(self, other: MigDevice) -> bool:
        return self.start < other.start + other.profile.size and other.start < self.start + self.profile.size


def gpus_of(node: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """The GPUs that a Node declares; UserError says what is wrong with its annotation."""
    metadata = node.get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(ANNOTATION)
    return parse_gpus(text, metadata["name"]) if text else ()


@lru_cache(maxsize=16_384)
def parse_gpus(text: str, node: str) -> tuple[Gpu, ...]:
    """The annotation's value → GPUs. Raises UserError."""
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise UserError(f"{ANNOTATION} of node {node} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise UserError(f"{ANNOTATION} of node {node} must be a list", hint='[{"type": "h100", "count": 8}]')
    found: list[Gpu] = []
    for entry in entries:
        found += _entry(entry, node, len(found))
    if len({gpu.uuid for gpu in found}) != len(found):
        raise UserError(f"{ANNOTATION} of node {node} names one GPU twice")
    if len(found) > MOST_GPUS:
        raise UserError(f"{ANNOTATION} of node {node}: {len(found)} GPUs, at most {MOST_GPUS}")
    return tuple(found)


def declare(kind: GpuType, *, count: int = 0, machine: str = "", indices: Sequence[int] = ()) -> Object:
    """An entry of the annotation for simulated GPUs: `count` of them, or those of a machine by index."""
    if machine:
        return {"type": kind.name, "machine": machine, "indices": list(indices)}
    return {"type": kind.name, "count": count}


def declare_real(gpu: Gpu) -> Object:
    kind = gpu.type
    return {
        "product": kind.product,
        "uuid": gpu.uuid,
        "memory_mib": kind.memory_mib,
        "compute": f"{kind.compute[0]}.{kind.compute[1]}",
        "minor": gpu.minor,
    }


def annotation(entries: Iterable[Object]) -> str:
    return json.dumps(list(entries))


def parse_machine(text: str) -> list[Object]:
    """`h100:8`, or `h100:4,l4:2`: entries of the annotation for a node that has these. Raises UserError."""
    entries = []
    for part in text.split(","):
        name, _, count = part.strip().partition(":")
        if not count.isdigit() or not 0 < int(count) <= MOST_GPUS:
            raise UserError(f"{part!r} is not TYPE:COUNT with a count from 1 to {MOST_GPUS}", hint="for example h100:8")
        entries.append(declare(gpu_type(name), count=int(count)))
    return entries


def simulated_uuid(machine: str, index: int) -> str:
    return "GPU-" + _uuid(f"{machine}/{index}")


def clique(gpus: Iterable[Gpu], domain: str) -> str:
    """What feature discovery calls a fabric (its UUID and the clique in it); "" for GPUs that have none."""
    return f"{_uuid(f'nvlink/{domain}')}.0" if domain and all(gpu.type.nvlink_domain for gpu in gpus) else ""


def _uuid(seed: str) -> str:
    text = hashlib.sha256(f"atoll-gpu/{seed}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def _entry(entry: Any, node: str, first: int) -> list[Gpu]:
    where = f"{ANNOTATION} of node {node}"
    if not isinstance(entry, dict) or not ("type" in entry or "uuid" in entry):
        raise UserError(f"{where}: an entry is an object with `type`", hint='{"type": "h100", "count": 8}')
    if "uuid" in entry:
        return [_real(entry, first, where)]
    unknown = sorted(set(entry) - {"type", "count", "machine", "indices"})
    if unknown:
        raise UserError(f"{where}: unknown field {unknown[0]!r}", hint="known: type, count, machine, indices")
    kind, machine = gpu_type(str(entry["type"])), str(entry.get("machine") or node)
    indices = entry.get("indices")
    if indices is None:
        count = entry.get("count", 1)
        indices = list(range(first, first + count)) if _is_count(count) else None
    if not isinstance(indices, list) or not all(_is_count(item) for item in indices):
        raise UserError(f"{where}: count and indices are whole numbers from 0")
    return [Gpu(first + place, index, simulated_uuid(machine, index), kind) for place, index in enumerate(indices)]


def _real(entry: Object, index: int, where: str) -> Gpu:
    try:
        product, major_minor = str(entry["product"]), str(entry["compute"]).split(".")
        compute = (int(major_minor[0]), int(major_minor[1]))
        memory, minor = int(entry["memory_mib"]), int(entry["minor"])
    except (KeyError, ValueError, IndexError):
        raise UserError(f"{where}: a real GPU has product, uuid, memory_mib, compute and minor") from None
    kind = real_type(product, memory, compute)
    return Gpu(index, minor, str(entry["uuid"]), kind, simulated=False)


def real_type(product: str, memory_mib: int, compute: tuple[int, int]) -> GpuType:
    """The declared type of that product; for one that isn't declared, what NVML said and no more."""
    known = next((kind for kind in gpu_types().values() if kind.product == product), None)
    if known is not None:
        return known
    family, architecture = _ARCHITECTURES.get(compute) or _ARCHITECTURES.get((compute[0], -1)) or ("undefined",) * 2
    return GpuType(product.lower().replace(" ", "-"), product, memory_mib, compute, family, architecture)


# developer.nvidia.com/cuda-gpus
_ARCHITECTURES = {
    (6, -1): ("pascal", "Pascal"),
    (7, 0): ("volta", "Volta"),
    (7, 5): ("turing", "Turing"),
    (8, -1): ("ampere", "Ampere"),
    (8, 9): ("ada-lovelace", "Ada Lovelace"),
    (9, -1): ("hopper", "Hopper"),
    (10, -1): ("blackwell", "Blackwell"),
    (12, -1): ("blackwell", "Blackwell"),
}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000

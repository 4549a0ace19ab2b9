"""MIG: how GPUs are partitioned. Pure: a wanted configuration → which instance lies where, or why that can't be.

Configurations are mig-parted's (github.com/NVIDIA/mig-parted): a list of entries, of which the first that fits a GPU
(`device-filter`, `devices`) says what becomes of it. Beside those of a user's ConfigMap the names that the GPU operator
ships are known for any type: all-disabled, all-enabled, all-balanced, all-PROFILE.

Instances are laid where the hardware can have them (a profile's starts, in memory slices); the larger first. A GPU has
at most one instance with media extensions and no more compute slices than it has. The layout in force is kept in an
annotation, for a GPU keeps its instances when its node's agents are started again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atoll.base.errors import UserError
from atoll.base.names import LABEL_PREFIX
from atoll.cluster.gpus.model import Gpu, MigDevice
from atoll.cluster.gpus.types import GpuType, MigProfile

Object = dict[str, Any]
Layout = Mapping[int, tuple[MigDevice, ...]]
"""GPU index → its instances; a GPU that is not in it has MIG switched off."""

ANNOTATION = f"{LABEL_PREFIX}mig"
CONFIG_LABEL = "nvidia.com/mig.config"
STATE_LABEL = "nvidia.com/mig.config.state"


def read_layout(node: Mapping[str, Any], gpus: Sequence[Gpu]) -> Layout:
    """The layout that a Node's annotation keeps; what does not fit its GPUs (any more) is not in it."""
    text = ((node.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    if not text:
        return {}
    try:
        kept = json.loads(text)
        found = {}
        for gpu in gpus:
            if str(gpu.index) in kept:
                rows = [(gpu.type.profile(name), start) for name, start in kept[str(gpu.index)]]
                found[gpu.index] = tuple(MigDevice(gpu, profile, start) for profile, start in rows if profile)
        return found
    except (TypeError, ValueError):
        raise UserError(f"{ANNOTATION} of node {node['metadata']['name']} is damaged", hint="remove it") from None


def format_layout(layout: Layout) -> str:
    return json.dumps(
        {str(index): [[item.profile.name, item.start] for item in found] for index, found in layout.items()}
    )


def plan_layout(gpus: Sequence[Gpu], name: str, configs: Mapping[str, Any]) -> Layout:
    """What configuration `name` makes of a node's GPUs. `configs`: mig-parted's `mig-configs`. Raises UserError."""
    entries = configs.get(name)
    layout: dict[int, tuple[MigDevice, ...]] = {}
    for gpu in gpus:
        wanted = _built_in(gpu.type, name) if entries is None else _configured(gpu, name, entries)
        if wanted is not None:
            layout[gpu.index] = place(gpu, wanted)
    return layout


def place(gpu: Gpu, wanted: Mapping[str, int]) -> tuple[MigDevice, ...]:
    """Instances at places where they fit beside each other, in the order of their places. Raises UserError."""
    profiles: list[MigProfile] = []
    for name, count in wanted.items():
        profile = gpu.type.profile(name)
        if profile is None:
            raise UserError(f"{gpu.type.product} has no MIG profile {name!r}", hint=_profiles(gpu.type))
        profiles += [profile] * count
    if (
        sum(profile.compute_slices for profile in profiles) > gpu.type.compute_slices
        or sum(profile.has_media_extensions for profile in profiles) > 1
    ):
        raise UserError(_too_much(gpu.type, wanted))
    profiles.sort(key=lambda item: (-item.size, -item.compute_slices, -item.has_media_extensions))
    found = _laid(gpu, profiles, ())
    if found is None:
        raise UserError(_too_much(gpu.type, wanted))
    return tuple(sorted(found, key=lambda item: item.start))


def most_of(kind: GpuType, profile: MigProfile) -> int:
    """How many instances of one profile a GPU can have."""
    if profile.has_media_extensions:
        return 1
    return min(len(profile.starts), kind.compute_slices // profile.compute_slices)


def changed(before: Layout, after: Layout, gpus: Iterable[Gpu]) -> list[Gpu]:
    """The GPUs whose partitions are not the same."""
    return [gpu for gpu in gpus if before.get(gpu.index) != after.get(gpu.index)]


def _laid(gpu: Gpu, rest: Sequence[MigProfile], laid: tuple[MigDevice, ...]) -> tuple[MigDevice, ...] | None:
    if not rest:
        return laid
    # the larger ones last on the GPU: the small ones' starts do not reach to its end
    for start in reversed(rest[0].starts) if rest[0].size > 1 else rest[0].starts:
        device = MigDevice(gpu, rest[0], start)
        if not any(device.overlaps(other) for other in laid):
            found = _laid(gpu, rest[1:], (*laid, device))
            if found is not None:
                return found
    return None


def _built_in(kind: GpuType, name: str) -> Mapping[str, int] | None:
    """None: MIG off. Raises UserError for a name that means nothing for the type."""
    if name == "all-disabled":
        return None
    if not kind.mig:
        raise UserError(f"{kind.product} can't be partitioned", hint="nvidia.com/mig.config=all-disabled")
    if name == "all-enabled":
        return {}
    if name == "all-balanced":
        return _balanced(kind)
    wanted = name.removeprefix("all-").replace(".me", "+me")
    profile = kind.profile(wanted)
    if not name.startswith("all-") or profile is None:
        raise UserError(f"unknown MIG configuration {name!r} for {kind.product}", hint=_profiles(kind))
    return {wanted: most_of(kind, profile)}


def _balanced(kind: GpuType) -> Mapping[str, int]:
    """Two of the smallest, one of two slices and, where a GPU has seven, one of three (mig-parted's all-balanced)."""
    plain = [profile for profile in kind.mig if not profile.has_media_extensions]
    sizes = {profile.compute_slices: profile.name for profile in reversed(plain)}
    chosen = {sizes[1]: 2, sizes[2]: 1}
    return chosen | {sizes[3]: 1} if 3 in sizes else chosen


def _configured(gpu: Gpu, name: str, entries: Any) -> Mapping[str, int] | None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"MIG configuration {name!r} is not a list of entries")
    for entry in entries:
        if not _fits(gpu, entry):
            continue
        if not entry.get("mig-enabled"):
            return None
        if not gpu.type.mig:
            raise UserError(f"MIG configuration {name!r}: {gpu.type.product} can't be partitioned")
        devices = entry.get("mig-devices") or {}
        if not isinstance(devices, dict) or not all(_is_whole(count) for count in devices.values()):
            raise UserError(f"MIG configuration {name!r}: mig-devices says how many of each profile, as {{1g.10gb: 2}}")
        return {str(profile): int(count) for profile, count in devices.items()}
    raise UserError(
        f"MIG configuration {name!r} has no entry for GPU {gpu.index}, {gpu.type.product} (0x{gpu.type.pci_device}10DE)"
    )


def _fits(gpu: Gpu, entry: Any) -> bool:
    wanted = entry.get("device-filter")
    if wanted:
        filters = [wanted] if isinstance(wanted, str) else list(wanted)
        if f"0X{gpu.type.pci_device}10DE" not in {str(item).upper() for item in filters}:
            return False
    devices = entry.get("devices", "all")
    if devices != "all" and not (isinstance(devices, list) and all(_is_whole(item) for item in devices)):
        raise UserError(f"MIG configuration: devices are all, or a list of indices, not {devices!r}")
    return devices == "all" or gpu.index in devices


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _profiles(kind: GpuType) -> str:
    names = ", ".join(profile.name for profile in kind.mig)
    return f"its profiles: {names}; configurations: all-disabled, all-enabled, all-balanced, all-PROFILE"


def _too_much(kind: GpuType, wanted: Mapping[str, int]) -> str:
    text = " + ".join(f"{count} x {name}" for name, count in wanted.items())
    return f"{text} does not fit on one {kind.product}"

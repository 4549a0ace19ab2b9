"""GPU types: what a model of GPU is and can do, from `data/gpu_types.yaml`, where the sources are named.

A type that is not declared there is refused with the nearest names; nothing is guessed from a product's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from atoll.base.errors import UserError


@dataclass(frozen=True, slots=True)
class MigProfile:
    """A size in which a GPU can be partitioned. `starts` and `size` count memory slices."""

    name: str  # 1g.10gb, 1g.10gb+me
    id: int  # the GPU instance profile's, as nvidia-smi lists it
    memory_mib: int
    sms: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int
    size: int
    starts: tuple[int, ...]

    @property
    def compute_slices(self) -> int:
        return int(self.name.partition("g")[0])

    @property
    def resource(self) -> str:
        """What the device plugin calls it with the mixed strategy; `+` can't be in a resource's name."""
        return "nvidia.com/mig-" + self.name.replace("+", ".")

    @property
    def has_media_extensions(self) -> bool:
        return self.name.endswith("+me")


@dataclass(frozen=True, slots=True)
class GpuType:
    """A model of GPU."""

    name: str
    product: str  # as NVML names it
    memory_mib: int
    compute: tuple[int, int]  # CUDA compute capability
    family: str  # GPU feature discovery's word
    architecture: str  # NVML's and the DRA driver's
    sms: int = 0
    sm_clock_mhz: int = 0
    memory_clock_mhz: int = 0
    power_watts: int = 0
    nvlink_links: int = 0
    nvlink_gb_per_second: int = 0
    nvlink_domain: int = 0  # how many GPUs of several nodes one NVLink fabric joins; 0: links end at the node
    mig: tuple[MigProfile, ...] = ()
    aliases: tuple[str, ...] = ()
    pci_device: str = ""  # four hexadecimal digits

    @property
    def memory_slices(self) -> int:
        return max((profile.size for profile in self.mig), default=0)

    @property
    def compute_slices(self) -> int:
        return max((profile.compute_slices for profile in self.mig), default=0)

    def profile(self, name: str) -> MigProfile | None:
        return next((item for item in self.mig if item.name == name), None)


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver that simulated nodes say they have."""

    version: str
    cuda: str


@cache
def _document() -> Any:
    text = resources.files(__package__).joinpath("data/gpu_types.yaml").read_text()
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def driver() -> Driver:
    return Driver(**_document()["driver"])


@cache
def gpu_types() -> Mapping[str, GpuType]:
    """All declared types by name."""
    return {name: _read(name, entry) for name, entry in _document()["types"].items()}


@cache
def _names() -> Mapping[str, GpuType]:
    found: dict[str, GpuType] = {}
    for name, kind in gpu_types().items():
        for text in (name, *kind.aliases, kind.product, kind.product.replace(" ", "-")):
            found[text.lower()] = kind
    return found


def gpu_type(name: str) -> GpuType:
    """A type by its name, an alias or NVML's product name; UserError with the nearest ones for another."""
    kind = _names().get(name.lower())
    if kind is not None:
        return kind
    close = difflib.get_close_matches(name.lower(), _names(), 2)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    raise UserError(f"unknown GPU type {name!r}", hint=f"{guess}`atoll gpu types` lists them")


def _read(name: str, entry: dict[str, Any]) -> GpuType:
    rest = dict(entry)
    major, minor = rest.pop("compute").split(".")
    links, speed = rest.pop("nvlink")
    profiles = tuple(MigProfile(*(*values, tuple(starts))) for *values, starts in rest.pop("mig", ()))
    aliases = tuple(rest.pop("aliases", ()))
    return GpuType(
        name=name,
        compute=(int(major), int(minor)),
        nvlink_links=links,
        nvlink_gb_per_second=speed,
        mig=profiles,
        aliases=aliases,
        **rest,
    )

"""The port to a node's devices: which there are, how they are, what a container needs to see its own and no other.

Implementations: `simulated.SimulatedDevices` and `nvml.NvmlDevices` (the GPUs of this machine). One contract suite,
`atoll.testing.contracts.devices`, is run by each. The port keeps no record over restarts: that is in pods' status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from atoll.base.errors import AtollError
from atoll.cluster.gpus.allotment import VISIBLE_DEVICES
from atoll.cluster.gpus.claims import ClaimedDevices
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.readings import Reading
from atoll.cluster.gpus.survey import Survey
from atoll.objects.gpu_faults import GpuFault


class DeviceInUse(AtollError):
    """Another holder has the device for itself."""


class NoSuchDevice(AtollError):
    """The node has no device of that UUID."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a container is given: variables, and files of the machine that appear at the same paths in it."""

    env: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class DevicePort(Protocol):
    """See the module."""

    def devices(self) -> Sequence[Gpu]:
        """The node's GPUs, counted from 0, always in the same order."""

    def faults(self) -> Sequence[GpuFault]:
        """What is wrong with them now; a fault names its GPU."""

    def allocate(self, holder: str, uuids: Sequence[str], *, shared: bool = False) -> Access:
        """Give devices (or MIG instances) to a holder; the same again changes nothing. `shared`: others may have them
        too, if they share. Raises DeviceInUse, NoSuchDevice: then nothing was given."""

    def release(self, holder: str) -> None:
        """Whatever the holder has is free; nothing happens where it has nothing."""

    def readings(
        self, found: Survey, pods: Iterable[Mapping[str, Any]], wall: float, claimed: ClaimedDevices | None = None
    ) -> Sequence[Reading]:
        """What they measure now."""

    def close(self) -> None:
        """No question is asked afterwards."""


class Holdings:
    """Who has which device: what every implementation of the port keeps."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, bool]] = {}  # uuid → holder → whether it shares

    def take(self, holder: str, uuids: Sequence[str], *, shared: bool) -> None:
        """All or none. Raises DeviceInUse."""
        for uuid in uuids:
            others = {name: shares for name, shares in self._holders.get(uuid, {}).items() if name != holder}
            if others and not (shared and all(others.values())):
                raise DeviceInUse(f"device {uuid} is in use by {sorted(others)[0]}")
        for uuid in uuids:
            self._holders.setdefault(uuid, {})[holder] = shared

    def release(self, holder: str) -> None:
        for holders in self._holders.values():
            holders.pop(holder, None)


def visible(uuids: Sequence[str]) -> dict[str, str]:
    """The variable by which NVIDIA's container runtime and libraries are told of a container's devices."""
    return {VISIBLE_DEVICES: ",".join(dict.fromkeys(uuids))}

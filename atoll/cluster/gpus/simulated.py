"""The device port over simulated GPUs: they and their faults are what the Node says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from atoll.cluster.gpus.claims import ClaimedDevices
from atoll.cluster.gpus.meters import Meter
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.port import Access, Holdings, NoSuchDevice, visible
from atoll.cluster.gpus.readings import Reading, readings
from atoll.cluster.gpus.survey import Survey
from atoll.objects.gpu_faults import GpuFault


class SimulatedDevices:
    """`survey()`: the node's, as it is now. No file of the machine belongs to a simulated device."""

    def __init__(self, survey: Callable[[], Survey]) -> None:
        self._survey = survey
        self._holdings = Holdings()
        self._meter = Meter()

    def devices(self) -> Sequence[Gpu]:
        return self._survey().gpus

    def faults(self) -> Sequence[GpuFault]:
        found = self._survey()
        return [
            GpuFault(fault.kind, fault.value, gpu.index)
            for fault in found.faults
            for gpu in found.gpus
            if fault.concerns(gpu.index)
        ]

    def allocate(self, holder: str, uuids: Sequence[str], *, shared: bool = False) -> Access:
        found = self._survey()
        known = {gpu.uuid for gpu in found.gpus}
        known |= {device.uuid for devices in found.layout.values() for device in devices}
        missing = [uuid for uuid in uuids if uuid not in known]
        if missing:
            raise NoSuchDevice(f"there is no device {missing[0]}")
        self._holdings.take(holder, uuids, shared=shared)
        return Access(visible(uuids))

    def release(self, holder: str) -> None:
        self._holdings.release(holder)

    def readings(
        self, found: Survey, pods: Iterable[Mapping[str, Any]], wall: float, claimed: ClaimedDevices | None = None
    ) -> Sequence[Reading]:
        running = list(pods)
        return self._meter.read(lambda at: readings(found, running, at, claimed), wall)

    def close(self) -> None:
        return None

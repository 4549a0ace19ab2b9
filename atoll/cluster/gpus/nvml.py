"""The device port over this machine's NVIDIA GPUs, by NVML (package nvidia-ml-py, extra `gpu`).

Without the package, a driver or a GPU there is no such port: `open_nvml` says why. A container gets the variable that
NVIDIA's libraries go by and the device files of its own GPUs and no others, so that the driver refuses the rest. MIG is
not set up here: an instance that exists can't be given to a node.

This has been run against a stand-in of NVML's functions; its run on hardware is `tests/contract/test_device_port.py` on
a machine with a GPU, and has not been done yet.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.cluster.gpus.claims import ClaimedDevices
from atoll.cluster.gpus.model import Gpu, real_type
from atoll.cluster.gpus.port import Access, Holdings, NoSuchDevice, visible
from atoll.cluster.gpus.readings import Holder, Reading, Totals, holders_by_device
from atoll.cluster.gpus.survey import Survey
from atoll.objects.gpu_faults import GpuFault

_COMMON_FILES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_LOST = "NVMLError_GpuIsLost"


class NvmlDevices:
    """`uuids`: which of the machine's GPUs are the node's, in their order; None: all. Raises NVML's errors."""

    def __init__(self, nvml: Any, uuids: Sequence[str] | None = None, device_folder: Path = Path("/dev")) -> None:
        self._nvml = nvml
        self._folder = device_folder
        self._holdings = Holdings()
        self._handles: dict[str, Any] = {}
        found = [self._gpu(index) for index in range(nvml.nvmlDeviceGetCount())]
        chosen = {gpu.uuid: gpu for gpu in found}
        missing = [uuid for uuid in uuids or () if uuid not in chosen]
        if missing:
            raise NoSuchDevice(f"this machine has no GPU {missing[0]}")
        own = [chosen[uuid] for uuid in uuids] if uuids is not None else found
        self._gpus = tuple(replace(gpu, index=place) for place, gpu in enumerate(own))
        self._xids: dict[str, int] = {}
        self._events = self._watch()

    def devices(self) -> Sequence[Gpu]:
        return self._gpus

    def faults(self) -> Sequence[GpuFault]:
        self._read_events()
        out: list[GpuFault] = []
        for gpu in self._gpus:
            if self._lost(gpu):
                out.append(GpuFault("lost", 0, gpu.index))
                continue
            if gpu.uuid in self._xids:
                out.append(GpuFault("xid", self._xids[gpu.uuid], gpu.index))
            errors = self._ecc(gpu)
            if errors:
                out.append(GpuFault("ecc", errors, gpu.index))
        return out

    def allocate(self, holder: str, uuids: Sequence[str], *, shared: bool = False) -> Access:
        own = {gpu.uuid: gpu for gpu in self._gpus}
        missing = [uuid for uuid in uuids if uuid not in own]
        if missing:
            raise NoSuchDevice(f"there is no device {missing[0]}")
        self._holdings.take(holder, uuids, shared=shared)
        names = [*(f"nvidia{own[uuid].minor}" for uuid in uuids), *_COMMON_FILES]
        files = [self._folder / name for name in names] if uuids else []
        return Access(visible(uuids), tuple(str(path) for path in files if path.exists()))

    def release(self, holder: str) -> None:
        self._holdings.release(holder)

    def readings(
        self, found: Survey, pods: Iterable[Mapping[str, Any]], wall: float, claimed: ClaimedDevices | None = None
    ) -> Sequence[Reading]:
        holders = holders_by_device(pods, wall, claimed)
        return [self._reading(gpu, holders.get(gpu.uuid, [])) for gpu in self._gpus]

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20
        self._handles[uuid] = handle
        number = nvml.nvmlDeviceGetMinorNumber(handle)
        return Gpu(index, number, uuid, real_type(name, memory, (major, minor)), simulated=False)

    def _watch(self) -> Any:
        """An event set for XIDs, as NVIDIA's device plugin has it; None where the GPUs know none."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            for gpu in self._gpus:
                nvml.nvmlDeviceRegisterEvents(self._handles[gpu.uuid], nvml.nvmlEventTypeXidCriticalError, events)
            return events
        except nvml.NVMLError:
            return None

    def _read_events(self) -> None:
        nvml = self._nvml
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError:
                return  # nothing has happened (NVMLError_Timeout), or nothing can be heard any more
            self._xids[_text(nvml.nvmlDeviceGetUUID(event.device))] = int(event.eventData)

    def _lost(self, gpu: Gpu) -> bool:
        try:
            self._nvml.nvmlDeviceGetMemoryInfo(self._handles[gpu.uuid])
            return False
        except self._nvml.NVMLError as error:
            return type(error).__name__ == _LOST

    def _ecc(self, gpu: Gpu) -> int:
        nvml = self._nvml
        kinds = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
        return int(self._asked(gpu, nvml.nvmlDeviceGetTotalEccErrors, *kinds) or 0)

    def _asked(self, gpu: Gpu, question: Any, *args: Any) -> Any:
        """None for what this GPU can't say."""
        try:
            return question(self._handles[gpu.uuid], *args)
        except self._nvml.NVMLError:
            return None

    def _reading(self, gpu: Gpu, holders: Sequence[Holder]) -> Reading:
        nvml = self._nvml
        memory = self._asked(gpu, nvml.nvmlDeviceGetMemoryInfo)
        rates = self._asked(gpu, nvml.nvmlDeviceGetUtilizationRates)
        energy = self._asked(gpu, nvml.nvmlDeviceGetTotalEnergyConsumption)  # since the driver was loaded, in mJ
        temperature = int(self._asked(gpu, nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU) or 0)
        return Reading(
            gpu=gpu,
            instance=None,
            holders=tuple(holders),
            lost=self._lost(gpu),
            xid=self._xids.get(gpu.uuid, 0),
            utilization=float(rates.gpu) if rates is not None else 0.0,
            memory_total=memory.total >> 20 if memory is not None else 0,
            memory_used=memory.used >> 20 if memory is not None else 0,
            temperature=temperature,
            memory_temperature=temperature,
            power=(self._asked(gpu, nvml.nvmlDeviceGetPowerUsage) or 0) / 1000,
            sm_clock=int(self._asked(gpu, nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM) or 0),
            memory_clock=int(self._asked(gpu, nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM) or 0),
            ecc_uncorrected=self._ecc(gpu),
            nvlink_crc=0,
            memory_utilization=float(rates.memory) if rates is not None else 0.0,
            pcie_replays=int(self._asked(gpu, nvml.nvmlDeviceGetPcieReplayCounter) or 0),
            totals=None if energy is None else Totals(int(energy)),
        )


def load_nvml() -> tuple[Any, str]:
    """(NVML's module, initialised, or None; why there is none)."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, "the package nvidia-ml-py is not installed: pip install 'atoll-fleet[gpu]'"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"NVML does not answer: {error}"
    return nvml, ""


def open_nvml(uuids: Sequence[str] | None = None) -> tuple[NvmlDevices | None, str]:
    """The port over this machine's GPUs, or None and why there is none."""
    nvml, why = load_nvml()
    if nvml is None:
        return None, why
    found = NvmlDevices(nvml, uuids)
    if not found.devices():
        found.close()
        return None, "the driver knows no GPU"
    return found, ""


def _text(value: Any) -> str:
    """Older bindings answer with bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)

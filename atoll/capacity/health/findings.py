"""What is wrong with a node's GPUs, from a reading of them. Pure.

Limits are DCGM's own where it has them (NVLink: 100 CRC errors; memory: any uncorrected error). A reading that lacks a
value says nothing about it. A GPU that the machine has and the reading does not show has fallen off the bus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from atoll.capacity.health.model import Finding, GpuReading, NodeReading, Object
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.health.xid import CATALOGUE
from atoll.capacity.nodes import counted_gpus, gpu_count, is_simulated


def gpu_findings(node: Object, reading: NodeReading, settings: HealthSettings) -> list[Finding]:
    """Also those that call for nothing (remedy none), which are only told."""
    found = list(_once(reading.gpus, settings))
    missing = _missing(node, reading)
    if missing:
        which = ", ".join(map(str, missing))
        found.append(Finding("gpu", "GPULost", f"not visible: GPU {which}; fallen off the bus", "reboot", urgent=True))
    return found


def _once(gpus: Sequence[GpuReading], settings: HealthSettings) -> Iterator[Finding]:
    """What all MIG instances of a GPU say alike is the GPU's; else it is told of which."""
    instances = Counter(gpu.index for gpu in gpus)
    told: dict[tuple[int, str, str], list[GpuReading]] = {}
    for gpu in gpus:
        for item in _of_gpu(gpu, settings):
            told.setdefault((gpu.index, item.code, item.remedy), []).append(gpu)
    for (index, code, remedy), having in told.items():
        (found,) = (it for it in _of_gpu(having[0], settings) if (it.code, it.remedy) == (code, remedy))
        which = ", ".join(gpu.instance for gpu in having)
        if having[0].instance and len(having) < instances[index]:
            yield replace(found, message=found.message.replace(f"GPU {index}", f"GPU {index} instance {which}", 1))
        else:
            yield found


def _missing(node: Object, reading: NodeReading) -> list[int]:
    """Indices; none where the number of GPUs is not known for sure."""
    count = gpu_count(node) if is_simulated(node) else counted_gpus(node)
    if not reading.gpus and not is_simulated(node):
        return []  # an exporter that shows no GPU at all is rather itself at fault
    seen = {gpu.index for gpu in reading.gpus}
    return [index for index in range(count) if index not in seen] if len(seen) < count else []


def _of_gpu(gpu: GpuReading, settings: HealthSettings) -> list[Finding]:
    name = f"GPU {gpu.index}"
    found = [_of_xid(gpu, settings)] if gpu.xid else []
    if gpu.remap_failed:
        found.append(Finding("gpu", "RowRemapFailure", f"{name}: a memory row can't be remapped", "replace"))
    elif gpu.uncorrected >= settings.uncorrected_errors:
        text = f"{name}: {gpu.uncorrected} uncorrected memory errors"
        found.append(Finding("gpu", "UncorrectedECC", text, "reset"))
    elif gpu.remap_pending:
        found.append(Finding("gpu", "RowRemapPending", f"{name}: a memory row waits for a reset", "reset"))
    if gpu.celsius is not None and gpu.celsius >= settings.thermal_celsius:
        found.append(Finding("gpu", "Overheated", f"{name}: {gpu.celsius:g} °C", "wait"))
    if gpu.nvlink_errors >= settings.nvlink_errors:
        found.append(Finding("gpu", "NVLinkErrors", f"{name}: {gpu.nvlink_errors} NVLink CRC errors", "reset"))
    return found


def _of_xid(gpu: GpuReading, settings: HealthSettings) -> Finding:
    row = CATALOGUE.get(gpu.xid)
    told = row.meaning if row is not None else "an error that NVIDIA's catalogue gives no action for"
    remedy = settings.remedies.get(gpu.xid, row.remedy if row is not None else "none")
    urgent = row is not None and row.severity == "fatal"
    return Finding("gpu", f"XID{gpu.xid}", f"GPU {gpu.index}: {told} (XID {gpu.xid})", remedy, urgent)

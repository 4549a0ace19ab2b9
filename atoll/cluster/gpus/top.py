"""`atoll gpu top`: what exporters say, by node and by device. Pure: Prometheus' text → rows.

It reads what NVIDIA's exporter writes too: names and labels are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_COUNTED = {
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": "ecc",
    "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL": "nvlink",
}


@dataclass(slots=True)
class DeviceRow:
    """A GPU or MIG instance. Memory in MiB; None: the exporter has no value."""

    gpu: int
    uuid: str
    model: str
    profile: str = ""
    pods: list[str] = field(default_factory=list)
    utilization: float | None = None
    memory_used: float | None = None
    memory_free: float | None = None
    temperature: float | None = None
    power: float | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def memory_total(self) -> float | None:
        if self.memory_used is None or self.memory_free is None:
            return None
        return self.memory_used + self.memory_free


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's devices together: utilisation by size (of memory), sums of memory and power, the hottest."""

    node: str
    model: str
    gpus: int
    used: int
    utilization: float | None
    memory_used: float | None
    memory_total: float | None
    temperature: float | None
    power: float | None
    faults: tuple[str, ...]
    note: str = ""


def parse_exposition(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Samples of Prometheus' text format; lines that are none are passed over."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line) if line and line[0] != "#" else None
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        labels = {key: re.sub(r"\\(.)", r"\1", text) for key, text in _LABEL.findall(match["labels"] or "")}
        found.append((match["name"], labels, value))
    return found


def device_rows(text: str) -> list[DeviceRow]:
    """By GPU and instance, from what a node's exporter says."""
    rows: dict[tuple[str, str], DeviceRow] = {}
    for name, labels, value in parse_exposition(text):
        if not name.startswith("DCGM_FI_") or "gpu" not in labels:
            continue
        key = (labels.get("UUID", labels["gpu"]), labels.get("GPU_I_ID", ""))
        row = rows.get(key)
        if row is None:
            profile, model = labels.get("GPU_I_PROFILE", ""), labels.get("modelName", "")
            row = rows[key] = DeviceRow(int(labels["gpu"]), labels.get("UUID", ""), model, profile)
        pod = f"{labels['namespace']}/{labels['pod']}" if labels.get("pod") else ""
        if pod and pod not in row.pods:
            row.pods.append(pod)
        _take(row, name, value)
    for row in rows.values():
        if row.temperature is None:
            row.faults.append("lost")  # nothing but its last XID is left of a GPU that fell off the bus
    return sorted(rows.values(), key=lambda row: row.gpu)


def node_row(node: str, rows: Iterable[DeviceRow], note: str = "") -> NodeRow:
    """A node's devices, put together."""
    rows = list(rows)
    by_gpu: Mapping[int, list[DeviceRow]] = {row.gpu: [it for it in rows if it.gpu == row.gpu] for row in rows}
    temperatures = [row.temperature for row in rows if row.temperature is not None]
    faults = [f"gpu {gpu}: {', '.join(dict.fromkeys(it for row in own for it in row.faults))}"
              for gpu, own in by_gpu.items() if any(row.faults for row in own)]  # fmt: skip
    return NodeRow(
        node=node,
        model=", ".join(dict.fromkeys(row.model for row in rows)),
        gpus=len(by_gpu),
        used=sum(any(row.pods for row in own) for own in by_gpu.values()),
        utilization=_mean([(row.utilization, row.memory_total or 1.0) for row in rows]),
        memory_used=_sum([row.memory_used for row in rows]),
        memory_total=_sum([row.memory_total for row in rows]),
        temperature=max(temperatures, default=None),
        power=_sum([own[0].power for own in by_gpu.values()]),
        faults=tuple(faults),
        note=note,
    )


def _take(row: DeviceRow, name: str, value: float) -> None:
    if name == "DCGM_FI_DEV_XID_ERRORS":
        text = f"xid {value:.0f}"
        if value and text not in row.faults:
            row.faults.append(text)
    elif name == "DCGM_FI_PROF_GR_ENGINE_ACTIVE":
        row.utilization = 100 * value
    elif name == "DCGM_FI_DEV_GPU_UTIL":
        row.utilization = row.utilization if row.utilization is not None else value
    elif name == "DCGM_FI_DEV_FB_USED":
        row.memory_used = value
    elif name == "DCGM_FI_DEV_FB_FREE":
        row.memory_free = value
    elif name == "DCGM_FI_DEV_GPU_TEMP":
        row.temperature = value
    elif name == "DCGM_FI_DEV_POWER_USAGE":
        row.power = value
    elif name in _COUNTED and value:
        text = f"{_COUNTED[name]} {value:.0f}"
        if text not in row.faults:
            row.faults.append(text)


def _mean(values: list[tuple[float | None, float]]) -> float | None:
    """Of (value, weight)."""
    found = [(value, weight) for value, weight in values if value is not None]
    return sum(value * weight for value, weight in found) / sum(weight for _, weight in found) if found else None


def _sum(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None

"""Readings in the DCGM exporter's words: names, labels and help as NVIDIA/dcgm-exporter prints them. Pure.

The metrics are all of its default-counters.csv, the ECC and NVLink errors that are commented out there, and the
profiling ones of its dcp-metrics-included.csv. A device that a container has carries container, namespace and pod; one
that is shared has a series for each, told apart by `vgpu` (the exporter's --kubernetes-virtual-gpus). With MIG a series
is an instance's (GPU_I_PROFILE, GPU_I_ID), and the utilisation of the whole GPU is not given, as on hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from atoll.cluster.gpus.readings import Activity, Holder, Reading, Totals
from atoll.cluster.gpus.types import driver

PORT = "9400"  # the exporter's own
KUBELET_PATH = "/metrics/dcgm"  # beside /metrics/resource, for nodes whose only port is the kubelet's

Value = Callable[[Reading], float | int | None]


def _whole(value: Value) -> Value:
    return lambda reading: value(reading) if reading.instance is None else None


def _linked(value: Value) -> Value:
    return lambda reading: value(reading) if reading.gpu.type.nvlink_links else None


def _total(value: Callable[[Totals], int | None]) -> Value:
    return lambda reading: None if reading.totals is None else value(reading.totals)


def _profiled(value: Callable[[Activity], float]) -> Value:
    """On hardware NVML knows none of these, and DCGM itself is not asked."""
    return lambda reading: None if reading.activity is None else round(value(reading.activity), 6)


# (name, type, help, value; None: not on this device)
METRICS: tuple[tuple[str, str, str, Value], ...] = (
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda it: it.sm_clock),
    ("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda it: it.memory_clock),
    ("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda it: it.memory_temperature),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda it: it.temperature),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda it: it.power),
    (
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        _total(lambda it: it.energy_millijoules),
    ),
    (
        "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
        "counter",
        "Total number of bytes transmitted through PCIe TX (in KB) via NVML.",
        _total(lambda it: it.pcie_sent_kb),
    ),
    (
        "DCGM_FI_DEV_PCIE_RX_THROUGHPUT",
        "counter",
        "Total number of bytes received through PCIe RX (in KB) via NVML.",
        _total(lambda it: it.pcie_received_kb),
    ),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", lambda it: it.pcie_replays),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", _whole(lambda it: round(it.utilization))),
    (
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "gauge",
        "Memory utilization (in %).",
        _whole(lambda it: round(it.memory_utilization)),
    ),
    ("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", _whole(lambda it: 0)),
    ("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", _whole(lambda it: 0)),
    ("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", lambda it: it.xid),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", lambda it: it.memory_total - it.memory_used),
    ("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda it: it.memory_used),
    (
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "counter",
        "Total number of single-bit volatile ECC errors.",
        lambda it: 0,
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "counter",
        "Total number of double-bit volatile ECC errors.",
        lambda it: it.ecc_uncorrected,
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        "counter",
        "Total number of double-bit persistent ECC errors.",
        lambda it: it.ecc_uncorrected,
    ),
    (
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "counter",
        "Number of remapped rows for uncorrectable errors",
        lambda it: it.ecc_uncorrected,
    ),
    (
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "counter",
        "Number of remapped rows for correctable errors",
        lambda it: 0,
    ),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed", lambda it: 0),
    (
        "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
        "counter",
        "Total number of NVLink flow-control CRC errors.",
        _linked(lambda it: it.nvlink_crc),
    ),
    (
        "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
        "counter",
        "Total number of NVLink data CRC errors.",
        _linked(lambda it: it.nvlink_crc),
    ),
    (
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "counter",
        "Total number of NVLink bandwidth counters for all lanes",
        _linked(_total(lambda it: it.nvlink_mb)),
    ),
    ("DCGM_FI_DEV_VGPU_LICENSE_STATUS", "gauge", "vGPU License status", lambda it: 0),
    (
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Ratio of time the graphics engine is active.",
        lambda it: None if it.activity is None else round(it.utilization / 100, 6),
    ),
    (
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "gauge",
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        _profiled(lambda it: it.tensor),
    ),
    (
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        _profiled(lambda it: it.memory),
    ),
    (
        "DCGM_FI_PROF_PCIE_TX_BYTES",
        "gauge",
        "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes"
        " per second.",
        _profiled(lambda it: round(it.pcie_sent)),
    ),
    (
        "DCGM_FI_PROF_PCIE_RX_BYTES",
        "gauge",
        "The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per"
        " second.",
        _profiled(lambda it: round(it.pcie_received)),
    ),
)
_OF_LOST = "DCGM_FI_DEV_XID_ERRORS"


def exposition(node: str, measured: Iterable[Reading]) -> str:
    """What the exporter on a node answers to GET /metrics: Prometheus' text format."""
    series = [(reading, labels) for reading in measured for labels in _labels(node, reading)]
    lines: list[str] = []
    for name, kind, text, value in METRICS:
        samples = []
        for reading, labels in series:
            number = value(reading) if not reading.lost or name == _OF_LOST else None
            if number is not None:
                samples.append(f"{name}{{{labels}}} {number}")
        if samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
    return "\n".join(lines) + "\n" if lines else ""


def _labels(node: str, reading: Reading) -> list[str]:
    """One set a holder; one without a holder for a device that nobody has."""
    gpu, instance = reading.gpu, reading.instance
    own = {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": f"0000{gpu.pci_bus_id.upper()}",
        "device": f"nvidia{gpu.minor}",
        "modelName": gpu.type.product,
    }
    if instance is not None:
        own |= {"GPU_I_PROFILE": instance.profile.name, "GPU_I_ID": str(instance.start + 1)}
    own |= {"Hostname": node, "DCGM_FI_DRIVER_VERSION": driver().version}
    return [_text(own | _holder(item)) for item in reading.holders] or [_text(own)]


def _holder(holder: Holder) -> dict[str, str]:
    labels = {"container": holder.container, "namespace": holder.namespace, "pod": holder.pod}
    return labels | ({"vgpu": holder.replica} if holder.replica else {})


def _text(labels: Mapping[str, str]) -> str:
    """Values as they are: none of them can hold a quote, a backslash or a line's end (names of Kubernetes, UUIDs)."""
    return ",".join(f'{name}="{value}"' for name, value in labels.items())

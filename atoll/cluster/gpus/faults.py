"""What faults mean for a node's agents: which GPUs the device plugin takes out, and what the DRA driver taints. Pure.

As NVIDIA's device plugin judges (internal/rm/health.go): an XID takes the GPU out unless it is one of the application
errors that it ignores; so does an uncorrected ECC error (XID 48) and a GPU that fell off the bus (XID 79). Heat and
NVLink errors are only measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from atoll.cluster.gpus.model import Gpu
from atoll.objects.gpu_faults import GpuFault

APPLICATION_XIDS = frozenset((13, 31, 43, 45, 68, 109))
ECC_XID = 48  # double bit ECC error
LOST_XID = 79  # GPU has fallen off the bus


def out_of_service(gpus: Sequence[Gpu], faults: Iterable[GpuFault]) -> Mapping[int, str]:
    """GPU index → why the device plugin does not give it out."""
    reasons: dict[int, str] = {}
    for fault in faults:
        why = _why(fault)
        if why:
            for gpu in gpus:
                if fault.concerns(gpu.index):
                    reasons.setdefault(gpu.index, why)
    return reasons


def last_xid(faults: Iterable[GpuFault], gpu: int) -> int:
    """The XID that DCGM shows for a GPU; 0 for none."""
    xids = {"ecc": ECC_XID, "lost": LOST_XID}
    found = [fault.value if fault.kind == "xid" else xids.get(fault.kind, 0) for fault in faults if fault.concerns(gpu)]
    return next((xid for xid in reversed(found) if xid), 0)


def without(faults: Iterable[GpuFault], gpu: int | None, count: int) -> list[GpuFault]:
    """What is left once one of a node's `count` GPUs is mended, or (None) all: a fault of all stays with the others."""
    left: list[GpuFault] = []
    for fault in faults if gpu is not None else ():
        if fault.gpu is None:
            left += [GpuFault(fault.kind, fault.value, other) for other in range(count) if other != gpu]
        elif fault.gpu != gpu:
            left.append(fault)
    return left


def taints(faults: Iterable[GpuFault], gpu: int) -> list[dict[str, str]]:
    """Device taints as NVIDIA's DRA driver sets them (its health guide): an application's XID has no effect."""
    faults = [fault for fault in faults if fault.concerns(gpu)]
    if any(fault.kind == "lost" for fault in faults):
        return [{"key": "gpu.nvidia.com/gpu-lost", "effect": "NoSchedule"}]
    xid = last_xid(faults, gpu)
    if not xid:
        return []
    effect = "None" if xid in APPLICATION_XIDS else "NoSchedule"
    return [{"key": "gpu.nvidia.com/xid", "value": str(xid), "effect": effect}]


def _why(fault: GpuFault) -> str:
    if fault.kind == "xid" and fault.value not in APPLICATION_XIDS:
        return f"XID {fault.value}"
    if fault.kind == "ecc":
        return f"XID {ECC_XID}: {fault.value} uncorrected ECC errors"
    return f"XID {LOST_XID}: fallen off the bus" if fault.kind == "lost" else ""

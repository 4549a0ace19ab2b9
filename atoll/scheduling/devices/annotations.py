"""How GPUs are asked for and given in parts: the words of Alibaba's open-simulator (its GPU share plugin).

A pod's annotations name the milli of each GPU (`gpu-milli`), its memory of each (`gpu-mem`, a quantity), how many GPUs
(`gpu-count`, else one) and, joined by `|`, which models will do (`gpu-card-model`, else any). Without milli a pod that
names memory shares the device's time with others (one thousandth), another takes it whole. The scheduler says in
`gpu-index` which devices the pod has, joined by `-`. A node has `gpu-count` and the memory of all its GPUs, `gpu-mem`,
in its allocatable and its model as label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atoll.base import quantity
from atoll.scheduling.devices.model import MOST_DEVICES, WHOLE, Share

MILLI = "alibabacloud.com/gpu-milli"
MEMORY = "alibabacloud.com/gpu-mem"
COUNT = "alibabacloud.com/gpu-count"
MODEL = "alibabacloud.com/gpu-card-model"
INDEX = "alibabacloud.com/gpu-index"
_LEAST_MEMORY = 1 << 20
_TIME_SHARED = 1


def share_of(annotations: Mapping[str, str] | None) -> Share | None:
    """What a pod asks for; None where it asks for no GPU in this way."""
    if not annotations or not (MILLI in annotations or COUNT in annotations or MEMORY in annotations):
        return None
    memory = 0
    if MEMORY in annotations:
        memory = _bytes(annotations[MEMORY])
        if memory < _LEAST_MEMORY:
            value = annotations[MEMORY][:20]
            return Share(1, WHOLE, wrong=f"annotation {MEMORY}: {value!r} is no quantity of 1Mi or more, as 4Gi")
    milli, count = annotations.get(MILLI, str(_TIME_SHARED if memory else WHOLE)), annotations.get(COUNT, "1")
    for key, value, most in ((MILLI, milli, WHOLE), (COUNT, count, MOST_DEVICES)):
        if not _is_number(value, most):
            return Share(1, WHOLE, wrong=f"annotation {key}: {value[:20]!r} is not a whole number from 0 to {most}")
    if int(milli) == 0 or int(count) == 0:
        return None
    models = frozenset(part.strip() for part in annotations.get(MODEL, "").split("|")) - {""}
    return Share(int(count), int(milli), models, memory=memory)


def devices_of(annotations: Mapping[str, str] | None) -> tuple[int, ...]:
    """Which devices a pod was given; none where that can't be read."""
    parts = ((annotations or {}).get(INDEX) or "").split("-")
    return tuple(int(part) for part in parts) if all(_is_number(part, MOST_DEVICES - 1) for part in parts) else ()


def index_of(devices: Sequence[int]) -> str:
    """The annotation's value."""
    return "-".join(str(device) for device in devices)


def _bytes(value: str) -> int:
    try:
        return quantity.units(value)
    except ValueError:
        return 0


def _is_number(value: str, most: int) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 9 and int(value) <= most

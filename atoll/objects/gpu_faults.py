"""What is declared to be wrong with a simulated node's GPUs: one annotation that everybody reads.

`atoll gpu fault`, a scenario's faults and tests write it; the simulated devices, their DCGM metrics and, in virtual
time, the health controller's readings are functions of it. The annotation is the state: it outlives every process.

    atoll.dev/gpu-faults: '[{"gpu": 3, "kind": "xid", "value": 79}]'

`kind` is `xid` (value: NVIDIA's XID number), `ecc` (value: uncorrected memory errors), `thermal` (value: degrees
Celsius), `nvlink` (value: CRC errors) or `lost` (fallen off the bus; no value). `gpu` is an index; without it, every
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["xid", "ecc", "thermal", "nvlink", "lost"]

ANNOTATION = "atoll.dev/gpu-faults"
_KINDS = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class GpuFault:
    """One thing that is wrong with one GPU, or (`gpu` is None) with all of a node's."""

    kind: Kind
    value: int = 0
    gpu: int | None = None

    def concerns(self, gpu: int) -> bool:
        return self.gpu is None or self.gpu == gpu


def read_faults(node: Mapping[str, Any]) -> tuple[GpuFault, ...]:
    """The faults that a Node declares; ValueError says what is wrong with its annotation."""
    text = ((node.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    return parse_faults(text) if text else ()


def parse_faults(text: str) -> tuple[GpuFault, ...]:
    """The annotation's value → faults; ValueError says what is wrong with it."""
    try:
        items = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{ANNOTATION} is not JSON: {error}") from None
    if not isinstance(items, list):
        raise ValueError(f"{ANNOTATION} must be a list of faults")
    return tuple(_parse(item) for item in items)


def format_faults(faults: Iterable[GpuFault]) -> str:
    """Faults → the annotation's value."""
    return json.dumps(
        [
            ({} if fault.gpu is None else {"gpu": fault.gpu})
            | {"kind": fault.kind}
            | ({"value": fault.value} if fault.kind != "lost" else {})
            for fault in faults
        ]
    )


def _parse(item: Any) -> GpuFault:
    if not isinstance(item, dict) or item.get("kind") not in _KINDS:
        raise ValueError(f"{ANNOTATION}: a fault is an object whose kind is one of {', '.join(sorted(_KINDS))}")
    unknown = sorted(set(item) - {"gpu", "kind", "value"})
    if unknown:
        raise ValueError(f"{ANNOTATION}: unknown field {unknown[0]!r}")
    gpu, value = item.get("gpu"), item.get("value", 0)
    if gpu is not None and not _is_count(gpu):
        raise ValueError(f"{ANNOTATION}: gpu must be an index from 0")
    if not _is_count(value) or (item["kind"] != "lost" and value == 0):
        raise ValueError(f"{ANNOTATION}: a fault of kind {item['kind']} needs a value above 0")
    return GpuFault(item["kind"], value, gpu)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

"""Values of node health: readings, findings, repairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.nodes import annotation

Object = dict[str, Any]
Remedy = Literal["none", "wait", "reset", "reboot", "replace"]
Phase = Literal["draining", "repairing", "testing", "given-up"]
Area = Literal["gpu", "disk", "network", "kernel", "runtime", "test", "maintenance"]

LADDER: tuple[Remedy, ...] = ("none", "wait", "reset", "reboot", "replace")  # what mends more comes later


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What one visible GPU says of itself, or one MIG instance of it (`instance`: its GPU_I_ID).

    `nvlink_errors`: CRC errors since the reading before.
    """

    index: int
    uuid: str = ""
    instance: str = ""
    xid: int = 0
    celsius: float | None = None
    uncorrected: int = 0
    nvlink_errors: int = 0
    remap_pending: bool = False
    remap_failed: bool = False


@dataclass(frozen=True, slots=True)
class NodeReading:
    """All visible GPUs of a node, and when to read again (None: when the Node changes)."""

    gpus: tuple[GpuReading, ...]
    again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `urgent`: what runs there has lost its device, so no checkpoint is waited for."""

    area: Area
    code: str  # a condition's reason: XID79, ECC, Thermal …
    message: str
    remedy: Remedy
    urgent: bool = False

    @property
    def actionable(self) -> bool:
        return self.remedy != "none"


def worst(findings: list[Finding]) -> Finding | None:
    """The actionable one whose remedy mends most; urgent before others, then by name."""
    found = [item for item in findings if item.actionable]
    if not found:
        return None
    return min(found, key=lambda item: (-LADDER.index(item.remedy), not item.urgent, item.code))


class Repair(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The annotation atoll.dev/repair: all that a controller must know to go on where another stopped.

    `number` grows with each step up the ladder; `since` is when the phase began.
    """

    remedy: Remedy
    phase: Phase
    since: str
    reason: str
    message: str = ""
    urgent: bool = False
    cordoned: bool = False  # by us, so that we undo it
    number: int = 1
    boot_id: str = ""  # of the machine when the remedy began

    @property
    def began(self) -> float:
        return parse_rfc3339(self.since)


class Past(msgspec.Struct, frozen=True):
    """One of the annotation atoll.dev/repairs."""

    remedy: Remedy
    reason: str
    at: str


def repair_of(node: Object) -> Repair | None:
    """None too where the annotation can't be read: then the taint alone says that the node is out."""
    text = annotation(node, names.REPAIR)
    try:
        return msgspec.json.decode(text, type=Repair) if text else None
    except (msgspec.DecodeError, ValueError):
        return None


def past_of(node: Object) -> list[Past]:
    text = annotation(node, names.REPAIRS)
    try:
        return msgspec.json.decode(text, type=list[Past]) if text else []
    except (msgspec.DecodeError, ValueError):
        return []


def text_of(value: Repair | list[Past]) -> str:
    """An annotation's value."""
    return msgspec.json.encode(value).decode()

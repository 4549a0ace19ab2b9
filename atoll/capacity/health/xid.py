"""NVIDIA's XID errors by number: what each means, whose fault it is, and what mends it.

Facts from NVIDIA's Xid catalogue for Ampere and newer (docs.nvidia.com/deploy/xid-errors, "Resolution bucket
(immediate action)"). Its buckets become:

    RESTART_APP                              application  nothing is wrong with the node; the program is restarted
    IGNORE, informational                    notice       nothing is done
    RESET_GPU, the ECC and NVLink workflows  degraded or fatal  the GPU is reset
    RESTART_BM, RESTART_VM                   fatal        the machine is restarted
    CHECK_MECHANICALS                        fatal        the machine is replaced

Numbers that the catalogue calls unused, or gives no action for, are not here: about them nothing is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atoll.capacity.health.model import Remedy

Severity = Literal["notice", "application", "degraded", "fatal"]


@dataclass(frozen=True, slots=True)
class Xid:
    """`severity`: degraded: what runs may go on until its next checkpoint; fatal: it has lost the GPU already."""

    number: int
    meaning: str
    severity: Severity
    remedy: Remedy


def _rows() -> list[Xid]:
    found = [Xid(number, text, "application", "none") for number, text in _APPLICATION.items()]
    found += [Xid(number, text, "notice", "none") for number, text in _NOTICE.items()]
    found += [Xid(number, text, "degraded", "reset") for number, text in _RESET_WHEN_IDLE.items()]
    found += [Xid(number, text, "fatal", "reset") for number, text in _RESET.items()]
    found += [Xid(number, text, "fatal", "reboot") for number, text in _REBOOT.items()]
    found += [Xid(number, text, "fatal", "replace") for number, text in _REPLACE.items()]
    return found


_APPLICATION = {
    8: "the GPU stopped processing a channel",
    11: "invalid or corrupted push buffer",
    13: "graphics engine exception",
    25: "illegal push buffer",
    31: "GPU memory page fault",
    32: "corrupted push buffer in DMA",
    39: "copy engine 0 exception",
    40: "copy engine 1 exception",
    41: "copy engine 2 exception",
    60: "video processor exception",
    68: "video decoder 0 exception",
    69: "graphics engine class error",
    70: "copy engine 3 exception",
    71: "copy engine 4 exception",
    72: "copy engine 5 exception",
    75: "copy engine 6 exception",
    76: "copy engine 7 exception",
    77: "copy engine 8 exception",
    80: "corrupted data sent to the GPU",
    82: "JPEG decoder 0 error",
    83: "video decoder 1 error",
    84: "video decoder 2 error",
    85: "copy engine 9 exception",
    86: "optical flow engine exception",
    88: "video decoder 3 error",
    89: "video decoder 4 error",
    94: "contained memory error: the program that met it ends, others go on",
    96: "video decoder 5 error",
    97: "video decoder 6 error",
    98: "video decoder 7 error",
    **{99 + index: f"JPEG decoder {1 + index} error" for index in range(7)},
    **{126 + index: f"copy engine {10 + index} exception" for index in range(10)},
    139: "optical flow engine 1 error",
}
_NOTICE = {
    37: "driver firmware error",
    38: "driver firmware error",
    43: "the GPU stopped processing a channel, which was reset",
    44: "graphics fault in a context switch",
    45: "a channel was cleaned up after another error, which tells more",
    63: "a memory row was marked for remapping",
    66: "illegal access by the driver",
    67: "illegal access by the driver",
    78: "a virtual GPU did not start: driver and firmware do not match",
    92: "high rate of corrected memory errors",
    93: "the InfoROM's wear limit is near",
    106: "test message of the management bus",
    107: "test message of the management bus",
    121: "corrected error of the chip-to-chip link",
    137: "NVLink privilege error: a program's fault, or of another GPU",
    141: "fast path error",
    152: "accelerator memory management error",
    153: "accelerator time-out",
    154: "the recovery action has changed: another error tells more",
    157: "a failing resource could not be retired",
    160: "a channel was retired",
    161: "a channel could not be retired",
}
_RESET_WHEN_IDLE = {
    48: "uncorrected memory error (double bit)",
    64: "a memory row could not be remapped",
    74: "NVLink error",
    144: "NVLink error (SAW)",
    145: "NVLink error (RLW)",
    146: "NVLink error (TLW)",
    147: "NVLink error (TREX)",
    148: "NVLink error (NVLPW)",
    149: "NVLink error (NETIR)",
    150: "NVLink error (MSE)",
    155: "NVLink error found by software",
    156: "a failing resource was retired, which takes a reset",
}
_RESET = {
    46: "the GPU stopped processing",
    62: "an internal micro-controller halted",
    95: "uncontained memory error: all programs of the GPU end",
    109: "context switch time-out",
    110: "security fault",
    119: "the GPU's system processor does not answer",
    120: "error of the GPU's system processor",
    136: "NVLink training failed",
    140: "unrecovered memory error",
    143: "the GPU could not be initialised",
    158: "fatal time-out of the GPU",
}
_REBOOT = {
    79: "the GPU has fallen off the bus",
    151: "key rotation failed: the virtual machine must restart",
}
_REPLACE = {54: "auxiliary power is not connected"}

CATALOGUE: dict[int, Xid] = {row.number: row for row in _rows()}

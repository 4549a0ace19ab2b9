"""What lines of the kernel's log say of a machine: one table that everybody reads. Pure.

The node that reads its kernel's log picks lines by it, says them as events and conditions, and keeps those that may
call for a remedy in the annotation atoll.dev/kernel-log; node health judges these. Reasons and conditions are
node-problem-detector's where it has them (kubernetes/node-problem-detector config/kernel-monitor.json); the other
patterns are of the kernel's own messages (drivers/nvme, drivers/net/ethernet/mellanox, drivers/edac, fs/ext4, fs/xfs).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Area = Literal["gpu", "disk", "network", "kernel"]
Remedy = Literal["none", "reset", "reboot", "replace"]

ANNOTATION = "atoll.dev/kernel-log"
MOST_LINES = 16
MOST_CHARACTERS = 400  # of one line
_LOOKED_AT = 1000  # characters of a line: the kernel's own are no longer


@dataclass(frozen=True, slots=True)
class Problem:
    """`reason`: an event's, or XID and its number. `condition`: one of the node's that is True from then on.

    `subject`: the GPU's bus address for an XID, else "": the same problem is told once for each.
    """

    reason: str
    area: Area
    remedy: Remedy
    condition: str = ""
    subject: str = ""

    @property
    def is_xid(self) -> bool:
        """Its remedy is in NVIDIA's catalogue, not here."""
        return self.reason.startswith("XID")


# condition → (reason, message) while it is False
CONDITIONS: dict[str, tuple[str, str]] = {
    "KernelDeadlock": ("KernelHasNoDeadlock", "kernel has no deadlock"),
    "ReadonlyFilesystem": ("FilesystemIsNotReadOnly", "Filesystem is not read-only"),
    "XfsShutdown": ("XfsHasNotShutDown", "XFS has not shutdown"),
}

# (pattern, reason, area, remedy, condition); the first that matches counts
TABLE: tuple[tuple[str, str, Area, Remedy, str], ...] = (
    (r"[Kk]illed process \d+ .*total-vm:\d+kB", "OOMKilling", "kernel", "none", ""),
    (
        r"task (dockerd?|containerd|runc|kubelet):\w+ blocked for more than \w+ seconds",
        "RuntimeHung", "kernel", "reboot", "KernelDeadlock",
    ),
    (r"task [\S ]+:\w+ blocked for more than \w+ seconds", "TaskHung", "kernel", "none", ""),
    (r"unregister_netdevice: waiting for \S+ to become free", "UnregisterNetDevice", "network", "reboot", ""),
    (
        r"BUG: unable to handle (kernel NULL pointer|kernel paging request|page fault)|divide error: 0000 \[#\d+\]",
        "KernelOops", "kernel", "reboot", "",
    ),
    (r"soft lockup - CPU#\d+ stuck for", "SoftLockup", "kernel", "reboot", ""),
    (r"rcu: INFO: rcu_\w+ (self-)?detected (expedited )?stalls?", "RcuStall", "kernel", "none", ""),
    (r"Remounting filesystem read-only", "FilesystemIsReadOnly", "disk", "reboot", "ReadonlyFilesystem"),
    (r"XFS .* [Ss]hutting down filesystem", "XfsHasShutdown", "disk", "reboot", "XfsShutdown"),
    (r"EXT4-fs error", "Ext4Error", "disk", "reboot", ""),
    (r"EXT4-fs warning", "Ext4Warning", "disk", "none", ""),
    (r"XFS \(\S+\): (Internal error|Corruption|Metadata corruption)", "XfsError", "disk", "reboot", ""),
    (
        r"Buffer I/O error|blk_update_request: I/O error|I/O error, dev \S+, sector|critical medium error",
        "IOError", "disk", "replace", "",
    ),
    (r"nvme\S* .*(controller is down|Disabling device|Removing after probe failure)", "NVMeDown", "disk", "reboot", ""),
    (
        r"\bUE memory read error|EDAC .*\bUE\b|Hardware Error\]: (.*[Uu]ncorrected|event severity: fatal)",
        "MemoryError", "kernel", "replace", "",
    ),
    (r"\bCE memory read error|EDAC .*\bCE\b", "MemoryReadError", "kernel", "none", ""),
    (r"mlx\d_core \S+.*(device's health compromised|Fatal error)", "NICHealth", "network", "reboot", ""),
    (r"NIC Link is Down|mlx\d_core .*[Ll]ink down", "LinkDown", "network", "none", ""),
)  # fmt: skip
_TABLE = tuple((re.compile(pattern), Problem(*row)) for pattern, *row in TABLE)  # type: ignore[arg-type]
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([^)]*)\): (\d+)\b")


def lines_of(text: str) -> list[str]:
    """The annotation's newest lines: more than are ever kept, fewer than could take long to read."""
    return text[-MOST_LINES * _LOOKED_AT :].splitlines()[-4 * MOST_LINES :]


def problem_of(line: str) -> Problem | None:
    """What a line says; None for one that says nothing of the kind."""
    line = line[:_LOOKED_AT]
    found = _XID.search(line)
    if found:
        return Problem(f"XID{found[2]}", "gpu", "none", subject=found[1])
    return next((problem for pattern, problem in _TABLE if pattern.search(line)), None)


def remember(text: str, lines: Iterable[str]) -> str:
    """The annotation with lines added: of XIDs and of what calls for a remedy, each problem once, the newest
    MOST_LINES. The same text where there is nothing to add, so that a storm of lines is one write."""
    kept = lines_of(text)
    known = {(it.reason, it.subject) for line in kept if (it := problem_of(line)) is not None}
    for line in lines:
        problem = problem_of(line)
        if problem is None or (problem.remedy == "none" and not problem.is_xid):
            continue
        if (problem.reason, problem.subject) not in known:
            known.add((problem.reason, problem.subject))
            kept.append(shortened(line))
    return "\n".join(kept[-MOST_LINES:])


def shortened(line: str) -> str:
    """One line of printable characters, as an annotation and an event can hold."""
    return "".join(char if char.isprintable() else " " for char in line).strip()[:MOST_CHARACTERS]


def conditions_of(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Condition → (reason, message) of those that the lines make True; the first line of each counts."""
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        problem = problem_of(line)
        if problem is not None and problem.condition:
            found.setdefault(problem.condition, (problem.reason, shortened(line)))
    return found

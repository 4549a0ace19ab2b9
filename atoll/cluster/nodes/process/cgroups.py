"""Control groups: what of a pod's and a container's resources the kernel enforces, as kubelet computes it.

Version 1 groups are made below this process's own, so that whatever limits it limits its containers too; version 2
forbids that (a group with processes has no children with controllers), so there they hang below the root. A group
holds the cluster's name: what a killed cluster left is found and removed by it. Source: kubelet's cm package (shares,
quotas) and runc's conversion of shares to weights.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.base import quantity
from atoll.cluster.nodes.process.podresources import pod_totals

Object = dict[str, Any]
_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")
_PERIOD = 100_000
_LEAST_SHARES, _MOST_SHARES, _LEAST_QUOTA = 2, 262_144, 1000
_NO_LIMIT = -1
_PREFIX = "atoll-"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the kernel is told. -1: no limit."""

    shares: int = _LEAST_SHARES
    quota: int = _NO_LIMIT
    memory: int = _NO_LIMIT


def limits(resources: Object) -> Limits:
    """Of a container's (or pod's) resources."""
    asked, most = resources.get("requests") or {}, resources.get("limits") or {}
    most_cpu = quantity.milli(most.get("cpu", "0"))
    cpu = quantity.milli(asked.get("cpu", "0")) or most_cpu
    shares = min(max(cpu * 1024 // 1000, _LEAST_SHARES), _MOST_SHARES)
    quota = max(most_cpu * _PERIOD // 1000, _LEAST_QUOTA) if most_cpu else _NO_LIMIT
    return Limits(shares, quota, quantity.units(most.get("memory", "0")) or _NO_LIMIT)


def both(one: Limits, other: Limits) -> Limits:
    """Wide enough for either: between two sizes of a pod."""

    def most(a: int, b: int) -> int:
        return _NO_LIMIT if _NO_LIMIT in (a, b) else max(a, b)

    return Limits(max(one.shares, other.shares), most(one.quota, other.quota), most(one.memory, other.memory))


def weight(shares: int) -> int:
    """cpu.weight for cpu.shares: 2…262144 to 1…10000 (KEP 2254)."""
    return 1 + (shares - _LEAST_SHARES) * 9999 // (_MOST_SHARES - _LEAST_SHARES)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where this machine's groups are to be made: controller → folder; the only key is "" with the unified one."""

    bases: Mapping[str, Path]

    @property
    def unified(self) -> bool:
        return "" in self.bases

    def group(self, cluster: str, *names: str) -> Group:
        return Group(self, {key: base.joinpath(_PREFIX + cluster, *names) for key, base in self.bases.items()})


def find_hierarchy(root: Path = _ROOT, own: str | None = None) -> Hierarchy | None:
    """What is mounted and may be written here; None where nothing can be enforced."""
    if own is None:
        try:
            own = Path("/proc/self/cgroup").read_text()
        except OSError:
            return None
    if (root / "cgroup.controllers").exists():
        there = (root / "cgroup.controllers").read_text().split()
        found = {"": root} if {"cpu", "memory", "pids"} <= set(there) else {}
    else:
        found = {}
        for line in own.splitlines():
            _, names, path = line.split(":", 2)
            for name in names.split(","):
                folder = root / name / path.strip("/")
                if name in _CONTROLLERS and (folder / "cgroup.procs").exists():
                    found[name] = folder
        if not {"cpu", "memory"} <= set(found):
            found = {}
    return Hierarchy(found) if found and all(_writable(base) for base in found.values()) else None


def _writable(base: Path) -> bool:
    trial = base / f"{_PREFIX}trial-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Group:
    """A pod's or a container's group. Methods raise OSError."""

    hierarchy: Hierarchy
    folders: Mapping[str, Path]
    applied: Limits | None = field(default=None)

    def make(self) -> None:
        for key, folder in self.folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            if not key:
                self._enable(folder)

    def _enable(self, folder: Path) -> None:
        """Controllers of the unified hierarchy, from its root down to the group's parent."""
        root = self.hierarchy.bases[""]
        for parent in [*reversed([item for item in folder.parents if item.is_relative_to(root)])]:
            with suppress(OSError):
                (parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")

    def inner(self, name: str) -> Group:
        return Group(self.hierarchy, {key: folder / name for key, folder in self.folders.items()})

    def apply(self, wanted: Limits) -> None:
        """Raises OSError where the kernel refuses, as memory below what is in use."""
        if wanted == self.applied:
            return
        if self.hierarchy.unified:
            folder = self.folders[""]
            values = {
                "memory.max": "max" if wanted.memory < 0 else str(wanted.memory),
                "cpu.weight": str(weight(wanted.shares)),
                "cpu.max": f"{'max' if wanted.quota < 0 else wanted.quota} {_PERIOD}",
            }
            for name, text in values.items():
                (folder / name).write_text(text)
        else:
            (self.folders["memory"] / "memory.limit_in_bytes").write_text(str(wanted.memory))
            (self.folders["cpu"] / "cpu.shares").write_text(str(wanted.shares))
            (self.folders["cpu"] / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (self.folders["cpu"] / "cpu.cfs_quota_us").write_text(str(wanted.quota))
        self.applied = wanted

    def out_of_memory_kills(self) -> int:
        """How often the kernel has killed a process of the group for memory."""
        name = "memory.events" if self.hierarchy.unified else "memory.oom_control"
        folder = self.folders["" if self.hierarchy.unified else "memory"]
        with suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", (folder / name).read_text(), re.MULTILINE)
            return int(found[1]) if found else 0
        return 0

    def memory_in_use(self) -> int:
        """What can't be given back at once: usage without the inactive part of the file cache."""
        unified = self.hierarchy.unified
        folder = self.folders["" if unified else "memory"]
        with suppress(OSError, ValueError):
            used = int((folder / ("memory.current" if unified else "memory.usage_in_bytes")).read_text())
            name = "inactive_file" if unified else "total_inactive_file"
            found = re.search(rf"^{name} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            return max(used - (int(found[1]) if found else 0), 0)
        return 0

    def drop(self) -> None:
        """Remove the group if nothing is in it."""
        for folder in self.folders.values():
            with suppress(OSError):
                folder.rmdir()

    def remove(self) -> None:
        """The group and those within, whose last processes are killed. What is still dying is left for `clean`."""
        for folder in self.folders.values():
            remove_folder(folder)


def remove_folder(folder: Path) -> None:
    if not folder.exists():
        return
    for inner in sorted(folder.rglob("*/"), key=lambda item: len(item.parts), reverse=True):
        _remove_one(inner)
    _remove_one(folder)


def _remove_one(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
        return
    with suppress(OSError, ValueError):
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        folder.rmdir()


def clean(cluster: str) -> None:
    """Remove what a killed cluster of that name left."""
    hierarchy = find_hierarchy()
    for base in hierarchy.bases.values() if hierarchy is not None else ():
        remove_folder(base / (_PREFIX + cluster))


def group_name(uid: str) -> str:
    return f"pod{uid}"


def container_group_name(container_id: str) -> str:
    return hashlib.sha256(container_id.encode()).hexdigest()[:32]


def pod_limits(spec: Object, containers: Iterable[Object]) -> Limits:
    """A pod's group: its own resources, or the sums of its containers' where each has them (ResourceConfigForPod)."""
    return limits(pod_totals(spec, containers))


def oom_score_adjust(pod: Object, container: Object, memory_capacity: int) -> int:
    """Who goes first when the machine's memory is used up (kubelet's qos policy)."""
    if (pod["spec"].get("priorityClassName") or "") == "system-node-critical":
        return -997
    quality = (pod.get("status") or {}).get("qosClass")
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort" or memory_capacity <= 0:
        return 1000
    asked = _asked_memory(container)
    value = 1000 - 1000 * asked // memory_capacity
    if container.get("restartPolicy") == "Always":
        least = min(_asked_memory(item) for item in pod["spec"]["containers"])
        value = min(value, 1000 - 1000 * least // memory_capacity)
    return min(max(value, 3), 999)


def _asked_memory(container: Object) -> int:
    return quantity.units(((container.get("resources") or {}).get("requests") or {}).get("memory", "0"))

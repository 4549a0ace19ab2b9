"""What the machine has: capacity and node information as kubelet reports them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from atoll.base import quantity

Object = dict[str, Any]
KUBELET_VERSION = "v1.36.3"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def capacity(state_dir: Path, max_pods: int) -> dict[str, str]:
    """cpu, memory, ephemeral-storage, pods."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = os.statvfs(state_dir)
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": quantity.from_units_binary(memory // 1024 * 1024),
        "ephemeral-storage": quantity.from_units_binary(disk.f_blocks * disk.f_frsize // 1024 * 1024),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(max_pods),
    }


def boot_id() -> str:
    """Names the running kernel: another one after each boot."""
    return _line("/proc/sys/kernel/random/boot_id")


def node_info(runtime: str) -> Object:
    """status.nodeInfo."""
    return {
        "architecture": architecture(),
        "bootID": boot_id(),
        "containerRuntimeVersion": runtime,
        "kernelVersion": platform.release(),
        "kubeProxyVersion": KUBELET_VERSION,
        "kubeletVersion": KUBELET_VERSION,
        "machineID": _line("/etc/machine-id"),
        "operatingSystem": platform.system().lower(),
        "osImage": _os_image(),
        "systemUUID": _line("/sys/class/dmi/id/product_uuid") or _line("/etc/machine-id"),
    }


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()

"""What a killed cluster's process nodes left on this machine is found and removed.

There is little: bubblewrap dies with its parent and takes the container along, a pod's network namespace goes with the
descriptor that held it. The bridge stays (see `atoll.cluster.network.controller`), and, should a container have
outlived its node all the same, its process is known by the cluster's folder in its mounts.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from atoll.cluster.network import controller


def clean(folder: Path) -> int:
    """Remove what the cluster with that state folder left; the number of processes killed."""
    killed = 0
    for pid in orphans(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    with suppress(OSError):
        controller.clean(folder)
    return killed


def orphans(folder: Path) -> list[int]:
    """Processes in containers of that cluster: those in whose mount namespace one of its files is mounted."""
    if not folder.exists():
        return []
    mark = os.fsencode(_within_file_system(folder.resolve()))
    own = os.stat("/proc/self/ns/mnt").st_ino  # noqa: PTH116
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if os.stat(entry / "ns" / "mnt").st_ino == own:  # noqa: PTH116
                continue
            # a bind mount's root within its file system ends with the path that it was made from
            if any(mark in line.split(b" ")[3] for line in (entry / "mountinfo").read_bytes().splitlines()):
                found.append(int(entry.name))
    return found


def _within_file_system(folder: Path) -> str:
    """The path as counted from the root of its file system, which is how mountinfo tells a bind mount's source."""
    root, device = folder, folder.stat().st_dev
    for parent in folder.parents:
        if parent.stat().st_dev != device:
            return f"/{folder.relative_to(root)}"
        root = parent
    return str(folder)

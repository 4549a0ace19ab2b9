"""What the containers of one pod share, made by root: IPC and pid namespaces, memory-backed volumes, a control group.

All of it is held by descriptors of this process: when it dies, the kernel takes them back. Entering is per thread and
only ever done between two awaits; a child that is made inside is born inside.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.base import quantity
from atoll.cluster.nodes.process.cgroups import Group
from atoll.cluster.nodes.process.spawn import Spawned, spawn

Object = dict[str, Any]
_NEWIPC, _NEWPID = 0x8000000, 0x20000000
_IPC, _PID = "/proc/thread-self/ns/ipc", "/proc/thread-self/ns/pid"
SHARED_MEMORY = "..shm"
_SHARE = Path(__file__).parent / "inside" / "share.py"
_libc = ctypes.CDLL(None, use_errno=True)
# Namespaced, and of no influence on other pods (kubelet's safe sysctls).
SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
})  # fmt: skip


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def forbidden_sysctl(pod: Object, *, rootful: bool) -> str | None:
    """kubelet's message for a sysctl that a pod may not set; without root it may set none."""
    spec = pod["spec"]
    for item in (spec.get("securityContext") or {}).get("sysctls") or []:
        name = item["name"].replace("/", ".")
        if name not in SAFE_SYSCTLS or not rootful:
            return f'forbidden sysctl: "{name}" not allowlisted'
        if name.startswith("kernel.") and spec.get("hostIPC"):
            return f'forbidden sysctl: "{name}" not allowed with host ipc enabled'
        if name.startswith("net.") and spec.get("hostNetwork"):
            return f'forbidden sysctl: "{name}" not allowed with host net enabled'
    return None


def _new_ipc_namespace() -> int:
    before = os.open(_IPC, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_NEWIPC), "unshare IPC namespace")
        try:
            return os.open(_IPC, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _check(_libc.setns(before, _NEWIPC), "return to the host's IPC namespace")
    finally:
        os.close(before)


@dataclass(slots=True)
class PodSpace:
    """Made by `open_space`, closed once the pod's last container has ended."""

    ipc: int = -1  # -1: the host's
    pid: int = -1  # the pod's own, where its containers share one
    mounts: int = -1  # a mount namespace with the memory-backed volumes
    host_pid: bool = False
    group: Group | None = None
    memory_volumes: Mapping[str, str] = field(default_factory=dict)  # volume → folder in `mounts`
    _keeper: Spawned | None = None

    @contextmanager
    def entered(self, *, own_pid: int = -1) -> Iterator[None]:
        """Within, a child is born in the pod's IPC namespace and as process 1 of a new pid namespace (or in the pod's,
        or in that of `own_pid`, or in the host's). Never await inside."""
        before_ipc = os.open(_IPC, os.O_RDONLY | os.O_CLOEXEC)
        before_pid = os.open(_PID, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.ipc >= 0:
                _check(_libc.setns(self.ipc, _NEWIPC), "enter IPC namespace")
            target = own_pid if own_pid >= 0 else self.pid
            if target >= 0:
                _check(_libc.setns(target, _NEWPID), "enter pid namespace")
            elif not self.host_pid:
                _check(_libc.unshare(_NEWPID), "unshare pid namespace")
            try:
                yield
            finally:
                _check(_libc.setns(before_pid, _NEWPID), "return to the host's pid namespace")
                _check(_libc.setns(before_ipc, _NEWIPC), "return to the host's IPC namespace")
        finally:
            os.close(before_ipc)
            os.close(before_pid)

    def set_sysctls(self, pod: Object) -> None:
        """In the pod's network (which the caller has entered) and IPC namespace. Raises OSError."""
        wanted = (pod["spec"].get("securityContext") or {}).get("sysctls") or []
        if not wanted:
            return
        before = os.open(_IPC, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.ipc >= 0:
                _check(_libc.setns(self.ipc, _NEWIPC), "enter IPC namespace")
            try:
                for item in wanted:
                    path = Path("/proc/sys") / item["name"].replace(".", "/")
                    path.write_text(str(item["value"]))
            finally:
                _check(_libc.setns(before, _NEWIPC), "return to the host's IPC namespace")
        finally:
            os.close(before)

    def close(self) -> None:
        for handle in (self.ipc, self.pid, self.mounts):
            if handle >= 0:
                os.close(handle)
        self.ipc = self.pid = self.mounts = -1
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.close()
            self._keeper = None
        if self.group is not None:
            self.group.remove()
            self.group = None


async def open_space(pod: Object, group: Group | None, folder: Path, memory_bytes: int) -> PodSpace:
    """`folder`: where the memory-backed volumes are mounted, seen by the pod's containers only. Raises OSError."""
    spec = pod["spec"]
    space = PodSpace(host_pid=bool(spec.get("hostPID")))
    try:
        if not spec.get("hostIPC"):
            space.ipc = _new_ipc_namespace()
        await _share(space, pod, folder, memory_bytes)
        if group is not None:
            group.make()
            space.group = group
    except BaseException:
        space.close()
        raise
    return space


async def _share(space: PodSpace, pod: Object, folder: Path, memory_bytes: int) -> None:
    """A helper makes the mount namespace; where the pod's containers share a pid namespace it stays as its first
    process, which kubelet's pause container is for."""
    volumes = memory_volumes(pod, memory_bytes)
    spec = pod["spec"]
    shares_pid = bool(spec.get("shareProcessNamespace")) and not space.host_pid
    several = len(spec["containers"]) + len(spec.get("initContainers") or []) > 1
    if several and not spec.get("hostIPC"):
        volumes[SHARED_MEMORY] = "mode=1777,size=65536k"
    if not volumes and not shares_pid:
        return
    paths = {name: folder / name for name in volumes}
    for path in paths.values():
        path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-S", str(_SHARE), *(f"{paths[name]}:{text}" for name, text in volumes.items())]
    outside = PodSpace(host_pid=not shares_pid)
    space._keeper = keeper = spawn(command, env={}, stdin=True, inside=outside.entered)
    answer = (await keeper.stdout.read()).decode().strip()
    if answer != "ready":
        raise OSError(f"the pod's shared namespaces can't be made: {answer}")
    pid = keeper.process.pid
    space.mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    space.memory_volumes = {name: str(path) for name, path in paths.items()}
    if shares_pid:
        space.pid = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    else:
        keeper.kill()
        keeper.close()
        space._keeper = None


def memory_volumes(pod: Object, memory_bytes: int) -> dict[str, str]:
    """Volume → mount options of the pod's emptyDirs in memory."""
    out = {}
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("emptyDir")
        if source is None or source.get("medium") != "Memory":
            continue
        size = quantity.units(source["sizeLimit"]) if source.get("sizeLimit") else memory_bytes
        mode = "777" if group is None else f"2777,gid={group}"
        out[volume["name"]] = f"mode={mode},size={size}"
    return out

"""How root closes a container in: what `inside/launch.py` is to do, pure.

Root needs no user namespace: users, groups and files' owners are real, as in a container runtime. What of /proc and
/sys such a container must not see or write is hidden (the OCI runtime's default lists), unless it is privileged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.cluster.nodes.process.sandbox import EMPTY_FOLDERS, Sandbox, granted_capabilities, host_programs
from atoll.cluster.nodes.process.seccomp import default_filter

Step = list[Any]
_HIDDEN = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_FROZEN = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# capabilities(7), in the order of their numbers
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip


def launch_spec(sandbox: Sandbox, argv: Sequence[str], env: Mapping[str, str], *, tty: bool) -> dict[str, Any]:
    """For `launch.py`, as JSON. Reads the host's top-level folders, nothing else."""
    return {
        "hostname": sandbox.hostname,
        "stage": sandbox.stage,
        "mountNamespace": sandbox.mount_namespace,
        "steps": steps(sandbox),
        "cwd": sandbox.working_dir or "/",
        "identity": identity(sandbox),
        "groups": [f"{folder}/cgroup.procs" for _, folder in sandbox.control_groups],
        "oomScoreAdjust": sandbox.oom_score_adjust,
        "argv": list(argv),
        "env": dict(env),
        "tty": tty,
    }


def identity(sandbox: Sandbox) -> dict[str, Any]:
    """Who a process of the container is, the first one and those of exec."""
    uid, gid = sandbox.user or (0, 0)
    granted = granted_capabilities(sandbox)
    names = CAPABILITIES if granted is None else granted
    bounding = sum(1 << CAPABILITIES.index(name) for name in names if name in CAPABILITIES)
    filtered = sandbox.default_seccomp and not sandbox.privileged
    return {
        "uid": uid,
        "gid": gid,
        "groups": sorted({gid, *sandbox.groups}),
        "bounding": bounding,
        "noNewPrivileges": sandbox.no_new_privileges,
        "seccomp": default_filter(admin="SYS_ADMIN" in names).hex() if filtered else "",
    }


def steps(sandbox: Sandbox) -> list[Step]:
    """What is mounted, in order."""
    out = _root(sandbox)
    out.append(["proc"])
    if sandbox.privileged:
        out += [["bind", "/dev", "/dev", False, ""], ["sys", False]]
    else:
        out += [["dev", sandbox.shared_memory], ["sys", True]]
    if sandbox.control_groups:
        out.append(["groups", [[name, folder] for name, folder in sandbox.control_groups]])
    if not sandbox.privileged and not sandbox.unmasked:
        out += [["hide", path] for path in _HIDDEN]
        out += [["freeze", path] for path in _FROZEN]
    for mount in sorted(sandbox.mounts, key=lambda item: item.target.count("/")):
        out.append(["bind", mount.source, mount.target, mount.read_only, mount.inner])
    working_dir = sandbox.working_dir or "/"
    if working_dir != "/":
        out.append(["folder", working_dir, 0o755])  # made where it isn't there, as container runtimes do
    if sandbox.read_only_root:
        out.append(["seal"])
    return out


def _root(sandbox: Sandbox) -> list[Step]:
    writable = sandbox.overlays and not sandbox.read_only_root
    if sandbox.root is not None:
        if writable:
            return [["overlay", sandbox.root, "/"]]
        return [["bind", sandbox.root, "/", False, ""]] if sandbox.read_only_root else _fixed(sandbox.root)
    out: list[Step] = []
    for path, link, overlaid in host_programs():
        if link:
            out.append(["symlink", link, path])
        elif writable and overlaid:
            out.append(["overlay", path, path])
        else:
            out.append(["bind", path, path, True, ""])
    return out + [["folder", folder, 0o1777 if folder.endswith("tmp") else 0o755] for folder in EMPTY_FOLDERS]


def _fixed(root: str) -> list[Step]:
    """No overlays here: the image's own files can't be written."""
    return [["bind", root, "/", True, ""], ["tmpfs", "/tmp", "mode=1777"]]

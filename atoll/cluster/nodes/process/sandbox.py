"""bubblewrap's arguments for a container: pure.

The root is either the host's programs (its /usr and friends under an overlay whose writes vanish with the container,
an empty writable rest) or an unpacked root folder under such an overlay. Where overlays can't be had, both are
read-only. Of the host, a container sees its programs, /etc and what is mounted on purpose; not /home, /root, /var.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# What containerd grants a container by default.
DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
_HOST_PROGRAMS = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix")


@dataclass(frozen=True, slots=True)
class Mount:
    """A host file or folder at a place in the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """All that decides how a container is closed in."""

    hostname: str
    root: str | None
    mounts: Sequence[Mount] = ()
    working_dir: str = "/"
    user: tuple[int, int] | None = None  # (uid, gid) by a user namespace; None: root of the host's
    overlays: bool = True
    read_only_root: bool = False
    privileged: bool = False
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = field(default=())


def arguments(sandbox: Sandbox) -> list[str]:
    """For `bwrap --args FD`; reads the host's top-level folders, nothing else."""
    args = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", sandbox.hostname]
    if sandbox.user is not None:
        uid, gid = sandbox.user
        args += ["--unshare-user", "--uid", str(uid), "--gid", str(gid)]
    else:
        args += _capabilities(sandbox)
    args += _root(sandbox)
    args += ["--proc", "/proc"]
    args += ["--dev-bind", "/dev", "/dev"] if sandbox.privileged else ["--dev", "/dev"]
    args += ["--ro-bind-try", "/sys", "/sys"]
    for mount in sorted(sandbox.mounts, key=lambda item: item.target.count("/")):
        args += ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
    if sandbox.read_only_root and sandbox.root is None:
        args += ["--remount-ro", "/"]
    working_dir = sandbox.working_dir or "/"
    if working_dir != "/" and not sandbox.read_only_root:
        args += ["--dir", working_dir]  # made where it isn't there, as container runtimes do
    return [*args, "--chdir", working_dir]


def _capabilities(sandbox: Sandbox) -> list[str]:
    if sandbox.privileged:
        return ["--cap-add", "ALL"]
    wanted = dict.fromkeys(DEFAULT_CAPABILITIES)
    if "ALL" in sandbox.drop_capabilities:
        wanted.clear()
    for name in sandbox.drop_capabilities:
        wanted.pop(name.removeprefix("CAP_"), None)
    if "ALL" in sandbox.add_capabilities:
        return ["--cap-add", "ALL"]
    wanted |= dict.fromkeys(name.removeprefix("CAP_") for name in sandbox.add_capabilities)
    args = ["--cap-drop", "ALL"]
    for name in wanted:
        args += ["--cap-add", f"CAP_{name}"]
    return args


def _root(sandbox: Sandbox) -> list[str]:
    writable = sandbox.overlays and not sandbox.read_only_root
    if sandbox.root is not None:
        if writable:
            return ["--overlay-src", sandbox.root, "--tmp-overlay", "/"]
        return ["--ro-bind", sandbox.root, "/", "--tmpfs", "/tmp"]
    args: list[str] = []
    for name in _HOST_PROGRAMS:
        path = Path("/") / name
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(found.st_mode):
            args += ["--symlink", str(path.readlink()), str(path)]
        elif writable and name in ("usr", "etc"):
            args += ["--overlay-src", str(path), "--tmp-overlay", str(path)]
        else:
            args += ["--ro-bind", str(path), str(path)]
    for folder in (
        "/tmp",
        "/var/tmp",
        "/var/log",
        "/var/run",
        "/var/cache",
        "/var/lib",
        "/run",
        "/root",
        "/home",
        "/srv",
    ):
        mode = "1777" if folder.endswith("tmp") else "0755"
        args += ["--perms", mode, "--dir", folder]
    return args

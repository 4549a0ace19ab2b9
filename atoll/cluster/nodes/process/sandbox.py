"""How a container is closed in, and bubblewrap's arguments for it (where there is no root): pure.

The root is either the host's programs (its /usr and friends under an overlay whose writes vanish with the container,
an empty writable rest) or an unpacked root folder under such an overlay. Where overlays can't be had, both are
read-only. Of the host, a container sees its programs, /etc and what is mounted on purpose; not /home, /root, /var.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What containerd grants a container by default.
DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
EMPTY_FOLDERS = (
    "/tmp", "/var/tmp", "/var/log", "/var/run", "/var/cache", "/var/lib", "/run", "/root", "/home", "/srv",
)  # fmt: skip
_HOST_PROGRAMS = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix")


@dataclass(frozen=True, slots=True)
class Mount:
    """A host file or folder at a place in the container. `inner`: a path in it, made where it isn't there (subPath)."""

    source: str
    target: str
    read_only: bool = False
    inner: str = ""
    device: bool = False  # a device file, which may be used as one


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
    # what follows needs root (see isolation.py)
    stage: str = ""  # an empty folder on which the new root is put together
    groups: Sequence[int] = ()
    no_new_privileges: bool = False
    default_seccomp: bool = False
    unmasked: bool = False  # procMount
    shared_memory: str = ""  # the pod's /dev/shm
    mount_namespace: int = -1  # holds what the pod's containers share besides folders
    control_groups: Sequence[tuple[str, str]] = ()  # controller → folder; "" with the unified hierarchy
    oom_score_adjust: int = 0


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
        source = f"{mount.source}/{mount.inner}" if mount.inner else mount.source
        kind = "--dev-bind" if mount.device else "--ro-bind" if mount.read_only else "--bind"
        args += [kind, source, mount.target]
    if sandbox.read_only_root and sandbox.root is None:
        args += ["--remount-ro", "/"]
    working_dir = sandbox.working_dir or "/"
    if working_dir != "/" and not sandbox.read_only_root:
        args += ["--dir", working_dir]  # made where it isn't there, as container runtimes do
    return [*args, "--chdir", working_dir]


def granted_capabilities(sandbox: Sandbox) -> list[str] | None:
    """Names without CAP_; None is all of them."""
    if sandbox.privileged:
        return None
    wanted = dict.fromkeys(DEFAULT_CAPABILITIES)
    if "ALL" in sandbox.drop_capabilities:
        wanted.clear()
    for name in sandbox.drop_capabilities:
        wanted.pop(name.removeprefix("CAP_"), None)
    if "ALL" in sandbox.add_capabilities:
        return None
    return [*(wanted | dict.fromkeys(name.removeprefix("CAP_") for name in sandbox.add_capabilities))]


def _capabilities(sandbox: Sandbox) -> list[str]:
    wanted = granted_capabilities(sandbox)
    if wanted is None:
        return ["--cap-add", "ALL"]
    args = ["--cap-drop", "ALL"]
    for name in wanted:
        args += ["--cap-add", f"CAP_{name}"]
    return args


def host_programs() -> Iterator[tuple[str, str, bool]]:
    """(path, what it links to or "", whether its writes go to an overlay) of the host's folders that containers see."""
    for name in _HOST_PROGRAMS:
        path = Path("/") / name
        try:
            found = path.lstat()
        except OSError:
            continue
        link = str(path.readlink()) if stat.S_ISLNK(found.st_mode) else ""
        yield str(path), link, name in ("usr", "etc")


def _root(sandbox: Sandbox) -> list[str]:
    writable = sandbox.overlays and not sandbox.read_only_root
    if sandbox.root is not None:
        if writable:
            return ["--overlay-src", sandbox.root, "--tmp-overlay", "/"]
        return ["--ro-bind", sandbox.root, "/", "--tmpfs", "/tmp"]
    args: list[str] = []
    for path, link, overlaid in host_programs():
        if link:
            args += ["--symlink", link, path]
        elif writable and overlaid:
            args += ["--overlay-src", path, "--tmp-overlay", path]
        else:
            args += ["--ro-bind", path, path]
    for folder in EMPTY_FOLDERS:
        mode = "1777" if folder.endswith("tmp") else "0755"
        args += ["--perms", mode, "--dir", folder]
    return args

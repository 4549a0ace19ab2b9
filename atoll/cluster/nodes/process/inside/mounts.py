"""Mounting, for `launch.py`: the steps that `isolation.py` has computed, carried out. Standard library only."""

from __future__ import annotations

import os
from contextlib import suppress

from become import checked, libc  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes long to import
    from typing import Any

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, MOVE, REC, PRIVATE, SLAVE = (
    1, 2, 4, 8, 32, 4096, 8192, 16384, 1 << 18, 1 << 19,
)  # fmt: skip
_DETACH = 2
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). Raises OSError."""
    result = libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode() or None)
    checked(result, f"mount {source or kind} at {target}")


def own_namespace() -> None:
    """A mount namespace in which the host's new mounts appear, and of which nothing goes back."""
    checked(libc.unshare(0x20000), "unshare mount namespace")
    mount("", "/", "", REC | SLAVE)


def pivot(root: str) -> None:
    """Make `root` the root, and let go of the old one."""
    os.chdir(root)
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    checked(libc.syscall(number, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", _DETACH), "umount the old root")
    os.chdir("/")


class Builder:
    """Carries out one step after the other under `root`. Raises OSError, ValueError."""

    def __init__(self, root: str, layers: str) -> None:
        self._root = root
        self._layers = layers
        self._count = 0

    def do(self, step: list[Any]) -> None:
        getattr(self, f"_{step[0]}")(*step[1:])

    def _at(self, path: str) -> str:
        """The path under the new root, with the symbolic links of that root followed within it."""
        done = self._root
        parts = [part for part in path.split("/") if part]
        for _ in range(40 + len(parts)):
            if not parts:
                return done
            part = parts.pop(0)
            if part == "..":
                done = done if done == self._root else os.path.dirname(done)  # noqa: PTH120
                continue
            place = f"{done}/{part}"
            if os.path.islink(place):  # noqa: PTH114
                link = os.readlink(place)  # noqa: PTH115
                parts = [item for item in link.split("/") if item and item != "."] + parts
                done = self._root if link.startswith("/") else done
                continue
            done = place
        raise ValueError(f"{path}: too many levels of symbolic links")

    def _place(self, path: str, folder: bool) -> str:
        """The path, made as a folder or an empty file where nothing is there."""
        place = self._at(path)
        if not os.path.exists(place):  # noqa: PTH110
            os.makedirs(place if folder else os.path.dirname(place), 0o755, exist_ok=True)  # noqa: PTH103, PTH120
            if not folder:
                os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o644))
        return place

    def _tmpfs(self, target: str, options: str) -> None:
        mount("tmpfs", self._place(target, True), "tmpfs", NOSUID | NODEV, options)

    def _overlay(self, lower: str, target: str) -> None:
        self._count += 1
        upper, work = f"{self._layers}/{self._count}/upper", f"{self._layers}/{self._count}/work"
        os.makedirs(upper, 0o755)  # noqa: PTH103
        os.makedirs(work, 0o755)  # noqa: PTH103
        found = os.stat(lower)  # noqa: PTH116
        os.chmod(upper, found.st_mode & 0o7777)  # noqa: PTH101
        data = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mount("overlay", self._place(target, True), "overlay", 0, data)

    def _bind(self, source: str, target: str, read_only: bool, inner: str) -> None:
        if inner:
            source = self._sub_path(source, inner)
        place = self._place(target, os.path.isdir(source))  # noqa: PTH112
        mount(source, place, "", BIND | REC)
        if read_only:
            mount("", place, "", BIND | REMOUNT | RDONLY)

    def _sub_path(self, source: str, inner: str) -> str:
        """A folder or file in a volume, which no symbolic link may lead out of; made where it isn't there."""
        base = os.path.realpath(source)
        path = os.path.realpath(f"{base}/{inner}")
        if path != base and not path.startswith(base + "/"):
            raise ValueError(f'failed to prepare subPath for volumeMount: "{inner}" leaves its volume')
        if not os.path.exists(path):  # noqa: PTH110
            os.makedirs(path, 0o750)  # noqa: PTH103
            os.chmod(path, os.stat(base).st_mode & 0o7777)  # noqa: PTH101, PTH116
            with suppress(OSError):
                os.chown(path, os.stat(base).st_uid, os.stat(base).st_gid)  # noqa: PTH116
        return path

    def _symlink(self, to: str, path: str) -> None:
        os.symlink(to, f"{self._root}{path}")  # noqa: PTH211

    def _folder(self, path: str, mode: int) -> None:
        place = self._at(path)
        if not os.path.isdir(place):  # noqa: PTH112
            os.makedirs(place, 0o755)  # noqa: PTH103
            os.chmod(place, mode)  # noqa: PTH101

    def _proc(self) -> None:
        mount("proc", self._place("/proc", True), "proc", NOSUID | NODEV | NOEXEC)

    def _sys(self, read_only: bool) -> None:
        flags = NOSUID | NODEV | NOEXEC | (RDONLY if read_only else 0)
        mount("sysfs", self._place("/sys", True), "sysfs", flags)

    def _dev(self, shm: str) -> None:
        place = self._place("/dev", True)
        mount("tmpfs", place, "tmpfs", NOSUID, "mode=755,size=65536k")
        for name in _DEVICES:
            os.close(os.open(f"{place}/{name}", os.O_CREAT | os.O_CLOEXEC, 0o666))
            mount(f"/dev/{name}", f"{place}/{name}", "", BIND)
        for name, to in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(f"/proc/self/{to}", f"{place}/{name}")  # noqa: PTH211
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(f"{place}/{name}")  # noqa: PTH102
        mount("devpts", f"{place}/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
        os.symlink("pts/ptmx", f"{place}/ptmx")  # noqa: PTH211
        if shm:
            mount(shm, f"{place}/shm", "", BIND)
        else:
            mount("shm", f"{place}/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777,size=65536k")
        with suppress(OSError):
            mount("mqueue", f"{place}/mqueue", "mqueue", NOSUID | NODEV | NOEXEC)

    def _groups(self, folders: list[Any]) -> None:
        """/sys/fs/cgroup: [(name of the controller or "", its folder)], read-only."""
        place = self._at("/sys/fs/cgroup")
        if folders == [["", folders[0][1]]]:
            mount(folders[0][1], place, "", BIND)
        else:
            mount("tmpfs", place, "tmpfs", NOSUID | NODEV | NOEXEC, "mode=755")
            for name, source in folders:
                os.mkdir(f"{place}/{name}")  # noqa: PTH102
                mount(source, f"{place}/{name}", "", BIND)
                mount("", f"{place}/{name}", "", BIND | REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC)
        mount("", place, "", BIND | REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC)

    def _hide(self, path: str) -> None:
        place = f"{self._root}{path}"
        if os.path.isdir(place):  # noqa: PTH112
            mount("tmpfs", place, "tmpfs", RDONLY)
        elif os.path.exists(place):  # noqa: PTH110
            mount("/dev/null", place, "", BIND)

    def _freeze(self, path: str) -> None:
        place = f"{self._root}{path}"
        if os.path.exists(place):  # noqa: PTH110
            mount(place, place, "", BIND | REC)
            mount("", place, "", BIND | REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC)

    def _seal(self) -> None:
        """The root itself read-only; what is mounted on it stays as it is."""
        mount("", self._root, "", BIND | REMOUNT | RDONLY)

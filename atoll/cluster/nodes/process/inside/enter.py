"""Run as a program (`enter.py FD`): join a running container's namespaces and become a command there.

The JSON on FD says {pid, argv, env, cwd, tty, user, identity, groups}. Only the standard library, and nothing is
imported after the container's file system has been joined. Exit code: the command's; 127 it isn't there, 126 it can't
be run, 125 the container can't be joined; these three say why on standard error, after the marker of `atoll-exec:`.
"""

from __future__ import annotations

import json
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 (no pathlib: this program must start fast)
import become  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes long to import
    from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip


def _same(pid: int, kind: str) -> bool:
    ours, theirs = os.readlink(f"/proc/self/ns/{kind}"), os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115
    return ours == theirs


def _join(pid: int) -> None:
    kinds = {"user": _NEWUSER, "mnt": _NEWNS, "uts": _NEWUTS, "ipc": _NEWIPC, "pid": _NEWPID, "net": _NEWNET}
    flags = 0
    for kind, flag in kinds.items():
        if not _same(pid, kind):
            flags |= flag
    handle = os.pidfd_open(pid)
    if flags:
        become.checked(become.libc.setns(handle, flags), "setns")
    os.close(handle)


def _limit_capabilities(effective: int) -> None:
    """No more than the container's first process has: what leaves the bounding set is lost at the exec."""
    for number in range(64):
        if not effective >> number & 1:
            become.libc.prctl(become.PR_CAPBSET_DROP, number, 0, 0, 0)


def _effective(pid: int) -> int:
    with open(f"/proc/{pid}/status") as stream:  # noqa: PTH123
        return next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff"))


def _fail(code: int, message: str) -> None:
    os.write(2, f"atoll-exec: {message}\n".encode())
    os._exit(code)


def _run(spec: dict[str, Any], effective: int, groups: list[int]) -> None:
    become.die_with_parent()
    os.setsid()
    if spec["tty"]:
        become.take_terminal()
    become.join_groups(groups)
    try:
        if spec["identity"] is not None:
            become.go_to(spec["cwd"])
            become.drop_privileges(spec["identity"])
        else:
            _limit_capabilities(effective)
            if spec["user"] is not None:
                uid, gid = spec["user"]
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            become.go_to(spec["cwd"])
        become.become(spec["argv"], spec["env"])
    except become.CannotRun as error:
        _fail(error.code, str(error))


def main() -> None:
    """Join, fork (a pid namespace takes effect for children only), run, pass the exit code on."""
    with os.fdopen(int(sys.argv[1]), "rb") as stream:
        spec = json.load(stream)
    become.die_with_parent()
    try:
        effective = _effective(spec["pid"])
        groups = become.open_groups(spec["groups"])
        _join(spec["pid"])
    except OSError as error:
        _fail(125, f"can't join the container: {error}")
    child = os.fork()
    if child == 0:
        _run(spec, effective, groups)
    for fd in (0, 1, 2):
        os.close(fd)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()

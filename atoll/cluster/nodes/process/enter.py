"""Run as a program (`enter.py FD`): join a running container's namespaces and become a command there.

The JSON on FD says {pid, argv, env, cwd, tty, user}. Only the standard library, and nothing is imported after the
container's file system has been joined. Exit code: the command's; 127 it isn't there, 126 it can't be run, 125 the
container can't be joined; these three say why on standard error, after the marker of `atoll-exec:`.
"""

import ctypes
import fcntl
import json
import os
import sys
import termios

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_KILL = 9


def _same(pid: int, kind: str) -> bool:
    # no pathlib: this program must start fast
    ours, theirs = os.readlink(f"/proc/self/ns/{kind}"), os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115
    return ours == theirs


def _join(libc: ctypes.CDLL, pid: int) -> None:
    kinds = {"user": _NEWUSER, "mnt": _NEWNS, "uts": _NEWUTS, "ipc": _NEWIPC, "pid": _NEWPID, "net": _NEWNET}
    flags = 0
    for kind, flag in kinds.items():
        if not _same(pid, kind):
            flags |= flag
    handle = os.pidfd_open(pid)
    if flags and libc.setns(handle, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    os.close(handle)


def _limit_capabilities(libc: ctypes.CDLL, effective: int) -> None:
    """No more than the container's first process has: what leaves the bounding set is lost at the exec."""
    for number in range(64):
        if not effective >> number & 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def _effective(pid: int) -> int:
    with open(f"/proc/{pid}/status") as stream:  # noqa: PTH123
        return next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff"))


def _fail(code: int, message: str) -> None:
    os.write(2, f"atoll-exec: {message}\n".encode())
    os._exit(code)


def _become(argv: list[str], env: dict[str, str]) -> None:
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        candidates = [f"{folder}/{name}" for folder in env.get("PATH", "/usr/bin:/bin").split(":") if folder]
    found: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = error
    if found is not None:
        _fail(126, f'exec: "{name}": {str(found.strerror).lower()}')
    if "/" in name:
        _fail(127, f'exec: "{name}": stat {name}: no such file or directory')
    _fail(127, f'exec: "{name}": executable file not found in $PATH')


def main() -> None:
    """Join, fork (a pid namespace takes effect for children only), run, pass the exit code on."""
    with os.fdopen(int(sys.argv[1]), "rb") as stream:
        spec = json.load(stream)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, _KILL)
    try:
        effective = _effective(spec["pid"])
        _join(libc, spec["pid"])
    except OSError as error:
        _fail(125, f"can't join the container: {error}")
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, _KILL)
        os.setsid()
        if spec["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _limit_capabilities(libc, effective)
        if spec["user"] is not None:
            uid, gid = spec["user"]
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        try:
            os.chdir(spec["cwd"])
        except OSError as error:
            _fail(126, f'chdir to cwd ("{spec["cwd"]}"): {str(error.strerror).lower()}')
        _become(spec["argv"], spec["env"])
    for fd in (0, 1, 2):
        os.close(fd)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()

"""How a process becomes a container's command: shared by `launch.py` and `enter.py`, standard library only.

Nothing may be imported once the container's file system is the process's own.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes long to import
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
_SECCOMP_MODE_FILTER = 2
KILL = 9
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a call into libc. Raises OSError."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, KILL, 0, 0, 0)


def open_groups(paths: list[str]) -> list[int]:
    """The control groups' files, opened while the host's file system can be seen."""
    return [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in paths]


def join_groups(handles: list[int]) -> None:
    for handle in handles:
        os.write(handle, b"0")
        os.close(handle)


def drop_privileges(identity: dict[str, Any]) -> None:
    """User, groups, capabilities, system calls: {uid, gid, groups, bounding, noNewPrivileges, seccomp}."""
    bounding = identity["bounding"]
    for number in range(64):
        if not bounding >> number & 1:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    os.setgroups(identity["groups"])
    gid, uid = identity["gid"], identity["uid"]
    os.setresgid(gid, gid, gid)
    if identity["noNewPrivileges"]:
        checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if identity["seccomp"]:
        _filter_system_calls(bytes.fromhex(identity["seccomp"]))
    os.setresuid(uid, uid, uid)


def _filter_system_calls(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    checked(libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class CannotRun(Exception):
    """Exit code and message of a command that can't be started."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def go_to(folder: str) -> None:
    """Raises CannotRun."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise CannotRun(126, f'chdir to cwd ("{folder}") set in config.json failed: {_reason(error)}') from None


def become(argv: list[str], env: dict[str, str]) -> None:
    """Replace this process. Raises CannotRun."""
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
        raise CannotRun(126, f'exec: "{name}": {_reason(found)}')
    if "/" in name:
        raise CannotRun(127, f'exec: "{name}": stat {name}: no such file or directory')
    raise CannotRun(127, f'exec: "{name}": executable file not found in $PATH')


def _reason(error: OSError) -> str:
    return str(error.strerror).lower()

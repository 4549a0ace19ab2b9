"""Run as a program (`launch.py FD INFO`), as root: close in a container, run its command, be its reaper.

It is born in the pod's network and IPC namespaces, and, unless the pod shares one, as process 1 of a new pid namespace.
The JSON on FD is what `isolation.py` made. INFO is closed once the command runs; before, it says why it can't be run.
The command alone is in the container's control groups: what this program needs is not the container's to pay for.
Exit code: the command's, 128 + N after signal N. Only the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 (no pathlib: this program must start fast)
import become  # type: ignore[import-not-found]
import mounts  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes long to import
    from typing import Any

_NEWNS, _NEWUTS = 0x20000, 0x4000000


def _close_in(spec: dict[str, Any]) -> None:
    """A new root, as the steps say, and nothing of the old one. Raises OSError, ValueError."""
    if spec["mountNamespace"] >= 0:
        become.checked(become.libc.setns(spec["mountNamespace"], _NEWNS), "setns")
    mounts.own_namespace()
    stage = spec["stage"]
    mounts.mount("tmpfs", stage, "tmpfs", mounts.NODEV, "mode=755")
    root, layers = f"{stage}/root", f"{stage}/layers"
    for folder in (root, layers):
        os.mkdir(folder, 0o755)  # noqa: PTH102
    mounts.mount(root, root, "", mounts.BIND)
    builder = mounts.Builder(root, layers)
    for step in spec["steps"]:
        builder.do(step)
    mounts.pivot(root)


def _run(spec: dict[str, Any], groups: list[int]) -> None:
    """Become the command. Raises OSError, CannotRun."""
    become.die_with_parent()
    os.setsid()
    if spec["tty"]:
        become.take_terminal()
    become.join_groups(groups)
    become.go_to(spec["cwd"])
    become.drop_privileges(spec["identity"])
    become.become(spec["argv"], spec["env"])


def _reap(child: int) -> int:
    """The command's status, once it has ended; orphans are buried meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _end_others() -> None:
    """Where the pid namespace is not the container's own, what the command left behind is killed one by one."""
    for _ in range(1000):
        with open("/proc/thread-self/children") as stream:  # noqa: PTH123
            for pid in stream.read().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), become.KILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _told(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)


def main() -> None:
    """See the module's text."""
    handle, info = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(info, False)  # what the launcher was given is not the command's
    with os.fdopen(handle, "rb") as stream:
        spec = json.load(stream)
    if spec["mountNamespace"] >= 0:
        os.set_inheritable(spec["mountNamespace"], False)
    become.die_with_parent()
    become.libc.prctl(become.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        # a root without CAP_SYS_RESOURCE may only raise it
        with suppress(PermissionError), open("/proc/self/oom_score_adj", "w") as stream:  # noqa: PTH123
            stream.write(str(spec["oomScoreAdjust"]))
        groups = become.open_groups(spec["groups"])
        become.checked(become.libc.unshare(_NEWUTS), "unshare uts namespace")
        name = spec["hostname"].encode()
        become.checked(become.libc.sethostname(name, len(name)), "sethostname")
        os.umask(0o022)
        _close_in(spec)
        child = os.fork()
        if child == 0:
            _run(spec, groups)
    except (OSError, ValueError, become.CannotRun) as error:
        os.write(info, _told(error).encode())
        os._exit(128)
    os.close(info)
    for fd in (0, 1, 2, *groups):
        os.close(fd)
    status = _reap(child)
    if os.getpid() != 1:
        _end_others()
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()

"""What a command that asks for a forked start and the supervisor that forks it agree on.

Imported by the asking side before anything else, so it imports next to nothing. A request is one message on a
SOCK_SEQPACKET socket in a fleet's state folder. The fork answers `pid N`, or `no REASON`; is sent `go` with the
caller's standard streams; and says `exit CODE` at its end. It takes over what is in the request. What a process can't
take over (its namespaces, control groups, rights, the interpreter's settings) must be equal on both sides:
`surroundings`.
"""

from __future__ import annotations

import os
import resource
import sys
import time

import atoll

SOCKET = "fork.sock"
MESSAGE_BYTES = 1 << 20
LOADED_AT = time.time()  # whatever changed after it may be other than what this process, and its forks, have loaded
_LIMITS = range(16)  # RLIMIT_*, see getrlimit(2)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_STATUS = (
    b"Uid",
    b"Gid",
    b"Groups",
    b"SigBlk",
    b"SigIgn",
    b"Cap",
    b"NoNewPrivs",
    b"Seccomp",
    b"Cpus_allowed:",
    b"Mems_",
)
_READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", "OPENSSL_", "LC_", "LANG", "COVERAGE_")


def state_home() -> str:
    """$XDG_STATE_HOME/atoll, by default ~/.local/state/atoll."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{base}/atoll"


def surroundings() -> bytes:
    """What this process is and where it runs, in so far as a fork of another can't become it. Raises OSError."""
    texts = [
        f"{atoll.__version__} {os.path.dirname(atoll.__file__)}",
        f"{sys.version} {sys.executable} {sys.flags!r}",
        f"{os.getpriority(os.PRIO_PROCESS, 0)} {os.sched_getscheduler(0)}",
        *(os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES),
        os.readlink("/proc/self/root"),
        *sorted(f"{key}={value}" for key, value in os.environ.items() if key.startswith(_READ_AT_START)),
    ]
    status = [line for line in _read("/proc/self/status").splitlines() if line.startswith(_STATUS)]
    files = [_read("/proc/self/cgroup"), _read("/proc/self/oom_score_adj"), _read("/proc/self/attr/current")]
    return b"\n".join([*(os.fsencode(text) for text in texts), *status, *files])


def _read(path: str) -> bytes:
    """b"" where the kernel has no such file, or no such security module."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 65536)
    except OSError:
        return b""
    finally:
        os.close(file)


class Request:
    """What the caller is and wants: `arguments` is the command line without the program."""

    def __init__(
        self,
        surroundings: bytes,
        arguments: list[str],
        folder: str,
        umask: int,
        limits: list[tuple[int, int]],
        environment: dict[bytes, bytes],
    ) -> None:
        self.surroundings = surroundings
        self.arguments = arguments
        self.folder = folder
        self.umask = umask
        self.limits = limits
        self.environment = environment

    @classmethod
    def of_this_process(cls, arguments: list[str]) -> Request:
        """Raises OSError (no working directory)."""
        umask = os.umask(0o077)
        os.umask(umask)
        limits = [resource.getrlimit(number) for number in _LIMITS]
        return cls(surroundings(), arguments, os.getcwd(), umask, limits, dict(os.environb))

    def encode(self) -> bytes:
        """Fields between zero bytes, which no argument, path or variable can hold."""
        limits = " ".join(f"{soft},{hard}" for soft, hard in self.limits)
        head = [self.folder, f"{self.umask:o}", limits, str(len(self.arguments)), *self.arguments]
        variables = [name + b"=" + value for name, value in self.environment.items()]
        return b"\0".join([self.surroundings, *(os.fsencode(item) for item in head), *variables])

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Raises ValueError."""
        place, folder, umask, limits, count, *rest = data.split(b"\0")
        pairs = [item.split(b",") for item in limits.split()]
        if len(pairs) != len(_LIMITS) or any(len(pair) != 2 for pair in pairs) or not 0 <= int(count) <= len(rest):
            raise ValueError("not a request")
        split = [item.split(b"=", 1) for item in rest[int(count) :]]
        if any(len(item) != 2 for item in split):
            raise ValueError("not a request")
        return cls(
            place,
            [os.fsdecode(item) for item in rest[: int(count)]],
            os.fsdecode(folder),
            int(umask, 8),
            [(int(soft), int(hard)) for soft, hard in pairs],
            dict(split),
        )

    def take_over(self) -> None:
        """Become what the caller is, but for its streams. Raises OSError, ValueError (a limit above this one's)."""
        os.chdir(self.folder)
        for number, limits in zip(_LIMITS, self.limits, strict=True):
            if resource.getrlimit(number) != limits:
                resource.setrlimit(number, limits)
        os.umask(self.umask)
        os.environb.clear()
        os.environb.update(self.environment)
        time.tzset()

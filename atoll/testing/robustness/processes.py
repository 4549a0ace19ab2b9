"""A real server process for the checker: the product's own assembly over HTTPS, its disk and clock in our hands.

Servers are forked by a process that has imported everything, so that one starts in a moment. Faults are told to a
running server over a datagram socket in its folder: {"fail": n}, {"full": n}, {"slow": seconds}, {"deaf": 1},
{"jump": seconds}, {"heal": 1}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.pki import open_keys
from atoll.app.serving import handler_of, serve_api
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.base.errors import AlreadyExists
from atoll.client.kubeconfig import Access, load
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.store import log as logfile
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.log import LogFile
from atoll.kinds.builtin import NAMESPACES
from atoll.testing.cluster import namespace_object
from atoll.testing.robustness.faults import FAILURES, FaultyLog, JumpingClock
from atoll.testing.robustness.truth import Change, changes_of

_NAME = "robust"


class Nursery:
    """Forks servers; made before any event loop or thread is."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            code = 0
            with suppress(KeyboardInterrupt):
                code = _fork_for(theirs)
            os._exit(code)
        theirs.close()
        self._line = ours
        self._answers = ours.makefile("rb")

    def start(self, folder: Path) -> int:
        """A server on that folder; its process id."""
        self._line.sendall(json.dumps(str(folder)).encode() + b"\n")
        return int(self._answers.readline())

    def close(self) -> None:
        self._answers.close()
        self._line.close()
        os.waitpid(self._pid, 0)


def _fork_for(line: socket.socket) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed
    for asked in line.makefile("rb"):
        pid = os.fork()
        if pid == 0:
            line.close()
            code = 1
            try:
                _serve(Path(json.loads(asked)))
                code = 0
            except BaseException:
                logging.getLogger("atoll").exception("the server fell")
            finally:
                os._exit(code)
        line.sendall(f"{pid}\n".encode())
    return 0


def _serve(folder: Path) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.ERROR, force=True)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(folder))


async def _run(folder: Path) -> None:
    clock = JumpingClock(SystemClock())
    log = FaultyLog(folder / "store.db", time.sleep)
    async with AsyncExitStack() as stack:
        keys = open_keys(folder / "pki", _NAME, [], clock)
        store = DurableStore(folder / "store.db", clock, file=log)
        options = ApiOptions(signing_key=keys.service_account_key, static_tokens={keys.admin_token: SYSTEM_ADMIN})
        assembly = assemble(store, clock, Chance.from_system(), options)
        await bootstrap(assembly)
        for name in ("left", "right"):
            with suppress(AlreadyExists):
                await assembly.client().create(NAMESPACES, namespace_object(name))
        _listen_for_faults(folder / "faults", log, clock)
        handler = handler_of(assembly)
        await serve_api(stack, handler, keys, _NAME, folder, 0, handler.immediate)
        (folder / "ready").write_text(str(os.getpid()))
        await asyncio.get_running_loop().create_future()


def _listen_for_faults(path: Path, log: FaultyLog, clock: JumpingClock) -> None:
    path.unlink(missing_ok=True)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.setblocking(False)
    line.bind(str(path))

    def told() -> None:
        message = json.loads(line.recv(4096))
        if "jump" in message:
            clock.jump(message["jump"])
        if "heal" in message:
            log.failing, log.delay_seconds = 0, 0.0
        if "slow" in message:
            log.delay_seconds = message["slow"]
        if "deaf" in message:
            log.deaf = True
        for what, failure in zip(("fail", "full"), FAILURES, strict=True):
            if what in message:
                log.failure, log.failing = failure, message[what]

    asyncio.get_running_loop().add_reader(line.fileno(), told)


class AtollServer:
    """Ours, in a folder of its own."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder
        self.pid = 0

    async def start(self) -> None:
        """Returns once it serves. Raises RuntimeError where it does not."""
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        self.pid = self._nursery.start(self._folder)
        for _ in range(6000):
            if ready.exists() and ready.read_text() == str(self.pid):
                return
            if not _lives(self.pid):
                raise RuntimeError(f"the server did not start: {(self._folder / 'log').read_text()[-2000:]}")
            await asyncio.sleep(0.01)
        raise RuntimeError("the server did not start in a minute")

    @property
    def access(self) -> Access:
        return load(self._folder / "admin.kubeconfig").access()

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        for _ in range(30_000):
            if not _lives(self.pid):
                return
            await asyncio.sleep(0.002)
        raise RuntimeError("the server can't be killed")

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def fault(self, **message: Any) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line, suppress(OSError):
            line.sendto(json.dumps(message).encode(), str(self._folder / "faults"))

    def changes(self) -> list[Change]:
        """All that became durable, from the log of the killed server."""
        file = LogFile(self._folder / "store.db")
        try:
            return list(changes_of(entry for row in file.rows() for entry in logfile.unpack(row.entries)))
        finally:
            file.close()


def _lives(pid: int) -> bool:
    """A killed one's lock on the log goes with it."""
    return Path(f"/proc/{pid}").exists()

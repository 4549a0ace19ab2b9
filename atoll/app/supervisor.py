"""One supervisor a fleet: starts its processes, restarts those that fall, and answers the command line.

It is a plain loop on `selectors`, without threads or asyncio, because it forks: children start in milliseconds from
memory that is loaded already.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from atoll.app import children
from atoll.app.children import Child, Message
from atoll.app.fork_server import Command, ForkServer
from atoll.app.state import FleetState
from atoll.app.supervision import Supervision
from atoll.base.errors import UserError

log = logging.getLogger("atoll.supervisor")
_RESTART_FIRST_SECONDS = 0.5
_RESTART_MOST_SECONDS = 30.0
_START_TRIES = 3
_STOP_SECONDS = 10.0

Main = Callable[[socket.socket], None]


class Supervisor:
    """`programs`: process name → what it runs, started in that order; "hub" is told of each member that serves.
    `command`: what is forked for commands that ask for it; None: nothing is."""

    def __init__(
        self,
        state: FleetState,
        programs: dict[str, Main],
        members: dict[str, Message],
        command: Command | None = None,
    ) -> None:
        self._state = state
        self._programs = programs
        self._members = members
        self._command = command
        self._forks: ForkServer | None = None
        self._children: dict[str, Child] = {}
        self._failures: dict[str, int] = {}
        self._restart_at: dict[str, float] = {}
        self._partitioned: set[str] = set()
        self._been_ready: set[str] = set()
        self._down = False
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket, bytes] = {}
        self._asked: dict[int, tuple[Child, socket.socket]] = {}  # who waits for a child's snapshot
        self._questions = 0
        self._listener: socket.socket | None = None
        self._not_for_children: list[int] = []
        self._wakeup: socket.socket | None = None

    def run(self) -> None:
        """Until `down` or SIGTERM; every child is gone when it returns. Raises UserError where another supervises."""
        supervision = Supervision.take(self._state.pid_file)
        if supervision is None:
            raise UserError(f"the fleet {self._state.name} is running already", hint="atoll status shows it")
        self._not_for_children.append(supervision.descriptor)
        self._listen()
        self._catch_signals()
        for name in self._programs:
            self._start(name)
        if self._command is not None and sys.platform == "linux":
            self._offer_forks(self._command)
        try:
            while not self._down:
                self._step()
        finally:
            if self._forks is not None:
                self._forks.close()
            self._stop_all()
            self._state.control_socket.unlink(missing_ok=True)
            supervision.end()

    def _listen(self) -> None:
        path = self._state.control_socket
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(16)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _offer_forks(self, command: Command) -> None:
        try:
            forks = self._forks = ForkServer(self._state.folder, command)
        except OSError as error:
            log.warning("no start is forked from here: %s", error)
            return
        self._not_for_children.append(forks.listener.fileno())
        self._selector.register(forks.listener, selectors.EVENT_READ, lambda _: forks.accept())

    def _catch_signals(self) -> None:
        receive, send = socket.socketpair()
        receive.setblocking(False)
        send.setblocking(False)
        self._wakeup = receive
        self._wakeup_send = send
        signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_down", True))
        self._selector.register(receive, selectors.EVENT_READ, self._signalled)

    def _step(self) -> None:
        now = time.monotonic()
        due = min(self._restart_at.values(), default=now + 3600)
        for key, _ in self._selector.select(max(0.0, due - now)):
            key.data(key.fileobj)
        now = time.monotonic()
        for name in [name for name, when in self._restart_at.items() if when <= now]:
            del self._restart_at[name]
            self._start(name)

    def _start(self, name: str) -> None:
        close = [*self._not_for_children, *([self._listener.fileno()] if self._listener else [])]
        close += [child.channel.fileno() for child in self._children.values() if child.channel.fileno() >= 0]
        close += [waiting.fileno() for waiting in (*self._waiting, *(item[1] for item in self._asked.values()))]
        close += [self._selector.fileno()]
        child = children.spawn(name, self._state.log_file(name), self._programs[name], close, time.monotonic())
        self._children[name] = child
        self._selector.register(child.channel, selectors.EVENT_READ, lambda _: self._heard(child))
        if name == "hub":
            for member in self._members:
                known = self._children.get(member)
                if known is not None and known.phase in ("serving", "ready"):
                    self._introduce(child, member)
            for member in self._partitioned:
                child.send({"partition": member, "on": True})

    def _introduce(self, hub: Child, member: str) -> None:
        hub.send({"member": member, **self._members[member]})

    def _heard(self, child: Child) -> None:
        messages = child.receive()
        if messages is None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.channel)
            child.channel.close()
            return
        for message in messages:
            if "snapshot" in message:
                self._snapshot_done(message["snapshot"], message)
                continue
            phase = message.get("phase")
            if phase:
                child.phase = phase
            child.info |= message
            if phase == "serving" and child.name in self._members:
                hub = self._children.get("hub")
                if hub is not None and hub.alive:
                    self._introduce(hub, child.name)
            if phase == "ready":
                self._been_ready.add(child.name)
                self._failures.pop(child.name, None)
        self._tell_waiting()
        if self._forks is not None and all(child.phase == "ready" for child in self._children.values()):
            self._forks.warm_up()

    def _signalled(self, receiver: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            receiver.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = next((item for item in self._children.values() if item.pid == pid), None)
            if child is not None:
                self._exited(child, os.waitstatus_to_exitcode(status))

    def _exited(self, child: Child, code: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            messages = child.receive() if child.channel.fileno() >= 0 else None
            for message in messages or ():
                child.info |= message
            self._selector.unregister(child.channel)
        child.channel.close()
        for number in [number for number, (asked, _) in self._asked.items() if asked is child]:
            self._snapshot_done(number, {"error": f"{child.name} ended before the snapshot was made"})
        if child.phase == "killed" or self._down:
            self._tell_waiting()
            return
        if child.info.get("fatal"):
            child.phase = "failed"
            self._tell_waiting()
            return
        failures = self._failures.get(child.name, 0)
        self._failures[child.name] = failures + 1
        if failures + 1 >= _START_TRIES and child.name not in self._been_ready:
            child.phase = "failed"
            child.info["fatal"] = f"it ended {failures + 1} times before it was ready"
            child.info["hint"] = f"see {self._state.log_file(child.name)}"
            self._tell_waiting()
            return
        delay = min(_RESTART_FIRST_SECONDS * 2**failures, _RESTART_MOST_SECONDS)
        log.warning("%s ended with %s; starting it again in %.1f s", child.name, code, delay)
        child.phase = "exited"
        child.info["exit"] = code
        self._restart_at[child.name] = time.monotonic() + delay
        self._tell_waiting()

    # --- requests of the command line

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = listener.accept()
            connection.settimeout(2.0)
            try:
                line = connection.makefile("rb").readline()
                request = orjson.loads(line)
                self._answer(connection, request)
            except (OSError, orjson.JSONDecodeError):
                connection.close()

    def _answer(self, connection: socket.socket, request: Message) -> None:
        do = request.get("do")
        if do == "wait":
            connection.setblocking(False)
            self._waiting[connection] = b""
            self._tell_waiting()
            return
        if do == "snapshot" and self._ask_snapshot(connection, request):
            return
        answer: Message
        if do == "status":
            answer = {"processes": self._statuses(), "partitioned": sorted(self._partitioned)}
        elif do == "snapshot":
            answer = {"error": f"the cluster {request.get('cluster')!r} is not running"}
        elif do in ("kill", "heal"):
            answer = self._fault(do, str(request.get("cluster")), str(request.get("how") or "kill"))
        elif do == "down":
            answer = {"down": True, "pid": os.getpid()}
            self._down = True
        else:
            answer = {"error": f"unknown request {do!r}"}
        _reply_and_end(connection, answer)

    def _ask_snapshot(self, connection: socket.socket, request: Message) -> bool:
        """Have a cluster copy its store; it is answered when it says that it did. False if it does not run."""
        child = self._children.get(str(request.get("cluster")))
        if child is None or child.phase not in ("serving", "ready"):
            return False
        self._questions += 1
        self._asked[self._questions] = (child, connection)
        child.send({"snapshot": self._questions, "file": str(request.get("file"))})
        return True

    def _snapshot_done(self, number: int, answer: Message) -> None:
        _, connection = self._asked.pop(number)
        _reply_and_end(connection, answer)

    def _statuses(self) -> dict[str, Any]:
        return {
            name: {"pid": child.pid, "phase": child.phase, **{k: v for k, v in child.info.items() if k != "phase"}}
            for name, child in self._children.items()
        }

    def _tell_waiting(self) -> None:
        """Send the state to all who wait for readiness; whoever sees an end of it is done."""
        if not self._waiting:
            return
        statuses = self._statuses()
        done = all(item["phase"] in ("ready", "failed") for item in statuses.values())
        for connection in list(self._waiting):
            ok = _reply(connection, {"processes": statuses, "done": done})
            if done or not ok:
                del self._waiting[connection]
                connection.close()

    def _fault(self, do: str, name: str, how: str) -> Message:
        child = self._children.get(name)
        if child is None:
            known = ", ".join(sorted(self._children))
            return {"error": f"no cluster {name!r} in this fleet", "hint": f"there are: {known}"}
        if do == "heal":
            return self._heal(child)
        if how == "partition" and (name == "hub" or "hub" not in self._children):
            return {"error": f"{name!r} has no hub to be cut off from", "hint": "use --how kill or --how stop"}
        if how == "partition":
            self._partition(name, True)
        elif how == "stop":
            child.signal(signal.SIGSTOP)
            child.phase = "stopped"
        elif how == "kill":
            self._restart_at.pop(name, None)
            child.phase = "killed"
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGKILL)
        else:
            return {"error": f"unknown way to kill: {how}", "hint": "use kill, stop or partition"}
        return {"cluster": name, "how": how, "pid": child.pid}

    def _heal(self, child: Child) -> Message:
        healed = []
        if child.name in self._partitioned:
            self._partition(child.name, False)
            healed.append("partition")
        if child.phase == "stopped":
            child.phase = "ready"
            child.signal(signal.SIGCONT)
            healed.append("stop")
        if child.phase in ("killed", "exited", "failed"):
            self._restart_at.pop(child.name, None)
            self._start(child.name)
            healed.append("kill")
        return {"cluster": child.name, "healed": healed}

    def _partition(self, member: str, on: bool) -> None:
        (self._partitioned.add if on else self._partitioned.discard)(member)
        hub = self._children.get("hub")
        if hub is not None and hub.alive:
            hub.send({"partition": member, "on": on})

    def _stop_all(self) -> None:
        """SIGTERM to all, SIGKILL to who does not go."""
        living = [child for child in self._children.values() if child.alive]
        for child in living:
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        remaining = {child.pid for child in living}
        while remaining:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            remaining.discard(pid)
            if pid == 0:
                if time.monotonic() > deadline:
                    for child in living:
                        child.signal(signal.SIGKILL)
                    deadline = time.monotonic() + 1.0
                time.sleep(0.01)


def _reply_and_end(connection: socket.socket, answer: Message) -> None:
    _reply(connection, answer)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # a child forked meanwhile holds a copy: closing alone is no end
    connection.close()


def _reply(connection: socket.socket, answer: Message) -> bool:
    try:
        connection.sendall(orjson.dumps(answer) + b"\n")
    except OSError:
        return False
    return True

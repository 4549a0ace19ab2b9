"""A fleet as a user starts it, by `atoll up`, in a state folder of its own; and a view of its clusters."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from atoll.app.control import ask_one
from atoll.app.state import FleetState, fleet_state
from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access, load
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informer

MEMBERS = ("onprem", "cloud-a", "cloud-b")
HUB = "hub"
_NAME = "bench"
_STEP_SECONDS = 0.005


@dataclass
class Fleet:
    """A running fleet: a hub, three clusters of ten simulated nodes and a process node each."""

    state: FleetState
    start_seconds: float

    def access(self, cluster: str) -> Access:
        return load(self.state.cluster_folder(cluster) / "admin.kubeconfig").access()

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.ask(do="status")["processes"][name]["pid"])

    def ask(self, **request: Any) -> dict[str, Any]:
        """The supervisor, as the command line asks it."""
        return ask_one(self.state.control_socket, request)

    def memory_bytes(self) -> int:
        """Summed proportional set size of the supervisor and all below it."""
        supervisor = psutil.Process(self.state.supervisor_pid())
        total = 0
        for process in (supervisor, *supervisor.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total


@contextmanager
def fleet() -> Iterator[Fleet]:
    """The default fleet."""
    names = ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(names, folder))
        atoll = str(Path(sys.executable).with_name("atoll"))
        try:
            started = time.perf_counter()
            command = [atoll, "up", "--fleet", _NAME, "--kubeconfig", f"{folder}/kubeconfig"]
            done = subprocess.run(command, capture_output=True, text=True)
            seconds = time.perf_counter() - started
            if done.returncode != 0:
                raise RuntimeError(f"atoll up: {done.stdout}{done.stderr}")
            yield Fleet(fleet_state(_NAME), seconds)
        finally:
            subprocess.run([atoll, "down", _NAME, "--purge"], capture_output=True)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class View:
    """Clients of the hub and the members, and one kind's objects in each, by name, as watches tell them."""

    def __init__(self, clients: dict[str, HttpClient], informers: dict[str, Informer]) -> None:
        self.clients = clients
        self._informers = informers
        self._changed = asyncio.Event()
        for informer in informers.values():
            informer.add_handler(lambda old, new: self._changed.set())

    @property
    def hub(self) -> HttpClient:
        return self.clients[HUB]

    def count(self, cluster: str) -> int:
        return len(self._informers[cluster])

    def status(self, cluster: str, name: str, field: str = "readyReplicas", namespace: str = "bench") -> int:
        """A number of an object's status; -1 where the object is not there."""
        obj = self._informers[cluster].get(name, namespace)
        return -1 if obj is None else int((obj.get("status") or {}).get(field) or 0)

    def total(self, cluster: str, field: str = "readyReplicas") -> int:
        return sum(int((obj.get("status") or {}).get(field) or 0) for obj in self._informers[cluster])

    async def until(self, holds: Callable[[], bool], seconds: float = 120) -> float:
        """Wait for it; the time when it came to hold. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.25)
        return time.perf_counter()


@asynccontextmanager
async def view(fleet: Fleet, resource: Resource, namespace: str) -> AsyncIterator[View]:
    """Watches of one kind everywhere."""
    clock = SystemClock()
    clients = {name: HttpClient(fleet.access(name), clock=clock, field_manager="bench") for name in (HUB, *MEMBERS)}
    informers = {name: Informer(client, resource, namespace=namespace) for name, client in clients.items()}
    tasks = [asyncio.create_task(informer.run()) for informer in informers.values()]
    try:
        for informer in informers.values():
            await informer.synced.wait()
        yield View(clients, informers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients.values():
            await client.close()

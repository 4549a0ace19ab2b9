"""The two API servers that are compared, started cold with the same duties: TLS, RBAC, admission, durability."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from atoll.base.clock import SystemClock
from atoll.base.errors import AtollError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access, load
from atoll.kinds.builtin import CLUSTER_ROLE_BINDINGS, NAMESPACES, SERVICE_ACCOUNTS
from atoll.kinds.resource import Resource
from bench.load import Load

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "real"))
import control_plane as real_plane  # noqa: E402
import programs_on  # noqa: E402

NAMESPACE = "bench"
_TOKENS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


@dataclass
class Target:
    """A running API server. `bench` is a service account that RBAC lets do what the load does."""

    name: str
    admin: Access
    bench: Access
    processes: list[psutil.Process]
    start_seconds: float
    plane: Any = None

    def memory_bytes(self) -> int:
        """The summed proportional set size of its processes and their children."""
        total = 0
        for process in self.processes:
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += each.memory_full_info().pss
        return total

    def cpu_seconds(self) -> float:
        total = 0.0
        for process in self.processes:
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    total += times.user + times.system
        return total


def real_available() -> bool:
    return bool(real_plane.available())


@contextmanager
def real() -> Iterator[Target]:
    """etcd (with fsync) and kube-apiserver 1.36, its own defaults."""
    started = time.perf_counter()
    with real_plane.control_plane(durable=True) as plane:
        seconds = time.perf_counter() - started
        admin = load(plane.write_kubeconfig()).access()
        processes = [psutil.Process(process.pid) for process in plane.processes.values()]
        yield Target("real", admin, asyncio.run(_prepare(admin)), processes, seconds, plane)


@contextmanager
def real_workload(nodes: int, lease_seconds: int = programs_on.LEASE_SECONDS) -> Iterator[Target]:
    """The same with the real controller-manager, scheduler and kwok for so many nodes; clients are not throttled.

    `lease_seconds`: how long a node's lease lasts; kwok renews it four times within.
    """
    with real() as target, _programs(target, nodes, lease_seconds):
        yield target


@contextmanager
def _programs(target: Target, nodes: int, lease_seconds: int) -> Iterator[None]:
    plane = target.plane
    fast = ("--kube-api-qps=5000", "--kube-api-burst=10000")
    cidr = ("--cluster-cidr=10.128.0.0/9", "--allocate-node-cidrs=true")
    patient = (f"--node-monitor-grace-period={max(50, lease_seconds)}s",)  # 50 s is its default
    plane.start_controller_manager(("*",), *cidr, *fast, *patient)
    plane.start_scheduler(*fast)
    programs_on.start_kwok(plane, lease_seconds)
    target.processes[:] = [psutil.Process(process.pid) for process in plane.processes.values()]
    programs_on.add_nodes(plane, nodes)
    yield


@contextmanager
def ours(*options: str, forked: bool = False) -> Iterator[Target]:
    """`atoll cluster create --api-only`, in a state folder of its own; `forked`: another cluster runs there already."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        environment = {**os.environ, "XDG_STATE_HOME": name, "XDG_DATA_HOME": name, "XDG_RUNTIME_DIR": name}
        command = [sys.executable, "-c", "from atoll.cli.entry import main; main()", "cluster"]
        if (binary := Path(sys.executable).with_name("atoll")).exists():
            command = [str(binary), "cluster"]

        def atoll(*arguments: str) -> float:
            started = time.perf_counter()
            done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"atoll cluster {arguments[0]}: {done.stdout}{done.stderr}")
            return time.perf_counter() - started

        kubeconfig = folder / "kubeconfig"
        before = {process.pid for process in psutil.process_iter()}
        running = ["first", "bench"] if forked else ["bench"]
        try:
            if forked:
                atoll("create", "first", "--kubeconfig", str(folder / "first"), "--api-only")
            seconds = atoll("create", "bench", "--kubeconfig", str(kubeconfig), *(options or ("--api-only",)))
            admin = load(kubeconfig).access()
            yield Target("ours", admin, asyncio.run(_prepare(admin)), _started(before, name), seconds)
        finally:
            for each in running:
                subprocess.run([*command, "delete", each], env=environment, capture_output=True, text=True)


def _started(before: set[int], state: str) -> list[psutil.Process]:
    """The processes that appeared with our state folder in their environment, without their children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in before and process.environ().get("XDG_STATE_HOME") == state:
                found[process.pid] = process
    return [process for process in found.values() if process.ppid() not in found]


async def _prepare(admin: Access) -> Access:
    """A namespace with its default service account, and one that may do everything by RBAC; its token."""
    client = HttpClient(admin, clock=SystemClock())
    try:
        await client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        for name in ("default", "load"):
            with suppress(AtollError):  # a controller may have been faster
                await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": name}}, NAMESPACE)
        subject = {"kind": "ServiceAccount", "name": "load", "namespace": NAMESPACE}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        await client.create(
            CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]}
        )
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        }
        answer = await client.create(_TOKENS, request, NAMESPACE, name="load", subresource="token")
        return Access(admin.server, ca_pem=admin.ca_pem, token=answer["status"]["token"])
    finally:
        await client.close()


def both(measure: Callable[[Target, int], Load], real_total: int, ours_total: int) -> tuple[Load | None, Load]:
    """One load on each side, one after the other: (the real one's, or None where it is not built; ours)."""
    theirs = None
    if real_available():
        with real() as target:
            theirs = measure(target, real_total)
    with ours() as target:
        return theirs, measure(target, ours_total)

"""The real controllers, scheduler and kwok on any API server: a real kube-apiserver, or ours without its own.

with our_api_server(folder) as plane:      # `atoll cluster create --api-only`, as a ControlPlane
    start_all(plane)
    add_nodes(plane, 3)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from control_plane import ControlPlane

from atoll.base.clock import SystemClock
from atoll.client.kubeconfig import load
from atoll.cluster.nodes.simulated.sources import default_documents
from atoll.wire.ca import CertificateAuthority

BIN = Path(sys.executable).parent
POD_CIDR = "10.77.0.0/16"
LEASE_SECONDS = 40


@contextmanager
def our_cluster(folder: Path, name: str, *arguments: str) -> Iterator[ControlPlane]:
    """A cluster of ours in a process of its own, started by the command line."""
    kubeconfig = folder / "admin.kubeconfig"
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "XDG_RUNTIME_DIR": str(folder)}

    def atoll(*args: str) -> None:
        done = subprocess.run([BIN / "atoll", *args], env=env, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr

    atoll("cluster", "create", name, "--kubeconfig", str(kubeconfig), *arguments)
    try:
        pki = folder / f"state/atoll/fleets/cluster-{name}/clusters/{name}/pki"
        work = folder / "programs"
        work.mkdir()
        for file in ("ca.crt", "sa.key"):
            (work / file).write_bytes((pki / file).read_bytes())
        ca_pem = (pki / "ca.crt").read_bytes()
        authority = CertificateAuthority.load(ca_pem, (pki / "ca.key").read_bytes(), SystemClock())
        port = int(load(kubeconfig).access().server.rpartition(":")[2])
        admin = authority.client("kubernetes-admin", organizations=["system:masters"])
        plane = ControlPlane(work, port, ca_pem.decode(), admin, authority)
        plane.write_kubeconfig()
        try:
            yield plane
        finally:
            plane.stop()
    finally:
        atoll("cluster", "delete", name)


def our_api_server(folder: Path, name: str = "bare") -> AbstractContextManager[ControlPlane]:
    """Our API server alone."""
    return our_cluster(folder, name, "--api-only")


def start_all(plane: ControlPlane, *, leader_elect: bool = False) -> None:
    """kube-controller-manager with all its default controllers, kube-scheduler, kwok."""
    elect = f"--leader-elect={str(leader_elect).lower()}"
    plane.start_controller_manager(("*",), elect, f"--cluster-cidr={POD_CIDR}", "--allocate-node-cidrs=true")
    plane.start_scheduler(elect)
    start_kwok(plane)


def start_kwok(plane: ControlPlane, lease_seconds: int = LEASE_SECONDS) -> None:
    """kwok plays all nodes and their pods, by our own default stages."""
    admin = plane.write_kubeconfig("kwok.kubeconfig")
    stages = plane.folder / "kwok.yaml"
    stages.write_text("\n---\n".join(json.dumps(document) for document in default_documents()))
    arguments = ("--manage-all-nodes=true", f"--node-lease-duration-seconds={lease_seconds}", f"--config={stages}")
    plane.start("kwok", f"--kubeconfig={admin}", *arguments)


def node(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    room = {"cpu": "4", "memory": "16Gi", "pods": "20"}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": room, "capacity": room},
    }  # fmt: skip


def add_nodes(plane: ControlPlane, count: int) -> None:
    for number in range(count):
        body = json.dumps(node(f"kwok-{number}")).encode()
        answer = plane.request("POST", "/api/v1/nodes", body, {"Content-Type": "application/json"})
        assert answer.status == 201, answer.body


class Kubectl:
    """kubectl as the plane's administrator."""

    def __init__(self, plane: ControlPlane, namespace: str = "default") -> None:
        self._env = {**os.environ, "KUBECONFIG": str(plane.write_kubeconfig())}
        self.namespace = namespace
        self.plane = plane

    def run(self, *args: str, stdin: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [BIN / "kubectl", "-n", self.namespace, "--request-timeout=30s", *args]
        return subprocess.run(command, env=self._env, input=stdin, capture_output=True, text=True, timeout=timeout)

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        done = self.run(*args, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}{done.stdout}{self.logs()}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *args: str) -> Any:
        return json.loads(self("get", *args, "-o", "json"))

    def items(self, *args: str) -> list[Any]:
        found: list[Any] = self.get(*args)["items"]
        return found

    def logs(self) -> str:
        """The last words of each program, for a failure's message."""
        tails = []
        for name in self.plane.processes:
            text = (self.plane.folder / f"{name}.log").read_text(errors="replace")
            tails.append(f"\n--- {name}\n" + "\n".join(line[:300] for line in text.splitlines()[-6:]))
        return "".join(tails)


def until(condition: Callable[[], Any], what: str, seconds: float = 40) -> Any:
    """Wait for a condition; an AssertionError within counts as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except AssertionError as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s; last: {last}")

"""A real Kubernetes control plane on loopback: etcd and kube-apiserver, on demand controller-manager and scheduler.

    with control_plane() as plane:
        plane.request("GET", "/version")

Ports are free ones, certificates are made anew, everything is killed and removed at the end. The programs are those
that tests/real/build.py built; `available()` says whether they are there.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(Path(__file__).parent))
from build import program

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority, Certified

SERVICE_RANGE = "10.96.0.0/16"
_MODES = "--authorization-mode=Node,RBAC"
ISSUER = "https://kubernetes.default.svc.cluster.local"
SERVICE_ADDRESS = "10.96.0.1"  # the first of the range: the API server's own, for pods
SERVER_NAMES = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    ISSUER.removeprefix("https://"),
]


def available() -> bool:
    return program("etcd") is not None and program("kube-apiserver") is not None


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    warnings: list[str] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ControlPlane:
    """A running one."""

    folder: Path
    port: int
    ca_pem: str
    admin: Certified
    authority: CertificateAuthority
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, certified: Certified | None = None) -> dict[str, Any]:
        """A kubeconfig (as data) of the admin, or of another client certificate."""
        import base64

        def encoded(data: bytes) -> str:
            return base64.b64encode(data).decode()

        who = certified or self.admin
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [
                {
                    "name": "real",
                    "cluster": {"server": self.server, "certificate-authority-data": encoded(self.ca_pem.encode())},
                }
            ],
            "users": [
                {
                    "name": "real",
                    "user": {
                        "client-certificate-data": encoded(who.certificate_pem),
                        "client-key-data": encoded(who.key_pem),
                    },
                }
            ],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
        }

    def write_kubeconfig(self, name: str = "kubeconfig", certified: Certified | None = None) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(self.kubeconfig(certified)))
        return path

    def client_context(self, certified: Certified | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca_pem)
        if certified is not None:
            path = self.folder / f"client-{abs(hash(certified.certificate_pem))}.pem"
            path.write_bytes(certified.certificate_pem + certified.key_pem)
            context.load_cert_chain(path)
        return context

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        certified: Certified | None = None,
        timeout: float = 30,
    ) -> Answer:
        """One request, as admin unless told otherwise."""
        context = self.client_context(certified or self.admin)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            warnings = [value for name, value in response.getheaders() if name.lower() == "warning"]
            return Answer(response.status, found, content, warnings)
        finally:
            connection.close()

    def start(self, name: str, *arguments: str) -> None:
        """Start one of the programs, logging into the folder."""
        path = program(name)
        if path is None:
            raise RuntimeError(f"{name} is not built: run tests/real/build.py")
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen([str(path), *arguments], stdout=log, stderr=subprocess.STDOUT)

    def start_controller_manager(self, controllers: Sequence[str] = ("*",), *arguments: str) -> None:
        certified = self.authority.client("system:kube-controller-manager")
        kubeconfig = self.write_kubeconfig("controller-manager.kubeconfig", certified)
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(controllers)}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            *arguments,
        )

    def start_scheduler(self, *arguments: str) -> None:
        certified = self.authority.client("system:kube-scheduler")
        kubeconfig = self.write_kubeconfig("scheduler.kubeconfig", certified)
        self.start(
            "kube-scheduler",
            f"--kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            *arguments,
        )

    def stop(self) -> None:
        for process in reversed(list(self.processes.values())):
            process.kill()
        for process in self.processes.values():
            process.wait()


def free_port() -> int:
    """A port that nobody uses, below those that the system hands to outgoing connections.

    A program binds it some time after this probe: of the system's own range (32768 and up) another process's
    connection may have taken it by then. Node ports (30000 and up) are left out too.
    """
    for port in random.SystemRandom().sample(range(12_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("none of 100 ports from 12000 to 29999 is free")


@contextmanager
def control_plane(*arguments: str, durable: bool = False) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver with RBAC and default admission, ready; `arguments` go to the API server.

    `durable` lets etcd sync its log to the disk, as in production; tests do without.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-real-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        plane = _make(folder)
        try:
            _start_etcd_and_apiserver(plane, arguments, durable)
            _wait_ready(plane)
            yield plane
        finally:
            plane.stop()


def _make(folder: Path) -> ControlPlane:
    authority = CertificateAuthority.create("atoll-real-ca", SystemClock())
    ca_pem = authority.certificate_pem
    server = authority.server("kube-apiserver", names=SERVER_NAMES, addresses=["127.0.0.1", SERVICE_ADDRESS])
    (folder / "ca.crt").write_bytes(ca_pem)
    (folder / "server.crt").write_bytes(server.certificate_pem)
    (folder / "server.key").write_bytes(server.key_pem)
    (folder / "sa.key").write_bytes(_rsa_key_pem())
    admin = authority.client("system:admin", organizations=["system:masters"])
    return ControlPlane(folder, free_port(), ca_pem.decode(), admin, authority)


def _rsa_key_pem() -> bytes:
    """kube-apiserver reads service-account keys in PKCS #1 or SEC 1 form only."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _start_etcd_and_apiserver(plane: ControlPlane, arguments: Sequence[str], durable: bool = False) -> None:
    folder = plane.folder
    client, peer = free_port(), free_port()
    plane.start(
        "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--unsafe-no-fsync={'false' if durable else 'true'}",
    )
    plane.start(
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=10.0.0.1",
        f"--secure-port={plane.port}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={folder / 'sa.key'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        *(() if any(item.startswith("--authorization-config") for item in arguments) else (_MODES,)),
        "--allow-privileged=true",
        f"--cert-dir={folder / 'run'}",
        *arguments,
    )


def _wait_ready(plane: ControlPlane, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, process in plane.processes.items():
            if process.poll() is not None:
                tail = (plane.folder / f"{name}.log").read_bytes()[-2000:].decode(errors="replace")
                raise RuntimeError(f"{name} ended with {process.returncode}: {tail}")
        try:
            if plane.request("GET", "/readyz").status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    raise RuntimeError("kube-apiserver did not become ready")


def main() -> None:
    """Run one until interrupted, printing where its kubeconfig lies."""
    with control_plane() as plane:
        print(plane.write_kubeconfig(), flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    os.umask(0o077)
    main()

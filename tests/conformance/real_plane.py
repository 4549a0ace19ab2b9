"""The real control plane with our process nodes joined to it, for the suite: the reference beside our own API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "real"))
import image_roots
from control_plane import ISSUER, SERVICE_RANGE, ControlPlane, available, control_plane
from programs import cache_folder

from atoll.base.clock import SystemClock
from atoll.cluster.network.controller import process_node_cidr
from atoll.wire.ca import CertificateAuthority, Certified

HERE = Path(__file__).resolve().parent
POD_CIDR = "10.52.0.0/14"


@contextmanager
def real_cluster(nodes: int, logs: Path) -> Iterator[Path]:
    """Its administrator's kubeconfig, once the nodes are ready; logs of the parts go to `logs`."""
    if not available():
        raise RuntimeError("the real programs are not built: python tests/real/build.py")
    logs.mkdir(parents=True, exist_ok=True)
    kubelets = CertificateAuthority.create("kubelet-ca", SystemClock())
    front = CertificateAuthority.create("front-proxy-ca", SystemClock())
    with tempfile.TemporaryDirectory(prefix="atoll-conformance-") as folder:
        keys = Path(folder)
        _write(keys, "kubelet-client", kubelets.client("kube-apiserver-kubelet-client"), kubelets)
        _write(keys, "front-proxy", front.client("front-proxy-client"), front)
        with control_plane(*_arguments(keys)) as plane:
            (plane.folder / "ca.key").write_bytes(plane.authority.key_pem)
            plane.start_controller_manager(
                ("*",),
                f"--cluster-signing-cert-file={plane.folder / 'ca.crt'}",
                f"--cluster-signing-key-file={plane.folder / 'ca.key'}",
            )
            plane.start_scheduler()
            with _nodes(plane, kubelets, nodes, logs):
                yield plane.write_kubeconfig()


def _arguments(keys: Path) -> tuple[str, ...]:
    return (
        f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
        f"--kubelet-client-key={keys / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={keys / 'kubelet-client.ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={keys / 'front-proxy.ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys / 'front-proxy.crt'}",
        f"--proxy-client-key-file={keys / 'front-proxy.key'}",
        "--enable-aggregator-routing=true",
        f"--service-account-jwks-uri={ISSUER}/openid/v1/jwks",  # by default at an address that pods do not reach
    )


def _write(folder: Path, name: str, certified: Certified, authority: CertificateAuthority) -> None:
    (folder / f"{name}.crt").write_bytes(certified.certificate_pem)
    (folder / f"{name}.key").write_bytes(certified.key_pem)
    (folder / f"{name}.ca.crt").write_bytes(authority.certificate_pem)


@contextmanager
def _nodes(plane: ControlPlane, kubelets: CertificateAuthority, count: int, logs: Path) -> Iterator[None]:
    """A process with the nodes and their network, until the block ends."""
    config = plane.folder / "nodes.json"
    config.write_text(json.dumps(_config(plane, kubelets, count)))
    config.chmod(0o600)
    with (logs / "nodes.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "real_nodes.py"), str(config)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"the nodes did not start: {(logs / 'nodes.log').read_text()[-2000:]}")
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def _config(plane: ControlPlane, kubelets: CertificateAuthority, count: int) -> dict[str, Any]:
    nodes = []
    for index in range(count):
        name = f"real-process-{index}"
        cidr = process_node_cidr(POD_CIDR, index)
        own = plane.authority.client(f"system:node:{name}", organizations=["system:nodes"])
        serving = kubelets.server(name, names=[name], addresses=[cidr.rsplit(".", 1)[0] + ".1"])
        nodes.append(
            {
                "name": name, "pod_cidr": cidr, **_pems(own),
                "serving_certificate": serving.certificate_pem.decode(), "serving_key": serving.key_pem.decode(),
            }
        )  # fmt: skip
    return {
        "cluster": f"conformance-real-{os.getpid()}", "server": plane.server, "port": plane.port, "ca": plane.ca_pem,
        "kubelet_ca": kubelets.certificate_pem.decode(), "admin": _pems(plane.admin), "pod_cidr": POD_CIDR,
        "service_cidr": SERVICE_RANGE, "folder": str(plane.folder / "nodes"),
        "images": image_roots.catalogue(cache_folder()), "nodes": nodes,
    }  # fmt: skip


def _pems(certified: Certified) -> dict[str, str]:
    return {"certificate": certified.certificate_pem.decode(), "key": certified.key_pem.decode()}

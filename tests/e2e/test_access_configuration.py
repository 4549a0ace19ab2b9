"""A cluster made with access files, and kubectl with tokens of a provider; certificates asked for and approved."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from access_programs import Provider, oidc_provider
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from process_cluster import Cluster

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[Provider, str]]:
    """In a thread of its own: kubectl and the cluster are other processes."""
    authority = CertificateAuthority.create("outside", SystemClock())
    loop = asyncio.new_event_loop()
    ready, end = threading.Event(), asyncio.Event()
    found: list[Provider] = []

    async def run() -> None:
        async with oidc_provider(authority) as made:
            found.append(made)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    yield found[0], authority.certificate_pem.decode()
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, provider: tuple[Provider, str]) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("access")
    known, ca = provider
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [
            {
                "issuer": {"url": known.url, "audiences": ["atoll"], "certificateAuthority": ca},
                "claimMappings": {
                    "username": {"claim": "sub", "prefix": ""},
                    "groups": {"claim": "groups", "prefix": ""},
                },
            }
        ],
    }
    path = folder / "authentication.yaml"
    path.write_text(yaml.safe_dump(document))
    made = Cluster(folder, "acc")
    made.atoll("cluster", "create", "acc", "--nodes", "0", "--simulated", "1", "--kubeconfig", str(made.kubeconfig),
               "--authentication-config", str(path))  # fmt: skip
    yield made
    made.atoll("cluster", "delete", "acc")


def as_token(cluster: Cluster, token: str, *args: str) -> subprocess.CompletedProcess[str]:
    """kubectl with nothing but a token."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    path = cluster.folder / "token.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return cluster.run("--kubeconfig", str(path), *args)


def test_kubectl_with_a_token_of_the_provider(cluster: Cluster, provider: tuple[Provider, str]) -> None:
    token = provider[0].token(sub="ann", groups=["devs"])
    done = as_token(cluster, token, "auth", "whoami", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"]["userInfo"]["username"] == "ann"
    assert as_token(cluster, token, "auth", "can-i", "list", "pods").stdout.strip() == "no"
    cluster("create", "clusterrolebinding", "devs", "--clusterrole=view", "--group=devs")
    assert as_token(cluster, token, "auth", "can-i", "list", "pods").stdout.strip() == "yes"
    assert as_token(cluster, token, "get", "pods").returncode == 0
    refused = as_token(cluster, provider[0].token(exp=1), "get", "pods")
    assert "You must be logged in to the server" in refused.stderr
    log = next(cluster.folder.rglob("acc.log")).read_text()
    assert token not in log


def test_a_certificate_is_asked_for_approved_and_used(cluster: Cluster, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bea")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    spec = {"request": base64.b64encode(pem).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"]}  # fmt: skip
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    cluster.apply({**kind, "metadata": {"name": "bea"}, "spec": spec})
    assert "Pending" in cluster("get", "csr", "bea")
    cluster("certificate", "approve", "bea")
    status = cluster.until(lambda: cluster.get("csr", "bea")["status"].get("certificate"))
    assert "Approved,Issued" in cluster("get", "csr", "bea")
    (tmp_path / "bea.crt").write_bytes(base64.b64decode(status))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "bea.key").write_bytes(private)
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"client-certificate": str(tmp_path / "bea.crt"), "client-key": str(tmp_path / "bea.key")}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    assert "bea" in cluster.run("--kubeconfig", str(path), "auth", "whoami").stdout
    denied = {**kind, "metadata": {"name": "no"}, "spec": spec}
    cluster.apply(denied)
    cluster("certificate", "deny", "no")
    assert "Denied" in cluster("get", "csr", "no")


def test_a_file_that_can_not_be_used_ends_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{}]\n")
    made = Cluster(tmp_path, "bad")
    command = ["cluster", "create", "bad", "--api-only", "--kubeconfig", str(made.kubeconfig)]
    with pytest.raises(AssertionError, match=r"jwt\[0\]\.issuer\.url: Required value"):
        made.atoll(*command, "--authentication-config", str(bad))

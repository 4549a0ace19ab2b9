"""What a sceptical user tries on a running cluster: certificates, tokens that die, quotas in a race, watches."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Shell, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atoll.base.clock import ManualClock, SystemClock
from atoll.wire.ca import CertificateAuthority, Certified


class Raw:
    """The API by plain HTTPS, as the administrator or as whom a certificate names."""

    def __init__(self, shell: Shell) -> None:
        config = yaml.safe_load(Path(shell.env["KUBECONFIG"]).read_text())
        found = next(item["cluster"] for item in config["clusters"] if item["name"] == shell.context)
        user = next(item["user"] for item in config["users"] if item["name"] == shell.context)
        self.host = found["server"].removeprefix("https://")
        self.ca = base64.b64decode(found["certificate-authority-data"]).decode()
        self.token = user["token"]

    def open(self, certified_file: Path | None = None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cadata=self.ca)
        if certified_file is not None:
            context.load_cert_chain(certified_file)
        return http.client.HTTPSConnection(self.host, context=context, timeout=20)

    def __call__(
        self, method: str, path: str, body: Any = None, *, certified_file: Path | None = None, **headers: str
    ) -> tuple[int, Any]:
        given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if certified_file is None:
            given["Authorization"] = f"Bearer {self.token}"
        connection = self.open(certified_file)
        connection.request(method, path, None if body is None else json.dumps(body), given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content)

    def watch(self, path: str) -> Iterator[Any]:
        connection = self.open()
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        while line := answer.readline():
            yield json.loads(line)
        connection.close()


@pytest.fixture
def raw(cluster: Shell) -> Raw:
    return Raw(cluster)


def certificate_file(folder: Path, certified: Certified) -> Path:
    path = folder / "client.pem"
    path.write_bytes(certified.certificate_pem + certified.key_pem)
    return path


def test_a_signed_request_is_a_client_certificate(cluster: Shell, raw: Raw, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "devs"), x509.NameAttribute(NameOID.COMMON_NAME, "alice")]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    asked = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "alice"},
        "spec": {
            "request": base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(asked))
    cluster.kubectl("certificate", "approve", "alice")
    signed = until(lambda: cluster.get("csr", "alice")["status"].get("certificate"), "the certificate")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = certificate_file(tmp_path, Certified(base64.b64decode(signed), private))
    status, review = raw(
        "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, certified_file=file, Accept="application/json"
    )
    assert (status, review["status"]["userInfo"]["username"]) == (201, "alice")
    assert review["status"]["userInfo"]["groups"] == ["devs", "system:authenticated"]
    assert raw("GET", "/api/v1/pods", certified_file=file)[0] == 403


def test_an_expired_certificate_is_unauthorized(cluster: Shell, raw: Raw, tmp_path: Path) -> None:
    folder = Path(cluster.env["XDG_STATE_HOME"]) / "atoll/fleets/cluster-e2e/clusters/e2e/pki"
    files = (folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes()
    month_ago = ManualClock(SystemClock().wall() - 30 * 86400)
    for clock, wanted in ((SystemClock(), 200), (month_ago, 401)):
        certified = CertificateAuthority.load(*files, clock).client("root", organizations=["system:masters"], days=1)
        file = certificate_file(tmp_path, certified)
        assert raw("GET", "/api/v1/namespaces", certified_file=file)[0] == wanted


def test_a_token_dies_with_its_pod(cluster: Shell, raw: Raw, namespace: str) -> None:
    cluster.kubectl("run", "holder", "--image=x", "-n", namespace)
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "holder")
    token = cluster.kubectl("create", "token", "default", "-n", namespace, *bound).stdout.strip()

    def review() -> Any:
        return raw("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})[1]["status"]

    assert review()["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["holder"]
    cluster.kubectl("delete", "pod", "holder", "-n", namespace, "--now")
    assert "authenticated" not in review()


def test_a_quota_holds_in_a_race(cluster: Shell, raw: Raw, namespace: str) -> None:
    cluster.kubectl("create", "quota", "five", "--hard=pods=5", "-n", namespace)
    until(lambda: "hard" in cluster.get("quota", "five", "-n", namespace).get("status", {}), "the quota is counted")

    def create(number: int) -> int:
        pod = {"metadata": {"name": f"p{number}"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        return raw("POST", f"/api/v1/namespaces/{namespace}/pods", pod)[0]

    with ThreadPoolExecutor(20) as pool:
        statuses = sorted(pool.map(create, range(20)))
    assert statuses == [201] * 5 + [403] * 15
    assert len(cluster.get("pods", "-n", namespace)["items"]) == 5


FAILING = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: fall}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchLabels: {fate: fall}
    matchExpressions: [{key: .status.phase, operator: In, values: [Running]}]
  weight: 1000000
  next:
    statusTemplate: |
      phase: Failed
      containerStatuses:
      {{ range .spec.containers }}
      - {name: {{ .name }}, image: {{ .image }}, ready: false, restartCount: 0, state: {terminated: {exitCode: 42}}}
      {{ end }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: doomed}
spec:
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}
  template:
    metadata: {labels: {fate: fall}}
    spec: {restartPolicy: Never, containers: [{name: c, image: x}]}
"""


def test_a_stage_of_the_users_own_decides_a_jobs_fate(cluster: Shell, namespace: str) -> None:
    until(lambda: not cluster.kubectl("get", "stages", check=False).returncode, "stages are served")
    stage, job = FAILING.split("---")
    cluster.kubectl("apply", "-f", "-", stdin=stage)
    try:
        doomed: Callable[[], Any] = lambda: cluster.get("job", "doomed", "-n", namespace)["status"].get("conditions")
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job)
        conditions = until(lambda: [item for item in doomed() or () if item["type"] == "Failed"], "the job fails")
        assert conditions[0]["reason"] == "PodFailurePolicy"
        assert "failed with exit code 42 matching FailJob rule at index 0" in conditions[0]["message"]
    finally:
        cluster.kubectl("delete", "stage", "fall")


def test_a_watch_tells_of_what_leaves_its_selector(cluster: Shell, raw: Raw, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    for name, team in (("a", "x"), ("b", "y")):
        assert raw("POST", maps, {"metadata": {"name": name, "labels": {"team": team}}})[0] == 201
    listed = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=20"
    events = raw.watch(f"{maps}?watch=1&labelSelector=team%3Dx&{listed}")
    first = next(events)
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
    mark = next(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    merge = {"Content_Type": "application/merge-patch+json"}
    raw("PATCH", f"{maps}/b", {"metadata": {"labels": {"team": "x"}}}, **merge)
    raw("PATCH", f"{maps}/a", {"metadata": {"labels": {"team": "y"}}}, **merge)
    raw("PATCH", f"{maps}/a", {"data": {"unseen": "1"}}, **merge)
    raw("DELETE", f"{maps}/b")
    told = []
    for event in events:
        if event["type"] != "BOOKMARK":
            told.append((event["type"], event["object"]["metadata"]["name"]))
        if told[-1:] == [("DELETED", "b")]:
            break
    assert told == [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]

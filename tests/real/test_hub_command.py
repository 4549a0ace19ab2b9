"""`atoll hub` on a real kube-apiserver: what it refuses, what it serves as cluster.karmada.io, who leads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "simulation"))
from control_plane import ControlPlane, available, control_plane
from fleet_lab import deployment, divided, policy
from programs_on import BIN, Kubectl, our_cluster, until
from real_lab import HUB_CONTROLLERS

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
]
CLUSTERS = "clusters.cluster.karmada.io"
PATH = "/apis/cluster.karmada.io/v1alpha1/clusters"


def front_proxy(folder: Path) -> list[str]:
    """A kube-apiserver's flags that let it aggregate, as kubeadm sets them."""
    authority = CertificateAuthority.create("front-proxy-ca", SystemClock())
    shown = authority.client("front-proxy-client")
    for name, data in (
        ("ca.crt", authority.certificate_pem),
        ("c.crt", shown.certificate_pem),
        ("c.key", shown.key_pem),
    ):
        (folder / name).write_bytes(data)
    return [
        f"--requestheader-client-ca-file={folder / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={folder / 'c.crt'}",
        f"--proxy-client-key-file={folder / 'c.key'}",
    ]


@dataclass
class Hub:
    """A real API server as hub, our command line, and a sandbox cluster to join."""

    plane: ControlPlane
    member: ControlPlane
    folder: Path
    processes: list[subprocess.Popen[bytes]]

    @property
    def kubeconfig(self) -> str:
        return str(self.plane.folder / "kubeconfig")

    def atoll(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([BIN / "atoll", *args], capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self) -> tuple[subprocess.Popen[bytes], Path]:
        """Another `atoll hub`; what it says goes to the file."""
        said = self.folder / f"hub-{len(self.processes)}.log"
        command = [BIN / "atoll", "hub", "--kubeconfig", self.kubeconfig, "--listen", "127.0.0.1:0"]
        with said.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process, said


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with (
        control_plane(*front_proxy(folder)) as plane,
        our_cluster(folder, "m", "--nodes", "0", "--simulated", "2") as m,
    ):
        plane.write_kubeconfig()
        plane.start_controller_manager(HUB_CONTROLLERS)
        running = Hub(plane, m, folder, [])
        try:
            yield running
        finally:
            for process in running.processes:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def leading(hub: Hub) -> Kubectl:
    """The first hub leads, and the sandbox is joined."""
    _, said = hub.start()
    until(lambda: "leading as" in said.read_text(), f"it leads: {said.read_text()}")
    hub.atoll("join", "m", "--kubeconfig", str(hub.member.folder / "kubeconfig"), "--hub", hub.kubeconfig,
              "--region", "eu")  # fmt: skip
    kubectl = Kubectl(hub.plane)
    kubectl("wait", "--for=condition=Available", "apiservice/v1alpha1.cluster.karmada.io", "--timeout=30s")
    until(
        lambda: kubectl.run("wait", "--for=condition=Ready", f"{CLUSTERS}/m", "--timeout=20s").returncode == 0, "ready"
    )
    return kubectl


def test_it_refuses_where_templates_would_run(hub: Hub) -> None:
    refused = hub.atoll("hub", "--kubeconfig", str(hub.member.folder / "kubeconfig"), "--check", check=False)
    assert refused.returncode == 1
    assert "a deployment controller is at work here" in refused.stderr
    assert "--controllers=" in refused.stderr
    assert "may be a hub" in hub.atoll("hub", "--kubeconfig", hub.kubeconfig, "--check").stdout
    assert not Kubectl(hub.plane).items("deployments", "-A")


def test_it_refuses_where_another_control_plane_works(hub: Hub) -> None:
    kubectl = Kubectl(hub.plane)
    kubectl("create", "namespace", "karmada-system")
    now = subprocess.run(["date", "-u", "+%Y-%m-%dT%H:%M:%S.000000Z"], capture_output=True, text=True).stdout.strip()
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
             "metadata": {"name": "karmada-scheduler", "namespace": "karmada-system"},
             "spec": {"holderIdentity": "karmada-1", "renewTime": now, "leaseDurationSeconds": 15}}  # fmt: skip
    Kubectl(hub.plane, "karmada-system").apply(lease)
    refused = hub.atoll("hub", "--kubeconfig", hub.kubeconfig, check=False)
    kubectl("delete", "namespace", "karmada-system", "--wait=false")
    kubectl("delete", "lease", "karmada-scheduler", "-n", "karmada-system", "--ignore-not-found")
    assert refused.returncode == 1
    assert "karmada-scheduler is at work here (karmada-1)" in refused.stderr


def test_it_says_when_there_is_nothing(hub: Hub, tmp_path: Path) -> None:
    config = hub.plane.kubeconfig()
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "k").write_text(json.dumps(config))
    refused = hub.atoll("hub", "--kubeconfig", str(tmp_path / "k"), check=False)
    assert refused.returncode == 1
    assert "can't be reached" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_clusters_are_shown_as_karmadas(leading: Kubectl) -> None:
    shown = leading.get(CLUSTERS, "m")
    assert shown["apiVersion"] == "cluster.karmada.io/v1alpha1"
    assert shown["spec"]["region"] == "eu"
    assert (
        {entry["apiVersion"] for entry in shown["metadata"]["managedFields"]}
        if "managedFields" in shown["metadata"]
        else True
    )
    assert "m " in leading("get", CLUSTERS)
    assert any(line.startswith(f"{CLUSTERS.split('.')[0]} ") for line in leading("api-resources").splitlines())
    profile = until(lambda: leading.get("clusterprofile", "m", "-n", "atoll-system").get("status"), "it is profiled")
    assert {"name": "region", "value": "eu"} in profile["properties"]
    leading("label", CLUSTERS, "m", "tier=gold")
    assert leading.get("clusters.fleet.atoll.dev", "m")["metadata"]["labels"]["tier"] == "gold"
    applied = {"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "m"},
               "spec": {"provider": "here"}}  # fmt: skip
    leading("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=json.dumps(applied))
    assert leading.get(CLUSTERS, "m")["spec"]["provider"] == "here"
    missing = leading.run("get", CLUSTERS, "nobody")
    assert 'clusters.cluster.karmada.io "nobody" not found' in missing.stderr


def test_clusters_are_explained(leading: Kubectl) -> None:
    explained = until(lambda: leading("explain", f"{CLUSTERS}.spec"), "OpenAPI comes in the background")
    assert "GROUP:      cluster.karmada.io" in explained
    assert "apiEndpoint" in explained


def test_watches_and_waits_work(leading: Kubectl) -> None:
    waiting = subprocess.Popen(
        [BIN / "kubectl", "wait", f"{CLUSTERS}/m", "--for=jsonpath={.metadata.labels.seen}=yes", "--timeout=20s"],
        env={**os.environ, "KUBECONFIG": str(leading.plane.folder / "kubeconfig")},
    )
    leading("label", CLUSTERS, "m", "seen=yes")
    assert waiting.wait(30) == 0


def test_rights_are_the_hubs_own(leading: Kubectl) -> None:
    denied = leading.run("--as=jane", "get", CLUSTERS)
    assert 'User "jane" cannot list resource "clusters" in API group "cluster.karmada.io"' in denied.stderr
    smuggled = leading.run("--as=jane", "--as-group=x, system:masters", "get", CLUSTERS)
    assert 'User "jane" cannot list' in smuggled.stderr
    leading("create", "clusterrole", "see", "--verb=get,list", f"--resource={CLUSTERS}")
    leading("create", "clusterrolebinding", "see", "--clusterrole=see", "--user=jane")
    until(lambda: leading.run("--as=jane", "get", CLUSTERS).returncode == 0, "jane may look")
    denied = leading.run("--as=jane", "get", "--raw", f"{PATH}/m/proxy/version")
    assert "clusters/proxy" in denied.stderr


def test_a_member_is_reached_through_the_hub(leading: Kubectl) -> None:
    nodes = json.loads(leading("get", "--raw", f"{PATH}/m/proxy/api/v1/nodes"))
    assert len(nodes["items"]) == 2
    through = f"--server={leading.plane.server}{PATH}/m/proxy"
    leading(through, "create", "configmap", "through")
    assert "through" in leading(through, "get", "configmaps")


def test_nobody_comes_in_without_the_front_proxy(hub: Hub, leading: Kubectl) -> None:
    service = leading.get("service", "atoll-hub", "-n", "atoll-system")
    url = f"https://127.0.0.1:{service['spec']['ports'][0]['port']}{PATH}"
    asked = subprocess.run(["curl", "-sk", "-H", "X-Remote-User: system:admin", "-H", "X-Remote-Group: system:masters",
                            url], capture_output=True, text=True, timeout=20)  # fmt: skip
    assert json.loads(asked.stdout)["code"] == 401


def test_templates_go_to_the_member_and_their_state_comes_back(leading: Kubectl) -> None:
    leading.apply(deployment("web", 3), policy("web", **divided()))
    leading("rollout", "status", "deployment/web", "--timeout=40s")
    leading("delete", "deployment", "web", "--timeout=40s")


def test_another_takes_over(hub: Hub, leading: Kubectl) -> None:
    second, said = hub.start()
    until(lambda: "waiting for the lease" in said.read_text(), "the second waits")
    assert "leading" not in said.read_text()
    hub.processes[0].send_signal(signal.SIGTERM)
    assert hub.processes[0].wait(20) == 0
    until(lambda: "leading as" in said.read_text(), f"the second leads: {said.read_text()}", 20)
    assert second.poll() is None
    until(lambda: leading.run("get", CLUSTERS, "m").returncode == 0, "and serves")
    leading.apply(deployment("again", 2), policy("again", **divided()))
    leading("rollout", "status", "deployment/again", "--timeout=40s")


def test_leaving(hub: Hub, leading: Kubectl) -> None:
    hub.atoll("unjoin", "m", "--hub", hub.kubeconfig)
    until(lambda: not leading.items("clusters.fleet.atoll.dev"), "it is gone")
    assert not leading.items("clusterprofiles", "-A")
    member: Any = Kubectl(hub.member)
    assert member.run("get", "serviceaccount", "atoll-hub", "-n", "atoll-system").returncode

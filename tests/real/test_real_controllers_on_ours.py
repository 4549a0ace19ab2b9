"""The real kube-controller-manager, kube-scheduler and kwok on our API server, whose own controllers are off.

They speak their default protobuf, elect leaders, use service accounts' tokens of their own, watch with bookmarks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import ControlPlane, available
from programs_on import Kubectl, add_nodes, our_api_server, start_all, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with our_api_server(tmp_path_factory.mktemp("ours")) as running:
        start_all(running, leader_elect=True)
        add_nodes(running, 3)
        yield running


@pytest.fixture(scope="module")
def started(plane: ControlPlane) -> Kubectl:
    """Nodes are Ready and untainted, the default service account is made: all by the real programs."""
    kubectl = Kubectl(plane)
    kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=50s")
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=30s")
    until(lambda: not any(node["spec"].get("taints") for node in kubectl.items("nodes")), "taints go")
    return kubectl


@pytest.fixture
def kubectl(started: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace for one test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    started("create", "namespace", name)
    scoped = Kubectl(started.plane, name)
    scoped("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield scoped
    started("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def template(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx:1", "resources": {"requests": {"cpu": "100m"}}}]
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers, **spec}}


def workload(kind: str, name: str, replicas: int = 6, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name), **spec,
        },
    }  # fmt: skip


def test_the_leases_are_held(started: Kubectl) -> None:
    for name in ("kube-controller-manager", "kube-scheduler"):
        lease = started.get("lease", name, "-n", "kube-system")
        assert lease["spec"]["holderIdentity"]


def test_a_deployment_runs_rolls_and_goes(kubectl: Kubectl) -> None:
    kubectl.apply(workload("Deployment", "web"))
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    pods = kubectl.items("pods")
    assert len(pods) == 6
    assert {pod["spec"]["nodeName"] for pod in pods} == {"kwok-0", "kwok-1", "kwok-2"}
    assert all(pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet" for pod in pods)
    kubectl("set", "image", "deployment/web", "c=nginx:2")
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    sets = kubectl.items("replicasets")
    assert sorted(one["spec"]["replicas"] for one in sets) == [0, 6]
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    assert {pod["spec"]["containers"][0]["image"] for pod in running(kubectl)} == {"nginx:1"}
    kubectl("scale", "deployment/web", "--replicas=2")
    kubectl("wait", "--for=jsonpath={.status.replicas}=2", "deployment/web", "--timeout=30s")
    kubectl("delete", "deployment", "web", "--timeout=30s")
    until(lambda: not kubectl.items("replicasets,pods"), "the garbage collector takes all that it owned")


def running(kubectl: Kubectl) -> list[Any]:
    return [pod for pod in kubectl.items("pods") if "deletionTimestamp" not in pod["metadata"]]


def test_deletion_in_the_foreground_and_orphans(kubectl: Kubectl) -> None:
    kubectl.apply(workload("Deployment", "front", 2), workload("Deployment", "left", 2))
    for name in ("front", "left"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=40s")
    kubectl("delete", "deployment", "front", "--cascade=foreground", "--timeout=40s")
    assert not kubectl.items("pods", "-l", "app=front")
    kubectl("delete", "deployment", "left", "--cascade=orphan", "--timeout=40s")
    sets = until(lambda: kubectl.items("replicasets", "-l", "app=left"), "it stays")
    until(lambda: not kubectl.items("replicasets")[0]["metadata"].get("ownerReferences"), "and is nobody's")
    assert len(sets) == 1
    assert len(running(kubectl)) == 2


def test_jobs_complete(kubectl: Kubectl) -> None:
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"},
        "spec": {"completions": 4, "parallelism": 2, "completionMode": "Indexed",
                 "template": template("sum", restartPolicy="Never")},
    }  # fmt: skip
    kubectl.apply(job)
    kubectl("wait", "--for=condition=Complete", "job/sum", "--timeout=50s")
    status = kubectl.get("job", "sum")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (4, "0-3")


def test_other_workloads(kubectl: Kubectl) -> None:
    stateful = workload("StatefulSet", "db", 3, serviceName="db")
    daemon = workload("DaemonSet", "agent")
    del daemon["spec"]["replicas"]
    kubectl.apply(stateful, daemon)
    kubectl("rollout", "status", "statefulset/db", "--timeout=50s")
    kubectl("rollout", "status", "daemonset/agent", "--timeout=50s")
    names = {pod["metadata"]["name"] for pod in kubectl.items("pods", "-l", "app=db")}
    assert names == {"db-0", "db-1", "db-2"}
    assert kubectl.get("daemonset", "agent")["status"]["numberReady"] == 3


def test_services_have_endpoints_and_budgets_hold(kubectl: Kubectl) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}  # fmt: skip
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
              "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    kubectl.apply(service, budget, workload("Deployment", "web", 2))
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")

    def slices() -> list[Any]:
        return [end for one in kubectl.items("endpointslices") for end in one.get("endpoints") or ()]

    until(lambda: len([end for end in slices() if end["conditions"]["ready"]]) == 2, "two endpoints")
    until(lambda: kubectl.get("pdb", "web")["status"].get("currentHealthy") == 2, "the budget is counted")
    pod = kubectl.items("pods")[0]["metadata"]["name"]
    refused = kubectl.run("delete", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}")
    assert refused.returncode == 0
    until(lambda: kubectl.get("pdb", "web")["status"]["currentHealthy"] == 2, "a new pod is healthy")


def test_quota_is_counted(kubectl: Kubectl) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    kubectl.apply(quota)
    until(lambda: kubectl.get("quota", "few").get("status", {}).get("used") == {"pods": "0"}, "the quota is seen")
    kubectl.apply(workload("Deployment", "many", 4))
    until(lambda: len(kubectl.items("pods")) == 2, "two fit")
    events = until(lambda: kubectl.items("events", "--field-selector=reason=FailedCreate"), "the others are refused")
    assert "exceeded quota: few" in events[0]["message"]


def test_a_pod_that_fits_nowhere_says_why(kubectl: Kubectl) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "big"}, **template("big")}
    pod["metadata"] = {"name": "big"}
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100"}}
    kubectl.apply(pod)
    events = until(lambda: kubectl.items("events", "--field-selector=reason=FailedScheduling"), "the scheduler says so")
    assert "3 Insufficient cpu" in (events[0].get("message") or events[0].get("note"))


def test_custom_resources_are_collected_too(kubectl: Kubectl) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.sea.example"},
        "spec": {"group": "sea.example", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                     "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]},
    }  # fmt: skip
    kubectl.apply(crd)
    kubectl("wait", "--for=condition=Established", "crd/boats.sea.example", "--timeout=20s")
    boat = {"apiVersion": "sea.example/v1", "kind": "Boat", "metadata": {"name": "b"}}
    until(lambda: kubectl.run("apply", "-f", "-", stdin=json.dumps(boat)).returncode == 0, "it is served")
    uid = kubectl.get("boat", "b")["metadata"]["uid"]
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "crew", "ownerReferences": [
        {"apiVersion": "sea.example/v1", "kind": "Boat", "name": "b", "uid": uid}]}}  # fmt: skip
    kubectl.apply(owned)
    kubectl("delete", "boat", "b", "--timeout=20s")
    until(lambda: kubectl.run("get", "configmap", "crew").returncode, "what a custom resource owned goes", 60)
    kubectl("delete", "crd", "boats.sea.example", "--timeout=20s")


def test_a_namespace_goes_with_all_that_is_in_it(kubectl: Kubectl) -> None:
    name = kubectl.namespace
    kubectl.apply(workload("Deployment", "web", 3))
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    kubectl("delete", "namespace", name, "--timeout=60s", timeout=70)
    assert kubectl.run("get", "namespace", name).returncode


def test_a_lost_node_is_tainted(started: Kubectl) -> None:
    plane = started.plane
    plane.processes["kwok"].terminate()
    try:
        until(
            lambda: any(
                taint["key"] == "node.kubernetes.io/unreachable"
                for taint in started.get("node", "kwok-0")["spec"].get("taints") or ()
            ),
            "the node is tainted", 80,
        )  # fmt: skip
    finally:
        plane.processes["kwok"].wait()


def test_nothing_was_misunderstood(plane: ControlPlane) -> None:
    """What the programs wrote to their logs of answers that they could not read, or requests that were refused."""
    wrong = re.compile(r"unable to decode|no kind|unmarshal|failed to list|Failed to watch|forbidden|panic", re.I)
    # a quota that a test exceeds; a CIDR given twice from a cache that is behind
    expected = re.compile(r"exceeded quota|because it is being terminated|change podCIDR")
    said = []
    for name in ("kube-controller-manager", "kube-scheduler"):
        for line in (plane.folder / f"{name}.log").read_text(errors="replace").splitlines():
            if wrong.search(line) and not expected.search(line):
                said.append(f"{name}: {line[:400]}")
    assert said == []

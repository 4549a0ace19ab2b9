"""kubectl top and kubectl autoscale on process nodes: real processes that burn real CPU, and simulated pods beside."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from process_cluster import DIAGNOSIS, Cluster, pod

pytestmark = pytest.mark.skipif(DIAGNOSIS.mode == "none", reason="process nodes can't run here")
BURN = "while :; do :; done"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("top"), "top")
    made.atoll("cluster", "create", "top", "--nodes", "1", "--simulated", "1", "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", "top")


def cpu(text: str) -> int:
    """Milli-cores, as kubectl top writes them."""
    return int(text.removesuffix("m"))


def test_top_and_autoscale(cluster: Cluster) -> None:
    requests = {"resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}}
    template = pod("unused", f"nice -n 19 sh -c '{BURN}'", container=requests)
    on_process_nodes = {"atoll.dev/process": "true"}
    spec = {**template["spec"], "nodeSelector": on_process_nodes}
    labels = {"app": "burn"}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "burn"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }  # fmt: skip
    declared = pod("declared", container={"image": "any"})
    declared["metadata"]["annotations"] = {"kwok.x-k8s.io/usage-cpu": "300m", "kwok.x-k8s.io/usage-memory": "64Mi"}
    declared["spec"]["nodeName"] = "top-sim-0"
    cluster.apply(deployment, declared)
    cluster("rollout", "status", "deployment/burn", "--timeout=30s")
    cluster.ready("declared")

    def top(*args: str) -> list[list[str]]:
        done = cluster.run("top", *args, "--no-headers")
        return [line.split() for line in done.stdout.splitlines()] if done.returncode == 0 else []

    assert ["declared", "300m", "64Mi"] in cluster.until(lambda: top("pods"))
    burning = cluster.until(lambda: top("pods", "-l", "app=burn"), seconds=60)
    assert cpu(burning[0][1]) > 0
    container = cluster.until(lambda: top("pods", "-l", "app=burn", "--containers"))
    assert container[0][1] == "c"
    nodes = cluster.until(lambda: (found := top("nodes")) and len(found) == 2 and found)
    assert {name for name, *_ in nodes} == {"top-process-0", "top-sim-0"}
    cluster("autoscale", "deployment/burn", "--cpu=20%", "--min=1", "--max=2")
    cluster.until(lambda: cluster.get("deployment", "burn")["spec"]["replicas"] == 2, seconds=90)
    hpa = cluster.until(lambda: (found := cluster.get("hpa", "burn"))["status"].get("currentMetrics") and found)
    conditions = {item["type"]: item["status"] for item in hpa["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True"
    events = json.loads(cluster("get", "events", "-o", "json"))["items"]
    assert any(event["reason"] == "SuccessfulRescale" for event in events)

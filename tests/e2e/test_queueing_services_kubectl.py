"""StatefulSets and LeaderWorkerSets of a queue, and what is in use, with kubectl on a running cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, environment, until

MANIFESTS = Path(__file__).parent / "manifests" / "queued_services.yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster with queueing and LeaderWorkerSets."""
    home: Path = tmp_path_factory.mktemp("serving")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-serving")
    options = ("--nodes", "0", "--simulated", "4", "--queueing", "--batch")
    shell.atoll("cluster", "create", "serving", *options, timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "serving")


def running(shell: Shell, app: str) -> list[str]:
    items = shell.get("pods", "-l", f"app={app}")["items"]
    return sorted(it["metadata"]["name"] for it in items if it["status"].get("phase") == "Running")


def used(shell: Shell) -> Any:
    flavors = shell.get("clusterqueue", "serving").get("status", {}).get("flavorsReservation") or [{}]
    return [item["total"] for item in flavors[0].get("resources", ())]


def test_services_share_a_queue(cluster: Shell) -> None:
    cluster.kubectl("apply", "-f", str(MANIFESTS))
    until(lambda: running(cluster, "db") == ["db-0", "db-1", "db-2"], "the StatefulSet")
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    until(
        lambda: running(cluster, "model") == ["model-0", "model-0-1", "model-0-2"], "one group: there is room for one"
    )
    until(lambda: used(cluster) == ["6"], "the queue to say so")
    assert cluster.get("pod", "model-1")["spec"]["schedulingGates"]
    why = until(lambda: cluster.atoll("queue", "why", "model", "--context", "atoll-serving").stdout, "a reason")
    assert "insufficient unused quota for cpu" in why
    refused = cluster.kubectl("scale", "statefulset", "db", "--replicas=2", check=False)
    assert refused.returncode != 0 and "may only become 0 while it is queued" in refused.stderr
    cluster.kubectl("scale", "statefulset", "db", "--replicas=0")
    until(lambda: len(running(cluster, "model")) == 6, "the other group, with the quota of the first")
    moved = cluster.kubectl("label", "--overwrite", "lws", "model", "kueue.x-k8s.io/queue-name=other", check=False)
    assert moved.returncode != 0 and "immutable while it runs" in moved.stderr
    cluster.kubectl("scale", "lws", "model", "--replicas=1")
    cluster.kubectl("scale", "statefulset", "db", "--replicas=2")
    until(lambda: running(cluster, "db") == ["db-0", "db-1"], "the StatefulSet again")
    cluster.kubectl("delete", "lws/model", "statefulset/db")
    until(lambda: cluster.get("workloads")["items"] == [], "all to be gone")
    until(lambda: used(cluster) == ["0"], "the queue to say so")


def test_a_pod_of_a_group_stays_until_its_workload_is_deleted(cluster: Shell) -> None:
    for name in ("one", "two"):
        labels = "kueue.x-k8s.io/queue-name=serving,kueue.x-k8s.io/pod-group-name=pair"
        notes = "--annotations=kueue.x-k8s.io/pod-group-total-count=2"
        cluster.kubectl("run", name, "--image=i", "--restart=Never", f"--labels={labels}", notes)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=60s")
    cluster.kubectl("delete", "pod", "one", "--wait=false")
    cluster.kubectl("wait", "--for=condition=WaitingForReplacementPods", "workload/pair", "--timeout=60s")
    assert cluster.get("pod", "one")["metadata"]["deletionTimestamp"]
    cluster.kubectl("delete", "workload", "pair", "--timeout=60s")
    until(lambda: cluster.get("pods")["items"] == [], "its pods to go with it")

"""A real program on process nodes writes checkpoints into a file, is drained with its node, and goes on from there."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from process_cluster import DIAGNOSIS, Cluster

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(DIAGNOSIS.mode != "bridge", reason=f"no pod networks here: {DIAGNOSIS.reason}"),
]
EVERY = 3
TRAIN = """
import os, pathlib, time
latest = pathlib.Path("/checkpoints/latest")
step = int(latest.read_text()) if latest.exists() else 0
print("begins at", step, flush=True)
saved = time.monotonic()
while True:
    time.sleep(0.1)
    step += 1
    if time.monotonic() - saved >= EVERY:
        saved = time.monotonic()
        draft = latest.with_suffix(".new")
        draft.write_text(str(step))
        draft.rename(latest)
        print("saved", step, flush=True)
""".replace("EVERY", str(EVERY))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("ck"), "ck")
    made.atoll("cluster", "create", made.name, "--nodes", "2", "--health", "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", made.name)


def training(folder):
    told = {"atoll.dev/checkpoint-every": str(EVERY), "atoll.dev/checkpoint-file": "/checkpoints/latest"}
    container = {
        "name": "c", "image": "python:3", "command": ["python3", "-c", TRAIN],
        "volumeMounts": [{"name": "checkpoints", "mountPath": "/checkpoints"}],
    }  # fmt: skip
    volumes = [{"name": "checkpoints", "hostPath": {"path": str(folder)}}]
    template = {
        "metadata": {"labels": {"app": "train"}, "annotations": told},
        "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "train"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "train"}, "spec": spec}


def running(cluster):
    found = [
        pod
        for pod in cluster.get("pods", "-l", "app=train")["items"]
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    return found[0] if len(found) == 1 else None


def last(pod):
    return (pod["metadata"].get("annotations") or {}).get("atoll.dev/last-checkpoint", "")


def lost(cluster):
    found = re.search(r"^atoll_lost_work_seconds_total ([\d.e+-]+)$", cluster("get", "--raw", "/metrics"), re.M)
    return float(found[1]) if found else 0.0


def test_a_program_that_writes_a_file_loses_less_than_an_interval(cluster, tmp_path):
    cluster.apply(training(tmp_path))
    first = cluster.until(lambda: (pod := running(cluster)) and last(pod) and pod)
    node, name = first["spec"]["nodeName"], first["metadata"]["name"]
    newer = cluster.until(lambda: (pod := running(cluster)) and last(pod) > last(first) and pod)
    assert newer["metadata"]["name"] == name, "it was told while the program ran on"
    saved = int((tmp_path / "latest").read_text())
    cluster("annotate", "node", node, "atoll.dev/kernel-log=nvme nvme0: controller is down; will reset")
    second = cluster.until(lambda: (pod := running(cluster)) and pod["metadata"]["name"] != name and pod)
    assert second["spec"]["nodeName"] != node, "its node is out"
    began = re.search(r"begins at (\d+)", cluster.until(lambda: cluster("logs", second["metadata"]["name"])))
    assert began and int(began[1]) > saved, "the drain waited for one more checkpoint, and it went on from there"
    assert 0 < lost(cluster) <= EVERY
    order = json.loads(cluster.get("node", node)["metadata"]["annotations"]["atoll.dev/repair"])
    assert (order["phase"], order["remedy"]) == ("repairing", "reboot")
    cluster("annotate", "node", node, "atoll.dev/repaired=1")

    def back():
        found = cluster.get("node", node)
        return "taints" not in found["spec"] and not found["spec"].get("unschedulable")

    cluster.until(back)

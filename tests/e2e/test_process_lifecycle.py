"""From a container's start to its end: hooks, grace, users, claims, killed clusters, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cluster.network.bridge import bridge_name

sys.path.insert(0, str(Path(__file__).parent))
from process_cluster import BIN, DIAGNOSIS, Cluster, events_of, fetch, pod, server, service, status_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(DIAGNOSIS.mode != "bridge", reason=f"no pod networks here: {DIAGNOSIS.reason}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("pl"), "pl")
    made.atoll("cluster", "create", made.name, "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", made.name)


def test_init_sidecar_hooks_and_grace(cluster, tmp_path):
    mounts = [{"name": "d", "mountPath": "/d"}]
    loop = "trap 'echo {0} ends >> /d/log; exit 0' TERM; echo {0} >> /d/log; while true; do sleep 0.05; done"
    init = [
        {"name": "first", "image": "busybox", "command": ["sh", "-c", "echo init >> /d/log"], "volumeMounts": mounts},
        {
            "name": "side", "image": "busybox", "restartPolicy": "Always", "volumeMounts": mounts,
            "command": ["sh", "-c", loop.format("side")],
            "startupProbe": {"exec": {"command": ["grep", "side", "/d/log"]}, "periodSeconds": 1},
        },
    ]  # fmt: skip
    post = "until grep main /d/log; do sleep 0.05; done; echo post >> /d/log"
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", post]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /d/log"]}},
    }
    container = {"volumeMounts": mounts, "lifecycle": hooks}
    volumes = [{"name": "d", "hostPath": {"path": str(tmp_path), "type": "Directory"}}]
    made = pod("hooks", loop.format("main"), container=container, initContainers=init, volumes=volumes)
    made["spec"]["terminationGracePeriodSeconds"] = 20
    cluster.apply(made)
    cluster.ready("hooks")
    cluster("delete", "pod", "hooks", "--timeout=30s")
    wanted = ["init", "side", "main", "post", "pre", "main ends", "side ends"]
    assert (tmp_path / "log").read_text().splitlines() == wanted


def test_one_that_ignores_the_signal_is_killed_after_its_grace(cluster):
    cluster.apply(pod("stubborn", "trap '' TERM; while true; do sleep 0.1; done"))
    cluster.ready("stubborn")
    cluster("delete", "pod", "stubborn", "--timeout=20s")
    assert cluster.run("get", "pod", "stubborn").returncode != 0


def test_another_user_and_a_claim(cluster):
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }  # fmt: skip
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "volume"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"},
            "csi": {"driver": "none.example.com", "volumeHandle": "v"},
        },
    }  # fmt: skip
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]
    user = {"runAsUser": 1234, "runAsGroup": 2345}
    cluster.apply(
        claim, volume,
        pod("writer", "id -u; id -g; echo kept > /v/f", container=mounts, volumes=volumes, securityContext=user,
            restartPolicy="Never"),
    )  # fmt: skip
    cluster("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/writer")
    assert cluster("logs", "writer").split() == ["1234", "2345"]
    cluster("delete", "pod", "writer")
    cluster.apply(pod("reader", "cat /v/f", container=mounts, volumes=volumes, restartPolicy="Never"))
    cluster("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/reader")
    assert cluster("logs", "reader") == "kept\n"


def test_a_killed_cluster_process_takes_its_pods_up_again(cluster):
    cluster.apply(server("survivor", "back"), service("survivor", "survivor"), pod("witness", "sleep 98765"))
    cluster.ready("survivor", "witness")
    before = cluster.get("pod", "survivor")["status"]
    victims = _children_of_cluster(cluster)
    assert _running("sleep 98765") == 1
    os.kill(victims[0], signal.SIGKILL)
    cluster.until(lambda: cluster.run("get", "pod", "survivor").returncode == 0)
    cluster.until(lambda: status_of(cluster, "survivor").get("restartCount") == 1)
    cluster.ready("survivor", "witness")
    after = cluster.get("pod", "survivor")["status"]
    assert after["podIP"] == before["podIP"]
    assert after["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
    assert fetch(cluster, "witness", "http://survivor") == "back"
    assert _running("sleep 98765") == 1


def _children_of_cluster(cluster):
    status = json.loads(cluster.atoll("status", "--fleet", f"cluster-{cluster.name}", "-o", "json"))
    return [item["pid"] for item in _walk(status) if item.get("pid") and item.get("name", cluster.name) == cluster.name]


def _walk(value):
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _running(command):
    """How many processes of this machine run exactly that."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += (entry / "cmdline").read_bytes().replace(b"\0", b" ").strip() == command.encode()
            except OSError:
                continue
    return found


def test_what_nobody_waits_for_any_more_is_ended(cluster):
    slow = {"exec": {"command": ["sleep", "54321"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 100}
    cluster.apply(pod("waited", container={"livenessProbe": slow}))
    cluster.ready("waited")
    caller = subprocess.Popen([BIN / "kubectl", "exec", "waited", "--", "sleep", "76543"], env=cluster.env)
    try:
        cluster.until(lambda: _running("sleep 76543") == 1)
    finally:
        caller.kill()
        caller.wait()
    cluster.until(lambda: _running("sleep 76543") == 0)
    cluster.until(lambda: any("timed out after 1s" in item["message"] for item in events_of(cluster, "waited")))
    cluster.until(lambda: _running("sleep 54321") == 0)
    assert status_of(cluster, "waited")["restartCount"] == 0


def _links_of(bridge: str) -> set[str]:
    """The cluster's bridge and what hangs on it; other clusters of this machine come and go meanwhile."""
    found = set()
    for name in os.listdir("/sys/class/net"):
        master = Path("/sys/class/net", name, "master")
        if name == bridge or (master.exists() and master.resolve().name == bridge):
            found.add(name)
    return found


def test_nothing_is_left_behind(tmp_path):
    made = Cluster(tmp_path, "pn-gone")
    made.atoll("cluster", "create", made.name, "--nodes", "1", "--kubeconfig", str(made.kubeconfig))
    made.apply(pod("left", "sleep 87654"))
    made.ready("left")
    assert _running("sleep 87654") == 1
    (marker,) = tmp_path.rglob("network.json")
    bridge = bridge_name(json.loads(marker.read_text())["cluster"])
    links = _links_of(bridge)
    assert len(links) >= 2
    made.atoll("cluster", "delete", made.name)
    made.until(lambda: _running("sleep 87654") == 0)
    assert not links & set(os.listdir("/sys/class/net"))

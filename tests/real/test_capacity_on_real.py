"""`atoll capacity` on a real control plane, where the test plays kubelet: preflight, a bad GPU, teams, their policies,
machines that a program makes and mends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import ControlPlane, available, control_plane
from programs_on import BIN, Kubectl, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
]
JSON = {"Content-Type": "application/json"}
TEAMS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-teams, namespace: atoll-system}
data:
  teams.yaml: |
    teams:
    - {name: red, selector: {atoll.dev/pool: h100}, gpus: 7}
    - {name: blue, selector: {atoll.dev/pool: none}, amount: 0, namespaces: [blue]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-health, namespace: atoll-system}
data: {health.yaml: "simulatedSeconds: {reset: 1}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-autoscale, namespace: atoll-system}
data: {autoscale.yaml: "{idleSeconds: 2, pools: [{name: cpu, max: 2, node: {cpu: 8, memory: 32Gi}}]}"}
"""
SITE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
asked = json.load(sys.stdin)
answer = {}
match asked["operation"]:
    case "list":
        made = [json.loads(path.read_text()) for path in folder.glob("cpu-*")]
        kept = ("name", "pool", "replaces")
        answer["machines"] = [{**{key: it[key] for key in kept}, "created": "2026-11-28T10:00:00Z"} for it in made]
    case "create":
        (folder / asked["name"]).write_text(json.dumps(asked))
    case "delete":
        (folder / asked["name"]).unlink(missing_ok=True)
    case remedy:
        (folder / f"{remedy}-{asked['node']}").touch()
        answer["state"] = "done"
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane() as found:
        found.write_kubeconfig()
        found.start_controller_manager(("*", "-node-lifecycle-controller"))  # nobody sends heartbeats
        found.start_scheduler()
        site = found.folder / "site"
        site.mkdir()
        (site / "site.py").write_text(SITE)
        machines = f"{sys.executable} {site}/site.py {site}"
        command = [
            BIN / "atoll", "capacity", "--kubeconfig", found.folder / "kubeconfig", "--health", "--teams",
            "--autoscale", "--machines", machines,
        ]  # fmt: skip
        with (found.folder / "capacity.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield found
        finally:
            process.terminate()
            process.wait(timeout=20)


def node(name: str) -> Any:
    """As its kubelet would register it, with GPUs that are read from the annotation of simulated ones."""
    amounts = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "atoll.dev/pool": "h100"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]},
    }


def get(plane: ControlPlane, path: str) -> Any:
    return plane.request("GET", path).json()


def taints(plane: ControlPlane, name: str) -> dict[str, str]:
    found = get(plane, f"/api/v1/nodes/{name}")["spec"].get("taints") or ()
    return {taint["key"]: taint.get("value", "") for taint in found if taint["key"].startswith("atoll.dev/")}


def play_kubelet(plane: ControlPlane) -> None:
    """The tests' pods that are placed become Ready, and go when they are deleted."""
    path = "/api/v1/namespaces/atoll-system/pods"
    for pod in get(plane, path)["items"]:
        if "deletionTimestamp" in pod["metadata"]:
            plane.request("DELETE", f"{path}/{pod['metadata']['name']}?gracePeriodSeconds=0")
            continue
        ready = any(it["type"] == "Ready" and it["status"] == "True" for it in pod["status"].get("conditions", ()))
        if pod["spec"].get("nodeName") and not ready:
            conditions = [{"type": "Ready", "status": "True"}]
            patch = {"status": {"phase": "Running", "conditions": conditions}}
            plane.request(
                "PATCH", f"{path}/{pod['metadata']['name']}/status", json.dumps(patch).encode(),
                headers={"Content-Type": "application/strategic-merge-patch+json"},
            )  # fmt: skip


def test_nodes_are_tested_watched_and_allotted(plane: ControlPlane) -> None:
    kubectl = Kubectl(plane, "atoll-system")
    until(lambda: plane.request("GET", "/api/v1/namespaces/atoll-system").status == 200, "its namespace")
    kubectl("apply", "-f", "-", stdin=TEAMS)
    for name in ("n1", "n2"):
        assert plane.request("POST", "/api/v1/nodes", json.dumps(node(name)).encode(), JSON).status == 201
    until(lambda: taints(plane, "n1").get("atoll.dev/preflight") == "pending", "new nodes to be closed")

    def opened() -> bool:
        play_kubelet(plane)
        return all("atoll.dev/preflight" not in taints(plane, name) for name in ("n1", "n2"))

    until(opened, "preflight to pass", seconds=60)
    until(
        lambda: sorted(taints(plane, it).get("atoll.dev/team", "") for it in ("n1", "n2")) == ["", "red"], "red's node"
    )
    fault = json.dumps([{"gpu": 0, "kind": "xid", "value": 64}])
    kubectl("annotate", "node", "n1", f"atoll.dev/gpu-faults={fault}")
    until(lambda: "atoll.dev/repairs" in repaired(plane, "n1"), "it to be mended", seconds=90)
    found = get(plane, "/api/v1/nodes/n1")
    assert "atoll.dev/unhealthy" not in taints(plane, "n1") and not found["spec"].get("unschedulable")
    healthy = next(it for it in found["status"]["conditions"] if it["type"] == "GPUHealthy")
    assert (healthy["status"], healthy["reason"]) == ("True", "NoFault")


def repaired(plane: ControlPlane, name: str) -> dict[str, str]:
    play_kubelet(plane)
    annotations: dict[str, str] = get(plane, f"/api/v1/nodes/{name}")["metadata"]["annotations"]
    return annotations


def test_the_real_server_gives_the_tolerations_by_the_policy(plane: ControlPlane) -> None:
    kubectl = Kubectl(plane)
    command = [BIN / "atoll", "teams", "policy", "--kubeconfig", plane.folder / "kubeconfig"]
    policy = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kubectl("apply", "-f", "-", stdin=policy)
    kubectl("create", "priorityclass", "borrow", "--value=-10")

    def tolerations(labels: dict[str, str], **spec: Any) -> list[Any]:
        pod = {
            "metadata": {"generateName": "p-", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
        }
        answer = plane.request("POST", "/api/v1/namespaces/default/pods?dryRun=All", json.dumps(pod).encode(), JSON)
        assert answer.status == 201, answer.body
        return [it for it in answer.json()["spec"].get("tolerations", ()) if it.get("key") == "atoll.dev/team"]

    equal = {"key": "atoll.dev/team", "operator": "Equal", "value": "red", "effect": "NoSchedule"}
    until(lambda: tolerations({"atoll.dev/team": "red"}) == [equal], "the policy to act")
    assert tolerations({}) == []
    assert tolerations({}, priorityClassName="borrow") == [
        {"key": "atoll.dev/team", "operator": "Exists", "effect": "NoSchedule"}
    ]
    blue = {"metadata": {"name": "b", "labels": {"atoll.dev/team": "blue"}}}
    blue["spec"] = {"containers": [{"name": "c", "image": "i"}]}  # type: ignore[assignment]
    answer = plane.request("POST", "/api/v1/namespaces/default/pods?dryRun=All", json.dumps(blue).encode(), JSON)
    assert answer.status == 403 and "may not use nodes of the team blue" in answer.json()["message"]


def test_a_program_makes_machines_and_mends_nodes(plane: ControlPlane) -> None:
    kubectl, site = Kubectl(plane), plane.folder / "site"
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "6"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "work"}}
    spec = {"nodeSelector": {"atoll.dev/pool": "cpu"}, "containers": [container]}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod | {"spec": spec}))
    until(lambda: list(site.glob("cpu-*")), "a machine to be ordered")
    ordered = json.loads(next(site.glob("cpu-*")).read_text())
    joined = node(ordered["name"])
    joined["metadata"] = {"name": ordered["name"], "labels": ordered["labels"]}
    joined["status"] |= {"capacity": ordered["capacity"], "allocatable": ordered["capacity"]}
    assert plane.request("POST", "/api/v1/nodes", json.dumps(joined).encode(), JSON).status == 201
    kubectl("taint", "node", ordered["name"], "node.kubernetes.io/not-ready:NoSchedule-")  # as its controller would
    where = "/api/v1/namespaces/default/pods/work"
    until(lambda: get(plane, where)["spec"].get("nodeName") == ordered["name"], "the real scheduler to use it")
    assert len(list(site.glob("cpu-*"))) == 1
    plane.request("DELETE", f"{where}?gracePeriodSeconds=0")
    kubectl("annotate", "node", ordered["name"], "atoll.dev/kernel-log=nvme nvme0: controller is down; will reset")
    until(lambda: (site / f"reboot-{ordered['name']}").exists(), "the program to be asked for a reboot")
    until(lambda: "atoll.dev/repairs" in annotations(plane, ordered["name"]), "it to return")
    until(lambda: not list(site.glob("cpu-*")), "the idle machine to be given back")
    until(lambda: plane.request("GET", f"/api/v1/nodes/{ordered['name']}").status == 404, "its Node to go")


def annotations(plane: ControlPlane, name: str) -> dict[str, str]:
    answer = plane.request("GET", f"/api/v1/nodes/{name}")
    found: dict[str, str] = answer.json()["metadata"].get("annotations", {}) if answer.status == 200 else {}
    return found if answer.status == 200 else {"atoll.dev/repairs": "it is gone already"}

"""`atoll capacity` beside a cluster that knows nothing of health and teams, over HTTP with a kubeconfig."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, ROOT, Shell, environment, until

NODES = ROOT / "examples" / "13-a-bad-gpu-is-found-drained-replaced" / "nodes.yaml"
SITE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
asked = json.load(sys.stdin)
with (folder / "asked").open("a") as log:
    log.write(json.dumps(asked) + "\\n")
machines = {path.name: json.loads(path.read_text()) for path in folder.glob("gpu-*")}
answer = {}
if asked["operation"] == "list":
    answer["machines"] = [{**{k: it[k] for k in ("name", "pool", "replaces")}, "created": "2026-11-28T10:00:00Z"}
                          for it in machines.values()]
elif asked["operation"] == "create":
    (folder / asked["name"]).write_text(json.dumps(asked))
elif asked["operation"] == "delete":
    (folder / asked["name"]).unlink(missing_ok=True)
else:
    answer["state"] = "done"
print(json.dumps(answer))
"""
POOLS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-autoscale, namespace: atoll-system}
data: {autoscale.yaml: "{idleSeconds: 2, pools: [{name: gpu, max: 2, node: {cpu: 8, memory: 32Gi}}]}"}
---
apiVersion: v1
kind: Pod
metadata: {name: work}
spec:
  containers: [{name: c, image: i, resources: {requests: {cpu: 6}}}]
"""
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-teams, namespace: atoll-system}
data: {teams.yaml: "teams: [{name: red, selector: {atoll.dev/pool: h100}, amount: 2}]"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-health, namespace: atoll-system}
data: {health.yaml: "simulatedSeconds: {reset: 1}"}
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("plain16")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-plain16")
    shell.atoll("cluster", "create", "plain16", "--nodes", "0", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "plain16")


def node(shell: Shell, name: str = "gpu-1") -> Any:
    return shell.get("node", name)


def healthy(shell: Shell) -> str:
    conditions = {item["type"]: item["status"] for item in node(shell)["status"]["conditions"]}
    return conditions.get("GPUHealthy", "")


def test_health_and_teams_run_beside_a_cluster(plain: Shell) -> None:
    where = ("--kubeconfig", plain.env["KUBECONFIG"], "--context", "atoll-plain16")
    assert "nothing to run" in plain.atoll("capacity", *where, check=False).stderr
    run = plain.popen(str(BIN / "atoll"), "capacity", *where, "--health", "--teams", "--listen", "127.0.0.1:0")
    try:
        assert run.stdout is not None
        port = next(found[1] for line in run.stdout if (found := re.search(r"/metrics on 127.0.0.1:(\d+)", line)))
        until(lambda: plain.get("namespace", "atoll-system"), "the namespace of settings")
        plain.kubectl("apply", "-f", "-", stdin=SETTINGS)
        plain.kubectl("apply", "-f", str(NODES))
        until(lambda: node(plain)["metadata"]["labels"].get("atoll.dev/preflight") == "passed", "preflight")
        until(lambda: healthy(plain) == "True", "a reading")
        until(lambda: len(plain.get("nodes", "-l", "atoll.dev/team=red")["items"]) == 2, "red's nodes")
        fault = 'atoll.dev/gpu-faults=[{"gpu": 3, "kind": "xid", "value": 64}]'
        plain.kubectl("annotate", "node", "gpu-1", fault)
        until(lambda: "atoll.dev/repairs" in node(plain)["metadata"]["annotations"], "the repair")
        repairs = json.loads(node(plain)["metadata"]["annotations"]["atoll.dev/repairs"])
        assert [item["remedy"] for item in repairs] == ["reset"]

        def told(series: str) -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                return series in page.read().decode()

        until(lambda: told('atoll_health_returned_total{remedy="reset"} 1'), "the node's return")
        until(lambda: told('atoll_team_nodes{team="red",what="have"} 2'), "the node in its stead to be given back")
        lease = plain.get("lease", "atoll-capacity", "-n", "kube-system")
        assert lease["spec"]["holderIdentity"]
    finally:
        run.terminate()
        run.wait(timeout=20)
    assert run.returncode in (0, 130, 143)


def test_a_program_makes_and_mends_machines(plain: Shell, tmp_path: Path) -> None:
    where = ("--kubeconfig", plain.env["KUBECONFIG"], "--context", "atoll-plain16")
    refused = plain.atoll("capacity", *where, "--autoscale", check=False).stderr
    assert "--autoscale needs a program" in refused
    refused = plain.atoll("capacity", *where, "--autoscale", "--machines", "/nowhere/x", check=False).stderr
    assert "'/nowhere/x' is no program that can be run" in refused
    (tmp_path / "site.py").write_text(SITE)
    program = f"{sys.executable} {tmp_path}/site.py {tmp_path}"
    run = plain.popen(str(BIN / "atoll"), "capacity", *where, "--health", "--autoscale", "--machines", program)
    try:
        until(lambda: plain.get("namespace", "atoll-system"), "the namespace of settings")
        plain.kubectl("delete", "nodes", "--all")
        plain.kubectl("apply", "-f", "-", stdin=POOLS)
        until(lambda: list(tmp_path.glob("gpu-*")), "a machine to be ordered")
        ordered = json.loads(next(tmp_path.glob("gpu-*")).read_text())
        plain.kubectl("apply", "-f", "-", stdin=json.dumps(joined(ordered)))
        plain.kubectl("wait", "--for=condition=Ready", "pod/work", "--timeout=30s")
        plain.kubectl("apply", "-f", "-", stdin=json.dumps(bare("iron")))
        plain.kubectl("patch", "node", "iron", "--subresource=status", "-p", json.dumps({"status": READY}))
        plain.kubectl("annotate", "node", "iron", "atoll.dev/kernel-log=nvme nvme0: controller is down; will reset")
        until(lambda: "atoll.dev/repairs" in plain.get("node", "iron")["metadata"]["annotations"], "the reboot")
        asked = {(it["node"], it["number"], it["reason"]) for it in requests(tmp_path) if it["operation"] == "reboot"}
        assert asked == {("iron", 1, "NVMeDown")}
        plain.kubectl("delete", "pod", "work", "--wait=false")
        until(lambda: not list(tmp_path.glob("gpu-*")), "the machine to be given back")
        until(lambda: ordered["name"] not in names(plain), "its node to go")
    finally:
        run.terminate()
        run.wait(timeout=20)


READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}]}


def joined(ordered: Any) -> Any:
    """As the machine's kubelet would register it; a simulated one, so that its pods run."""
    node = bare(ordered["name"])
    node["metadata"] |= {"labels": ordered["labels"], "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return node | {"status": {"capacity": ordered["capacity"], "allocatable": ordered["capacity"]}}


def bare(name: str) -> Any:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def requests(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def names(shell: Shell) -> set[str]:
    return {it["metadata"]["name"] for it in shell.get("nodes")["items"]}

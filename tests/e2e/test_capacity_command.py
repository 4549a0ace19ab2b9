"""`atoll capacity` beside a cluster that knows nothing of health and teams, over HTTP with a kubeconfig."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, ROOT, Shell, environment, until

NODES = ROOT / "examples" / "13-a-bad-gpu-is-found-drained-replaced" / "nodes.yaml"
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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            text = page.read().decode()
        assert 'atoll_health_returned_total{remedy="reset"} 1' in text
        assert 'atoll_team_nodes{team="red",what="have"} 2' in text
        lease = plain.get("lease", "atoll-capacity", "-n", "kube-system")
        assert lease["spec"]["holderIdentity"]
    finally:
        run.terminate()
        run.wait(timeout=20)
    assert run.returncode in (0, 130, 143)

"""Example 18: a live cluster is copied into a scenario with a kubeconfig that may only read, and asked "what if"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Shell, environment, until

EXAMPLE = ROOT / "examples" / "18-what-if-on-a-snapshot"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "run").mkdir(mode=0o700)
    shell = Shell(environment(tmp_path), "atoll-whatif18")
    shell.atoll("cluster", "create", "whatif18", "--nodes", "0", "--simulated", "4", "--queueing", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "whatif18")


def test_what_if_is_asked_of_a_copy(lab: Shell, tmp_path: Path) -> None:
    lab.kubectl("apply", "-f", str(EXAMPLE / "work.yaml"))
    until(lambda: lab.get("job", "nightly")["status"].get("ready") == 4, "the work to run")
    reader = tmp_path / "reader.yaml"
    lab.kubectl("create", "serviceaccount", "reader")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reads-all"}}
    role |= {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]}
    (tmp_path / "role.json").write_text(json.dumps(role))
    lab.kubectl("apply", "-f", str(tmp_path / "role.json"))
    lab.kubectl("create", "clusterrolebinding", "reader", "--clusterrole=reads-all", "--serviceaccount=default:reader")
    token = lab.kubectl("create", "token", "reader").stdout.strip()
    config = json.loads(lab.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    reader.write_text(json.dumps(config))
    before = lab.get("jobs")["items"]
    copied = lab.atoll(
        "simulate", "snapshot", "--kubeconfig", str(reader), "--duration", "1h", "--remaining", "20m", timeout=60
    ).stdout
    scenario = tmp_path / "lab.yaml"
    scenario.write_text(copied + (EXAMPLE / "what-if.yaml").read_text())
    results = json.loads(lab.atoll("simulate", str(scenario), "-o", "json", timeout=180).stdout)
    finished = {item["policy"]: item["measures"]["finished"] for item in results}
    assert finished == {"as it is": 2.0, "a node dies": 2.0, "half the quota": 2.0}
    waits = {item["policy"]: item["measures"]["wait"] for item in results}
    assert waits["half the quota"] > 5 > waits["as it is"]  # minutes: one Job after the other
    assert [item["metadata"]["resourceVersion"] for item in lab.get("jobs")["items"]] == [
        item["metadata"]["resourceVersion"] for item in before
    ]

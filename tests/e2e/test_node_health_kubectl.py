"""Examples 13 and 14 with kubectl on a running cluster of simulated GPU nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Shell, environment, until

BAD = ROOT / "examples" / "13-a-bad-gpu-is-found-drained-replaced"
PREFLIGHT = ROOT / "examples" / "14-preflight"


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster with health."""
    home: Path = tmp_path_factory.mktemp("gpus")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-gpus")
    shell.atoll("cluster", "create", "gpus", "--nodes", "0", "--health", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "gpus")


def health(shell: Shell) -> dict[str, Any]:
    found = json.loads(shell.atoll("nodes", "health", "--context", "atoll-gpus", "-o", "json").stdout)
    return {item["name"]: item for item in found["items"]} | {"": found}


def test_a_simulated_machines_kernel_log_is_judged(gpus: Shell) -> None:
    until(lambda: gpus.get("namespace", "atoll-system"), "the namespace of settings")
    for name in ("settings", "nodes"):
        gpus.kubectl("apply", "-f", str(BAD / f"{name}.yaml"))
    line = "EXT4-fs (sda1): Remounting filesystem read-only"
    told = gpus.atoll("nodes", "fault", "gpu-2", "--kernel-log", line, "--context", "atoll-gpus").stdout
    assert told == "node gpu-2: FilesystemIsReadOnly\n"
    until(lambda: remedies(gpus, "gpu-2") == ["reboot"], "the reboot", 90)
    events = gpus.kubectl("get", "events", "--field-selector", "involvedObject.name=gpu-2").stdout
    assert all(reason in events for reason in ("FilesystemIsReadOnly", "TakenOut", "Returned"))
    node = gpus.get("node", "gpu-2")
    assert {item["type"]: item["status"] for item in node["status"]["conditions"]}["ReadonlyFilesystem"] == "False"
    refused = gpus.atoll("nodes", "fault", "nobody", "--clear", "--context", "atoll-gpus", check=False)
    assert "there is no node 'nobody'" in refused.stderr
    gpus.kubectl("delete", "-f", str(BAD / "nodes.yaml"))


def remedies(shell: Shell, name: str = "gpu-1") -> list[str]:
    node = shell.get("node", name)
    past = json.loads(node["metadata"]["annotations"].get("atoll.dev/repairs", "[]"))
    return [] if node["spec"].get("taints") else [item["remedy"] for item in past]


def shown(shell: Shell) -> str:
    return shell.atoll("nodes", "health", "--context", "atoll-gpus").stdout


def test_nothing_lands_before_preflight(gpus: Shell) -> None:
    gpus.kubectl("apply", "-f", str(PREFLIGHT / "work.yaml"))
    gpus.kubectl("apply", "-f", str(PREFLIGHT / "node.yaml"))
    described = gpus.kubectl("describe", "node", "fresh").stdout
    assert "atoll.dev/preflight=pending:NoSchedule" in described
    until(lambda: health(gpus)["fresh"]["state"] == "preflight", "the node to be shown")
    assert gpus.get("pod", "work")["status"]["phase"] == "Pending"
    gpus.kubectl("annotate", "node", "fresh", "atoll.dev/not-ready-")
    gpus.kubectl("wait", "--for=condition=Ready", "pod/work", "--timeout=30s")
    found = health(gpus)
    assert found["fresh"]["state"] == "healthy" and found["fresh"]["tested"].endswith("ago")
    assert found[""]["coverage"]["share"] == 1.0
    gpus.kubectl("delete", "-f", str(PREFLIGHT / "work.yaml"), "-f", str(PREFLIGHT / "node.yaml"))


def test_a_bad_gpu_is_found_drained_replaced(gpus: Shell) -> None:
    until(lambda: gpus.get("namespace", "atoll-system"), "the namespace of settings")
    for name in ("settings", "nodes", "train"):
        gpus.kubectl("apply", "-f", str(BAD / f"{name}.yaml"))
    until(lambda: gpus.get("job", "train")["status"].get("ready") == 3, "the job to run")
    seen = "{budget: 1, simulatedSeconds: {reset: 20, reboot: 4, replace: 6}}"  # a busy machine's commands take seconds
    told = ("gpu-1", "1 out (at most 1)", "XID 64")
    patch = json.dumps({"data": {"health.yaml": seen}})
    gpus.kubectl("patch", "configmap", "atoll-health", "-n", "atoll-system", "--type=merge", "-p", patch)
    for remedy in ("reset", "reboot", "replace"):
        before = remedies(gpus)
        fault = 'atoll.dev/gpu-faults=[{"gpu": 3, "kind": "xid", "value": 64}]'
        gpus.kubectl("annotate", "--overwrite", "node", "gpu-1", fault)
        if remedy == "reset":
            until(lambda: all(part in shown(gpus) for part in told), "it to be found")
        until(lambda before=before, remedy=remedy: remedies(gpus) == [*before, remedy], f"the {remedy}", 90)
    events = gpus.kubectl("get", "events", "--field-selector", "involvedObject.name=gpu-1").stdout
    assert all(reason in events for reason in ("TakenOut", "XID64", "Repairing", "PreflightPassed", "Returned"))
    until(lambda: gpus.get("job", "train")["status"].get("ready") == 3, "the job to run again")

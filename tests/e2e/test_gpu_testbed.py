"""`atoll gpu` as a user has it: nvkind's files, kubectl, faults, a second configuration for one name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import INPUTS, Shell, environment, until

NVKIND = INPUTS / "nvkind"
NAME = "bed7"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "two"},
    "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]},
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("gpu")
    (home / "run").mkdir(mode=0o700)
    found = Shell(environment(home), f"atoll-{NAME}")
    yield found
    for name in (NAME, "per-gpu"):
        found.atoll("gpu", "down", name, check=False)


def gpus_of(shell: Shell, name: str) -> dict[str, list[dict[str, str]]]:
    printed = json.loads(shell.atoll("gpu", "print-gpus", "--name", name).stdout)
    return {item["node"]: item["gpus"] for item in printed}


def allocatable(shell: Shell, node: str) -> Any:
    return shell.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu")


@pytest.mark.skipif(not NVKIND.is_dir(), reason="the published files are not on this machine")
def test_nvkinds_files_make_clusters_that_kubectl_sees(shell: Shell) -> None:
    template, values = NVKIND / "default-config-template.yaml", NVKIND / "default-config-values.yaml"
    up = ("gpu", "up", "--name", NAME, "--gpus", "4", "--config-template", str(template))
    made = shell.atoll(*up, "--config-values", str(values), timeout=120)
    assert "the testbed's are simulated" in made.stderr
    worker = shell.get("node", f"{NAME}-worker")
    assert worker["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert worker["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    listed = shell.atoll("gpu", "list", "--gpus", "4").stdout.splitlines()
    found = gpus_of(shell, NAME)
    assert list(found) == [f"{NAME}-worker"]
    assert [f"GPU {it['Index']}: {it['Name']} (UUID: {it['UUID']})" for it in found[f"{NAME}-worker"]] == listed
    slices = until(lambda: shell.get("resourceslices")["items"], "slices")
    assert {item["spec"]["driver"] for item in slices} == {"gpu.nvidia.com"}
    assert "mig.nvidia.com" in shell.kubectl("get", "deviceclasses").stdout
    again = shell.atoll(*up, "--config-values", str(values))
    assert "is running, as configured" in again.stdout
    other = shell.atoll("gpu", "up", "--name", NAME, "--gpus", "2", check=False)
    assert other.returncode == 1
    assert "made from another configuration" in other.stderr and f"atoll gpu down {NAME}" in other.stderr


@pytest.mark.skipif(not NVKIND.is_dir(), reason="the published files are not on this machine")
def test_a_pod_gets_two_and_a_fault_takes_one(shell: Shell) -> None:
    shell.kubectl("apply", "-f", "-", stdin=json.dumps(POD))
    pod = until(lambda: (it := shell.get("pod", "two"))["status"]["phase"] == "Running" and it, "the pod to run")
    (resource,) = pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
    uuids = [item["UUID"] for item in gpus_of(shell, NAME)[f"{NAME}-worker"]]
    assert [item["resourceID"] for item in resource["resources"]] == uuids[:2]
    node = f"{NAME}-worker"
    told = shell.atoll("gpu", "fault", node, "--xid", "79", "--gpu", "3", "--name", NAME).stdout
    assert "1 fault(s)" in told
    until(lambda: allocatable(shell, node) == "3", "the GPU to be out")
    shell.atoll("gpu", "fault", node, "--clear", "--name", NAME)
    until(lambda: allocatable(shell, node) == "4", "the GPU to be back")
    wrong = shell.atoll("gpu", "fault", node, "--xid", "79", "--gpu", "4", "--name", NAME, check=False)
    assert wrong.returncode == 1 and "has GPUs 0 to 3, not 4" in wrong.stderr


@pytest.mark.skipif(not NVKIND.is_dir(), reason="the published files are not on this machine")
def test_one_worker_a_gpu(shell: Shell) -> None:
    template = str(NVKIND / "one-worker-per-gpu.yaml")
    shell.atoll("gpu", "up", "--name", "per-gpu", "--gpus", "t4:2,a10:1", "--config-template", template, timeout=120)
    found = gpus_of(shell, "per-gpu")
    assert [(node, gpus[0]["Index"], gpus[0]["Name"]) for node, gpus in found.items()] == [
        ("per-gpu-worker", "0", "Tesla T4"),
        ("per-gpu-worker2", "0", "Tesla T4"),
        ("per-gpu-worker3", "0", "NVIDIA A10"),
    ]
    assert len(json.loads(shell.atoll("gpu", "print-gpus").stdout)) == 3  # the current context's
    assert "deleted" in shell.atoll("gpu", "down", "per-gpu").stdout
    gone = shell.atoll("gpu", "print-gpus", "--name", "per-gpu", check=False)
    assert gone.returncode == 1 and "is not running" in gone.stderr


def test_mistakes(shell: Shell) -> None:
    for args, why in (
        (("--gpu-type", "h10"), "did you mean h100"),
        (("--gpus", "h100"), "is not TYPE:COUNT"),
        (("--config-template", "/nowhere.yaml"), "No such file"),
    ):
        refused = shell.atoll("gpu", "up", "--name", "no", *args, check=False)
        assert refused.returncode == 1 and why in refused.stderr
    refused = shell.atoll("gpu", "up", "--name", "no", "--config-template", "-", stdin="{{ foo }}", check=False)
    assert refused.returncode == 1 and 'function "foo" not defined' in refused.stderr

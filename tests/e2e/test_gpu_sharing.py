"""Example 15 as its README has it, and process nodes with GPUs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Shell, environment, until

from atoll.cluster.nodes.process.doctor import diagnose

EXAMPLE = ROOT / "examples" / "15-mig-and-time-slicing"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("sharing")
    (found / "run").mkdir(mode=0o700)
    return found


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Shell]:
    """Example 15's cluster."""
    shell = Shell(environment(home), "atoll-shared")
    (up,) = commands("atoll gpu up")
    shell.atoll(*up, timeout=120)
    yield shell
    shell.atoll("gpu", "down", "--name", "shared")


def commands(start: str) -> list[list[str]]:
    """The README's commands that begin so, without their first word."""
    lines = [line.strip() for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("    ")]
    return [line.split()[1:] for line in lines if line.startswith(start)]


def play(shell: Shell, *words: str) -> None:
    """The one kubectl command of the README that has these words."""
    (found,) = [command for command in commands("kubectl") if set(words) <= set(" ".join(command).split())]
    shell.run("kubectl", *found)


def nvidia(shell: Shell, node: str) -> dict[str, str]:
    found = shell.get("node", node)["status"]["allocatable"]
    return {key: value for key, value in found.items() if key.startswith("nvidia.com/") and value != "0"}


def devices(shell: Shell, selector: str) -> list[str]:
    """The ids of the running pods' devices."""
    ids = []
    for pod in shell.get("pods", "-l", selector)["items"]:
        for container in pod["status"].get("containerStatuses", ()):
            for resource in container.get("allocatedResourcesStatus", ()):
                ids += [item["resourceID"] for item in resource["resources"]]
    return ids


def ready(shell: Shell, name: str) -> Any:
    return shell.get("deployment", name)["status"].get("readyReplicas")


def test_partitions_and_slices(shared: Shell) -> None:
    play(shared, "apply", "examples/15-mig-and-time-slicing/operator.yaml")
    play(shared, "label", "shared-worker", "nvidia.com/mig.config=all-balanced")
    expected = {"nvidia.com/mig-1g.5gb": "4", "nvidia.com/mig-2g.10gb": "2", "nvidia.com/mig-3g.20gb": "2"}
    until(lambda: nvidia(shared, "shared-worker") == expected, "the partitions")
    play(shared, "apply", "examples/15-mig-and-time-slicing/partitions.yaml")
    play(shared, "label", "shared-worker2")
    until(lambda: nvidia(shared, "shared-worker2") == {"nvidia.com/gpu.shared": "8"}, "the slices")
    play(shared, "apply", "examples/15-mig-and-time-slicing/slices.yaml")
    until(lambda: ready(shared, "notebook") == 4 and ready(shared, "chat") == 8, "all to run")
    given = devices(shared, "app=notebook") + devices(shared, "app=chat") + devices(shared, "example=partitions")
    assert len(given) == len(set(given)) == 13
    on_gpus = Counter(item.partition("::")[0] for item in devices(shared, "app=chat"))
    assert sorted(on_gpus.values()) == [4, 4]
    found = json.loads(shared.atoll("gpu", "top", "--name", "shared", "--devices", "-o", "json").stdout)["items"]
    assert {item["node"]: item["used"] for item in found} == {"shared-worker": 2, "shared-worker2": 2}
    sliced = next(item for item in found if item["node"] == "shared-worker2")["devices"]
    assert [(len(row["pods"]), round(row["utilization"])) for row in sliced] == [(4, 60), (4, 60)]


def test_a_gpu_in_use_is_not_partitioned_anew(shared: Shell) -> None:
    play(shared, "label", "--overwrite", "nvidia.com/mig.config=all-disabled")

    def state() -> Any:
        return shared.get("node", "shared-worker")["metadata"]["labels"].get("nvidia.com/mig.config.state")

    until(lambda: state() == "pending", "the change to wait")
    assert "is in use by default/" in shared.kubectl("get", "events").stdout
    play(shared, "delete", "examples/15-mig-and-time-slicing/partitions.yaml")
    until(lambda: nvidia(shared, "shared-worker") == {"nvidia.com/gpu": "2"}, "whole GPUs again")
    assert state() == "success"


CLAIM = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: small}
spec:
  spec:
    devices:
      requests:
      - name: r
        exactly:
          deviceClassName: mig.nvidia.com
          selectors: [{cel: {expression: "device.attributes['gpu.nvidia.com'].profile == '1g.5gb'"}}]
---
apiVersion: v1
kind: Pod
metadata: {name: claims}
spec:
  resourceClaims: [{name: g, resourceClaimTemplateName: small}]
  containers: [{name: c, image: i, resources: {claims: [{name: g}]}}]
"""


def test_a_gpu_of_which_a_claim_has_a_partition_is_not_given_whole(shared: Shell) -> None:
    """The other worker's GPUs are shared in time: the claim can only be had on the first one, which is whole again."""
    shared.kubectl("apply", "-f", "-", stdin=CLAIM)
    until(lambda: shared.get("pod", "claims")["status"]["phase"] == "Running", "the pod with a claim")
    (claim,) = shared.get("resourceclaims")["items"]
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert re.fullmatch(r"gpu-\d-mig-1g5gb-19-\d", result["device"])
    node = result["pool"]
    offered = {"shared-worker": {"nvidia.com/gpu": "1"}, "shared-worker2": {"nvidia.com/gpu.shared": "4"}}
    until(lambda: nvidia(shared, node) == offered[node], "the plugin to offer the rest")
    found = json.loads(shared.atoll("gpu", "top", node, "--name", "shared", "--devices", "-o", "json").stdout)["items"]
    (row,) = [row for row in found[0]["devices"] if row["profile"] == "1g.5gb"]
    assert row["pods"] == ["default/claims"] and row["utilization"] > 0
    shared.kubectl("delete", "pod", "claims", "--wait=true")
    until(lambda: not shared.get("resourceclaims")["items"], "the claim to go")


@pytest.mark.skipif(diagnose().mode == "none", reason="process nodes can't run here")
def test_a_containers_processes_are_told_of_their_own_gpus(home: Path) -> None:
    shell = Shell(environment(home), "atoll-runs")
    values = json.dumps({"workers": [{"devices": "all"}]})
    shell.atoll(
        "gpu", "up", "--name", "runs", "--gpus", "l4:2", "--process", "--config-values", "-", stdin=values, timeout=120
    )
    try:
        say = ["sh", "-c", 'echo "mine: $NVIDIA_VISIBLE_DEVICES."; ls /dev; sleep 600']
        containers = [
            {"name": name, "image": "busybox", "command": say, "resources": {"limits": limits}}
            for name, limits in (("one", {"nvidia.com/gpu": "1"}), ("none", {}))
        ]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "see"}, "spec": {"containers": containers}}
        shell.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        told = until(
            lambda: "mine: GPU-" in (text := shell.kubectl("logs", "see", "-c", "one").stdout) and text, "a log"
        )
        uuid = re.search(r"mine: (GPU-[0-9a-f-]+)\.", told)
        assert uuid is not None and "nvidia" not in told.split("\n", 1)[1]
        assert "mine: ." in shell.kubectl("logs", "see", "-c", "none").stdout
        statuses = shell.get("pod", "see")["status"]["containerStatuses"]
        one = next(item for item in statuses if item["name"] == "one")
        assert one["allocatedResourcesStatus"][0]["resources"] == [{"resourceID": uuid[1], "health": "Healthy"}]
        (node,) = json.loads(shell.atoll("gpu", "top", "--name", "runs", "-o", "json").stdout)["items"]
        assert (node["node"], node["gpus"], node["used"]) == ("runs-worker", 2, 1)
        late = {"name": "c", "image": "busybox", "command": ["true"], "resources": {"limits": {"nvidia.com/gpu": "2"}}}
        spec = {"nodeName": "runs-worker", "containers": [late]}
        shell.kubectl("apply", "-f", "-", stdin=json.dumps({**pod, "metadata": {"name": "late"}, "spec": spec}))
        refused = until(lambda: (it := shell.get("pod", "late"))["status"]["phase"] == "Failed" and it, "a refusal")
        assert refused["status"]["reason"] == "UnexpectedAdmissionError"
        assert "Requested: 2, Available: 1" in refused["status"]["message"]
    finally:
        shell.atoll("gpu", "down", "runs")

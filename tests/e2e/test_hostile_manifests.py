"""Manifests that ask for more than there can be: each is refused or carried out by and by, and the cluster works on.

A cluster is one process: a list of 2^31 names, or a pattern that tries all ways, would stop everybody's work. Its
memory is limited here, so that such a list fails the test and not the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BIN, ROOT, Shell, environment, until

MANIFESTS = list(yaml.safe_load_all((ROOT / "tests/e2e/manifests/hostile.yaml").read_text()))
PARTS = "--queueing --batch --health --teams --autoscale"
MOST_KILOBYTES = 6_000_000
# A Deployment of 2^31 fills the nodes in less than a second, as it may: one node is kept for what is made after it.
KEPT = "hostile-sim-3"
TOLERATIONS = [{"key": "kept", "operator": "Exists"}]
AFTER = json.dumps({"spec": {"nodeSelector": {"kubernetes.io/hostname": KEPT}, "tolerations": TOLERATIONS}})
HUGE_NODE = {"cpu": "9e99", "memory": "100000Ei", "nvidia.com/gpu": str(2**63 - 1), "example.com/a": "9e18"}
SLOW_PATTERN = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "slows.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "slows", "singular": "slow", "kind": "Slow"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "pattern": {"type": "string", "pattern": "^(a+)+$"},
                            "rule": {
                                "type": "string",
                                "x-kubernetes-validations": [{"rule": "self.matches('^(a+)+$')"}],
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("hostile")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-hostile")
    create = f"ulimit -v {MOST_KILOBYTES}; exec {BIN}/atoll cluster create hostile --nodes 0 --simulated 4 {PARTS}"
    shell.run("sh", "-c", create, timeout=120)
    shell.kubectl("taint", "node", KEPT, "kept=:NoSchedule")
    yield shell
    shell.atoll("cluster", "delete", "hostile")


def works_on(shell: Shell) -> None:
    """It answers, and what is made now is placed, run and cleaned up."""
    shell.kubectl("run", "after", "--image=busybox", "--restart=Never", f"--overrides={AFTER}")
    shell.kubectl("wait", "pod/after", "--for=jsonpath={.status.phase}=Running", "--timeout=60s", timeout=70)
    shell.kubectl("delete", "pod", "after", "--wait=false")
    until(lambda: "NotFound" in shell.kubectl("get", "pod", "after", check=False).stderr, "the pod is gone")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_one_manifest(shell: Shell, manifest: Any) -> None:
    applied = shell.kubectl("apply", "-f", "-", stdin=json.dumps(manifest), check=False)
    assert applied.returncode == 0 or "is invalid" in applied.stderr
    works_on(shell)
    shell.kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=json.dumps(manifest))


def test_objects_without_a_spec(shell: Shell) -> None:
    for manifest in yaml.safe_load_all((ROOT / "tests/e2e/manifests/without_spec.yaml").read_text()):
        shell.kubectl("create", "-f", "-", stdin=json.dumps(manifest), check=False)
    works_on(shell)
    log = shell.atoll("logs", "hostile", "--fleet", "cluster-hostile").stdout
    assert "ended" not in log and "KeyError" not in log


def test_a_pattern_that_tries_all_ways(shell: Shell) -> None:
    shell.kubectl("apply", "-f", "-", stdin=json.dumps(SLOW_PATTERN))
    shell.kubectl("wait", "--for=condition=Established", "crd/slows.example.com")
    for field, why in (("pattern", "should match"), ("rule", "failed rule")):
        slow = {"apiVersion": "example.com/v1", "kind": "Slow", "metadata": {"name": "s"}, field: "a" * 60 + "!"}
        refused = until(
            lambda slow=slow: shell.kubectl("create", "-f", "-", stdin=json.dumps(slow), check=False), "an answer"
        )
        assert why in refused.stderr
    works_on(shell)


def test_a_patch_that_doubles(shell: Shell) -> None:
    copies = [{"op": "copy", "from": "/metadata/annotations", "path": f"/metadata/annotations/{n}"} for n in range(50)]
    patch = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "x" * 1000}}, *copies]
    refused = shell.kubectl("patch", "ns", "default", "--type=json", "-p", json.dumps(patch), check=False)
    assert "the server rejected our request" in refused.stderr
    works_on(shell)


def test_a_node_with_more_than_there_is(shell: Shell) -> None:
    status = json.dumps({"status": {"capacity": HUGE_NODE, "allocatable": HUGE_NODE}})
    shell.kubectl("patch", "node", "hostile-sim-0", "--subresource=status", "--type=merge", "-p", status)
    greedy = {"requests": {"cpu": "100E", "memory": "7Ei"}}
    spec = {"containers": [{"name": "a", "image": "busybox", "resources": greedy}, {"name": "b", "image": "busybox"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greedy"}, "spec": spec}
    shell.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    shell.kubectl("wait", "pod/greedy", "--for=jsonpath={.status.phase}=Running", "--timeout=60s", timeout=70)
    works_on(shell)

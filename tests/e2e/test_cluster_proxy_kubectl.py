"""A member's whole API through the hub's: clusters/NAME/proxy, with the rights of whoever asks."""

from __future__ import annotations

import json

import pytest
from conftest import Shell, until

from atoll.base.names import PROCESS_LABEL

PROXY = "/apis/cluster.karmada.io/v1alpha1/clusters/{}/proxy"
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "through"},
    "spec": {
        "nodeSelector": {PROCESS_LABEL: "true"}, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "echo begun; sleep 1000"]}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def member(fleet: Shell) -> list[str]:
    """kubectl's options that lead to cloud-a through the hub."""
    hub = json.loads(fleet.kubectl("config", "view", "--minify", "--raw", "-o", "json").stdout)
    return [f"--server={hub['clusters'][0]['cluster']['server']}{PROXY.format('cloud-a')}"]


def test_it_reads_and_writes(fleet: Shell, member: list[str]) -> None:
    version = json.loads(fleet.kubectl("get", "--raw", PROXY.format("cloud-a") + "/version").stdout)
    assert version["major"] == "1"
    assert "cloud-a-sim-0" in fleet.kubectl(*member, "get", "nodes").stdout
    fleet.kubectl(*member, "create", "configmap", "through-the-hub", "--from-literal=a=1")
    assert fleet.get("configmap", "through-the-hub", context="atoll-cloud-a")["data"] == {"a": "1"}
    waiting = fleet.popen(
        "kubectl", "--context=atoll-hub", *member, "wait", "--for=delete", "configmap/through-the-hub", "--timeout=20s"
    )
    fleet.kubectl(*member, "delete", "configmap", "through-the-hub")
    assert waiting.wait(timeout=30) == 0


def test_a_stranger_has_only_their_own_rights(fleet: Shell, member: list[str]) -> None:
    denied = fleet.kubectl(*member, "--as=jane", "get", "nodes", check=False)
    assert "Forbidden" in denied.stderr
    assert 'User "jane" cannot' in denied.stderr
    rule = ["--verb=*", "--resource=clusters.cluster.karmada.io/proxy"]
    fleet.kubectl("create", "clusterrole", "through", *rule)
    fleet.kubectl("create", "clusterrolebinding", "through", "--clusterrole=through", "--user=jane")
    until(lambda: 'resource "nodes"' in fleet.kubectl(*member, "--as=jane", "get", "nodes", check=False).stderr,
          "the member refuses jane, not the hub")  # fmt: skip
    grant = ["--clusterrole=view", "--user=jane"]
    fleet.kubectl("create", "rolebinding", "jane", *grant, "-n", "default", context="atoll-cloud-a")
    fleet.kubectl(*member, "--as=jane", "get", "pods", "-n", "default")


def test_commands_and_logs_pass(fleet: Shell, member: list[str]) -> None:
    fleet.kubectl(*member, "apply", "-f", "-", stdin=json.dumps(POD))
    fleet.kubectl(*member, "wait", "--for=condition=Ready", "pod/through", "--timeout=40s")
    assert fleet.kubectl(*member, "logs", "through").stdout == "begun\n"
    assert fleet.kubectl(*member, "exec", "through", "-i", "--", "cat", stdin="piped").stdout == "piped"
    assert fleet.kubectl(*member, "exec", "through", "--", "sh", "-c", "exit 6", check=False).returncode == 6
    fleet.kubectl(*member, "delete", "pod", "through")

"""A pool that grows from nothing, keeps a spare node warm and gives it to work, on a running cluster with kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, environment, until

SETTINGS = """
apiVersion: v1
kind: Namespace
metadata: {name: atoll-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: atoll-autoscale, namespace: atoll-system}
data:
  autoscale.yaml: |
    idleSeconds: 5
    pools:
    - name: h100
      max: 3
      spare: 1
      node: {cpu: 96, memory: 1Ti, gpus: 8}
      simulated: {bootSeconds: 2, bootJitterSeconds: 0}
"""
WORK = """
apiVersion: v1
kind: Pod
metadata: {name: work}
spec:
  containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 8}}}]
"""


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster without a node."""
    home: Path = tmp_path_factory.mktemp("pools15")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-pools15")
    shell.atoll("cluster", "create", "pools15", "--nodes", "0", "--autoscale", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "pools15")


def line(shell: Shell) -> dict[str, Any]:
    found = json.loads(shell.atoll("autoscale", "pools", "--context", "atoll-pools15", "-o", "json").stdout)
    item: dict[str, Any] = found["items"][0]
    return item


def test_a_spare_node_is_warm_and_goes_to_work(pools: Shell) -> None:
    pools.kubectl("apply", "-f", "-", stdin=SETTINGS)
    until(lambda: (line(pools)["machines"], line(pools)["warm"]) == (1, 1), "a warm node")
    pools.kubectl("apply", "-f", "-", stdin=WORK)
    pools.kubectl("wait", "--for=condition=Ready", "pod/work", "--timeout=30s")
    until(lambda: (line(pools)["working"], line(pools)["warm"]) == (1, 1), "the next warm node")
    pools.kubectl("delete", "pod", "work")
    until(lambda: (line(pools)["machines"], line(pools)["warm"]) == (1, 1), "the idle node to go", 90)
    assert "h100" in pools.atoll("autoscale", "pools", "--context", "atoll-pools15").stdout

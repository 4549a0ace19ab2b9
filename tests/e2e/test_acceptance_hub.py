"""The hub as a user meets it: kubectl's waits on every kind, what status tells, a hung cluster, an unasked cascade."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import Shell, until

KINDS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: nginx}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: data}
spec:
  replicas: 3
  serviceName: data
  selector: {matchLabels: {app: data}}
  template: {metadata: {labels: {app: data}}, spec: {containers: [{name: c, image: nginx}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: c, image: nginx}]}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  parallelism: 3
  completions: 6
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: policy.karmada.io/v1alpha1
kind: PropagationPolicy
metadata: {name: all}
spec:
  resourceSelectors:
  - {apiVersion: apps/v1, kind: Deployment}
  - {apiVersion: apps/v1, kind: StatefulSet}
  - {apiVersion: apps/v1, kind: DaemonSet}
  - {apiVersion: batch/v1, kind: Job}
  - {apiVersion: v1, kind: PersistentVolumeClaim}
  placement:
    clusterTolerations:
    - {key: cluster.karmada.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
    replicaScheduling: {replicaSchedulingType: Divided, replicaDivisionPreference: Weighted}
"""


@pytest.fixture
def space(fleet: Shell) -> Iterator[str]:
    fleet.kubectl("create", "namespace", "accept")
    yield "accept"
    # By their names: the fleet is shared, and what a namespace's cascade may take with it may be used up by others.
    kinds = "deployment,statefulset,daemonset,job,pvc"
    fleet.kubectl("delete", "-n", "accept", kinds, "--all", "--timeout=60s", timeout=90)
    fleet.kubectl("delete", "namespace", "accept", "--timeout=60s", timeout=90)


def test_waits_on_the_hub_and_what_status_tells(fleet: Shell, space: str) -> None:
    fleet.kubectl("apply", "-n", space, "-f", "-", stdin=KINDS)
    for what in ("deployment/web", "statefulset/data", "daemonset/agent"):
        fleet.kubectl("rollout", "status", "-n", space, what, "--timeout=60s")
    fleet.kubectl("wait", "-n", space, "--for=condition=Available", "deployment/web", "--timeout=30s")
    fleet.kubectl("wait", "-n", space, "--for=condition=Complete", "job/sum", "--timeout=60s")
    fleet.kubectl("wait", "-n", space, "--for=jsonpath={.status.phase}=Bound", "pvc/disk", "--timeout=60s")
    fleet.kubectl("wait", "--for=condition=Ready", "cluster/cloud-a", "--timeout=10s")

    fleet.atoll("kill", "cloud-a", "--how", "stop")
    try:
        until(lambda: "cloud-a" not in _placed(fleet, space), "moved away")
        fleet.kubectl("rollout", "status", "-n", space, "deployment/web", "--timeout=60s")
        tree = fleet.atoll("tree", "-n", space, "deployment/web", timeout=20).stdout
        assert "cluster cloud-a is not ready" in tree, tree
        fleet.kubectl("delete", "-n", space, "statefulset/data", "--wait=false")
        until(lambda: "deleting: StatefulSet accept/data: waiting: cloud-a" in fleet.atoll("status").stdout, "told")
    finally:
        fleet.atoll("heal", "cloud-a")
    until(lambda: fleet.kubectl("get", "-n", space, "statefulset/data", check=False).returncode, "deleted", 10)

    fleet.kubectl("delete", "-n", space, "propagationpolicy/all")
    until(lambda: "unmanaged: Deployment accept/web" in fleet.atoll("status").stdout, "unmanaged is told")
    kept = fleet.get("deployment", "web", "-n", space, context="atoll-onprem")
    assert kept["spec"]["replicas"] >= 2
    failures = json.loads(fleet.atoll("explain", "-n", space, "deployment/web", "-o", "json").stdout)["failures"]
    assert any("nothing manages" in one for one in failures)


def _placed(fleet: Shell, space: str) -> set[str]:
    binding = fleet.get("resourcebinding", "web-deployment", "-n", space)
    return {item["name"] for item in binding["spec"]["clusters"]}

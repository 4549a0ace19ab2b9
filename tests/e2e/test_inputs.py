"""Manifests that users have today, as they wrote them: Karmada's, Kubernetes' examples, others of their kinds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import INPUTS, Shell, environment, until

MANIFESTS = Path(__file__).parent / "manifests"
FLEET = """
apiVersion: fleet.atoll.dev/v1alpha1
kind: Fleet
metadata: {name: members}
spec:
  clusters:
  - {name: member1, provider: aws, region: eu-west-1, labels: {tier: gold}, nodes: {simulated: 3}}
  - name: member2
    provider: gcp
    region: europe-west4
    zone: europe-west4-b
    nodes:
      simulated:
      - {count: 2, cpu: "16", memory: 64Gi}
      - {count: 1, cpu: "32", memory: 256Gi, resources: {nvidia.com/gpu: "8"}}
  - {name: member3, provider: gcp, region: europe-west4, zone: europe-west4-c, nodes: {simulated: 2}}
"""
shared_inputs = pytest.mark.skipif(not INPUTS.exists(), reason=f"no inputs at {INPUTS}")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A hub and member1, member2 (with GPUs), member3."""
    home = tmp_path_factory.mktemp("members")
    (home / "run").mkdir(mode=0o700)
    (home / "fleet.yaml").write_text(FLEET)
    shell = Shell(environment(home), "atoll-hub")
    shell.atoll("up", str(home / "fleet.yaml"), timeout=120)
    yield shell
    shell.atoll("down", "--purge")


def on(members: Shell, member: str, *args: str) -> Any:
    return members.get(*args, context=f"atoll-{member}")


def rolled_out(members: Shell, target: str, context: str = "atoll-hub", namespace: str = "default") -> None:
    members.kubectl("-n", namespace, "rollout", "status", target, "--timeout=30s", context=context)


def copies(members: Shell, kind: str, namespace: str) -> dict[str, list[str]]:
    """member → names of what is there."""
    found: dict[str, list[str]] = {}
    for item in json.loads(members.atoll("get", kind, "--clusters", "-n", namespace, "-o", "json").stdout)["items"]:
        found.setdefault(item["cluster"], []).append(item["metadata"]["name"])
    return found


@shared_inputs
def test_karmada_nginx(members: Shell) -> None:
    members.kubectl("apply", "-f", str(INPUTS / "karmada-nginx"))
    rolled_out(members, "deployment/nginx")
    first, second = (on(members, name, "deployment", "nginx") for name in ("member1", "member2"))
    assert first["spec"]["replicas"] == second["spec"]["replicas"] == 1
    assert first["metadata"]["annotations"]["env"] == "skoala-stage"
    assert "env" not in first["metadata"]["labels"] and "env" not in second["metadata"]["annotations"]
    labels = second["metadata"]["labels"]
    assert (labels["app"], labels["env"], labels["env-stat"]) == ("nginx", "skoala-dev", "skoala-stage")
    assert "bar" not in labels and "emma" not in first["metadata"]["annotations"], "replace makes nothing"
    assert members.get("deployment", "nginx")["status"]["readyReplicas"] == 2
    members.kubectl("delete", "-f", str(INPUTS / "karmada-nginx"), "--timeout=30s")
    assert "nginx" not in copies(members, "deployments", "default").get("member1", [])


@shared_inputs
def test_cassandra_claims_are_bound_and_kept(members: Shell) -> None:
    files = [arg for name in ("service", "statefulset") for arg in ("-f", _example(f"cassandra-{name}"))]
    members.kubectl("apply", *files, context="atoll-member1")
    rolled_out(members, "statefulset/cassandra", "atoll-member1")
    claims = on(members, "member1", "persistentvolumeclaims")["items"]
    assert {(c["metadata"]["name"], c["status"]["phase"]) for c in claims} == {
        (f"cassandra-data-cassandra-{index}", "Bound") for index in range(3)
    }
    members.kubectl("delete", "pod", "cassandra-1", "--now", context="atoll-member1")
    until(lambda: on(members, "member1", "statefulset", "cassandra")["status"].get("readyReplicas") == 3, "three again")
    volume = next(c for c in claims if c["metadata"]["name"] == "cassandra-data-cassandra-1")["spec"]["volumeName"]
    after = on(members, "member1", "persistentvolumeclaim", "cassandra-data-cassandra-1")
    assert after["spec"]["volumeName"] == volume


def _example(name: str) -> str:
    return str(INPUTS / "kubernetes-examples" / f"{name}.yaml")


@shared_inputs
def test_vllm_runs_where_gpus_are(members: Shell) -> None:
    files = [arg for name in ("deployment", "service") for arg in ("-f", _example(f"vllm-{name}"))]
    members.kubectl("apply", *files)
    members.kubectl("apply", "-f", "-", stdin=_policy("vllm", "vllm-gemma-deployment", ["member1", "member2"]))
    until(lambda: _phases(members, "member2") == ["Running"], "running on the GPU node")
    until(lambda: _phases(members, "member1") == ["Pending"], "waiting where no GPUs are")
    told = until(
        lambda: members.kubectl(
            "get", "events", "--field-selector=reason=FailedScheduling", "-o", "jsonpath={..message}",
            context="atoll-member1",
        ).stdout,
        "an event that says why",
    )  # fmt: skip
    assert "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." in told
    pod = on(members, "member1", "pods", "-l", "app=gemma-server")["items"][0]
    scheduled = next(item for item in pod["status"]["conditions"] if item["type"] == "PodScheduled")
    assert scheduled["reason"] == "Unschedulable" and "nvidia.com/gpu" in scheduled["message"]
    members.kubectl("delete", *files)


def _phases(members: Shell, member: str) -> list[str]:
    return [pod["status"]["phase"] for pod in on(members, member, "pods", "-l", "app=gemma-server")["items"]]


def _policy(name: str, deployment: str, clusters: list[str]) -> str:
    selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}
    return json.dumps(
        {
            "apiVersion": "policy.karmada.io/v1alpha1", "kind": "PropagationPolicy", "metadata": {"name": name},
            "spec": {"resourceSelectors": [selector], "placement": {"clusterAffinity": {"clusterNames": clusters}}},
        }
    )  # fmt: skip


def test_guestbook_by_a_cluster_policy(members: Shell) -> None:
    """Dependencies follow, regions are spread over, images come from each provider's mirror."""
    manifest = str(MANIFESTS / "guestbook.yaml")
    plan = members.atoll("plan", "-f", manifest).stdout
    assert re.search(r"\+ member2: Deployment shop/frontend × 3 +overridden by ClusterOverridePolicy images", plan), (
        plan
    )
    assert "the spread constraint takes at most 2 clusters" in plan
    members.kubectl("apply", "-f", manifest)
    rolled_out(members, "deployment/frontend", namespace="shop")
    assert copies(members, "deployments", "shop") == {"member1": ["frontend"], "member2": ["frontend"]}
    until(lambda: copies(members, "secrets", "shop") == {"member1": ["gb-secret"], "member2": ["gb-secret"]}, "secrets")
    assert "gb-config" in copies(members, "configmaps", "shop")["member2"]
    container = on(members, "member2", "deployment", "frontend", "-n", "shop")["spec"]["template"]["spec"]["containers"]
    assert container[0]["image"] == "mirror.example.com/google-samples/containers/gke/gb-frontend-x:v6"
    assert (container[0]["command"], container[0]["args"]) == (["/run"], ["--mirror"])
    plain = on(members, "member1", "deployment", "frontend", "-n", "shop")["spec"]["template"]["spec"]["containers"]
    assert plain[0]["image"] == "us-docker.pkg.dev/google-samples/containers/gke/gb-frontend:v5"
    rolled_out(members, "statefulset/mysql", "atoll-member1", "shop")
    assert members.get("federatedresourcequota", "q", "-n", "shop")["spec"]["overall"]["cpu"] == "100"
    assert re.search(r"^affinity: +rest$", members.atoll("explain", "deploy/frontend", "-n", "shop").stdout, re.M)
    members.kubectl("delete", "-f", manifest, "--ignore-not-found", "--timeout=60s")
    until(lambda: not copies(members, "deployments", "shop"), "copies gone with their templates")


def test_wordpress_in_one_cluster(members: Shell) -> None:
    """A claim without a class is bound; what a Deployment mounts goes where it goes."""
    manifest = str(MANIFESTS / "wordpress.yaml")
    members.kubectl("apply", "-f", manifest)
    rolled_out(members, "deployment/wordpress-mysql")
    home = [name for name, found in copies(members, "deployments", "default").items() if "wordpress-mysql" in found]
    assert len(home) == 1 and home != ["member3"]
    claim = on(members, home[0], "persistentvolumeclaim", "mysql-pv-claim")
    assert (claim["status"]["phase"], claim["spec"]["storageClassName"]) == ("Bound", "standard")
    assert "mysql-pass" in copies(members, "secrets", "default")[home[0]]
    members.kubectl("delete", "-f", manifest, "--timeout=60s")


def test_affinities_in_order_and_by_region(members: Shell) -> None:
    """Karmada's clusterAffinities, tried in order; a static division; suspended dispatching; duplicated by region."""
    members.kubectl("apply", "-f", str(MANIFESTS / "affinities.yaml"))
    rolled_out(members, "deployment/ordered")
    assert _replicas(members, "ordered") == {"member2": 3, "member3": 2}
    explained = members.atoll("explain", "deployment/ordered").stdout
    assert re.search(r"^affinity: +backup$", explained, re.M), explained
    assert _replicas(members, "regional") == {"member2": 1, "member3": 1}
    assert not _replicas(members, "held"), "dispatching is suspended"
    patch = '{"spec":{"suspension":{"dispatching":false}}}'
    members.kubectl("patch", "propagationpolicy", "held", "--type=merge", "-p", patch)
    until(lambda: _replicas(members, "held") == {"member1": 1}, "resumed")
    members.kubectl("delete", "-f", str(MANIFESTS / "affinities.yaml"), "--timeout=60s")


def _replicas(members: Shell, name: str) -> dict[str, int]:
    found = json.loads(members.atoll("get", "deployments", "--clusters", "-o", "json").stdout)["items"]
    return {item["cluster"]: item["spec"]["replicas"] for item in found if item["metadata"]["name"] == name}


def test_custom_resources_and_fields_within_text(members: Shell) -> None:
    """A CRD by a cluster policy, its objects by another; overrides of single fields, also of YAML kept in a string."""
    manifest = str(MANIFESTS / "custom.yaml")
    members.kubectl("apply", "-f", manifest, check=False)
    until(lambda: not members.kubectl("apply", "-f", manifest, check=False).returncode, "the new kind is served")
    for member, size in (("member1", 4), ("member2", 2)):
        found = until(lambda member=member: _guestbook(members, member), f"the object in {member}")
        assert found["spec"] == {"size": size, "alias": "Name", "configMapName": "test"}
    text = until(lambda: _data(members, "member3"), "the ConfigMap")["config.yaml"]
    assert text == "db:\n  host: b\n  port: 1\n"
    assert _data(members, "member2") == {}
    members.kubectl("delete", "-f", manifest, "--timeout=60s", "--ignore-not-found")


def _guestbook(members: Shell, member: str) -> Any:
    items = members.kubectl("get", "guestbooks", "-o", "json", context=f"atoll-{member}", check=False).stdout
    return next(iter(json.loads(items or '{"items":[]}')["items"]), None)


def _data(members: Shell, member: str) -> dict[str, str]:
    found = on(members, member, "configmaps")["items"]
    return next((item["data"] for item in found if item["metadata"]["name"] == "app-config"), {})


def test_every_usual_workload_runs(members: Shell) -> None:
    """ReplicationController, StatefulSet with anti-affinity and claims, a local volume, Job, CronJob, DaemonSet."""
    applied = members.kubectl("apply", "-f", str(MANIFESTS / "workloads.yaml"), context="atoll-member1")
    assert "no controller acts upon them" in applied.stderr, "what is only stored is told"
    for target in ("statefulset/zk", "deployment/tf", "daemonset/ds"):
        rolled_out(members, target, "atoll-member1")
    members.kubectl("wait", "--for=condition=Complete", "job/pi", "--timeout=30s", context="atoll-member1")
    until(lambda: on(members, "member1", "rc", "redis-master")["status"].get("readyReplicas") == 2, "replicas")
    assert on(members, "member1", "pvc", "my-pvc")["spec"]["volumeName"] == "local-pv-1"
    nodes = {pod["spec"]["nodeName"] for pod in on(members, "member1", "pods", "-l", "app=zk")["items"]}
    assert len(nodes) == 3, "anti-affinity keeps them apart"
    assert on(members, "member1", "pdb", "zk-pdb")["status"]["disruptionsAllowed"] == 1

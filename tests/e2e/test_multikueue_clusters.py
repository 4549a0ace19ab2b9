"""MultiKueue as its users set it up: three clusters of a fleet, kubeconfigs in a Secret and in a file, kubectl; workers
that hang, die and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import INPUTS, Shell, environment, until

FLEET = """
apiVersion: fleet.atoll.dev/v1alpha1
kind: Fleet
metadata: {name: multi}
spec:
  clusters:
  - {name: manager, queueing: true, batch: true, nodes: {simulated: [{count: 1}]}}
  - {name: east, queueing: true, batch: true, nodes: {simulated: [{count: 2}]}}
  - {name: west, queueing: true, batch: true, nodes: {simulated: [{count: 2}]}}
"""
QUEUES = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: any}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: all}
spec:
  namespaceSelector: {}
  resourceGroups:
  - coveredResources: [cpu, memory]
    flavors: [{name: any, resources: [{name: cpu, nominalQuota: CPU}, {name: memory, nominalQuota: 36Gi}]}]
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: user-queue, namespace: default}
spec: {clusterQueue: all}
"""
MANAGER = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: AdmissionCheck
metadata: {name: elsewhere}
spec:
  controllerName: kueue.x-k8s.io/multikueue
  parameters: {apiGroup: kueue.x-k8s.io, kind: MultiKueueConfig, name: workers}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: MultiKueueConfig
metadata: {name: workers}
spec: {clusters: [east, west]}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: MultiKueueCluster
metadata: {name: east}
spec: {clusterSource: {kubeConfig: {locationType: Secret, location: east-secret}}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: MultiKueueCluster
metadata: {name: west}
spec: {clusterSource: {kubeConfig: {locationType: Path, location: FILE}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kueue-manager-config, namespace: kueue-system}
data:
  controller_manager_config.yaml: |
    apiVersion: config.kueue.x-k8s.io/v1beta2
    kind: Configuration
    multiKueue: {workerLostTimeout: 10s, gcInterval: 2s}
"""


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("multi")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-manager")
    (home / "fleet.yaml").write_text(FLEET)
    shell.atoll("up", str(home / "fleet.yaml"), "--fleet", "multi", timeout=120)
    try:
        for worker in ("east", "west"):
            shell.kubectl("apply", "-f", "-", stdin=QUEUES.replace("CPU", "8"), context=f"atoll-{worker}")
            view = ("config", "view", "--minify", "--flatten")
            (home / worker).write_text(shell.kubectl(*view, context=f"atoll-{worker}").stdout)
        secret = ("create", "secret", "generic", "east-secret", "-n", "kueue-system")
        shell.kubectl(*secret, f"--from-file=kubeconfig={home / 'east'}")
        file = home / "state" / "atoll" / "multikueue" / "west"
        file.parent.mkdir()
        (home / "west").rename(file)
        checked = "  admissionChecksStrategy: {admissionChecks: [{name: elsewhere}]}\n  resourceGroups:"
        queues = QUEUES.replace("CPU", "20").replace("  resourceGroups:", checked)
        shell.kubectl("apply", "-f", "-", stdin=queues + "---" + MANAGER.replace("FILE", str(file)))
        active = ("wait", "--for=condition=Active", "--timeout=60s", "multikueuecluster/east", "multikueuecluster/west")
        shell.kubectl(*active)
        yield shell
    finally:
        shell.atoll("down", "multi", "--purge")


def job(name: str, cpu: int, seconds: int, pods: int = 1) -> str:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
    notes = {"atoll.dev/run-seconds": str(seconds)}
    spec = {"parallelism": pods, "completions": pods, "template": {
        "metadata": {"annotations": notes}, "spec": {"restartPolicy": "Never", "containers": [container]}}}  # fmt: skip
    metadata = {"name": name, "labels": {"kueue.x-k8s.io/queue-name": "user-queue"}}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})


def dispatched(shell: Shell) -> dict[str, str]:
    """Owner or group → the worker that runs it."""
    found = {}
    for item in shell.get("workloads")["items"]:
        owners = item["metadata"]["ownerReferences"]
        name = owners[0]["name"] if owners[0].get("controller") else item["metadata"]["name"]
        found[name] = item.get("status", {}).get("clusterName", "")
    return found


def names(shell: Shell, kind: str, worker: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in shell.get(kind, context=f"atoll-{worker}")["items"])


def state(shell: Shell, kind: str, name: str) -> Any:
    return next(item["status"] for item in shell.get(kind, name)["status"]["conditions"] if item["type"] == "Active")


def test_jobs_jobsets_and_pods_run_on_workers(multi: Shell) -> None:
    multi.kubectl("apply", "-f", "-", stdin=job("train", cpu=3, seconds=3, pods=2))
    multi.kubectl("create", "-f", str(INPUTS / "kueue" / "kueue-pod-group.yaml"))
    until(lambda: "" not in (found := dispatched(multi)).values() and len(found) == 2, "both to have a worker")
    where = dispatched(multi)
    assert set(where) == {"train", "sample-group"} and set(where.values()) == {"east", "west"}, "each has room for one"
    assert multi.get("job", "train")["spec"]["managedBy"] == "kueue.x-k8s.io/multikueue"
    until(lambda: multi.get("job", "train")["status"].get("active") == 2, "its status to come back")
    assert names(multi, "jobs", where["train"]) == ["train"] and names(multi, "jobs", where["sample-group"]) == []
    pods = until(
        lambda: [it for it in multi.get("pods")["items"] if it["status"].get("phase") in ("Running", "Succeeded")],
        "pods that wait here to say that they run there",
    )
    assert all(it["spec"].get("schedulingGates") and "nodeName" not in it["spec"] for it in pods)
    multi.kubectl("wait", "--for=condition=complete", "job/train", "--timeout=60s")
    until(lambda: names(multi, "workloads", where["train"]) == [], "nothing to be left there")
    multi.kubectl("delete", "job,pod", "--all")
    for worker in ("east", "west"):
        until(lambda worker=worker: names(multi, "pods", worker) == [], "nothing to be left of the group")


def test_a_jobset_runs_on_a_worker(multi: Shell) -> None:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}
    spec = {"restartPolicy": "Never", "containers": [container]}
    pods = {"metadata": {"annotations": {"atoll.dev/run-seconds": "2"}}, "spec": spec}
    replicated = {"name": "w", "replicas": 2, "template": {"spec": {"template": pods}}}
    metadata = {"name": "sets", "labels": {"kueue.x-k8s.io/queue-name": "user-queue"}}
    body = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata}
    multi.kubectl("apply", "-f", "-", stdin=json.dumps({**body, "spec": {"replicatedJobs": [replicated]}}))
    worker = until(lambda: dispatched(multi).get("sets"), "a worker")
    until(lambda: names(multi, "jobs", worker) == ["sets-w-0", "sets-w-1"], "its jobs")
    multi.kubectl("wait", "--for=condition=Completed", "jobset/sets", "--timeout=60s")
    assert multi.get("jobs")["items"] == []
    until(lambda: names(multi, "jobsets", worker) == [], "nothing to be left there")
    multi.kubectl("delete", "jobset", "sets")


def test_a_worker_that_hangs_is_given_up_and_cleaned_once_it_is_back(multi: Shell) -> None:
    multi.kubectl("apply", "-f", "-", stdin=job("long", cpu=2, seconds=3600))
    first = until(lambda: dispatched(multi).get("long"), "a worker")
    until(lambda: len(names(multi, "pods", first)) == 1, "its pod")
    other = {"east": "west", "west": "east"}[first]
    multi.atoll("kill", first, "--how", "stop", "--fleet", "multi")
    until(lambda: dispatched(multi).get("long") == other, "the other worker", seconds=60)
    assert state(multi, "multikueuecluster", first) == "False"
    until(lambda: len(names(multi, "pods", other)) == 1, "its pod")
    multi.atoll("heal", first, "--fleet", "multi")
    until(lambda: state(multi, "multikueuecluster", first) == "True", "it to answer")
    until(lambda: names(multi, "jobs", first) == names(multi, "workloads", first) == [], "what it had to go")
    multi.kubectl("delete", "job", "long")
    until(lambda: names(multi, "jobs", other) == [], "nothing to be left there")


def test_a_worker_that_dies_and_comes_back_in_time_keeps_its_job(multi: Shell) -> None:
    multi.kubectl("apply", "-f", "-", stdin=job("steady", cpu=2, seconds=20))
    worker = until(lambda: dispatched(multi).get("steady"), "a worker")
    (pod,) = until(lambda: names(multi, "pods", worker), "its pod")
    multi.atoll("kill", worker, "--fleet", "multi")
    multi.atoll("heal", worker, "--fleet", "multi")
    until(lambda: names(multi, "pods", worker) == [pod], "it to be back, with what it had")
    multi.kubectl("wait", "--for=condition=complete", "job/steady", "--timeout=60s")
    assert dispatched(multi)["steady"] == worker
    multi.kubectl("delete", "job", "steady")


def test_a_kubeconfig_that_would_run_a_program_is_refused(multi: Shell, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(ran)]}}
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    secret = ("create", "secret", "generic", "evil", "-n", "kueue-system")
    multi.kubectl(*secret, f"--from-file=kubeconfig={tmp_path / 'kubeconfig'}")
    for name, kind, location in (
        ("evil", "Secret", "evil"),
        ("nosy", "Path", "/etc/hostname"),
        ("gone", "Secret", "x"),
    ):
        source = {"clusterSource": {"kubeConfig": {"locationType": kind, "location": location}}}
        body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "MultiKueueCluster", "metadata": {"name": name}}
        multi.kubectl("apply", "-f", "-", stdin=json.dumps({**body, "spec": source}))
    body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "MultiKueueCluster", "metadata": {"name": "profile"}}
    spec = {"clusterSource": {"clusterProfileRef": {"name": "some"}}}
    multi.kubectl("apply", "-f", "-", stdin=json.dumps({**body, "spec": spec}))

    def told() -> dict[str, tuple[str, str]]:
        items = multi.get("multikueueclusters")["items"]
        said = {it["metadata"]["name"]: (it.get("status") or {}).get("conditions") or [] for it in items}
        return {name: (found[0]["reason"], found[0]["message"]) for name, found in said.items() if found}

    until(lambda: {"evil", "nosy", "gone", "profile"} <= told().keys(), "all to be told of")
    assert told()["evil"][0] == "InsecureKubeConfig" and "exec plugins are not allowed" in told()["evil"][1]
    assert told()["nosy"][0] == "BadKubeConfig" and "put it into /etc/multikueue/kubeconfigs" in told()["nosy"][1]
    assert "there is no Secret kueue-system/x" in told()["gone"][1]
    assert told()["profile"][0] == "MultiKueueClusterProfileFeatureDisabled"
    assert not ran.exists()
    multi.kubectl("delete", "multikueuecluster", "evil", "nosy", "gone", "profile")

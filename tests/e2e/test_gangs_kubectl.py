"""Gangs with kubectl on a running cluster of simulated nodes: example 11, and the published JobSets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import INPUTS, ROOT, Shell, environment, until

EXAMPLE = ROOT / "examples" / "11-two-jobs-that-would-deadlock"
JOBSET = INPUTS / "jobset"


@pytest.fixture(scope="module")
def gangs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster with the batch kinds."""
    home: Path = tmp_path_factory.mktemp("gangs")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-gangs")
    shell.atoll("cluster", "create", "gangs", "--nodes", "0", "--simulated", "4", "--batch", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "gangs")


def test_two_jobs_that_would_deadlock(gangs: Shell) -> None:
    gangs.kubectl("apply", "-f", str(EXAMPLE))
    running = until(lambda: [name for name, row in rows(gangs).items() if row["placed"] == 8], "one of them to run")
    assert len(running) == 1
    (waiting,) = {"red", "blue"} - set(running)
    assert rows(gangs)[waiting]["placed"] == 0
    why = gangs.atoll("gang", "why", waiting, "--context", "atoll-gangs").stdout
    assert why.startswith(f"default/{waiting}: needs room for 8 pods of 7 cpu; there is room for 0; ")
    pod = gangs.get("pods", "-l", f"job-name={waiting}")["items"][0]
    assert (
        gangs.atoll("gang", "why", pod["metadata"]["name"], "--context", "atoll-gangs").stdout == why
    )  # one of its pods
    said = until(lambda: [c["message"] for c in pod_conditions(gangs, pod) if c["type"] == "PodScheduled"], "its words")
    assert said[0].startswith(f"gang default/{waiting}: needs room for 8 pods of 7 cpu")
    gangs.kubectl("wait", "--for=condition=complete", "job/red", "job/blue", "--timeout=90s", timeout=100)
    phases = {
        item["metadata"]["name"]: item["status"]["phase"]
        for item in gangs.get("podgroups.scheduling.x-k8s.io")["items"]
    }
    assert phases == {"red": "Finished", "blue": "Finished"}
    assert "does not wait" in gangs.atoll("gang", "why", "red", "--context", "atoll-gangs").stdout
    gangs.kubectl("delete", "-f", str(EXAMPLE))


def rows(shell: Shell) -> dict[str, dict[str, object]]:
    found = json.loads(shell.atoll("gang", "list", "--context", "atoll-gangs", "-o", "json").stdout)["items"]
    return {row["name"]: row for row in found}


def pod_conditions(shell: Shell, pod: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    conditions: list[dict[str, str]] = shell.get("pod", pod["metadata"]["name"])["status"].get("conditions") or []
    return conditions


@pytest.mark.skipif(not JOBSET.is_dir(), reason="the published manifests are not on this machine")
def test_published_jobsets(gangs: Shell) -> None:
    gangs.kubectl("apply", "-f", str(JOBSET / "paralleljobs.yaml"), "-f", str(JOBSET / "failure-policy.yaml"))
    for name in ("paralleljobs", "failure-policy"):  # the pods of simulated nodes succeed at once
        gangs.kubectl("wait", "--for=condition=Completed", f"jobset/{name}", "--timeout=60s", timeout=70)
    assert "Completed" in gangs.kubectl("get", "jobsets").stdout
    jobs = {item["metadata"]["name"] for item in gangs.get("jobs", "-l", "jobset.sigs.k8s.io/jobset-name")["items"]}
    assert {"paralleljobs-workers-0", "paralleljobs-driver-0", "failure-policy-leader-0"} <= jobs
    assert gangs.get("service", "paralleljobs")["spec"]["clusterIP"] == "None"
    wrong = (JOBSET / "paralleljobs.yaml").read_text().replace("paralleljobs", "x" * 60)
    refused = gangs.kubectl("apply", "-f", "-", stdin=wrong, check=False)
    assert "must be a DNS label of at most 63 characters" in refused.stderr
    gangs.kubectl("delete", "jobset", "--all", "--timeout=60s", timeout=70)
    until(lambda: not gangs.get("jobs")["items"], "the Jobs to be gone")


def test_groups_of_leaders_and_workers_scale(gangs: Shell) -> None:
    container = {"name": "c", "image": "example.com/serve", "resources": {"requests": {"cpu": "1"}}}
    template = {"size": 3, "workerTemplate": {"spec": {"containers": [container]}}}
    obj = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "serve"},
        "spec": {"replicas": 1, "leaderWorkerTemplate": template},
    }
    gangs.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    gangs.kubectl("wait", "--for=condition=Available", "lws/serve", "--timeout=60s", timeout=70)
    gangs.kubectl("scale", "lws/serve", "--replicas=2")
    until(lambda: gangs.get("lws", "serve")["status"].get("readyReplicas") == 2, "two groups")
    assert rows(gangs)["serve-1"]["least"] == 3
    gangs.kubectl("delete", "lws", "serve", "--timeout=60s", timeout=70)


def test_a_volcano_job(gangs: Shell) -> None:
    container = {"name": "c", "image": "example.com/train", "resources": {"requests": {"cpu": "1"}}}
    notes = {"annotations": {"atoll.dev/run-seconds": "2"}}
    task = {"name": "w", "replicas": 3, "template": {"metadata": notes, "spec": {"containers": [container]}}}
    obj = {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "vc"},
        "spec": {"tasks": [task], "plugins": {"svc": [], "env": []}},
    }
    gangs.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    until(lambda: gangs.get("vcjob", "vc")["status"]["state"]["phase"] == "Completed", "it to complete")
    assert gangs.get("queues.scheduling.volcano.sh", "default")["status"]["state"] == "Open"
    gangs.kubectl("delete", "vcjob", "vc", "--timeout=60s", timeout=70)


def test_kubernetes_own_groups_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    shell = Shell(environment(tmp_path), "atoll-own")
    shell.atoll("cluster", "create", "own", "--nodes", "0", "--simulated", "1", "--workload-api", timeout=120)
    try:
        policy = {"gang": {"minCount": 2}}
        kinds = {"apiVersion": "scheduling.k8s.io/v1alpha2", "metadata": {"name": "g"}}
        template = {"name": "workers", "schedulingPolicy": policy}
        shell.kubectl("apply", "-f", "-", stdin=json.dumps(
            {**kinds, "kind": "Workload", "spec": {"podGroupTemplates": [template]}}))  # fmt: skip
        shell.kubectl(
            "apply", "-f", "-", stdin=json.dumps({**kinds, "kind": "PodGroup", "spec": {"schedulingPolicy": policy}})
        )
        for number in range(2):
            spec = {"schedulingGroup": {"podGroupName": "g"}, "containers": [{"name": "c", "image": "i"}]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": spec}
            shell.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        shell.kubectl("wait", "--for=condition=PodGroupScheduled", "podgroup/g", "--timeout=30s")
        explained = shell.kubectl(
            "explain", "podgroup.spec.schedulingPolicy.gang", "--api-version", kinds["apiVersion"]
        )
        assert "minCount" in explained.stdout
    finally:
        shell.atoll("cluster", "delete", "own")

"""Mistakes in Kueue's objects, with kubectl: what is refused says why; what can't be seen when it is written is told by
conditions and by `atoll queue why`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, environment, until

API = "kueue.x-k8s.io/v1beta2"


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("wrong")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-wrong")
    shell.atoll("cluster", "create", "wrong", "--nodes", "0", "--simulated", "2", "--queueing", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "wrong")


def apply(shell: Shell, kind: str, name: str, spec: Any, namespaced: bool = False) -> str:
    """What kubectl says."""
    metadata = {"name": name, **({"namespace": "default"} if namespaced else {})}
    body = json.dumps({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
    done = shell.kubectl("apply", "-f", "-", stdin=body, check=False)
    return done.stdout + done.stderr


def group(flavor: str, *resources: str, **more: Any) -> Any:
    listed = [{"name": name, "nominalQuota": 4, **more} for name in resources]
    return {"coveredResources": list(resources), "flavors": [{"name": flavor, "resources": listed}]}


def queue(*groups: Any, **more: Any) -> Any:
    return {"namespaceSelector": {}, "resourceGroups": list(groups), **more}


def pod_set(name: str = "main", **more: Any) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": 1}}}
    return {
        "name": name,
        "count": 2,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        **more,
    }


def submit(shell: Shell, name: str, local_queue: str) -> None:
    spec = {"template": {"spec": pod_set()["template"]["spec"]}}
    metadata = {"name": name, "labels": {"kueue.x-k8s.io/queue-name": local_queue}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    shell.kubectl("apply", "-f", "-", stdin=json.dumps(job))


def active(shell: Shell, kind: str, name: str) -> tuple[str, str, str]:
    """(status, reason, message)."""

    def read() -> Any:
        found = (shell.get(kind, name).get("status") or {}).get("conditions") or []
        return next((it for it in found if it["type"] == "Active"), None)

    item = until(read, f"{kind} {name} to be told of")
    return item["status"], item["reason"], item["message"]


def why(shell: Shell, job: str) -> str:
    def read() -> str:
        done = shell.atoll("queue", "why", job, "--context", "atoll-wrong", check=False)
        return "" if done.returncode else done.stdout

    return str(until(read, "a reason"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (queue(group("a", "cpu"), group("b", "cpu")),
         "spec.resourceGroups[1].coveredResources[0]: cpu is covered by spec.resourceGroups[0] already; "
         "a resource is in one group only"),
        (queue(group("a", "cpu"), group("a", "memory")), "a is in spec.resourceGroups[0] already"),
        (queue(group("a", "cpu", borrowingLimit=1)), "borrowingLimit must be nil when cohort is empty"),
        (queue(group("a", "cpu", lendingLimit=1)), "must be nil when cohort is empty: name a cohort"),
        (queue(group("a", "cpu", nominalQuota=-1)), "-1 is negative"),
        (queue(group("a", "cpu", lendingLimit=5), cohortName="c"), "5 is more than the nominal quota, 4"),
        (queue(group("a", "cpu"), queueingStrategy="Random"), 'supported values: "StrictFIFO", "BestEffortFIFO"'),
    ],
)  # fmt: skip
def test_a_cluster_queue_that_can_not_be_is_refused(wrong: Shell, spec: Any, said: str) -> None:
    assert said in apply(wrong, "ClusterQueue", "bad", spec)


@pytest.mark.parametrize(
    ("pod_sets", "said"),
    [
        ([pod_set(minCount=3)], "minCount should be positive and less or equal to count"),
        ([pod_set(count=-1)], "should be greater than or equal to 0"),
        ([pod_set(f"p{number}") for number in range(19)], "must have at most 18 items"),
        ([pod_set(), pod_set()], 'Duplicate value: {"name":"main"}'),
        ([pod_set("a", minCount=1), pod_set("b", minCount=1)], "at most one podSet can use minCount"),
        ([], "should have at least 1 items"),
    ],
)
def test_a_workload_with_impossible_counts_is_refused(wrong: Shell, pod_sets: Any, said: str) -> None:
    assert said in apply(wrong, "Workload", "bad", {"queueName": "q", "podSets": pod_sets}, namespaced=True)


def test_no_more_is_admitted_than_was_asked_for(wrong: Shell) -> None:
    apply(wrong, "Workload", "asks", {"queueName": "q", "podSets": [pod_set()]}, namespaced=True)
    assigned = {"name": "main", "flavors": {"cpu": "a"}, "resourceUsage": {"cpu": "5"}, "count": 5}
    now = "2026-01-01T00:00:00Z"
    reserved = {"type": "QuotaReserved", "status": "True", "reason": "R", "message": "", "lastTransitionTime": now}
    status = {"admission": {"clusterQueue": "q", "podSetAssignments": [assigned]}, "conditions": [reserved]}
    patch = ("patch", "workload", "asks", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    done = wrong.kubectl(*patch, check=False)
    assert done.returncode and "podSetAssignments[0].count: 5 is more than the podSet's 2" in done.stderr
    wrong.kubectl("delete", "workload", "asks")


def test_an_unknown_flavor_and_a_missing_queue_are_told(wrong: Shell) -> None:
    apply(wrong, "ClusterQueue", "odd", queue(group("nowhere", "cpu")))
    for name, target in (("odd", "odd"), ("lost", "missing")):
        apply(wrong, "LocalQueue", name, {"clusterQueue": target}, namespaced=True)
        submit(wrong, f"in-{name}", name)
    text = "Can't admit new workloads: references missing ResourceFlavor(s): nowhere"
    assert active(wrong, "clusterqueue", "odd") == ("False", "FlavorNotFound", text)
    assert active(wrong, "localqueue", "lost")[:2] == ("False", "ClusterQueueDoesNotExist")
    assert "create ResourceFlavor nowhere, or take it out of ClusterQueue odd" in why(wrong, "in-odd")
    assert "ClusterQueue missing doesn't exist; cheapest: create ClusterQueue missing" in why(wrong, "in-lost")
    apply(wrong, "ResourceFlavor", "nowhere", {})
    until(lambda: wrong.get("job", "in-odd")["spec"]["suspend"] is False, "the mended queue to admit")


def test_a_cycle_of_cohorts_is_refused_and_one_that_is_there_admits_nothing(wrong: Shell) -> None:
    assert "created" in apply(wrong, "Cohort", "one", {"parentName": "two"})
    refused = apply(wrong, "Cohort", "two", {"parentName": "one"})
    assert "the cohorts would form a cycle: two → one → two; let one of them have no parent" in refused
    manager = ("deployment", "kueue-controller-manager", "-n", "kueue-system")
    wrong.kubectl("create", *manager, "--image=kueue")  # a real Kueue, whose webhooks do not answer yet
    try:
        assert "created" in apply(wrong, "Cohort", "two", {"parentName": "one"})
        apply(wrong, "ResourceFlavor", "plain", {})
        apply(wrong, "ClusterQueue", "round", queue(group("plain", "cpu"), cohortName="one"))
        apply(wrong, "LocalQueue", "round", {"clusterQueue": "round"}, namespaced=True)
    finally:
        wrong.kubectl("delete", *manager)
    submit(wrong, "in-round", "round")
    status, reason, message = active(wrong, "clusterqueue", "round")
    assert (status, reason) == ("False", "CohortCycle") and "one → two → one" in message
    assert "give one of the cohorts no parent, or another one: one → two → one" in why(wrong, "in-round")
    assert wrong.get("job", "in-round")["spec"]["suspend"] is True
    assert "configured" in apply(wrong, "Cohort", "two", {})
    until(lambda: wrong.get("job", "in-round")["spec"]["suspend"] is False, "the mended cohorts to admit")

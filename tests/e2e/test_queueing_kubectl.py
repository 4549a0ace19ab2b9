"""Queues with kubectl on a running cluster of simulated nodes: the published manifests, and example 10."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import INPUTS, ROOT, Shell, environment, until

EXAMPLE = ROOT / "examples" / "10-two-teams-borrow-and-give-back"
KUEUE = INPUTS / "kueue"


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster with queueing."""
    home: Path = tmp_path_factory.mktemp("teams")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-teams")
    shell.atoll("cluster", "create", "teams", "--nodes", "0", "--simulated", "4", "--queueing", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "teams")


def admitted(shell: Shell) -> list[str]:
    items = shell.get("workloads")["items"]
    return sorted(
        item["metadata"]["ownerReferences"][0]["name"]
        for item in items
        if any(c["type"] == "Admitted" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))
    )


def test_a_team_borrows_and_gives_back(teams: Shell) -> None:
    teams.kubectl("apply", "-f", str(EXAMPLE / "queues.yaml"))
    teams.kubectl("apply", "-f", str(EXAMPLE / "research.yaml"))
    until(lambda: admitted(teams) == ["explore"], "research to have all")
    until(lambda: teams.get("job", "explore")["status"].get("ready") == 8, "its pods")
    listed = json.loads(teams.atoll("queue", "list", "--context", "atoll-teams", "-o", "json").stdout)["items"]
    assert {item["name"]: item["used"] for item in listed}["research"] == {"standard/cpu": "8/4"}
    table = teams.kubectl("get", "clusterqueues").stdout
    assert "company" in table
    teams.kubectl("apply", "-f", str(EXAMPLE / "production.yaml"))
    until(lambda: admitted(teams) == ["serve"], "production to have its own")
    until(lambda: teams.get("job", "explore")["spec"]["suspend"] is True, "the borrower to stop")
    why = until(lambda: teams.atoll("queue", "why", "explore", "--context", "atoll-teams").stdout, "a reason")
    assert "insufficient unused quota for cpu in flavor standard, 4 more needed" in why
    assert "4 more cpu of standard: the end of default/job-serve-" in why
    listed = teams.kubectl(
        "get", "--raw", "/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/research/pendingworkloads"
    )
    assert [item["localQueueName"] for item in json.loads(listed.stdout)["items"]] == ["research"]
    nobody = teams.atoll("queue", "why", "explor", "--context", "atoll-teams", check=False)
    assert nobody.returncode != 0 and "there is no workload of 'explor'" in nobody.stderr
    assert (
        'kueue_admitted_workloads_total{cluster_queue="production"} 1'
        in teams.kubectl("get", "--raw", "/metrics").stdout
    )
    teams.kubectl("delete", "job", "serve")
    until(lambda: admitted(teams) == ["explore"], "the borrower to be back")
    teams.kubectl("delete", "job", "explore")
    teams.kubectl("delete", "-f", str(EXAMPLE / "queues.yaml"))


def test_people_have_the_roles_that_kueue_installs(teams: Shell) -> None:
    teams.kubectl("create", "namespace", "team-a")
    teams.kubectl("create", "clusterrolebinding", "ada", "--clusterrole=kueue-batch-admin-role", "--user=ada")
    teams.kubectl("create", "rolebinding", "bob", "-n", "team-a", "--clusterrole=kueue-batch-user-role", "--user=bob")

    def may(user: str, verb: str, what: str, namespace: str = "team-a") -> bool:
        asked = teams.kubectl("auth", "can-i", verb, what, "--as", user, "-n", namespace, check=False)
        return asked.stdout.strip() == "yes"

    assert may("ada", "delete", "clusterqueues.kueue.x-k8s.io") and may("ada", "patch", "workloads.kueue.x-k8s.io")
    assert may("bob", "create", "jobs.batch") and may("bob", "list", "workloads.kueue.x-k8s.io")
    assert not may("bob", "delete", "workloads.kueue.x-k8s.io") and not may("bob", "create", "jobs.batch", "default")
    visible = "/apis/visibility.kueue.x-k8s.io/v1beta2"
    for user, path, said in (
        ("ada", "clusterqueues/none", "NotFound"),
        ("bob", "clusterqueues/none", "Forbidden"),
        ("bob", "namespaces/team-a/localqueues/none", "NotFound"),
        ("bob", "namespaces/default/localqueues/none", "Forbidden"),
    ):
        done = teams.kubectl("get", "--raw", f"{visible}/{path}/pendingworkloads", "--as", user, check=False)
        assert said in done.stderr, (user, path, done.stderr)
    role = teams.get("clusterrole", "kueue-batch-user-role")
    own = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [
        {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["create"]}
    ], "metadata": {"name": "flows", "labels": {"rbac.kueue.x-k8s.io/batch-user": "true"}}}  # fmt: skip
    teams.kubectl("apply", "-f", "-", stdin=json.dumps(own))
    until(lambda: teams.get("clusterrole", "kueue-batch-user-role")["rules"] != role["rules"], "the rules to join")


@pytest.mark.skipif(not KUEUE.is_dir(), reason="the published manifests are not on this machine")
def test_published_manifests_run_to_their_end(teams: Shell) -> None:
    teams.kubectl("apply", "-f", str(KUEUE / "single-clusterqueue-setup.yaml"))
    teams.kubectl("create", "-f", str(KUEUE / "sample-job.yaml"))
    teams.kubectl("create", "-f", str(KUEUE / "kueue-pod-group.yaml"))
    teams.kubectl(
        "wait", "--for=condition=complete", "job", "-l", "kueue.x-k8s.io/queue-name=user-queue", "--timeout=60s"
    )
    until(lambda: "sample-group" in teams.kubectl("get", "workloads").stdout, "the group's workload")
    teams.kubectl("wait", "--for=condition=Admitted", "workload/sample-group", "--timeout=60s")
    teams.kubectl(
        "wait", "--for=condition=Ready", "pod", "-l", "kueue.x-k8s.io/pod-group-name=sample-group", "--timeout=60s"
    )
    old = teams.get("clusterqueues.v1beta1.kueue.x-k8s.io", "cluster-queue")
    assert old["apiVersion"] == "kueue.x-k8s.io/v1beta1"

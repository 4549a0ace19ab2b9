"""Programs in Go as users have them: client-go informers, leader election, controller-runtime; and Helm."""

from __future__ import annotations

import json

from conftest import ROOT, Shell, real_program, until


def test_client_go_and_controller_runtime(cluster: Shell) -> None:
    done = cluster.run(real_program("clientgo"), timeout=120)
    facts = {line["fact"]: line["value"] for line in map(json.loads, _json_lines(done.stdout))}
    assert facts["defaulted-strategy"] == "RollingUpdate"
    assert facts["informer-added"] == facts["informer-deleted"] == "informed"
    assert facts["stale-update-conflicts"] is True
    assert facts["informer-leader"] == "one"
    assert facts["controller-runtime-reconciled"] == "ConfigMap"
    assert facts["done"] is True


def _json_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith('{"fact"')]


def test_helm_lives_through_a_release(cluster: Shell, namespace: str) -> None:
    helm, chart = real_program("helm"), str(ROOT / "tests" / "e2e" / "chart")

    def run(*args: str) -> str:
        return cluster.run(helm, f"--kube-context={cluster.context}", "-n", namespace, *args, timeout=120).stdout

    run("install", "site", chart, "--wait", "--timeout", "60s", "--set", "replicas=2")
    assert cluster.get("deployment", "site-web", "-n", namespace)["status"]["readyReplicas"] == 2
    hook = cluster.get("job", "site-prepare", "-n", namespace)
    assert hook["status"]["succeeded"] == 1
    run("upgrade", "site", chart, "--wait", "--timeout", "60s", "--set", "replicas=3", "--set", "greeting=moin")
    assert cluster.get("configmap", "site-web", "-n", namespace)["data"] == {"greeting": "moin"}
    run("rollback", "site", "1", "--wait", "--timeout", "60s")
    assert cluster.get("configmap", "site-web", "-n", namespace)["data"] == {"greeting": "hello"}
    history = json.loads(run("history", "site", "-o", "json"))
    assert [item["revision"] for item in history] == [1, 2, 3]
    run("uninstall", "site", "--wait", "--timeout", "60s")
    until(lambda: not cluster.get("deployments", "-n", namespace)["items"], "the release is gone")

"""Everyday kubectl against a throw-away cluster."""

from __future__ import annotations

import json
import subprocess

from conftest import BIN, Shell, until

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1.27", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


def apply_web(cluster: Shell, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=WEB)
    cluster.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")


def test_versions_resources_and_explain(cluster: Shell) -> None:
    version = json.loads(cluster.kubectl("version", "-o", "json").stdout)
    assert version["serverVersion"]["minor"] == "36"
    resources = cluster.kubectl("api-resources").stdout
    assert "deployments" in resources and "deploy" in resources and "customresourcedefinitions" in resources
    explained = cluster.kubectl("explain", "deployment.spec.strategy.rollingUpdate.maxSurge").stdout
    assert "FIELD: maxSurge <IntOrString>" in explained
    assert "scheduled above the" in explained
    recursive = cluster.kubectl("explain", "pod.spec.affinity", "--recursive").stdout
    assert "requiredDuringSchedulingIgnoredDuringExecution" in recursive
    missing = cluster.kubectl("explain", "pod.spec.nonsense", check=False)
    assert missing.returncode and 'field "nonsense" does not exist' in missing.stderr


def test_create_get_describe_delete(cluster: Shell, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "settings", "--from-literal=a=1", "-n", namespace)
    assert cluster.get("configmap", "settings", "-n", namespace)["data"] == {"a": "1"}
    again = cluster.kubectl("create", "configmap", "settings", "-n", namespace, check=False)
    assert again.returncode and 'configmaps "settings" already exists' in again.stderr
    apply_web(cluster, namespace)
    table = cluster.kubectl("get", "deployment,pods", "-n", namespace, "-o", "wide").stdout
    assert "2/2" in table and "READINESS GATES" in table
    described = cluster.kubectl("describe", "deployment", "web", "-n", namespace).stdout
    assert "25% max unavailable, 25% max surge" in described
    assert "Scaled up replica set" in described
    describe = lambda: cluster.kubectl("describe", "pods", "-n", namespace, "--show-events").stdout
    until(lambda: "Successfully assigned" in describe(), "the scheduler's event")
    cluster.kubectl("delete", "deployment", "web", "-n", namespace)
    until(lambda: not cluster.get("pods", "-n", namespace)["items"], "the pods are gone")
    cluster.kubectl("delete", "configmap", "settings", "--dry-run=server", "-n", namespace)
    assert cluster.get("configmap", "settings", "-n", namespace)


def test_watch_sees_each_change(cluster: Shell, namespace: str) -> None:
    watching = cluster.popen(
        str(BIN / "kubectl"), f"--context={cluster.context}", "get", "configmaps", "-n", namespace, "-w",
        "--output-watch-events", "--request-timeout=20s",
    )  # fmt: skip
    try:
        cluster.kubectl("create", "configmap", "watched", "-n", namespace)
        cluster.kubectl("delete", "configmap", "watched", "-n", namespace)
        seen: list[list[str]] = []
        while ["DELETED", "watched"] not in seen:
            line = watching.stdout.readline()
            assert line, f"the watch ended; seen: {seen}"
            seen.append(line.split()[:2])
        assert ["ADDED", "watched"] in seen
    finally:
        watching.kill()
        watching.communicate()


def test_apply_diff_edit_patch(cluster: Shell, namespace: str) -> None:
    apply_web(cluster, namespace)
    changed = WEB.replace("replicas: 2", "replicas: 3")
    differs = cluster.kubectl("diff", "-n", namespace, "-f", "-", stdin=changed, check=False)
    assert differs.returncode == 1 and "+  replicas: 3" in differs.stdout
    assert "unchanged" in cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=WEB).stdout
    assert "configured" in cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=changed).stdout
    cluster.kubectl("patch", "deployment", "web", "-n", namespace, "-p", '{"metadata":{"labels":{"tier":"front"}}}')
    cluster.kubectl(
        "patch", "deployment", "web", "-n", namespace, "--type=json",
        "-p", '[{"op":"replace","path":"/spec/replicas","value":1}]',
    )  # fmt: skip
    editor = {**cluster.env, "KUBE_EDITOR": "sed -i s/tier:.front/tier:\\ back/"}
    subprocess.run(
        [str(BIN / "kubectl"), f"--context={cluster.context}", "edit", "deployment", "web", "-n", namespace],
        env=editor, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    found = cluster.get("deployment", "web", "-n", namespace)
    assert found["spec"]["replicas"] == 1
    assert found["metadata"]["labels"] == {"app": "web", "tier": "back"}


def test_server_side_apply_tells_conflicts(cluster: Shell, namespace: str) -> None:
    cluster.kubectl("apply", "--server-side", "--field-manager=one", "-n", namespace, "-f", "-", stdin=WEB)
    other = WEB.replace("replicas: 2", "replicas: 4")
    refused = cluster.kubectl(
        "apply", "--server-side", "--field-manager=two", "-n", namespace, "-f", "-", stdin=other, check=False
    )
    assert refused.returncode
    assert 'conflict with "one"' in refused.stderr and ".spec.replicas" in refused.stderr
    cluster.kubectl(
        "apply", "--server-side", "--field-manager=two", "--force-conflicts", "-n", namespace, "-f", "-", stdin=other
    )
    managers = cluster.get("deployment", "web", "-n", namespace, "--show-managed-fields")["metadata"]["managedFields"]
    assert {item["manager"] for item in managers if item["operation"] == "Apply"} == {"one", "two"}


def test_rollout_undo_history_pause(cluster: Shell, namespace: str) -> None:
    apply_web(cluster, namespace)
    run = lambda *args: cluster.kubectl(*args, "-n", namespace).stdout
    run("set", "image", "deployment/web", "web=nginx:1.28")
    run("rollout", "status", "deployment/web", "--timeout=60s")
    history = run("rollout", "history", "deployment/web")
    assert "1 " in history and "2 " in history
    run("rollout", "undo", "deployment/web")
    run("rollout", "status", "deployment/web", "--timeout=60s")
    deployment = cluster.get("deployment", "web", "-n", namespace)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1.27"
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    run("rollout", "pause", "deployment/web")
    run("set", "image", "deployment/web", "web=nginx:1.29")
    run("rollout", "resume", "deployment/web")
    run("rollout", "status", "deployment/web", "--timeout=60s")
    run("rollout", "restart", "deployment/web")
    run("rollout", "status", "deployment/web", "--timeout=60s")


def test_scale_wait_and_selectors(cluster: Shell, namespace: str) -> None:
    apply_web(cluster, namespace)
    cluster.kubectl("scale", "deployment/web", "--replicas=4", "-n", namespace)
    cluster.kubectl(
        "wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=4", "-n", namespace, "--timeout=60s"
    )
    cluster.kubectl("wait", "pods", "-l", "app=web", "--for=condition=Ready", "-n", namespace, "--timeout=60s")
    running = cluster.get("pods", "-n", namespace, "--field-selector=status.phase=Running", "-l", "app in (web)")
    assert len(running["items"]) == 4
    bad = cluster.kubectl("get", "pods", "-n", namespace, "--field-selector=spec.nonsense=1", check=False)
    assert bad.returncode and "field label not supported" in bad.stderr


def test_cordon_and_drain(cluster: Shell, namespace: str) -> None:
    apply_web(cluster, namespace)
    node = cluster.get("pods", "-n", namespace)["items"][0]["spec"]["nodeName"]
    cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
    try:
        assert "SchedulingDisabled" in cluster.kubectl("get", "node", node).stdout
        cluster.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")
        pods = cluster.get("pods", "-n", namespace)["items"]
        assert all(pod["spec"]["nodeName"] != node for pod in pods if "deletionTimestamp" not in pod["metadata"])
    finally:
        cluster.kubectl("uncordon", node)


def test_disruption_budget_stops_a_drain(cluster: Shell, namespace: str) -> None:
    apply_web(cluster, namespace)
    cluster.kubectl("create", "pdb", "web", "--selector=app=web", "--min-available=2", "-n", namespace)
    until(lambda: cluster.get("pdb", "web", "-n", namespace)["status"].get("currentHealthy") == 2, "the budget counts")
    node = cluster.get("pods", "-n", namespace)["items"][0]["spec"]["nodeName"]
    try:
        refused = cluster.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=3s", check=False)
        assert refused.returncode
        assert "Cannot evict pod as it would violate the pod's disruption budget" in refused.stderr
    finally:
        cluster.kubectl("uncordon", node)


def test_auth_and_service_account_tokens(cluster: Shell, namespace: str) -> None:
    assert (
        "kubernetes-admin" in cluster.kubectl("auth", "whoami").stdout
        or "system:masters" in cluster.kubectl("auth", "whoami").stdout
    )
    cluster.kubectl("create", "serviceaccount", "bot", "-n", namespace)
    cluster.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods", "-n", namespace)
    cluster.kubectl(
        "create", "rolebinding", "bot", "--role=reader", f"--serviceaccount={namespace}:bot", "-n", namespace
    )
    as_bot = f"--as=system:serviceaccount:{namespace}:bot"
    can = lambda *args: cluster.kubectl("auth", "can-i", *args, as_bot, "-n", namespace, check=False).stdout.strip()
    assert can("list", "pods") == "yes"
    assert can("delete", "pods") == "no"
    assert can("list", "secrets") == "no"
    token = cluster.kubectl("create", "token", "bot", "-n", namespace).stdout.strip()
    # the client's own certificate or token must not get in the way: a kubeconfig with the token alone
    view = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    server = view["clusters"][0]["cluster"]["server"]
    plain = [str(BIN / "kubectl"), f"--server={server}", "--insecure-skip-tls-verify", f"--token={token}"]
    env = {**cluster.env, "KUBECONFIG": "/dev/null"}
    ok = subprocess.run([*plain, "get", "pods", "-n", namespace], env=env, capture_output=True, text=True, timeout=60)
    assert ok.returncode == 0, ok.stderr
    no = subprocess.run(
        [*plain, "get", "secrets", "-n", namespace], env=env, capture_output=True, text=True, timeout=60
    )
    assert no.returncode and f'User "system:serviceaccount:{namespace}:bot" cannot list resource "secrets"' in no.stderr
    nobody = subprocess.run(
        [str(BIN / "kubectl"), f"--server={server}", "--insecure-skip-tls-verify", "get", "pods", "--token=wrong"],
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert nobody.returncode and "Unauthorized" in nobody.stderr


def test_custom_resources(cluster: Shell, namespace: str) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.e2e.example.com"},
        "spec": {
            "group": "e2e.example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "shortNames": ["bt"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "Sails", "type": "integer", "jsonPath": ".spec.sails"}],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "required": ["sails"],
                                    "properties": {
                                        "sails": {"type": "integer", "minimum": 1, "maximum": 9},
                                        "colour": {"type": "string", "default": "white"},
                                    },
                                    "x-kubernetes-validations": [
                                        {"rule": "self.sails != 7", "message": "seven sails are unlucky"}
                                    ],
                                },
                                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            },
                        }
                    },
                }
            ],
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    cluster.kubectl("wait", "crd/boats.e2e.example.com", "--for=condition=Established", "--timeout=30s")

    def boat(sails: object) -> str:
        metadata = {"name": "b", "namespace": namespace}
        return json.dumps(
            {"apiVersion": "e2e.example.com/v1", "kind": "Boat", "metadata": metadata, "spec": {"sails": sails}}
        )

    cluster.kubectl("apply", "-f", "-", stdin=boat(2))
    assert cluster.get("bt", "b", "-n", namespace)["spec"] == {"sails": 2, "colour": "white"}
    table = cluster.kubectl("get", "boats", "-n", namespace).stdout.split()
    assert table[:3] == ["NAME", "SAILS", "b"] or table[:2] == ["NAME", "SAILS"]
    for sails, why in ((0, "greater than or equal to 1"), ("x", "must be of type integer"), (7, "unlucky")):
        refused = cluster.kubectl("apply", "-f", "-", stdin=boat(sails), check=False)
        assert refused.returncode and why in refused.stderr, refused.stderr
    assert "FIELD: sails <integer>" in cluster.kubectl("explain", "boat.spec.sails").stdout
    cluster.kubectl("delete", "crd", "boats.e2e.example.com")
    gone = until(lambda: cluster.kubectl("get", "boats", "-n", namespace, check=False).stderr, "the kind is gone")
    assert "the server doesn't have a resource type" in gone or "could not find the requested resource" in gone


def test_namespace_deletion_takes_its_content(cluster: Shell) -> None:
    cluster.kubectl("create", "namespace", "short-lived")
    until(lambda: not cluster.kubectl("get", "sa", "default", "-n", "short-lived", check=False).returncode, "account")
    cluster.kubectl("apply", "-n", "short-lived", "-f", "-", stdin=WEB)
    cluster.kubectl("delete", "namespace", "short-lived", "--timeout=60s")
    refused = cluster.kubectl("create", "configmap", "x", "-n", "short-lived", check=False)
    assert refused.returncode and 'namespaces "short-lived" not found' in refused.stderr

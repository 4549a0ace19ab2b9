"""The examples, each by its README's commands, on the default fleet; and what each of them promises."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, INPUTS, ROOT, Shell, until

from atoll.cluster.nodes.process.doctor import diagnose

CLUSTERS = ("onprem", "cloud-a", "cloud-b")


@pytest.fixture
def applied(fleet: Shell, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An example's manifest, applied to the hub for one test."""
    manifest = ROOT / "examples" / request.param / "app.yaml"
    fleet.kubectl("apply", "-f", str(manifest))
    yield manifest
    fleet.kubectl("delete", "-f", str(manifest), "--timeout=30s", "--ignore-not-found")
    names = [item["metadata"]["name"] for item in _items(fleet, "onprem")]
    assert not [name for name in names if name in manifest.read_text()], "copies outlive the template"


def example(name: str) -> Any:
    return pytest.mark.parametrize("applied", [name], indirect=True, ids=[""])


def _items(fleet: Shell, cluster: str) -> list[dict[str, Any]]:
    return fleet.get("deployments", context=f"atoll-{cluster}")["items"]


def replicas(fleet: Shell, name: str) -> dict[str, int]:
    """cluster → wanted replicas of the Deployment's copy there."""
    found = json.loads(fleet.atoll("get", "deployments", "--clusters", "-o", "json").stdout)["items"]
    return {item["cluster"]: item["spec"]["replicas"] for item in found if item["metadata"]["name"] == name}


@example("01-hello-fleet")
def test_hello_fleet(fleet: Shell, applied: Path) -> None:
    assert "successfully rolled out" in fleet.kubectl("rollout", "status", "deployment/hello", "--timeout=30s").stdout
    assert replicas(fleet, "hello") == dict.fromkeys(CLUSTERS, 2)
    until(lambda: fleet.get("deployment", "hello")["status"].get("readyReplicas") == 6, "six ready in all")
    shown = fleet.atoll("get", "deployments", "--clusters").stdout
    assert re.search(r"^cloud-a +hello +2/2", shown, re.M), shown
    tree = fleet.atoll("tree", "deployment/hello").stdout
    assert len(re.findall(r"─ Pod hello-\S+ +(?:onprem|cloud-a|cloud-b) +Ready", tree)) == 6, tree
    assert fleet.get("service", "hello", context="atoll-cloud-b")["spec"]["ports"][0]["port"] == 80


@example("02-replica-division")
def test_replica_division(fleet: Shell, applied: Path) -> None:
    fleet.kubectl("rollout", "status", "deployment/weighted", "--timeout=30s")
    assert replicas(fleet, "weighted") == {"onprem": 6, "cloud-a": 2, "cloud-b": 2}
    explained = fleet.atoll("explain", "deployment/weighted").stdout
    assert "by static weights (cloud-a 1, cloud-b 1, onprem 3)" in explained
    assert re.search(r"^onprem +6 +6 +yes +Healthy", explained, re.M), explained
    fleet.kubectl("scale", "deployment/weighted", "--replicas=11")
    grown = until(lambda: _summing_to(11, replicas(fleet, "weighted")), "eleven in all")
    assert all(grown[name] >= before for name, before in {"onprem": 6, "cloud-a": 2, "cloud-b": 2}.items()), grown


def _summing_to(total: int, counts: dict[str, int]) -> dict[str, int] | None:
    return counts if sum(counts.values()) == total else None


def test_overrides(fleet: Shell) -> None:
    folder = ROOT / "examples" / "03-overrides"
    plan = fleet.atoll("plan", "-f", str(folder)).stdout
    assert re.search(r"\+ onprem: Deployment default/overridden × 1  overridden by OverridePolicy", plan), plan
    assert "6 to create, 0 to change, 0 to delete" in plan
    assert not [item for item in _items(fleet, "onprem") if item["metadata"]["name"] == "overridden"], "a plan acts"
    fleet.kubectl("apply", "-f", str(folder / "app.yaml"))
    fleet.kubectl("rollout", "status", "deployment/overridden", "--timeout=30s")
    copies = {
        name: fleet.get("deployment", "overridden", context=f"atoll-{name}")
        for name in CLUSTERS
    }  # fmt: skip
    images = {name: copy["spec"]["template"]["spec"]["containers"][0]["image"] for name, copy in copies.items()}
    plain = "docker.io/library/nginx:1.27"
    assert images == {"onprem": "registry.hall1.example.com/library/nginx:1.27", "cloud-a": plain, "cloud-b": plain}
    assert {name: copy["spec"]["replicas"] for name, copy in copies.items()} == {
        "onprem": 1, "cloud-a": 2, "cloud-b": 1,
    }  # fmt: skip
    assert copies["onprem"]["metadata"]["labels"]["place"] == "hall1"
    assert "place" not in copies["cloud-a"]["metadata"]["labels"]
    fleet.kubectl("delete", "-f", str(folder / "app.yaml"))


@example("04-failover-drill")
def test_failover_drill(fleet: Shell, applied: Path) -> None:
    fleet.kubectl("rollout", "status", "deployment/steady", "--timeout=30s")
    assert replicas(fleet, "steady") == dict.fromkeys(CLUSTERS, 3)
    path = "jsonpath={.status.readyReplicas}/{.spec.replicas}{'\\n'}"
    watch = fleet.popen(str(BIN / "kubectl"), "--context=atoll-hub", "get", "deployment/steady", "-w", "-o", path)
    try:
        began = time.monotonic()
        fleet.atoll("kill", "cloud-a")
        placed = until(lambda: _elsewhere(fleet), "nine elsewhere", 20)
        until(lambda: fleet.get("deployment", "steady")["status"].get("readyReplicas") == 9, "nine ready", 20)
        took = time.monotonic() - began
        assert "cloud-a: cluster cloud-a has not been ready" in fleet.atoll("explain", "deployment/steady").stdout
        status = fleet.atoll("status").stdout
        assert re.search(r"^cloud-a +killed +NotReady", status, re.M), status
        pods = {name: _pods(fleet, name) for name in placed}
    finally:
        fleet.atoll("heal", "cloud-a")
    until(lambda: _ready(fleet, "cloud-a"), "cloud-a ready again", 30)
    until(lambda: "steady" not in [i["metadata"]["name"] for i in _items(fleet, "cloud-a")], "its surplus gone", 30)
    assert {name: _pods(fleet, name) for name in placed} == pods, "what runs elsewhere stays as it is"
    watch.terminate()
    seen = [line.strip() for line in (watch.communicate()[0]).splitlines() if "/" in line]
    ready = [int(line.split("/")[0] or 0) for line in seen]
    assert ready and max(ready) <= 9, seen
    lost = next((index for index, count in enumerate(ready) if count < 9), len(ready))
    assert 9 in ready[lost:], f"{seen} in {took:.1f} s"
    recovered = lost + ready[lost:].index(9)
    assert min(ready[recovered:]) == 9, f"fewer ready when the cluster comes back: {seen}"


def _elsewhere(fleet: Shell) -> dict[str, int] | None:
    counts = {
        name: sum(item["spec"]["replicas"] for item in _items(fleet, name) if item["metadata"]["name"] == "steady")
        for name in ("onprem", "cloud-b")
    }
    return counts if sum(counts.values()) == 9 else None


def _pods(fleet: Shell, cluster: str) -> set[str]:
    return {p["metadata"]["uid"] for p in fleet.get("pods", "-l", "app=steady", context=f"atoll-{cluster}")["items"]}


def _ready(fleet: Shell, cluster: str) -> bool:
    found = json.loads(fleet.atoll("status", "-o", "json").stdout)["clusters"]
    return next(item for item in found if item["name"] == cluster)["ready"] == "True"


@pytest.mark.root
@pytest.mark.skipif(diagnose().mode != "bridge", reason=f"no pod networks here: {diagnose().reason}")
@example("05-real-processes")
def test_real_processes(fleet: Shell, applied: Path) -> None:
    for name in ("backend", "frontend"):
        fleet.kubectl("-n", "hello", "rollout", "status", f"deployment/{name}", "--timeout=60s")
    logs = fleet.kubectl("-n", "hello", "logs", "deployment/frontend", context="atoll-onprem").stdout
    assert "frontend listens on port 8080" in logs
    for cluster in CLUSTERS:
        answer = _through_port_forward(fleet, cluster)
        assert answer["frontend"]["node"] == f"{cluster}-process-0"
        assert answer["backend"]["message"] == "hello"
        assert answer["backend"]["node"] == f"{cluster}-process-0"


def _through_port_forward(fleet: Shell, cluster: str) -> Any:
    forward = fleet.popen(
        str(BIN / "kubectl"),
        f"--context=atoll-{cluster}",
        "-n",
        "hello",
        "port-forward",
        "deployment/frontend",
        ":8080",
    )
    try:
        assert forward.stdout is not None
        line = forward.stdout.readline()
        port = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert port, line
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=20) as answer:
            return json.loads(answer.read())
    finally:
        forward.terminate()
        forward.communicate()


def read_only(fleet: Shell, cluster: str, folder: Path) -> Path:
    """A kubeconfig of a service account with the `view` role in that cluster."""
    context = f"atoll-{cluster}"
    if fleet.kubectl("get", "serviceaccount", "viewer", context=context, check=False).returncode:
        fleet.kubectl("create", "serviceaccount", "viewer", context=context)
        fleet.kubectl(
            "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer",
            context=context,
        )  # fmt: skip
    token = fleet.kubectl("create", "token", "viewer", context=context).stdout.strip()
    admin = json.loads(fleet.kubectl("config", "view", "--raw", "--minify", "-o", "json", context=context).stdout)
    admin["users"] = [{"name": "viewer", "user": {"token": token}}]
    admin["contexts"][0]["context"]["user"] = "viewer"
    path = folder / f"{cluster}.kubeconfig"
    path.write_text(json.dumps(admin))
    return path


def test_plan_against_read_only_clusters(fleet: Shell, tmp_path: Path) -> None:
    files = [str(read_only(fleet, name, tmp_path)) for name in CLUSTERS]
    manifest = ROOT / "examples" / "06-plan-your-own-clusters" / "app.yaml"
    plan = fleet.atoll("plan", "-f", str(manifest), "--kubeconfigs", ",".join(files))
    assert "Deployment default/planned: PropagationPolicy default/planned" in plan.stdout
    assert "1 to create, 0 to change, 0 to delete; nothing was changed" in plan.stdout
    assert "unknown" in plan.stdout + plan.stderr, "the view role reads no nodes: their room is not known"
    for name in CLUSTERS:
        assert not [item for item in _items(fleet, name) if item["metadata"]["name"] == "planned"]
    secret = tmp_path / "secret.yaml"
    secret.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n---\n"
        "apiVersion: policy.karmada.io/v1alpha1\nkind: PropagationPolicy\nmetadata: {name: s}\n"
        "spec: {resourceSelectors: [{apiVersion: v1, kind: Secret}], placement: {}}\n"
    )
    plan = fleet.atoll("plan", "-f", str(secret), "--kubeconfigs", ",".join(files))
    assert re.search(r"\? onprem: Secret default/s", plan.stdout), plan.stdout + plan.stderr


BOUTIQUE = INPUTS / "online-boutique" / "kubernetes-manifests.yaml"


@pytest.mark.root
@pytest.mark.skipif(diagnose().mode != "bridge", reason=f"no pod networks here: {diagnose().reason}")
@pytest.mark.skipif(not BOUTIQUE.exists(), reason=f"no published application at {BOUTIQUE}")
def test_the_main_job_with_a_published_application(fleet: Shell) -> None:
    shown = fleet.atoll("demo", "--app", str(BOUTIQUE), timeout=180).stdout
    for cluster in CLUSTERS:
        assert re.search(rf"^{cluster} answered: frontend frontend-\S+ on {cluster}-process-0", shown, re.M), shown
    assert re.search(r"workloads: (\d+) of \1 Deployments fully ready", shown), shown
    assert all(step in shown for step in ("atoll kill", "atoll plan", "kubectl --context atoll-onprem"))
    services = fleet.get("services", "-n", "boutique", context="atoll-cloud-b")["items"]
    assert "frontend-external" in [item["metadata"]["name"] for item in services]
    _delete_a_namespace_beyond_the_budget(fleet)


def _delete_a_namespace_beyond_the_budget(fleet: Shell) -> None:
    """A namespace's cascade over three clusters is more than may go unasked: it waits, says how to go on, goes on."""
    fleet.kubectl("delete", "namespace", "boutique", "--wait=false")
    held = until(lambda: _held(fleet) >= {"Deployment", "Service"} and _held(fleet), "the budget to hold back")
    assert _items_in(fleet, "onprem", "boutique"), "nothing beyond the budget is deleted"
    status = fleet.atoll("status").stdout
    assert re.search(r"^held: \d+ Deployment copies are not deleted yet: the cascade of a namespace", status, re.M), (
        status
    )
    for kind in sorted(held):
        command = re.search(rf"to confirm: kubectl (.*confirm={kind} --overwrite)", fleet.atoll("status").stdout)
        assert command, status
        fleet.run(str(BIN / "kubectl"), *command[1].split())
    fleet.kubectl("wait", "--for=delete", "namespace/boutique", "--timeout=30s")
    assert not _items_in(fleet, "onprem", "boutique")


def _held(fleet: Shell) -> set[str]:
    return {one["kind"] for one in json.loads(fleet.atoll("status", "-o", "json").stdout)["held"]}


def _items_in(fleet: Shell, cluster: str, namespace: str) -> list[Any]:
    return list(fleet.get("deployments", "-n", namespace, context=f"atoll-{cluster}")["items"])

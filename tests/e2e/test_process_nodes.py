"""Pods that really run: logs, exec, cp, port-forward, Services, names, probes; by kubectl."""

import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from process_cluster import BIN, DIAGNOSIS, FETCH, Cluster, events_of, fetch, pod, server, service, status_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(DIAGNOSIS.mode != "bridge", reason=f"no pod networks here: {DIAGNOSIS.reason}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("pn"))
    made.atoll("cluster", "create", made.name, "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", made.name)


ASK_API_SERVER = """
import pathlib, ssl, urllib.request
account = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
headers = {"Authorization": "Bearer " + (account / "token").read_text()}
context = ssl.create_default_context(cafile=account / "ca.crt")
request = urllib.request.Request("https://kubernetes/api", headers=headers)
print(urllib.request.urlopen(request, context=context, timeout=5).status)
"""


def test_environment_files_and_logs(cluster):
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cm"},
        "data": {"key": "value", "f": "file"},
    }
    env = [
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "key"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(KEY)-$(IP)"},
    ]
    script = 'echo $(KEY) "$BOTH"; echo to-stderr >&2; cat /cfg/f; hostname; grep -c $IP /etc/hosts; sleep 1000'
    mounts = [{"name": "cfg", "mountPath": "/cfg"}]
    volumes = [{"name": "cfg", "configMap": {"name": "cm"}}]
    cluster.apply(config, pod("env", script, container={"env": env, "volumeMounts": mounts}, volumes=volumes))
    cluster.ready("env")
    ip = cluster.get("pod", "env")["status"]["podIP"]
    lines = cluster.until(lambda: len(found := cluster("logs", "env").splitlines()) >= 4 and found)
    assert f"value value-{ip}" in lines
    assert "to-stderr" in lines
    assert "fileenv" in lines
    assert len(cluster("logs", "env", "--tail=1").splitlines()) == 1
    assert cluster("logs", "env", "--timestamps").startswith("20")
    assert cluster("logs", "env", "--limit-bytes=3") == cluster("logs", "env")[:3]


def test_a_changed_config_map_reaches_its_volume(cluster):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "live"}, "data": {"f": "one"}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "configMap": {"name": "live"}}]
    cluster.apply(config, pod("live", container={"volumeMounts": mounts}, volumes=volumes))
    cluster.ready("live")
    assert cluster("exec", "live", "--", "cat", "/v/f") == "one"
    cluster.apply({**config, "data": {"f": "two"}})
    cluster.until(lambda: cluster("exec", "live", "--", "cat", "/v/f") == "two")


def test_exec_and_cp(cluster, tmp_path):
    cluster.apply(pod("exec"))
    cluster.ready("exec")
    assert cluster("exec", "-i", "exec", "--", "cat", stdin="through stdin\n") == "through stdin\n"
    failed = cluster.run("exec", "exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.returncode, failed.stdout) == (7, "out\n")
    assert failed.stderr.startswith("err\n")
    missing = cluster.run("exec", "exec", "--", "no-such-program")
    assert missing.returncode != 0
    assert "executable file not found in $PATH" in missing.stderr
    wrong = cluster.run("exec", "exec", "-c", "nope", "--", "true")
    assert "container nope is not valid for pod exec" in wrong.stderr
    (tmp_path / "up").write_bytes(bytes(range(256)) * 4000)
    cluster("cp", str(tmp_path / "up"), "exec:/tmp/file")
    cluster("cp", "exec:/tmp/file", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


def test_a_terminal(cluster):
    script = "test -t 0 && echo a terminal; read line; echo got $line; stty size"
    cluster.apply(pod("tty", f"{script}; sleep 1000", container={"stdin": True, "tty": True}))
    cluster.ready("tty")
    cluster.until(lambda: "a terminal" in cluster("logs", "tty"))
    attached = subprocess.Popen(
        [BIN / "kubectl", "attach", "-i", "tty"], env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    attached.stdin.write(b"hello\n")
    attached.stdin.flush()
    try:
        cluster.until(lambda: "got hello" in cluster("logs", "tty"))
    finally:
        attached.kill()
        attached.communicate()


def test_port_forward(cluster):
    cluster.apply(server("forwarded", "through the tunnel"))
    cluster.ready("forwarded")
    forward = subprocess.Popen(
        [BIN / "kubectl", "port-forward", "pod/forwarded", ":8080", ":81"],
        env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ports = {}
        while len(ports) < 2:
            line = forward.stdout.readline()
            assert line.startswith("Forwarding from"), forward.stderr.read()
            here, there = line.split(" -> ")
            ports[int(there)] = int(here.rpartition(":")[2])
        for _ in range(3):
            answer = subprocess.run(
                [sys.executable, "-c", FETCH, f"http://127.0.0.1:{ports[8080]}"],
                capture_output=True, text=True, timeout=20,
            )  # fmt: skip
            assert answer.stdout.strip() == "through the tunnel", answer.stderr
        with socket.create_connection(("127.0.0.1", ports[81]), timeout=10) as refused:
            assert refused.recv(1) == b""
        assert "connection refused" in forward.stderr.readline()
    finally:
        forward.kill()
        forward.communicate()


def test_services_and_names(cluster):
    cluster.apply(
        server("web-0", "zero", labels={"app": "web"}, hostname="web-0", subdomain="headless"),
        server("web-1", "one", labels={"app": "web"}),
        service("web", "web", type="NodePort"),
        service("headless", "web", clusterIP="None"),
        service("nobody", "nobody"),
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"},
            "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"},
        },
        pod("caller"),
    )  # fmt: skip
    cluster.ready("web-0", "web-1", "caller")
    found = cluster.get("service", "web")["spec"]
    node = cluster.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    answers = {fetch(cluster, "caller", "http://web") for _ in range(6)}
    assert answers == {"zero", "one"}
    assert fetch(cluster, "caller", f"http://{found['clusterIP']}") in answers
    assert fetch(cluster, "caller", "http://web.default.svc.cluster.local:80") in answers
    assert fetch(cluster, "caller", "http://alias") in answers
    assert fetch(cluster, "caller", "http://web-0.headless:8080") == "zero"
    assert fetch(cluster, "caller", f"http://{node}:{found['ports'][0]['nodePort']}") in answers
    refused = cluster.run("exec", "caller", "--", "python3", "-c", FETCH, "http://nobody")
    assert "Connection refused" in refused.stderr
    unknown = cluster.run("exec", "caller", "--", "python3", "-c", FETCH, "http://nowhere")
    assert "Name or service not known" in unknown.stderr
    assert cluster("exec", "caller", "--", "python3", "-c", ASK_API_SERVER).strip() == "200"
    proxied = cluster("get", "--raw", "/api/v1/namespaces/default/services/web:http/proxy/")
    assert proxied in answers
    assert cluster("get", "--raw", "/api/v1/namespaces/default/pods/web-1:8080/proxy/") == "one"


def test_readiness_decides_who_is_served(cluster):
    probe = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    made = server("gated", "served")
    made["spec"]["containers"][0]["readinessProbe"] = probe
    cluster.apply(made, service("gated", "gated"), pod("asker"))
    cluster.ready("asker")
    cluster.until(lambda: cluster.get("pod", "gated")["status"]["phase"] == "Running")
    assert cluster.run("exec", "asker", "--", "python3", "-c", FETCH, "http://gated").returncode != 0
    cluster("exec", "gated", "--", "touch", "/tmp/ready")
    cluster.ready("gated")
    cluster.until(lambda: cluster.run("exec", "asker", "--", "python3", "-c", FETCH, "http://gated").returncode == 0)
    cluster("exec", "gated", "--", "rm", "/tmp/ready")
    cluster("wait", "--for=condition=Ready=false", "--timeout=30s", "pod/gated")


def test_a_failing_liveness_probe_restarts(cluster):
    probe = {"exec": {"command": ["sh", "-c", "echo unwell; exit 1"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.apply(pod("sick", "echo run; sleep 1000", container={"livenessProbe": probe}))
    cluster.until(lambda: status_of(cluster, "sick").get("restartCount", 0) >= 1)
    told = {(item["reason"], item["message"]) for item in events_of(cluster, "sick")}
    assert ("Unhealthy", "Liveness probe failed: unwell\n") in told
    assert ("Killing", "Container c failed liveness probe, will be restarted") in told
    assert cluster("logs", "sick", "--previous") == "run\n"


def test_a_crashing_container_backs_off(cluster):
    cluster.apply(pod("crash", "echo oops >&2; exit 4"))
    waiting = cluster.until(lambda: status_of(cluster, "crash").get("state", {}).get("waiting"))
    waiting = cluster.until(
        lambda: (
            (found := status_of(cluster, "crash")["state"].get("waiting")) and "back-off" in found["message"] and found
        )
    )
    uid = cluster.get("pod", "crash")["metadata"]["uid"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"] == f"back-off 10s restarting failed container=c pod=crash_default({uid})"
    assert status_of(cluster, "crash")["lastState"]["terminated"]["exitCode"] == 4


def test_what_can_not_be_made_says_why(cluster):
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]
    cluster.apply(
        {**pod("image"), "spec": {"containers": [{"name": "c", "image": "quay.io/none/such:1"}]}},
        pod("config", container={"env": env}),
        pod("program", container={"command": ["no-such-program"]}, restartPolicy="Never"),
    )
    waiting = cluster.until(
        lambda: (
            (found := status_of(cluster, "image").get("state", {}).get("waiting"))
            and found["reason"] == "ImagePullBackOff"
            and found
        )
    )
    assert "map it in the cluster's `images` list" in waiting["message"]
    waiting = cluster.until(
        lambda: (
            (found := status_of(cluster, "config").get("state", {}).get("waiting"))
            and found["reason"] == "CreateContainerConfigError"
            and found
        )
    )
    assert waiting["message"] == 'secret "absent" not found'
    ended = cluster.until(lambda: status_of(cluster, "program").get("state", {}).get("terminated"))
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    refused = cluster.run("logs", "image")
    assert 'container "c" in pod "image" is waiting to start' in refused.stderr


def test_the_kubelets_port_is_closed_to_strangers(cluster):
    address = cluster.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    cluster("create", "serviceaccount", "stranger")
    cluster("create", "serviceaccount", "reader")
    cluster(
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=system:kubelet-api-admin",
        "--serviceaccount=default:reader",
    )

    def asked(token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"https://{address}:10250/pods", headers=headers)
        try:
            with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert asked("") == 401
    assert asked("nonsense") == 401
    assert asked(cluster("create", "token", "stranger").strip()) == 403
    assert asked(cluster("create", "token", "reader").strip()) == 200


def test_a_debug_container_joins_a_running_pod(cluster):
    cluster.apply(pod("patient"))
    cluster.ready("patient")
    cluster("debug", "patient", "--image=busybox", "-c", "doctor", "--", "sh", "-c", "hostname; sleep 1000")
    cluster.until(lambda: cluster.run("logs", "patient", "-c", "doctor").stdout == "patient\n")
    assert "running" in cluster.get("pod", "patient")["status"]["ephemeralContainerStatuses"][0]["state"]


def test_a_changed_image_restarts_the_container(cluster):
    cluster.apply(pod("changing"))
    cluster.ready("changing")
    cluster("set", "image", "pod/changing", "c=alpine")
    cluster.until(lambda: status_of(cluster, "changing").get("restartCount") == 1)
    cluster.ready("changing")
    assert status_of(cluster, "changing")["image"] == "alpine"


def test_the_machines_kernel_log_is_read(cluster):
    def conditions(node):
        return {item["type"]: item for item in node["status"]["conditions"]}

    def told():
        nodes = cluster.get("nodes", "-l", "atoll.dev/process=true")["items"]
        return all("KernelDeadlock" in conditions(node) for node in nodes) and nodes

    checks = json.loads(cluster.atoll("doctor", "-o", "json"))
    readable = next(item["result"] for item in checks if item["check"].strip() == "kernel log") == "ok"
    for node in cluster.until(told):
        found = conditions(node)
        assert found["Ready"]["status"] == "True"
        status, reason = found["KernelDeadlock"]["status"], found["KernelDeadlock"]["reason"]
        assert (reason == "KernelLogUnreadable") != readable or status == "True"

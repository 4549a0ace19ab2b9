"""A throw-away cluster of process nodes for tests, driven by kubectl; objects to put on it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from atoll.cluster.nodes.process.doctor import diagnose

BIN = Path(sys.executable).parent
DIAGNOSIS = diagnose()


class Cluster:
    """A throw-away cluster of two process nodes, made by the command line."""

    def __init__(self, folder: Path, name: str = "pn") -> None:
        self.name = name
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "KUBECONFIG": str(self.kubeconfig)}

    def atoll(self, *args: str) -> str:
        done = subprocess.run([BIN / "atoll", *args], env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "kubectl", *args], env=self.env, capture_output=True, text=True, input=stdin, timeout=60
        )

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}{done.stdout}"
        return done.stdout

    def apply(self, *objects: dict) -> None:
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *args: str) -> dict:
        return json.loads(self("get", *args, "-o", "json"))

    def until(self, what, *, seconds: float = 30):
        """Wait for `what()` to be true; returns it."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.05)
        return found

    def ready(self, *pods: str) -> None:
        self("wait", "--for=condition=Ready", "--timeout=30s", *(f"pod/{name}" for name in pods))


def pod(name, script="sleep 1000", *, labels=None, **more):
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", script], **more.pop("container", {})}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], **more}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": spec,
    }


SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["TEXT"].encode())
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def server(name, text, **more):
    """A pod that answers every GET on port 8080 with `text`, once it is ready."""
    container = {
        "image": "python:3",
        "command": ["python3", "-c", SERVER],
        "env": [{"name": "TEXT", "value": text}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    return pod(name, container=container, **more)


def service(name, app, **spec):
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


def fetch(cluster, name, url):
    return cluster("exec", name, "--", "python3", "-c", FETCH, url).strip()


def status_of(cluster, name):
    statuses = cluster.get("pod", name)["status"].get("containerStatuses") or [{}]
    return statuses[0]


def events_of(cluster, name):
    return cluster.get("events", "--field-selector", f"involvedObject.name={name}")["items"]

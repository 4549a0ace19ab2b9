"""Server-side applies of a 5 KB object a second: each changes one value of a Deployment of ten containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from atoll.client.kubeconfig import Access
from bench import load
from bench.figure import Figure, compared, percentile
from bench.load import Load
from bench.targets import NAMESPACE, Target, both

CLIENTS = 8
OBJECTS = 32
_CONTAINERS = 9


def _container(number: int, value: int) -> dict[str, Any]:
    return {
        "name": f"container-{number}",
        "image": f"registry.example/team/application-{number}:1.2.3",
        "ports": [{"name": f"port-{number}", "containerPort": 8000 + number, "protocol": "TCP"}],
        "env": [{"name": "SETTING", "value": str(value)}, {"name": "LEVEL", "value": "information"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": f"/var/lib/data-{number}"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000 + number}, "periodSeconds": 5},
    }


def body(number: int) -> bytes:
    labels = {"app": f"apply-{number % OBJECTS}", "team": "platform", "tier": "backend"}
    containers = [_container(index, number if index == 0 else 0) for index in range(_CONTAINERS)]
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": {"example.com/note": "x" * 512}},
            "spec": {"containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]},
        },
    }
    metadata = {"name": f"apply-{number % OBJECTS}", "labels": labels}
    return orjson.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def requests(access: Access) -> Callable[[int], bytes]:
    base = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"

    def make(number: int) -> bytes:
        path = f"{base}/apply-{number % OBJECTS}?fieldManager=bench&force=true"
        return load.send("PATCH", access, path, "application/apply-patch+yaml", body(number))

    return make


def measure(target: Target, total: int) -> Load:
    load.execute(load.run(target.bench, requests(target.bench), OBJECTS, CLIENTS))  # creates them
    found: Load = load.execute(load.run(target.bench, requests(target.bench), total, CLIENTS))
    assert set(found.statuses) == {200}, found.statuses
    return found


def run() -> list[Figure]:
    theirs, mine = both(measure, 1_500, 3_000)

    def shown(found: Load) -> str:
        return f"{found.rate:,.0f}/s, p50 {percentile(found.latencies, 0.5) * 1000:.0f} ms"

    return [
        compared(
            "server-side apply of a 5 KB object/s",
            shown(theirs) if theirs else "not built",
            shown(mine),
            mine.rate / theirs.rate if theirs else None,
            2,
            f"a Deployment of {_CONTAINERS} containers, {len(body(0)) / 1000:.1f} KB as sent, one value changed each"
            f" time, {OBJECTS} objects, {CLIENTS} clients, durable",
        )
    ]

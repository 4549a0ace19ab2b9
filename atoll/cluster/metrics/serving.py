"""metrics.k8s.io/v1beta1 served by the API server itself: nodes and pods, made up on read. An APIService of the same
name takes the group over (somebody's own metrics server), since aggregation comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.metrics.server import MetricsServer
from atoll.cluster.store.port import Key, Record, Watcher
from atoll.kinds.catalog import ApiResource
from atoll.kinds.resource import Resource

Object = dict[str, Any]
_GROUP, _VERSION = "metrics.k8s.io", "v1beta1"
NODE_METRICS = Resource(_GROUP, _VERSION, "nodes", "NodeMetrics", False)
POD_METRICS = Resource(_GROUP, _VERSION, "pods", "PodMetrics")


def serve_metrics(api: Api, server: MetricsServer) -> None:
    """Add the group to what is served."""
    overlays = {
        NODE_METRICS: Shown(lambda _, name: server.node(name), lambda _: server.nodes()),
        POD_METRICS: Shown(server.pod, server.pods),
    }
    for resource, overlay in overlays.items():
        entry = ApiResource(resource, "", ("get", "list"), list_kind=resource.kind + "List")
        api.registry.add(Served(resource, resource, entry, virtual=True))
        api.overlay(resource.group_resource, overlay)


class Shown:
    """Implements `api.Overlay` over what the metrics server knows."""

    def __init__(
        self, one: Callable[[str, str], Object | None], many: Callable[[str | None], Iterable[Object]]
    ) -> None:
        self._one = one
        self._many = many

    def record(self, key: Key, stored: Record | None) -> Record | None:
        found = self._one(key.namespace, key.name)
        return None if found is None else Loose(key, 0, found)

    def records(self, namespace: str | None, stored: list[Record]) -> list[Record]:
        return [_record(obj) for obj in self._many(namespace)]

    def watcher(self, stored: Watcher, after: int, namespace: str | None) -> Watcher:
        return stored


def _record(obj: Object) -> Record:
    metadata = obj["metadata"]
    plural = "nodes" if obj["kind"] == "NodeMetrics" else "pods"
    return Loose(Key(f"{plural}.{_GROUP}", metadata.get("namespace", ""), metadata["name"]), 0, obj)


def reader_role() -> Object:
    """What the metrics server's own manifest brings: who may view a namespace may see what its pods use."""
    aggregated = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": aggregated},
        "rules": [{"apiGroups": [_GROUP], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }

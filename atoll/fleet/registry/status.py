"""What a Cluster object says of its cluster: conditions, taints, summaries. Pure: the old object in, the new out."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import rfc3339
from atoll.fleet.names import NOT_READY_TAINT
from atoll.kinds.hub import CLUSTER_PROFILES

Object = dict[str, Any]


def condition(old: list[Object] | None, kind: str, status: str, reason: str, message: str, now: float) -> Object:
    """The transition time is kept while the status is the same."""
    before = next((item for item in old or () if item.get("type") == kind), None)
    since = before["lastTransitionTime"] if before and before.get("status") == status else rfc3339(now)
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def ready_condition(cluster: Object, ready: bool | None, message: str, latency: float, now: float) -> Object:
    """`ready` None is Unknown: the hub can't tell."""
    old = (cluster.get("status") or {}).get("conditions")
    if ready:
        message = f"cluster is healthy and ready to accept workloads; it answers {_speed(latency)}"
        return condition(old, "Ready", "True", "ClusterReady", message, now)
    if ready is None:
        return condition(old, "Ready", "Unknown", "HubSuspect", message, now)
    return condition(old, "Ready", "False", "ClusterNotReachable", message or "cluster is not reachable", now)


def _speed(latency: float) -> str:
    """Coarse, so that a status is not written for every heartbeat."""
    for bound in (0.02, 0.1, 0.5, 2.0):
        if latency <= bound:
            return f"within {int(bound * 1000)} ms"
    return f"after more than {2:g} s"


def taints_for(cluster: Object, ready: bool, execute: bool, now: float) -> list[Object]:
    """The cluster's taints: a person's own, and ours for not being ready (NoSchedule, then NoExecute)."""
    have = (cluster.get("spec") or {}).get("taints") or []
    ours = {item["effect"]: item for item in have if item["key"] == NOT_READY_TAINT}
    out = [item for item in have if item["key"] != NOT_READY_TAINT]
    if ready:
        return out
    for effect in ("NoSchedule", "NoExecute") if execute or "NoExecute" in ours else ("NoSchedule",):
        out.append(ours.get(effect) or {"key": NOT_READY_TAINT, "effect": effect, "timeAdded": rfc3339(now)})
    return out


def profile(cluster: Object, namespace: str, manager: str) -> Object:
    """The ClusterProfile of a cluster, without its status."""
    name = cluster["metadata"]["name"]
    return {
        "apiVersion": CLUSTER_PROFILES.api_version,
        "kind": CLUSTER_PROFILES.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"x-k8s.io/cluster-manager": manager, "x-k8s.io/display-name": name},
        },
        "spec": {"displayName": name, "clusterManager": {"name": manager}},
    }


def profile_status(cluster: Object) -> Object:
    """What the ClusterProfile says: control plane health, version, and where the cluster is."""
    status, spec = cluster.get("status") or {}, cluster.get("spec") or {}
    ready = next((item for item in status.get("conditions") or () if item["type"] == "Ready"), None)
    out: Object = {}
    if status.get("kubernetesVersion"):
        out["version"] = {"kubernetes": status["kubernetesVersion"]}
    zones = ",".join(spec.get("zones") or ())
    places = {"provider": spec.get("provider"), "region": spec.get("region"), "zones": zones}
    properties = [{"name": key, "value": str(value)} for key, value in places.items() if value]
    if properties:
        out["properties"] = properties
    if ready:
        reason = ready.get("reason") or "Unknown"
        out["conditions"] = [{**ready, "type": "ControlPlaneHealthy", "reason": reason}]
    return out

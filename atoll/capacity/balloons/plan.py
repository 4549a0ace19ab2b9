"""The balloons of a pool: a Deployment whose pods each fill a node's devices, apart from each other. Pure.

They are pending pods like others to the autoscaler, so spare nodes are made; the scheduler preempts one, without a
period of grace, for any work that needs its place, and the next one asks for another spare node.
"""

from __future__ import annotations

from typing import Any

from atoll.base import quantity
from atoll.capacity import names
from atoll.capacity.autoscale.settings import Pool

Object = dict[str, Any]
PRIORITY_CLASS = "atoll-balloon"
_SELF = {"app.kubernetes.io/managed-by": "atoll"}
_SHARE = 0.75  # of CPU and memory, where a node has no devices: daemons need some too


def priority_class() -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PRIORITY_CLASS, "labels": _SELF},
        "value": -1000,
        "preemptionPolicy": "Never",
        "description": "Balloons: they keep spare nodes warm, and give way to any work.",
    }


def deployment_name(pool: str) -> str:
    return f"atoll-balloon-{pool}"


def deployment(pool: Pool) -> Object:
    """As many as the pool's `spare`."""
    own = {names.BALLOON: "true", names.POOL_LABEL: pool.name}
    spread = {"labelSelector": {"matchLabels": {names.BALLOON: "true"}}, "topologyKey": "kubernetes.io/hostname"}
    spec = {
        "priorityClassName": PRIORITY_CLASS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "nodeSelector": {names.POOL_LABEL: pool.name},
        "tolerations": [
            {"key": taint["key"], "operator": "Exists", "effect": taint.get("effect", "NoSchedule")}
            for taint in pool.node.taints
        ],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [spread]}},
        "containers": [{"name": "balloon", "image": "registry.k8s.io/pause:3.10", "resources": _resources(pool)}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(pool.name),
            "namespace": names.SYSTEM_NAMESPACE,
            "labels": {**_SELF, **own},
        },
        "spec": {
            "replicas": pool.spare,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": spec},
        },
    }


def _resources(pool: Pool) -> Object:
    devices = {name: amount for name, amount in pool.node.capacity.items() if "/" in name}
    if devices:
        return {"limits": devices}
    amounts = pool.node.amounts
    return {
        "requests": {
            "cpu": quantity.from_milli(int(amounts["cpu"] * _SHARE) // 1_000_000),
            "memory": str(int(amounts["memory"] * _SHARE) // quantity.NANO),
        }
    }


def differs(found: Object | None, wanted: Object) -> bool:
    """In what is ours: how many, and what they ask for."""
    if found is None:
        return True
    have, want = found["spec"], wanted["spec"]
    if have.get("replicas") != want["replicas"]:
        return True
    old, new = have["template"]["spec"], want["template"]["spec"]
    ours = ("nodeSelector", "priorityClassName")
    if any(old.get(key) != new[key] for key in ours) or (old.get("tolerations") or []) != new["tolerations"]:
        return True
    given = old["containers"][0].get("resources") or {}
    asked = new["containers"][0]["resources"]
    return any(given.get(kind, {}).get(name) != value for kind, part in asked.items() for name, value in part.items())

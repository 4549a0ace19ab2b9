"""Leaving a cluster without losing what runs: what a binding still holds there, and when that may go. Pure.

A task (spec.gracefulEvictionTasks, upstream's shape) without `replicas` keeps the whole copy in a cluster that is
no target any more; with `replicas` it keeps that many on top of a target's share. It is done once every target
runs all it was given and what runs in the cluster that is left is known; then its `replicas` are 0 till the member
says that no more run there than were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Object = dict[str, Any]
LOST, TAINTED, SHIFTED = "ClusterNotReady", "TaintUntolerated", "Rescheduled"
PRODUCER = "atoll"
_PASSIVE = frozenset(
    ("Ingress", "Service", "PersistentVolumeClaim", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy")
)  # they do their work by being there


def task(cluster: str, reason: str, message: str, now: str, replicas: int | None = None) -> Object:
    out: Object = {
        "fromCluster": cluster, "reason": reason, "message": message[:1024], "producer": PRODUCER,
        "purgeMode": "Gracefully", "creationTimestamp": now,
    }  # fmt: skip
    if replicas is not None:
        out["replicas"] = replicas
    return out


def extra_replicas(spec: Object) -> dict[str, int]:
    """Cluster → replicas kept there on top of its share."""
    return {one["fromCluster"]: int(one["replicas"]) for one in tasks(spec) if one.get("replicas")}


def leaving(spec: Object) -> set[str]:
    """Clusters whose whole copy is kept although they are no targets."""
    return {one["fromCluster"] for one in tasks(spec) if "replicas" not in one}


def shrinking(spec: Object) -> set[str]:
    """Targets in which more may run than they were given."""
    return {one["fromCluster"] for one in tasks(spec) if "replicas" in one}


def reported(binding: Object | None) -> dict[str, int]:
    """Cluster → replicas that it says there are."""
    items = ((binding or {}).get("status") or {}).get("aggregatedStatus") or ()
    return {item["clusterName"]: int((item.get("status") or {}).get("replicas") or 0) for item in items}


def tasks(spec: Object) -> list[Object]:
    return spec.get("gracefulEvictionTasks") or []


def replaced(binding: Object, known: Callable[[str], bool]) -> bool:
    """Whether every target can be asked and runs all that it was given; those held back by the policy do not count."""
    spec, status = binding["spec"], binding.get("status") or {}
    items = {item["clusterName"]: item for item in status.get("aggregatedStatus") or ()}
    targets = [one for one in spec.get("clusters") or () if not is_suspended(spec, one["name"])]
    kind = (spec.get("resource") or {}).get("kind")
    if not targets:
        return bool(spec.get("clusters"))
    for target in targets:
        item = items.get(target["name"])
        if item is None or not item.get("applied") or not known(target["name"]):
            return False
        if kind in _PASSIVE:
            continue
        wanted = target.get("replicas")
        shown = item.get("status") or {}
        if wanted is None or kind == "Job":
            if item.get("health") != "Healthy":
                return False
        elif int(shown.get("availableReplicas") or shown.get("readyReplicas") or 0) < wanted:
            return False
    return True


def is_suspended(spec: Object, cluster: str) -> bool:
    """The policy holds back what changes in that cluster."""
    suspension = spec.get("suspension") or {}
    listed = (suspension.get("dispatchingOnClusters") or {}).get("clusterNames") or ()
    return bool(suspension.get("dispatching")) or cluster in listed


def revise(
    spec: Object, new: Mapping[str, int | None], *, lost: Mapping[str, str], evicted: Mapping[str, str],
    shifting: bool, present: set[str], done: bool, now: str, counts: Mapping[str, int],
) -> list[Object]:  # fmt: skip
    """The tasks after a decision: `spec` is the binding's before it, `new` the targets decided on.

    `lost` and `evicted` say why clusters are left; `shifting`: the same replicas under the same policy move;
    `present`: clusters that have a copy; `done`: the replacement is Ready; `counts`: what clusters say runs there.
    """
    old = {item["name"]: item.get("replicas") for item in spec.get("clusters") or ()}
    out: dict[str, Object] = {}
    for one in tasks(spec):
        kept = _still_needed(one, old, new, present, done, counts)
        if kept is not None:
            out[one["fromCluster"]] = kept
    gained = sum(max(0, (count or 0) - (old.get(name) or 0)) for name, count in new.items())
    for name, before in old.items():
        if name in out or name not in present:
            continue
        if name not in new:
            if name in lost:
                out[name] = task(name, LOST, lost[name], now)
            elif name in evicted:
                out[name] = task(name, TAINTED, evicted[name], now)
            elif shifting and gained:
                out[name] = task(name, SHIFTED, "its replicas were placed elsewhere", now)
        elif shifting and gained and (new[name] or 0) < (before or 0):
            fewer = (before or 0) - (new[name] or 0)
            out[name] = task(name, SHIFTED, f"{fewer} of its replicas were placed elsewhere", now, fewer)
    return [out[name] for name in sorted(out)]


def _still_needed(
    one: Object, old: Mapping[str, int | None], new: Mapping[str, int | None], present: set[str], done: bool,
    counts: Mapping[str, int],
) -> Object | None:  # fmt: skip
    name = one["fromCluster"]
    if "replicas" not in one:
        return one if name not in new and name in present else None
    if name not in new:
        return None
    if done or not one["replicas"]:
        return {**one, "replicas": 0} if counts.get(name, 0) > (new[name] or 0) else None
    more = (new[name] or 0) - (old.get(name) or 0)
    left = int(one["replicas"]) - max(0, more)
    return {**one, "replicas": max(0, left)}

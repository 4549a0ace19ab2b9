"""What a node's conditions and heartbeats demand: conditions to write, taints to have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
EXCLUDE_DISRUPTION = "node.kubernetes.io/exclude-disruption"

_TAINT_OF = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_CONDITION_TAINTS = frozenset(_TAINT_OF.values()) | {UNSCHEDULABLE}
_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def ready_status(node: Object) -> str | None:
    """The status of the Ready condition; None when there is none yet."""
    for item in (node.get("status") or {}).get("conditions") or ():
        if item.get("type") == "Ready":
            return str(item.get("status"))
    return None


def wanted_taints(node: Object, ready: str | None, evict: bool, now: str) -> list[Object] | None:
    """The taints that the node should have; None when it has them. `evict`: NoExecute taints may be added."""
    spec = node.get("spec") or {}
    have: list[Object] = spec.get("taints") or []
    no_schedule = [
        _TAINT_OF[pair]
        for item in (node.get("status") or {}).get("conditions") or ()
        if (pair := (item.get("type"), item.get("status"))) in _TAINT_OF
    ]
    if spec.get("unschedulable"):
        no_schedule.append(UNSCHEDULABLE)
    no_execute = {"False": [NOT_READY], "Unknown": [UNREACHABLE]}.get(ready or "", [])
    held = {taint["key"] for taint in have if taint.get("effect") == "NoExecute"}
    if not evict and not held & {NOT_READY, UNREACHABLE}:
        no_execute = []  # a swap of one for the other needs no leave: eviction has begun
    wanted = [(key, "NoSchedule") for key in no_schedule] + [(key, "NoExecute") for key in no_execute]
    kept = [taint for taint in have if not _ours(taint) or (taint["key"], taint.get("effect")) in wanted]
    present = {(taint["key"], taint.get("effect")) for taint in kept}
    added = [{"key": key, "effect": effect, "timeAdded": now} for key, effect in wanted if (key, effect) not in present]
    if not added and len(kept) == len(have):
        return None
    return kept + added


def wants_eviction(node: Object, ready: str | None) -> bool:
    """Whether a NoExecute taint is due and not there yet."""
    if ready not in ("False", "Unknown"):
        return False
    held = {
        taint["key"] for taint in (node.get("spec") or {}).get("taints") or () if taint.get("effect") == "NoExecute"
    }
    return not held & {NOT_READY, UNREACHABLE}


def _ours(taint: Object) -> bool:
    effect = taint.get("effect")
    if effect == "NoSchedule":
        return taint["key"] in _CONDITION_TAINTS
    return effect == "NoExecute" and taint["key"] in (NOT_READY, UNREACHABLE)


def silent_conditions(node: Object, now: str) -> list[Object]:
    """The conditions of a node that has not been heard of for too long."""
    have = {item["type"]: item for item in (node.get("status") or {}).get("conditions") or ()}
    changed: list[Object] = []
    for kind in _WATCHED:
        item = have.get(kind)
        if item is None:
            created = node["metadata"].get("creationTimestamp")
            new = {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": created,
                "lastTransitionTime": now,
            }
        elif item.get("status") != "Unknown":
            new = {
                **item,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": now,
            }
        else:
            continue
        changed.append(new)
    return changed


def zone_of(node: Object) -> str:
    """Region and zone: evictions are paced, and stopped, by zone."""
    labels = node["metadata"].get("labels") or {}
    return f"{labels.get('topology.kubernetes.io/region', '')}/{labels.get('topology.kubernetes.io/zone', '')}"


def eviction_rate(ready: int, not_ready: int, everywhere: bool) -> float:
    """Nodes a second that may be given a NoExecute taint in a zone.

    Upstream's defaults: 0.1; none in a small zone of which 55 % are not ready (0.01 in one of more than 50 nodes);
    none at all when every zone is wholly down, for then it is rather the observer that is cut off.
    """
    if everywhere:
        return 0.0
    if not_ready > 2 and ready and not_ready / (ready + not_ready) >= 0.55:
        return 0.01 if ready + not_ready > 50 else 0.0
    return 0.1


def min_toleration_seconds(taints: Iterable[Object], tolerations: list[Object], tolerates: Any) -> float | None:
    """Seconds a pod may stay with these NoExecute taints: 0 at once, None for ever."""
    least: float | None = None
    for taint in taints:
        matching = next((item for item in tolerations if tolerates(item, taint)), None)
        if matching is None:
            return 0.0
        seconds = matching.get("tolerationSeconds")
        if seconds is not None:
            least = max(0.0, float(seconds)) if least is None else min(least, max(0.0, float(seconds)))
    return least

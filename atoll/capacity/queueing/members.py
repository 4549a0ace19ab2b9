"""The pods of a group: which count, which are done, which may go. Pure.

A pod of a group has the finalizer kueue.x-k8s.io/managed, so that one that ended is seen even if it is deleted. It is
let go once the group is over or deleted as a whole, or another pod has taken its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from atoll.base.clock import parse_rfc3339
from atoll.capacity.queueing import status
from atoll.capacity.queueing.model import Object
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.objects.meta import condition, is_deleting, labels

_OVER: Final = ("Succeeded", "Failed")


def is_gated(pod: Object) -> bool:
    return any(gate["name"] == kueue.ADMISSION_GATE for gate in pod["spec"].get("schedulingGates") or ())


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def is_over(pod: Object) -> bool:
    """It ended; or its node has deleted it (or it never had one), and a finalizer is all that keeps it."""
    return phase(pod) in _OVER or (
        is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0 and _is_kept(pod)
    )


def is_lost(pod: Object) -> bool:
    """Over, and not by success: another pod may take its place."""
    return is_over(pod) and phase(pod) != "Succeeded"


def _is_kept(pod: Object) -> bool:
    return kueue.POD_FINALIZER in (pod["metadata"].get("finalizers") or ())


def of_parent(pod: Object) -> bool:
    """Of a StatefulSet or the like, which replaces its pods under their names: none waits for another."""
    return kueue.POD_PARENT in meta.annotations(pod)


def total_of(pods: Sequence[Object]) -> int:
    counts = [meta.annotations(pod).get(kueue.POD_GROUP_TOTAL, "") for pod in pods]
    return next((int(text) for text in counts if text.isdigit()), 1)


def is_serving(pods: Sequence[Object]) -> bool:
    """The group never ends by itself, and gives nothing back while it runs."""
    return any(meta.annotations(pod).get(kueue.POD_GROUP_SERVING) == "true" for pod in pods)


def is_fast(pods: Sequence[Object]) -> bool:
    """It is queued as soon as its first pod is there: all are like that one."""
    return any(kueue.POD_GROUP_FAST in meta.annotations(pod) for pod in pods)


def done_of(pods: Sequence[Object], workload: Object) -> dict[str, int]:
    """By pod set, how many of a group have succeeded: those that are there, and those that were and are gone since.

    The Workload's reclaimablePods remember them, and free their quota.
    """
    if is_serving(pods):
        return {}
    found: dict[str, int] = {}
    for pod in pods:
        if phase(pod) == "Succeeded":
            found[role_of(pod)] = found.get(role_of(pod), 0) + 1
    counts = {item["name"]: item["count"] for item in workload["spec"]["podSets"]}
    for item in (workload.get("status") or {}).get("reclaimablePods") or ():
        found[item["name"]] = max(item["count"], found.get(item["name"], 0))
    return {name: min(count, counts[name]) for name, count in found.items() if name in counts}


def outcome_of(pods: Sequence[Object], total: int, done: int) -> tuple[str, str] | None:
    """Over when all succeeded, or when none may be replaced and none is left. `done`: as `done_of` has it."""
    if is_serving(pods):
        return None
    succeeded = max(done, sum(1 for pod in pods if phase(pod) == "Succeeded"))
    if succeeded >= total:
        return "Succeeded", f"Pods succeeded: {succeeded}/{total}."
    final = any(meta.annotations(pod).get(kueue.RETRIABLE_IN_GROUP) == "false" for pod in pods)
    alone = not labels(pods[0]).get(kueue.POD_GROUP_LABEL)
    if (alone or final) and all(is_over(pod) for pod in pods):
        return "Failed", f"Pods succeeded: {succeeded}/{total}."
    return None


def missing_of(pods: Sequence[Object], total: int, done: int) -> int:
    """How many pods a group lacks."""
    useful = sum(1 for pod in pods if phase(pod) != "Succeeded" and not is_over(pod))
    return max(0, total - done - useful)


@dataclass(frozen=True, slots=True)
class Surplus:
    """Of a group: pods to let go (they have the finalizer), and pods to delete: more than the group has."""

    free: tuple[Object, ...] = ()
    excess: tuple[Object, ...] = ()


def surplus_of(pods: Sequence[Object], workload: Object | None, total: int) -> Surplus:
    kept = [pod for pod in pods if _is_kept(pod)]
    evicted = workload is not None and status.is_true(workload, "Evicted")
    gone = bool(pods) and all(is_deleting(pod) for pod in pods) and not evicted  # deleted as a whole
    if gone or (workload is not None and status.is_true(workload, "Finished")):
        return Surplus(tuple(kept))
    if workload is None:
        useful = [pod for pod in pods if not is_lost(pod)]
        return Surplus(tuple(pod for pod in kept if is_lost(pod)), _excess(useful, total))
    free: list[Object] = []
    excess: list[Object] = []
    fast = is_fast(pods)
    for pod_set in workload["spec"]["podSets"]:
        own = [pod for pod in pods if fast or role_of(pod) == pod_set["name"]]
        lost = [pod for pod in own if is_lost(pod)]
        useful = [pod for pod in own if not is_lost(pod)]
        replaced = min(len(lost), len(own) - int(pod_set["count"]))
        if replaced > 0:  # those without the finalizer, and the first that ended, first
            lost.sort(key=lambda pod: (_is_kept(pod), _ended(pod)))
            free += [pod for pod in lost[:replaced] if _is_kept(pod)]
        excess += _excess(useful, int(pod_set["count"]))
    return Surplus(tuple(free), tuple(excess))


def _excess(useful: Sequence[Object], count: int) -> tuple[Object, ...]:
    """Of pods that wait, the latest. Where one is still stopping, its replacement is none too many."""
    living = [pod for pod in useful if phase(pod) == "Succeeded" or not is_deleting(pod)]
    waiting = [pod for pod in living if is_gated(pod)]
    waiting.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    over = min(len(waiting), len(living) - count)
    return tuple(waiting[len(waiting) - over :]) if over > 0 else ()


def _ended(pod: Object) -> tuple[float, float]:
    """When, as far as it says; then when it was created."""
    ready, metadata = condition(pod, "Ready") or {}, pod["metadata"]
    text = metadata.get("deletionTimestamp") or ready.get("lastTransitionTime") or metadata["creationTimestamp"]
    return parse_rfc3339(text), parse_rfc3339(metadata["creationTimestamp"])


def _essence(pod: Object) -> Object:
    """What makes pods alike, as they were before a flavour was put in."""
    spec = pod["spec"]
    kept = ("containers", "initContainers", "affinity", "priority", "resourceClaims", "topologySpreadConstraints")
    return {name: spec[name] for name in kept if name in spec}


def role_of(pod: Object) -> str:
    """The name of its pod set: a hash of what pods of one role have in common, unless the pod says it."""
    said = meta.annotations(pod).get(kueue.ROLE_HASH)
    if said:
        return said
    essence = _essence(pod)
    requests = [(item["name"], item.get("resources")) for item in essence.get("containers") or ()]
    text = orjson.dumps(
        [requests, {k: v for k, v in essence.items() if k != "containers"}], option=orjson.OPT_SORT_KEYS
    )
    return hashlib.sha256(text).hexdigest()[:8]

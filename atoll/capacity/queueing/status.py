"""What Workloads, queues and cohorts say of themselves: their status as JSON, from the model. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Final

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.capacity.queueing.flavors import shown
from atoll.capacity.queueing.model import Admission, FlavorResource, Key, Object, PodSetAssignment, Workload
from atoll.capacity.queueing.preemption import FAIR, IN_QUEUE, WHILE_BORROWING
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.tree import Node
from atoll.kinds.kueue_conversion import slices_of

TARGET: Final = "DeactivationTarget"  # why a Workload is about to be deactivated
_BY_CAUSE = "DeactivatedDueTo"
_COUNTED = ("requeueState", "accumulatedPastExecutionTimeSeconds")
_OF_AN_ADMISSION = (
    "admission", "admissionChecks", "reclaimablePods", "clusterName", "nominatedClusterNames", "unhealthyNodes",
)  # fmt: skip
_MOST_SHARE = 2**63 - 1
_BECAUSE = {
    IN_QUEUE: "prioritization in the ClusterQueue",
    FAIR: "Fair Sharing within the cohort",
    WHILE_BORROWING: "reclamation within the cohort while borrowing",
}


def with_condition(obj: Object, kind: str, holds: bool, reason: str, message: str, now: float) -> Object:
    """A copy of the object with that condition; the time changes with the status only."""
    status = obj.get("status") or {}
    fresh = {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message[:32768],
        "lastTransitionTime": rfc3339(now),
        "observedGeneration": obj["metadata"].get("generation", 1),
    }
    listed = list(status.get("conditions") or ())
    for index, old in enumerate(listed):
        if old["type"] == kind:
            if old["status"] == fresh["status"]:
                fresh["lastTransitionTime"] = old["lastTransitionTime"]
            listed[index] = fresh
            break
    else:
        listed.append(fresh)
    return {**obj, "status": {**status, "conditions": listed}}


def is_true(obj: Object, kind: str) -> bool:
    for item in (obj.get("status") or {}).get("conditions") or ():  # no generator: asked of each change, many times
        if item["type"] == kind and item["status"] == "True":
            return True
    return False


def is_placed(obj: Object) -> bool:
    """Whether its admission says where its pods are to be."""
    admission = (obj.get("status") or {}).get("admission") or {}
    return any(item.get("topologyAssignment") for item in admission.get("podSetAssignments") or ())


def has(obj: Object, kind: str) -> bool:
    return any(item["type"] == kind for item in (obj.get("status") or {}).get("conditions") or ())


# -- workloads


def reserved(obj: Object, admission: Admission, checks: tuple[str, ...], now: float) -> Object:
    """With quota; admitted at once where no check has to say yes."""
    queue = admission.queue
    text = f"Quota reserved in ClusterQueue {queue}"
    obj = with_condition(obj, "QuotaReserved", True, "QuotaReserved", text, now)
    for kind, reason in (("Evicted", "QuotaReserved"), ("Preempted", "QuotaReserved")):
        if is_true(obj, kind):
            obj = with_condition(obj, kind, False, reason, f"Previously: {_message(obj, kind)}", now)
    status = {**obj["status"], "admission": admission_json(admission)}
    status.pop("resourceRequests", None)
    if checks:
        tried = {item["name"]: item.get("retryCount") for item in status.get("admissionChecks") or ()}
        status["admissionChecks"] = [check_entry(name, now, tried.get(name)) for name in checks]
    else:
        status.pop("admissionChecks", None)
    obj = {**obj, "status": status}
    return obj if checks else admitted(obj, now)


def admitted(obj: Object, now: float) -> Object:
    return with_condition(obj, "Admitted", True, "Admitted", "The workload is admitted", now)


def _message(obj: Object, kind: str) -> str:
    return next(str(item.get("message", "")) for item in obj["status"]["conditions"] if item["type"] == kind)


def check_entry(name: str, now: float, retries: int | None = None) -> Object:
    """A check that has not said anything yet. `retries`: how often it said Retry before."""
    entry: Object = {"name": name, "state": "Pending", "message": "", "lastTransitionTime": rfc3339(now)}
    return {**entry, "retryCount": retries} if retries else entry


def admission_json(admission: Admission) -> Object:
    return {
        "clusterQueue": admission.queue,
        "podSetAssignments": [_assignment_json(pods) for pods in admission.pod_sets],
    }


def _assignment_json(pods: PodSetAssignment) -> Object:
    found: Object = {
        "name": pods.name,
        "flavors": dict(pods.flavors),
        "resourceUsage": {name: shown(name, amount) for name, amount in pods.usage.items()},
        "count": pods.count,
    }
    if pods.topology is not None:
        domains = [{"values": list(values), "count": count} for values, count in pods.topology.domains]
        found["topologyAssignment"] = slices_of({"levels": list(pods.topology.levels), "domains": domains})
    return found


def with_unhealthy_nodes(obj: Object, names: Iterable[str]) -> Object:
    status = {**obj["status"], "unhealthyNodes": [{"name": name} for name in names]}
    if not status["unhealthyNodes"]:
        del status["unhealthyNodes"]
    return {**obj, "status": status}


def mended(obj: Object, admission: Admission) -> Object:
    """With other places for pods whose node failed."""
    fresh = {pods.name: _assignment_json(pods).get("topologyAssignment") for pods in admission.pod_sets}
    old = obj["status"]["admission"]
    sets = [{**it, "topologyAssignment": fresh.get(it["name"])} for it in old["podSetAssignments"]]
    sets = [{name: value for name, value in it.items() if value is not None} for it in sets]
    status = {**obj["status"], "admission": {**old, "podSetAssignments": sets}}
    status.pop("unhealthyNodes", None)
    return {**obj, "status": status}


def evicted(obj: Object, reason: str, message: str, now: float, *, preempted: str = "") -> Object:
    """To go: whoever runs it stops it, and then its quota is free. `preempted`: the reason of a preemption."""
    obj = with_condition(obj, "Evicted", True, reason, message, now)
    if preempted:
        obj = with_condition(obj, "Preempted", True, preempted, message, now)
    status = {**obj["status"], "conditions": [it for it in obj["status"]["conditions"] if it["type"] != TARGET]}
    stats = dict(status.get("schedulingStats") or {})
    counts = [dict(item) for item in stats.get("evictions") or ()]
    counted = ("Deactivated", reason.removeprefix(_BY_CAUSE)) if reason.startswith(_BY_CAUSE) else (reason, "")
    same = next((it for it in counts if (it["reason"], it["underlyingCause"]) == counted), None)
    if same is None:
        counts.append({"reason": counted[0], "underlyingCause": counted[1], "count": 1})
    else:
        same["count"] += 1
    return {**obj, "status": {**status, "schedulingStats": {**stats, "evictions": counts}}}


def preemption_message(by: Object | None, uid: str, reason: str) -> str:
    job = ((by or {}).get("metadata", {}).get("labels") or {}).get("kueue.x-k8s.io/job-uid", "UNKNOWN")
    because = _BECAUSE.get(reason, "reclamation within the cohort")
    return f"Preempted to accommodate a workload (UID: {uid}, JobUID: {job}) due to {because}"


def released(obj: Object, now: float, requeue_at: float | None = None) -> Object:
    """Its quota is free again; it is queued at once, or at `requeue_at`."""
    evicted_by: Object = next(
        (it for it in (obj.get("status") or {}).get("conditions") or () if it["type"] == "Evicted"), {}
    )
    message = evicted_by.get("message") or "The quota was released"
    obj = with_condition(obj, "QuotaReserved", False, "Pending", message, now)
    ran = _execution_seconds(obj, now)
    if ran:
        obj = {**obj, "status": {**obj["status"], "accumulatedPastExecutionTimeSeconds": ran}}
    if has(obj, "Admitted"):
        obj = with_condition(obj, "Admitted", False, "NoReservation", "The workload has no reservation", now)
    if has(obj, "PodsReady"):
        obj = with_condition(obj, "PodsReady", False, "WaitForStart", "Not all pods are ready or succeeded", now)
    active = (obj.get("spec") or {}).get("active", True)
    reason = evicted_by.get("reason") or "Pending"
    obj = with_condition(obj, "Requeued", active and requeue_at is None, reason, message, now)
    status = dict(obj["status"])
    tried = [_again(item, now) for item in status.get("admissionChecks") or ()]
    for name in _OF_AN_ADMISSION:
        status.pop(name, None)
    if any(item.get("retryCount") for item in tried):
        status["admissionChecks"] = tried
    return {**obj, "status": status}


def _execution_seconds(obj: Object, now: float) -> int:
    """How long it was admitted, up to now and before."""
    past = int(obj["status"].get("accumulatedPastExecutionTimeSeconds") or 0)
    if not is_true(obj, "Admitted"):
        return past
    since = next(it["lastTransitionTime"] for it in obj["status"]["conditions"] if it["type"] == "Admitted")
    return past + max(0, int(now - parse_rfc3339(since)))


def forgiven(obj: Object) -> Object:
    """Of one that is deactivated: how often it was tried and how long it ran counts no more once it is activated."""
    status = obj.get("status") or {}
    if not any(name in status for name in _COUNTED):
        return obj
    return {**obj, "status": {name: value for name, value in status.items() if name not in _COUNTED}}


def reactivated(obj: Object, now: float) -> Object:
    """Itself, unless it was deactivated: then it is queued at once, and why it was is history."""
    if not has(obj, TARGET):
        return obj
    obj = with_condition(obj, "Requeued", True, "Reactivated", "The workload was reactivated", now)
    kept = [it for it in obj["status"]["conditions"] if it["type"] != TARGET]
    return {**obj, "status": {**obj["status"], "conditions": kept}}


def _again(check: Object, now: float) -> Object:
    """A check's entry once the workload is queued anew: how often it was tried is kept."""
    retries = int(check.get("retryCount") or 0) + (check["state"] == "Retry")
    entry = check_entry(check["name"], now, retries)
    return {**entry, "message": f"Reset to Pending after eviction. Previously: {check['state']}"}


def requeue_at(obj: Object) -> float | None:
    """When an evicted Workload is queued again; None: at once. Only time-outs and checks' retries make it wait."""
    reason = next((it.get("reason") for it in obj["status"].get("conditions") or () if it["type"] == "Evicted"), "")
    text = (obj["status"].get("requeueState") or {}).get("requeueAt")
    return parse_rfc3339(text) if text and reason in ("PodsReadyTimeout", "AdmissionCheck") else None


def pending(
    obj: Object, message: str, requests: Iterable[tuple[str, Mapping[str, int]]], now: float, reason: str = "Pending"
) -> Object:
    """Waiting, and why."""
    obj = with_condition(obj, "QuotaReserved", False, reason, message, now)
    listed = [{"name": name, "resources": {r: shown(r, a) for r, a in amounts.items()}} for name, amounts in requests]
    return {**obj, "status": {**obj["status"], "resourceRequests": listed}}


def finished(obj: Object, reason: str, message: str, now: float) -> Object:
    return with_condition(obj, "Finished", True, reason, message, now)


# -- queues


def cluster_queue_status(state: State, name: str, obj: Object, now: float) -> Object:
    node = state.nodes[name]
    running = list(node.workloads.values())
    active = name not in state.inactive
    reason, message = state.inactive.get(name, ("Ready", "Can admit new workloads"))
    obj = with_condition(obj, "Active", active, reason, message, now)
    admitted = [item for item in running if item.admitted]
    reserved = _flavors(node, running)
    status = {
        **obj["status"],
        "pendingWorkloads": state.pending_count(name),
        "reservingWorkloads": len(running),
        "admittedWorkloads": len(admitted),
        "flavorsReservation": reserved,
        "flavorsUsage": reserved if len(admitted) == len(running) else _flavors(node, admitted),
    }
    if state.setup.fair.enabled:
        status["fairSharing"] = {"weightedShare": share_of(node)}
    return status


def share_of(node: Node) -> int:
    share = node.share()
    return _MOST_SHARE if share == inf else int(share)


def _flavors(node: Node, workloads: Iterable[Workload]) -> list[Object]:
    used = sum_of(workloads)
    flavors: dict[str, list[Object]] = {}
    for flavor, resource in node.quotas:
        total = used.get((flavor, resource), 0)
        borrowed = max(0, total - node.quotas[flavor, resource].nominal) if node.parent is not None else 0
        flavors.setdefault(flavor, []).append(
            {"name": resource, "total": shown(resource, total), "borrowed": shown(resource, borrowed)}
        )
    return [{"name": name, "resources": items} for name, items in flavors.items()]


def sum_of(workloads: Iterable[Workload]) -> dict[FlavorResource, int]:
    total: dict[FlavorResource, int] = {}
    for item in workloads:
        for key, amount in item.usage.items():
            total[key] = total.get(key, 0) + amount
    return total


def local_queue_status(
    state: State, key: Key, obj: Object, running: list[Workload], waiting: int, now: float
) -> Object:
    """`running`: its workloads with quota; `waiting`: how many have none."""
    local = state.setup.local_queues[key]
    if local.stop != "None":
        why = ("Stopped", "LocalQueue is stopped")
    elif local.queue not in state.setup.queues:
        why = ("ClusterQueueDoesNotExist", "Can't submit new workloads to clusterQueue")
    elif local.queue in state.inactive:
        why = ("ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")
    else:
        why = ("Ready", "Can submit new workloads to localQueue")
    obj = with_condition(obj, "Active", why[0] == "Ready", *why, now)
    admitted = [item for item in running if item.admitted]
    status: dict[str, Any] = {
        **obj["status"],
        "pendingWorkloads": waiting,
        "reservingWorkloads": len(running),
        "admittedWorkloads": len(admitted),
    }
    node = state.nodes.get(local.queue)
    if node is not None:
        reserved = status["flavorsReservation"] = _totals(node, running)
        status["flavorsUsage"] = reserved if len(admitted) == len(running) else _totals(node, admitted)
    return status


def _totals(node: Node, workloads: list[Workload]) -> list[Object]:
    return [
        {**flavor, "resources": [{"name": it["name"], "total": it["total"]} for it in flavor["resources"]]}
        for flavor in _flavors(node, workloads)
    ]

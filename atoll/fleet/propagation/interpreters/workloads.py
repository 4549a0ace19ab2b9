"""Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController and Pod."""

from __future__ import annotations

from typing import Any

from atoll.fleet import names
from atoll.fleet.propagation.interpreters.pods import pod_references, prune_pod_parent
from atoll.fleet.propagation.interpreters.table import (
    HEALTHY,
    UNHEALTHY,
    UNKNOWN,
    Aggregation,
    Interpreter,
    Reference,
)

Object = dict[str, Any]


def _replicas(obj: Object) -> int | None:
    value = (obj.get("spec") or {}).get("replicas")
    return 1 if value is None else int(value)


def _set_replicas(obj: Object, replicas: int) -> None:
    obj["spec"]["replicas"] = replicas


def _prune(obj: Object) -> None:
    prune_pod_parent(obj["spec"]["template"])


def reflected(live: Object, fields: tuple[str, ...]) -> Object:
    """Of a live object's status the fields named, and which generations it is of."""
    status = live.get("status") or {}
    out = {field: status[field] for field in fields if field in status}
    metadata = live["metadata"]
    out["generation"] = metadata.get("generation") or 0
    template = (metadata.get("annotations") or {}).get(names.TEMPLATE_GENERATION)
    if template and template.isdigit():
        out["resourceTemplateGeneration"] = int(template)
    return out


def total(given: Aggregation, field: str) -> int:
    """The sum over the clusters that can be asked; what is to go in any case does not count above what was given."""
    found = 0
    for item in given.known():
        count = int(item.status.get(field) or 0)
        if not item.settled and item.replicas is not None:
            count = min(count, item.replicas)
        found += count
    return min(found, given.wanted) if given.moving else found


def _members_condition(given: Aggregation, kind: str) -> list[tuple[str, Object]]:
    return [
        (item.cluster, condition)
        for item in given.known()
        for condition in item.status.get("conditions") or ()
        if condition.get("type") == kind
    ]


def _max_unavailable(template: Object, wanted: int) -> int:
    strategy = (template.get("spec") or {}).get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    rolling = strategy.get("rollingUpdate") or {}
    most = rolling.get("maxUnavailable", "25%")
    if isinstance(most, str):
        count = wanted * int(most.rstrip("%") or 0) // 100 if most.rstrip("%").isdigit() else 0
    else:
        count = int(most)
    surge = rolling.get("maxSurge", "25%")
    if count == 0 and surge in (0, "0", "0%"):
        return 1
    return min(count, wanted)


_DEPLOYMENT_FIELDS = (
    "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "terminatingReplicas",
    "observedGeneration", "conditions",
)  # fmt: skip


def _reflect_deployment(live: Object) -> Object:
    out = reflected(live, _DEPLOYMENT_FIELDS)
    if "conditions" in out:
        out["conditions"] = [
            {key: item[key] for key in ("type", "status", "reason", "message") if key in item}
            for item in out["conditions"]
        ]
    return out


def _aggregate_deployment(given: Aggregation) -> Object:
    replicas = total(given, "replicas")
    updated = min(total(given, "updatedReplicas"), replicas)
    ready = min(total(given, "readyReplicas"), replicas)
    available = min(total(given, "availableReplicas"), ready)
    unavailable = max(total(given, "unavailableReplicas"), given.wanted - available)
    counts = {"replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
              "availableReplicas": available, "unavailableReplicas": unavailable}  # fmt: skip
    status: Object = {key: value for key, value in counts.items() if value}
    status["observedGeneration"] = given.observed_generation()
    enough = available >= given.wanted - _max_unavailable(given.template, given.wanted)
    status["conditions"] = [
        given.condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else given.condition(
            "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
        ),
        _progressing(given, updated >= given.wanted and available >= updated and replicas == updated),
    ]
    failures = [(name, item) for name, item in _members_condition(given, "ReplicaFailure") if item["status"] == "True"]
    if failures:
        name, item = failures[0]
        message = f"{name}: {item.get('message', '')}"
        status["conditions"].append(given.condition("ReplicaFailure", "True", item.get("reason") or "", message))
    for item in status["conditions"]:
        item["lastUpdateTime"] = _update_time(given, item)
    return status


def _update_time(given: Aggregation, condition: Object) -> str:
    for old in (given.template.get("status") or {}).get("conditions") or ():
        same = all(old.get(key) == condition[key] for key in ("type", "status", "reason", "message"))
        if same and "lastUpdateTime" in old:
            return str(old["lastUpdateTime"])
    return given.now


def _progressing(given: Aggregation, complete: bool) -> Object:
    for name, item in _members_condition(given, "Progressing"):
        if item.get("reason") == "ProgressDeadlineExceeded":
            message = f"{name}: {item.get('message', '')}"
            return given.condition("Progressing", "False", "ProgressDeadlineExceeded", message)
    if complete and given.observed():
        message = f'Deployment "{given.template["metadata"]["name"]}" has successfully progressed.'
        return given.condition("Progressing", "True", "NewReplicaSetAvailable", message)
    known = sum(1 for item in given.items if item.known)
    message = f"Deployment is progressing in {len(given.items)} clusters, {known} of which answer."
    return given.condition("Progressing", "True", "ReplicaSetUpdated", message)


def _health_deployment(live: Object) -> str:
    status, spec = live.get("status") or {}, live["spec"]
    if (status.get("observedGeneration") or 0) < (live["metadata"].get("generation") or 0):
        return UNHEALTHY
    wanted = 1 if spec.get("replicas") is None else spec["replicas"]
    updated = status.get("updatedReplicas") or 0
    good = updated >= wanted and (status.get("availableReplicas") or 0) >= updated
    return HEALTHY if good else UNHEALTHY


_SET_FIELDS = (
    "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas",
    "currentRevision", "updateRevision", "observedGeneration",
)  # fmt: skip


def _reflect_set(live: Object) -> Object:
    return reflected(live, _SET_FIELDS)


def _sums(given: Aggregation, fields: tuple[str, ...], whole: str) -> Object:
    out: Object = {whole: total(given, whole)}
    for field in fields:
        out[field] = min(total(given, field), out[whole])
    if "availableReplicas" in out and "readyReplicas" in out:
        out["availableReplicas"] = min(out["availableReplicas"], out["readyReplicas"])
    return out


def _aggregate_replica_set(given: Aggregation) -> Object:
    status = _sums(given, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"), "replicas")
    status["observedGeneration"] = given.observed_generation()
    return status


def _aggregate_stateful_set(given: Aggregation) -> Object:
    fields = ("readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")
    status = _sums(given, fields, "replicas")
    status["observedGeneration"] = given.observed_generation()
    revisions = [item.status for item in given.known() if item.status.get("updateRevision")]
    if revisions:
        rolling = [one for one in revisions if one.get("currentRevision") != one["updateRevision"]]
        shown = rolling[0] if rolling else revisions[0]
        status["updateRevision"] = shown["updateRevision"]
        status["currentRevision"] = shown.get("currentRevision") or shown["updateRevision"]
    status["collisionCount"] = 0
    return status


def _health_set(live: Object) -> str:
    status, spec = live.get("status") or {}, live["spec"]
    if (status.get("observedGeneration") or 0) < (live["metadata"].get("generation") or 0):
        return UNHEALTHY
    wanted = 1 if spec.get("replicas") is None else spec["replicas"]
    return HEALTHY if (status.get("readyReplicas") or 0) >= wanted else UNHEALTHY


_DAEMON_FIELDS = (
    "currentNumberScheduled", "desiredNumberScheduled", "numberAvailable", "numberMisscheduled", "numberReady",
    "numberUnavailable", "updatedNumberScheduled",
)  # fmt: skip


def _reflect_daemon_set(live: Object) -> Object:
    return reflected(live, (*_DAEMON_FIELDS, "observedGeneration"))


def _aggregate_daemon_set(given: Aggregation) -> Object:
    known = given.known()
    status: Object = {field: sum(int(item.status.get(field) or 0) for item in known) for field in _DAEMON_FIELDS}
    status["observedGeneration"] = given.observed_generation()
    return status


def _health_daemon_set(live: Object) -> str:
    status = live.get("status") or {}
    if (status.get("observedGeneration") or 0) < (live["metadata"].get("generation") or 0):
        return UNHEALTHY
    wanted = status.get("desiredNumberScheduled") or 0
    good = (status.get("updatedNumberScheduled") or 0) >= wanted and (status.get("numberAvailable") or 0) >= wanted
    return HEALTHY if good else UNHEALTHY


def _prune_pod(obj: Object) -> None:
    prune_pod_parent(obj)
    obj["spec"].pop("nodeName", None)


def _aggregate_pod(given: Aggregation) -> Object | None:
    known = given.known()
    if not known:
        return {"phase": "Pending"} if given.items else None
    phases = [item.status.get("phase") or "Pending" for item in known]
    order = ("Failed", "Pending", "Unknown", "Running", "Succeeded")
    status: Object = {"phase": next((phase for phase in order if phase in phases), "Unknown")}
    if len(known) < len(given.items):
        status["phase"] = "Pending"
    for field in ("containerStatuses", "initContainerStatuses"):
        entries = [entry for item in known for entry in item.status.get(field) or ()]
        if entries:
            status[field] = entries
    kinds: dict[str, list[str]] = {}
    for item in known:
        for condition in item.status.get("conditions") or ():
            kinds.setdefault(condition["type"], []).append(condition["status"])
    status["conditions"] = []
    for kind, values in kinds.items():
        good = all(value == "True" for value in values) and len(values) == len(given.items)
        condition = given.condition(kind, "True" if good else "False", "", "")
        status["conditions"].append({key: value for key, value in condition.items() if value})
    return status


def _health_pod(live: Object) -> str:
    status = live.get("status") or {}
    if status.get("phase") == "Succeeded":
        return HEALTHY
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ())
    if status.get("phase") == "Running" and ready:
        return HEALTHY
    return UNKNOWN if status.get("phase") == "Unknown" else UNHEALTHY


def _references(obj: Object) -> list[Reference]:
    template = obj["spec"].get("template") or {}
    return pod_references(template.get("spec") or {}, obj["metadata"].get("namespace"))


def _set_references(obj: Object) -> list[Reference]:
    """A StatefulSet's own claims are made in the member from its templates; the claims that its pods name are not."""
    own = {item["metadata"]["name"] for item in obj["spec"].get("volumeClaimTemplates") or ()}
    found = [one for one in _references(obj) if not (one.kind == "PersistentVolumeClaim" and one.name in own)]
    service = obj["spec"].get("serviceName")
    if service:
        found.append(Reference("v1", "Service", obj["metadata"].get("namespace"), service))
    return found


def _pod_references(obj: Object) -> list[Reference]:
    return pod_references(obj["spec"], obj["metadata"].get("namespace"))


_TEMPLATE = ("spec", "template")
TABLE: dict[tuple[str, str], Interpreter] = {
    ("apps", "Deployment"): Interpreter(
        _TEMPLATE, _replicas, _set_replicas, _prune, _reflect_deployment, _aggregate_deployment, _health_deployment,
        _references, "replicas",
    ),
    ("apps", "ReplicaSet"): Interpreter(
        _TEMPLATE, _replicas, _set_replicas, _prune, _reflect_set, _aggregate_replica_set, _health_set, _references,
        "replicas",
    ),
    ("", "ReplicationController"): Interpreter(
        _TEMPLATE, _replicas, _set_replicas, _prune, _reflect_set, _aggregate_replica_set, _health_set, _references,
        "replicas",
    ),
    ("apps", "StatefulSet"): Interpreter(
        _TEMPLATE, _replicas, _set_replicas, _prune, _reflect_set, _aggregate_stateful_set, _health_set,
        _set_references, "replicas",
    ),
    ("apps", "DaemonSet"): Interpreter(
        _TEMPLATE, prune=_prune, reflect=_reflect_daemon_set, aggregate=_aggregate_daemon_set,
        health=_health_daemon_set, references=_references,
    ),
    ("", "Pod"): Interpreter(
        (), prune=_prune_pod, aggregate=_aggregate_pod, health=_health_pod, references=_pod_references
    ),
}  # fmt: skip

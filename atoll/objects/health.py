"""Is an object doing what it was asked to? One answer for every kind, from its spec, status and conditions.

`Ready`: it is as wanted. `Progressing`: on its way. `Degraded`: stuck or failed, `message` says why. `Deleting`: it is
going away. `Unknown`: a kind without a status says nothing. The rules follow what kubectl's rollout status, kstatus
and Argo CD agree on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Object = dict[str, Any]
State = Literal["Ready", "Progressing", "Degraded", "Deleting", "Suspended", "Unknown"]

_BAD_WAITS = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError",
     "CreateContainerError", "RunContainerError", "ErrImageNeverPull"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Health:
    state: State
    message: str = ""


READY = Health("Ready")


def health(obj: Object) -> Health:
    """The health of any object."""
    if "deletionTimestamp" in (obj.get("metadata") or {}):
        finalizers = obj["metadata"].get("finalizers") or []
        return Health("Deleting", f"waiting for {', '.join(finalizers)}" if finalizers else "")
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    rule = _RULES.get((group, str(obj.get("kind", ""))))
    if rule is not None:
        return rule(obj.get("spec") or {}, obj.get("status") or {}, obj)
    return _generic(obj)


def _lagging(status: Object, obj: Object) -> Health | None:
    generation, observed = obj["metadata"].get("generation"), status.get("observedGeneration")
    if generation is not None and (observed or 0) < generation:
        return Health("Progressing", f"generation {generation} is not yet observed")
    return None


def _condition(status: Object, kind: str) -> Object | None:
    return next((item for item in status.get("conditions") or () if item.get("type") == kind), None)


def _generic(obj: Object) -> Health:
    """A kind without a rule: its Ready-like condition, else that it was observed."""
    status = obj.get("status")
    if not isinstance(status, dict) or not status:
        return READY if "spec" not in obj else Health("Unknown" if status is None else "Ready")
    if "observedGeneration" in status and (lag := _lagging(status, obj)):
        return lag
    for kind in ("Stalled", "Failed", "Degraded"):
        found = _condition(status, kind)
        if found is not None and found.get("status") == "True":
            return Health("Degraded", found.get("message") or found.get("reason", ""))
    for kind in ("Ready", "Available", "Healthy", "Established", "Succeeded"):
        found = _condition(status, kind)
        if found is not None:
            message = found.get("message") or found.get("reason", "")
            return READY if found.get("status") == "True" else Health("Progressing", message)
    return READY


def _deployment(spec: Object, status: Object, obj: Object) -> Health:
    if lag := _lagging(status, obj):
        return lag
    progressing = _condition(status, "Progressing")
    if progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded":
        return Health("Degraded", progressing.get("message", ""))
    failure = _condition(status, "ReplicaFailure")
    if failure is not None and failure.get("status") == "True":
        return Health("Degraded", failure.get("message", ""))
    wanted = spec.get("replicas", 1)
    if spec.get("paused"):
        return Health("Suspended", "paused")
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return Health("Progressing", f"{updated} of {wanted} updated")
    if total > updated:
        return Health("Progressing", f"{total - updated} old replicas are to go")
    available = status.get("availableReplicas", 0)
    if available < wanted:
        return Health("Progressing", f"{available} of {wanted} available")
    return READY


def _counted(ready: str, wanted_in_status: str = "") -> Callable[[Object, Object, Object], Health]:
    def rule(spec: Object, status: Object, obj: Object) -> Health:
        if lag := _lagging(status, obj):
            return lag
        wanted = status.get(wanted_in_status, 0) if wanted_in_status else spec.get("replicas", 1)
        have = status.get(ready, 0)
        return READY if have >= wanted else Health("Progressing", f"{have} of {wanted} ready")

    return rule


def _stateful_set(spec: Object, status: Object, obj: Object) -> Health:
    if lag := _lagging(status, obj):
        return lag
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    if ready < wanted:
        return Health("Progressing", f"{ready} of {wanted} ready")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return READY
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    updated = status.get("updatedReplicas", 0)
    if status.get("updateRevision") != status.get("currentRevision") and updated < wanted - partition:
        return Health("Progressing", f"{updated} of {wanted - partition} updated")
    return READY


def _daemon_set(spec: Object, status: Object, obj: Object) -> Health:
    if lag := _lagging(status, obj):
        return lag
    wanted = status.get("desiredNumberScheduled", 0)
    on_delete = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
    for field, verb in (("updatedNumberScheduled", "updated"), ("numberAvailable", "available")):
        if status.get(field, 0) < wanted and not (on_delete and verb == "updated"):
            return Health("Progressing", f"{status.get(field, 0)} of {wanted} {verb}")
    return READY


def _pod(spec: Object, status: Object, obj: Object) -> Health:
    phase = status.get("phase", "Pending")
    if phase == "Succeeded":
        return READY
    if phase == "Failed":
        return Health("Degraded", status.get("message") or status.get("reason") or "failed")
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _BAD_WAITS:
            text = waiting.get("message") or waiting["reason"]
            return Health("Degraded", f"{container.get('name')}: {text}")
    ready = _condition(status, "Ready")
    if phase == "Running" and ready is not None and ready.get("status") == "True":
        return READY
    scheduled = _condition(status, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return Health("Progressing", scheduled.get("message") or scheduled.get("reason", ""))
    return Health("Progressing", (ready or {}).get("message") or phase)


def _job(spec: Object, status: Object, obj: Object) -> Health:
    for kind in ("Failed", "Complete", "Suspended"):
        found = _condition(status, kind)
        if found is not None and found.get("status") == "True":
            if kind == "Complete":
                return READY
            return Health("Degraded" if kind == "Failed" else "Suspended", found.get("message", ""))
    return Health("Progressing", f"{status.get('succeeded', 0)} of {spec.get('completions') or 1} done")


def _service(spec: Object, status: Object, obj: Object) -> Health:
    if spec.get("type") == "LoadBalancer" and not (status.get("loadBalancer") or {}).get("ingress"):
        return Health("Progressing", "no load balancer yet")
    return READY


def _ingress(spec: Object, status: Object, obj: Object) -> Health:
    if not (status.get("loadBalancer") or {}).get("ingress"):
        return Health("Progressing", "no address yet")
    return READY


def _claim(spec: Object, status: Object, obj: Object) -> Health:
    phase = status.get("phase", "Pending")
    if phase == "Bound":
        return READY
    return Health("Degraded" if phase == "Lost" else "Progressing", phase)


def _volume(spec: Object, status: Object, obj: Object) -> Health:
    if status.get("phase") == "Failed":
        return Health("Degraded", status.get("message", ""))
    return READY


def _node(spec: Object, status: Object, obj: Object) -> Health:
    ready = _condition(status, "Ready")
    if ready is not None and ready.get("status") == "True":
        return READY
    return Health("Degraded", (ready or {}).get("message") or "not ready")


def _namespace(spec: Object, status: Object, obj: Object) -> Health:
    return Health("Deleting") if status.get("phase") == "Terminating" else READY


def _crd(spec: Object, status: Object, obj: Object) -> Health:
    refused = _condition(status, "NamesAccepted")
    if refused is not None and refused.get("status") == "False":
        return Health("Degraded", refused.get("message", ""))
    established = _condition(status, "Established")
    return READY if established is not None and established.get("status") == "True" else Health("Progressing")


def _budget(spec: Object, status: Object, obj: Object) -> Health:
    if lag := _lagging(status, obj):
        return lag
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return READY if healthy >= wanted else Health("Progressing", f"{healthy} of {wanted} healthy")


def _autoscaler(spec: Object, status: Object, obj: Object) -> Health:
    for kind in ("AbleToScale", "ScalingActive"):
        found = _condition(status, kind)
        if found is not None and found.get("status") == "False" and found.get("reason") != "ScalingDisabled":
            return Health("Degraded", found.get("message", ""))
    return READY


def _always(spec: Object, status: Object, obj: Object) -> Health:
    return READY


_RULES: dict[tuple[str, str], Callable[[Object, Object, Object], Health]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _counted("availableReplicas"),
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("", "ReplicationController"): _counted("readyReplicas"),
    ("", "Pod"): _pod,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _always,
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("", "Node"): _node,
    ("", "Namespace"): _namespace,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _crd,
    ("policy", "PodDisruptionBudget"): _budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    **{
        ("", kind): _always
        for kind in ("ConfigMap", "Secret", "ServiceAccount", "ResourceQuota", "LimitRange", "Endpoints", "Event")
    },
    ("networking.k8s.io", "NetworkPolicy"): _always,
    ("scheduling.k8s.io", "PriorityClass"): _always,
}

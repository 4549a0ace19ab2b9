"""What an object costs under a ResourceQuota, and which quotas count it. Pure; used by admission and by the
quota controller alike. Amounts are nano-units (`atoll.base.quantity`)."""

from __future__ import annotations

from typing import Any

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339
from atoll.objects.pod_resources import Amounts, pod_limits, pod_requests, qos_class

Object = dict[str, Any]
_ONE = quantity.NANO
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset(("pods", *_COMPUTE, *(f"{kind}.{name}" for kind in ("requests", "limits") for name in _COMPUTE)))
# Kinds whose plain name is a quota resource besides count/NAME.
_COUNTED = frozenset(
    ("configmaps", "secrets", "replicationcontrollers", "resourcequotas", "persistentvolumeclaims", "services")
)
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"


def usage(group_resource: str, obj: Object, now: float) -> Amounts:
    """The amounts that one object uses. `now`: wall seconds, for pods that are past their grace period."""
    used: Amounts = {f"count/{group_resource}": _ONE}
    if group_resource == "pods":
        if _pod_counts(obj, now):
            used["pods"] = _ONE
            used |= _pod_usage(obj)
    elif group_resource == "services":
        used |= _service_usage(obj)
    elif group_resource == "persistentvolumeclaims":
        used |= _claim_usage(obj)
    elif group_resource in _COUNTED:
        used[group_resource] = _ONE
    return used


def concerns(name: str, group_resource: str) -> bool:
    """Whether a quota's resource name is about this kind of object."""
    if name == f"count/{group_resource}":
        return True
    if group_resource == "pods":
        native = name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-"))
        return native or (name.startswith("requests.") and "/" in name)
    if group_resource == "services":
        return name in ("services", "services.nodeports", "services.loadbalancers")
    if group_resource == "persistentvolumeclaims":
        return name in ("persistentvolumeclaims", "requests.storage") or _STORAGE_CLASS in name
    return group_resource in _COUNTED and name == group_resource


def in_scope(quota: Object, group_resource: str, obj: Object) -> bool:
    """Whether the quota's scopes and scopeSelector take the object in (scopes are about pods and claims only)."""
    spec = quota.get("spec") or {}
    terms = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not terms:
        return True
    return group_resource == "pods" and all(_pod_in_scope(term, obj) for term in terms)


def missing_requests(names: set[str], pod: Object) -> str:
    """ "cpu for: c1,c2; …": containers that must say what they need because a quota counts it; "" if none."""
    spec = pod["spec"]
    if (spec.get("resources") or {}).get("requests") or (spec.get("resources") or {}).get("limits"):
        return ""
    wanted = {name for name in names if name.rpartition(".")[2] in ("cpu", "memory")}
    lacking: dict[str, set[str]] = {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        for name in wanted:
            kind, _, plain = name.rpartition(".")
            if plain not in (resources.get(kind or "requests") or {}):
                lacking.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))


def _pod_counts(pod: Object, now: float) -> bool:
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return False
    metadata = pod["metadata"]
    deleted = metadata.get("deletionTimestamp")
    grace = metadata.get("deletionGracePeriodSeconds")
    # deletionTimestamp already includes the grace period; upstream adds it once more
    return not (deleted and grace is not None and now > parse_rfc3339(deleted) + grace)


def _pod_usage(pod: Object) -> Amounts:
    used: Amounts = {}
    for name, amount in pod_requests(pod).items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif "/" in name:
            used[f"requests.{name}"] = amount
    for name, amount in pod_limits(pod).items():
        if name in _COMPUTE:
            used[f"limits.{name}"] = amount
    return used


def _service_usage(service: Object) -> Amounts:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    kind = spec.get("type")
    node_ports = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        node_ports = sum(1 for port in ports if port.get("nodePort"))
    balancers = 1 if kind == "LoadBalancer" else 0
    return {
        "services": _ONE,
        "services.nodeports": node_ports * _ONE,
        "services.loadbalancers": balancers * _ONE,
    }


def _claim_usage(claim: Object) -> Amounts:
    spec = claim.get("spec") or {}
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    used: Amounts = {"persistentvolumeclaims": _ONE}
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if requested is not None:
        used["requests.storage"] = quantity.parse(requested)
    if storage_class:
        for name in list(used):
            used[f"{storage_class}{_STORAGE_CLASS}{name}"] = used[name]
    return used


def _pod_in_scope(term: Object, pod: Object) -> bool:
    spec = pod["spec"]
    scope: str = term["scopeName"]
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return (qos_class(pod) == "BestEffort") == (scope == "BestEffort")
    if scope == "PriorityClass":
        return _class_matches(term, spec.get("priorityClassName") or "")
    return scope == "CrossNamespacePodAffinity" and _crosses_namespaces(spec)


def _class_matches(term: Object, name: str) -> bool:
    operator = term.get("operator")
    values: list[str] = term.get("values") or []
    if operator == "Exists":
        return bool(name)
    if operator == "DoesNotExist":
        return not name
    if operator == "In":
        return bool(name) and name in values
    return operator == "NotIn" and name not in values


def _crosses_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [item["podAffinityTerm"] for item in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False

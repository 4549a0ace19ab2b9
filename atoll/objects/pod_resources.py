"""What a pod asks for in all: requests and limits over containers, init containers and sidecars, pod level and
overhead (KEP-753 sidecars, KEP-2837 pod-level resources). Amounts are nano-units (`atoll.base.quantity`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll.base import quantity

Object = dict[str, Any]
Amounts = dict[str, int]


def pod_requests(pod: Object, *, overhead: bool = True) -> Amounts:
    """Effective requests by resource name."""
    return _pod_total(pod["spec"], "requests", overhead)


def pod_limits(pod: Object, *, overhead: bool = True) -> Amounts:
    """Effective limits by resource name."""
    return _pod_total(pod["spec"], "limits", overhead)


def as_made(
    spec: Object, defaults: Mapping[str, Mapping[str, Any]] | None = None, overhead: Mapping[str, Any] | None = None
) -> Object:
    """A template's pod spec as the API server makes pods of it, as far as resources go: limits are requests where
    there are none, then a LimitRange's `defaults` ({"requests": …, "limits": …}) hold, then a RuntimeClass's overhead.
    """
    made = dict(spec)
    for name in ("containers", "initContainers"):
        if spec.get(name):
            made[name] = [_container_as_made(container, defaults or {}) for container in spec[name]]
    own = spec.get("resources") or {}
    if own.get("limits"):
        asked = _pod_total({"containers": made.get("containers")}, "requests", overhead=False)
        missing = {name: value for name, value in own["limits"].items() if name not in asked}
        made["resources"] = {**own, "requests": {**missing, **(own.get("requests") or {})}}
    if overhead and not spec.get("overhead"):
        made["overhead"] = dict(overhead)
    return made


def _container_as_made(container: Object, defaults: Mapping[str, Mapping[str, Any]]) -> Object:
    own = container.get("resources") or {}
    if not own.get("limits") and not any(defaults.values()):
        return container
    limits = own.get("limits") or {}
    requests = {**(defaults.get("requests") or {}), **limits, **(own.get("requests") or {})}
    limits = {**(defaults.get("limits") or {}), **limits}
    return {**container, "resources": {**own, "requests": requests, "limits": limits}}


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort, over cpu and memory of all containers."""
    spec = pod["spec"]
    if spec.get("resources"):
        groups = [spec["resources"]]
    else:
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        groups = [container.get("resources") or {} for container in containers]
    anything = False
    guaranteed = True
    for resources in groups:
        requests = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory")}
        limits = {k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory")}
        anything = anything or any(quantity.parse(v) for v in (*requests.values(), *limits.values()))
        if set(limits) != {"cpu", "memory"} or any(
            quantity.parse(requests.get(name, limit)) != quantity.parse(limit) for name, limit in limits.items()
        ):
            guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _pod_total(spec: Object, field: str, overhead: bool) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, container, field)
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(total, container, field)
            _add(sidecars, container, field)
            step = dict(sidecars)
        else:
            step = dict(sidecars)
            _add(step, container, field)
        for name, amount in step.items():
            peak[name] = max(peak.get(name, 0), amount)
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)
    for name, value in ((spec.get("resources") or {}).get(field) or {}).items():
        total[name] = quantity.parse(value)
    if overhead:
        for name, value in (spec.get("overhead") or {}).items():
            if field == "requests" or total.get(name):
                total[name] = total.get(name, 0) + quantity.parse(value)
    return total


def _add(total: Amounts, container: Object, field: str) -> None:
    resources = container.get("resources")
    if resources:
        for name, value in (resources.get(field) or {}).items():
            total[name] = total.get(name, 0) + quantity.parse(value)

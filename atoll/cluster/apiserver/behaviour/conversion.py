"""Conversions of built-in kinds that are served in another form than they are stored in.

Events of events.k8s.io/v1 are stored as core/v1 Events; autoscaling/v1 autoscalers as autoscaling/v2 (what v1 can't
say travels in an annotation, as upstream does); resource.k8s.io's betas as v1. Each takes an object that it may change
and returns the other form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.kinds import device_conversion, devices
from atoll.kinds.catalog import storage_version
from atoll.kinds.resource import Resource

Convert = Callable[[Object], Object]

_EVENT_FIELDS = (
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
)
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"


def conversions(resource: Resource) -> tuple[Convert, Convert] | None:
    """(to the stored form, from it); None where none is needed."""
    if resource.group == "events.k8s.io" and resource.plural == "events":
        return event_to_core, event_from_core
    if resource.group == "autoscaling" and resource.version == "v1" and resource.plural == "horizontalpodautoscalers":
        return autoscaler_to_v2, autoscaler_to_v1
    if resource.group == devices.GROUP and storage_version(resource) != (resource.group, resource.version):
        stored = f"{resource.group}/{storage_version(resource)[1]}"
        return partial(_in_version, stored), partial(_in_version, resource.api_version)
    return None


def _in_version(api_version: str, obj: Object) -> Object:
    return device_conversion.convert(obj, api_version)


def event_to_core(event: Object) -> Object:
    core: Object = {**event, "apiVersion": "v1"}
    for new, old in _EVENT_FIELDS:
        if new in core:
            core[old] = core.pop(new)
    core.setdefault("involvedObject", {})
    core.setdefault("source", {})
    core.setdefault("reportingComponent", "")
    core.setdefault("reportingInstance", "")
    for field in ("firstTimestamp", "lastTimestamp", "eventTime"):
        core.setdefault(field, None)
    return core


def event_from_core(event: Object) -> Object:
    new: Object = {**event, "apiVersion": "events.k8s.io/v1"}
    for name, old in _EVENT_FIELDS:
        if old in new:
            new[name] = new.pop(old)
    for field in ("reportingController", "reportingInstance"):
        if new.get(field) == "":
            del new[field]
    if new.get("regarding") == {}:
        new["regarding"] = {}
    return new


def _metric_status_of(spec: Object) -> tuple[int | None, list[Object]]:
    """The CPU utilisation that v1 has a field for, and the other metrics."""
    target: int | None = None
    others: list[Object] = []
    for metric in spec.get("metrics") or ():
        resource = metric.get("resource") or {}
        utilisation = (resource.get("target") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and utilisation and target is None:
            target = utilisation
        else:
            others.append(metric)
    return target, others


def autoscaler_to_v1(obj: Object) -> Object:
    metadata = dict(obj["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target, others = _metric_status_of(spec)
    new: Object = {key: spec[key] for key in ("scaleTargetRef", "minReplicas", "maxReplicas") if key in spec}
    if target is not None:
        new["targetCPUUtilizationPercentage"] = target
    if others:
        annotations[_METRICS] = _text([_metric_to_v1(metric) for metric in others])
    if spec.get("behavior"):
        annotations[_BEHAVIOR] = _text(_capitalised(spec["behavior"]))
    if status.get("conditions"):
        annotations[_CONDITIONS] = _text(status["conditions"])
    current, more = _current_to_v1(status)
    if more:
        annotations[_CURRENT_METRICS] = _text([_metric_to_v1(metric) for metric in more])
    if annotations:
        metadata["annotations"] = annotations
    new_status: Object = {"currentReplicas": status.get("currentReplicas", 0),
                          "desiredReplicas": status.get("desiredReplicas", 0)}  # fmt: skip
    for field in ("observedGeneration", "lastScaleTime"):
        if field in status:
            new_status[field] = status[field]
    if current is not None:
        new_status["currentCPUUtilizationPercentage"] = current
    return {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": new,
            "status": new_status}  # fmt: skip


def _current_to_v1(status: Object) -> tuple[int | None, list[Object]]:
    current: int | None = None
    more: list[Object] = []
    for metric in status.get("currentMetrics") or ():
        resource = metric.get("resource") or {}
        utilisation = (resource.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and utilisation is not None:
            current = utilisation
        else:
            more.append(metric)
    return current, more


def autoscaler_to_v2(obj: Object) -> Object:
    metadata = dict(obj["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    spec = dict(obj.get("spec") or {})
    status = obj.get("status") or {}
    metrics: list[Object] = _parsed(annotations.pop(_METRICS, None), [])
    metrics = [_metric_to_v2(metric) for metric in metrics]
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}
        metrics.append({"type": "Resource", "resource": resource})
    if metrics:
        spec["metrics"] = metrics
    behavior = _parsed(annotations.pop(_BEHAVIOR, None), None)
    if behavior:
        spec["behavior"] = _uncapitalised(behavior)
    annotations.pop(_CURRENT_METRICS, None)
    conditions = _parsed(annotations.pop(_CONDITIONS, None), None)
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    new_status: Object = {"desiredReplicas": status.get("desiredReplicas", 0), "currentMetrics": None}
    for field in ("observedGeneration", "lastScaleTime", "currentReplicas"):
        if status.get(field):
            new_status[field] = status[field]
    if conditions:
        new_status["conditions"] = conditions
    return {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec,
            "status": new_status}  # fmt: skip


def _metric_to_v1(metric: Object) -> Object:
    """v1's annotations flatten the target of a resource metric."""
    resource = metric.get("resource")
    if resource is None:
        return metric
    target = resource.get("target") or resource.get("current") or {}
    flat: Object = {"name": resource.get("name", "")}
    if "averageUtilization" in target:
        flat["targetAverageUtilization"] = target["averageUtilization"]
    if "averageValue" in target:
        flat["targetAverageValue"] = target["averageValue"]
    return {"type": metric["type"], "resource": flat}


def _metric_to_v2(metric: Object) -> Object:
    resource = metric.get("resource")
    if resource is None or "target" in resource:
        return metric
    target: Object = {"type": "Utilization" if "targetAverageUtilization" in resource else "AverageValue"}
    if "targetAverageUtilization" in resource:
        target["averageUtilization"] = resource["targetAverageUtilization"]
    if "targetAverageValue" in resource:
        target["averageValue"] = resource["targetAverageValue"]
    return {"type": metric["type"], "resource": {"name": resource.get("name", ""), "target": target}}


def _capitalised(value: Any) -> Any:
    """Go's internal struct has no JSON names."""
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: _capitalised(item) for key, item in value.items()}
    return [_capitalised(item) for item in value] if isinstance(value, list) else value


def _uncapitalised(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _uncapitalised(item) for key, item in value.items() if item is not None}
    return [_uncapitalised(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _parsed(text: str | None, otherwise: Any) -> Any:
    if text is None:
        return otherwise
    try:
        return json.loads(text)
    except ValueError:
        return otherwise

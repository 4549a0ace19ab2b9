"""Conversion between versions of built-in kinds that are served in several: HorizontalPodAutoscaler, Event, and
resource.k8s.io's where its betas are served.

`convert(obj, api_version)` gives a new object (sharing unchanged parts); every other kind has one version by default.
What autoscaling/v1 has no field for travels in annotations, as upstream's conversion keeps it.
"""

from __future__ import annotations

from typing import Any

import orjson

from atoll.kinds import device_conversion, devices

Object = dict[str, Any]
_ALPHA = "autoscaling.alpha.kubernetes.io/"
_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_FIELDS_BACK = {new: old for old, new in _EVENT_FIELDS.items()}


def convert(obj: Object, api_version: str) -> Object:
    """The object in another version of its kind; itself if it is in that version or has no other."""
    have = obj.get("apiVersion")
    if have == api_version:
        return obj
    kind = obj.get("kind")
    if kind == "HorizontalPodAutoscaler":
        return _hpa_to_v1(obj) if api_version == "autoscaling/v1" else _hpa_to_v2(obj)
    if kind == "Event":
        names = _EVENT_FIELDS if api_version == "events.k8s.io/v1" else _EVENT_FIELDS_BACK
        return {names.get(name, name): value for name, value in obj.items()} | {"apiVersion": api_version}
    if api_version.startswith(f"{devices.GROUP}/"):
        return device_conversion.convert(obj, api_version)
    return {**obj, "apiVersion": api_version}


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _hpa_to_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes: dict[str, str] = {}
    others = []
    for metric in spec.pop("metrics", None) or ():
        resource = metric.get("resource") or {}
        target = resource.get("target") or {}
        is_cpu = metric.get("type") == "Resource" and resource.get("name") == "cpu"
        if is_cpu and target.get("averageUtilization") is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
        else:
            others.append(_metric_to_v1(metric))
    if others:
        notes["metrics"] = _dump(others)
    if (behavior := spec.pop("behavior", None)) is not None:
        notes["behavior"] = _dump(behavior)
    current = []
    for metric in status.pop("currentMetrics", None) or ():
        resource = metric.get("resource") or {}
        used = (resource.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and used is not None:
            status["currentCPUUtilizationPercentage"] = used
        current.append(_current_to_v1(metric))
    if current:
        notes["current-metrics"] = _dump(current)
    if conditions := status.pop("conditions", None):
        notes["conditions"] = _dump(conditions)
    result = {**obj, "apiVersion": "autoscaling/v1", "spec": spec, "status": status}
    if notes:
        metadata = dict(obj.get("metadata") or {})
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **{_ALPHA + k: v for k, v in notes.items()}}
        result["metadata"] = metadata
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return result


def _hpa_to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    notes = {}
    for name in ("metrics", "behavior", "current-metrics", "conditions"):
        text = annotations.pop(_ALPHA + name, None)
        if text is not None:
            try:
                notes[name] = orjson.loads(text)
            except orjson.JSONDecodeError:
                continue
    metrics = [_metric_to_v2(metric) for metric in notes.get("metrics") or ()]
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if "behavior" in notes:
        spec["behavior"] = notes["behavior"]
    used = status.pop("currentCPUUtilizationPercentage", None)
    current = [_current_to_v2(metric) for metric in notes.get("current-metrics") or ()]
    if not current and used is not None:
        figures = {"averageUtilization": used}
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": figures}}]
    status["currentMetrics"] = current or None
    if notes.get("conditions"):
        status["conditions"] = notes["conditions"]
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    status.setdefault("desiredReplicas", 0)
    return {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec, "status": status}


_V1_TARGETS = {
    "value": "targetValue", "averageValue": "targetAverageValue", "averageUtilization": "targetAverageUtilization",
}  # fmt: skip
_V1_CURRENT = {
    "value": "currentValue", "averageValue": "currentAverageValue", "averageUtilization": "currentAverageUtilization",
}  # fmt: skip
_SOURCES = {
    "Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "Object": "object",
    "External": "external",
}  # fmt: skip


def _flatten(metric: Object, part: str, names: dict[str, str]) -> Object:
    key = _SOURCES.get(metric.get("type", ""), "")
    source = dict(metric.get(key) or {})
    figures = source.pop(part, None) or {}
    result = {names[name]: value for name, value in figures.items() if name in names}
    if key == "object":
        result = {"averageValue" if name == names["averageValue"] else name: value for name, value in result.items()}
        source["target"] = source.pop("describedObject", None)
    selector = "metricSelector" if key == "external" else "selector"
    described = source.pop("metric", None) or {}
    if "name" in described:
        source["metricName"] = described["name"]
    if "selector" in described:
        source[selector] = described["selector"]
    return {"type": metric.get("type"), key: {**source, **result}}


def _metric_to_v1(metric: Object) -> Object:
    return _flatten(metric, "target", _V1_TARGETS)


def _current_to_v1(metric: Object) -> Object:
    return _flatten(metric, "current", _V1_CURRENT)


def _unflatten(metric: Object, part: str, names: dict[str, str]) -> Object:
    key = _SOURCES.get(metric.get("type", ""), "")
    source = dict(metric.get(key) or {})
    figures: Object = {}
    for name, old in names.items():
        value = source.pop(old, None)
        if value is None and key == "object" and name == "averageValue":
            value = source.pop("averageValue", None)
        if value is not None:
            figures[name] = value
    if key == "object":
        source["describedObject"] = source.pop("target", None)
    described: Object = {}
    if "metricName" in source:
        described["name"] = source.pop("metricName")
    for selector in ("metricSelector", "selector"):
        if selector in source:
            described["selector"] = source.pop(selector)
    if described:
        source["metric"] = described
    if part == "target":
        kind = "Utilization" if "averageUtilization" in figures else "AverageValue"
        figures = {"type": "Value" if "value" in figures and "averageValue" not in figures else kind, **figures}
    return {"type": metric.get("type"), key: {**source, part: figures}}


def _metric_to_v2(metric: Object) -> Object:
    return _unflatten(metric, "target", _V1_TARGETS)


def _current_to_v2(metric: Object) -> Object:
    return _unflatten(metric, "current", _V1_CURRENT)

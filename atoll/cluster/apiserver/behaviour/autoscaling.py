"""Checks of autoscaling/v2 (upstream's pkg/apis/autoscaling/validation)."""

from __future__ import annotations

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

_METRICS = ("ContainerResource", "External", "Object", "Pods", "Resource")
_METRIC_FIELDS = {
    "Object": "object", "Pods": "pods", "Resource": "resource", "External": "external",
    "ContainerResource": "containerResource",
}  # fmt: skip


def autoscaler(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(bad_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 0:
        errors.append(bad_value("spec.maxReplicas", most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(bad_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target = spec.get("scaleTargetRef") or {}
    for field in ("kind", "name"):
        if not target.get(field):
            errors.append(required(f"spec.scaleTargetRef.{field}"))
        else:
            checks.named(errors, f"spec.scaleTargetRef.{field}", target[field], names.path_segment)
    _target_version(errors, "spec.scaleTargetRef.apiVersion", target)
    metrics = spec.get("metrics") or ()
    for index, metric in enumerate(metrics):
        _metric(errors, f"spec.metrics[{index}]", metric)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        why = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(not_allowed("spec.metrics", why))
    for direction in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(direction)
        if rules is not None:
            _scaling(errors, f"spec.behavior.{direction}", rules)
    return errors


def _target_version(errors: Errors, path: str, target: Object) -> None:
    version = target.get("apiVersion", "")
    if "/" not in version and not (version == "v1" and target.get("kind") == "ReplicationController"):
        errors.append(bad_value(path, version, "apiVersion must specify API group"))


def _metric(errors: Errors, path: str, metric: Object) -> None:
    kind = metric.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _METRICS:
        errors.append(not_supported(f"{path}.type", kind, _METRICS))
        errors.append(not_supported(f"{path}.type", kind, _METRICS))
        return
    field = _METRIC_FIELDS[kind]
    source = metric.get(field)
    if source is None:
        errors.append(required(f"{path}.{field}", "must populate information for the given metric source"))
    elif kind in ("Resource", "ContainerResource"):
        _resource_metric(errors, f"{path}.{field}", source)
    for other in _METRIC_FIELDS.values():
        if other != field and other in metric:
            errors.append(not_allowed(f"{path}.{other}", "must populate the given metric source only"))


def _resource_metric(errors: Errors, path: str, source: Object) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    target = source.get("target") or {}
    kind, utilisation, average = target.get("type", ""), target.get("averageUtilization"), target.get("averageValue")
    if not kind:
        errors.append(required(f"{path}.target.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        why = "must be either Utilization, Value, or AverageValue"
        errors.append(bad_value(f"{path}.target.type", kind, why))
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantity.parse(amount) <= 0:
            errors.append(bad_value(f"{path}.target.{field}", amount, "must be positive"))
    if utilisation is not None and utilisation < 1:
        errors.append(bad_value(f"{path}.target.averageUtilization", utilisation, "must be greater than 0"))
    if utilisation is None and average is None:
        why = "must set either a target raw value or a target utilization"
        errors.append(required(f"{path}.target.averageUtilization", why))
    if utilisation is not None and average is not None:
        why = "may not set both a target raw value and a target utilization"
        errors.append(not_allowed(f"{path}.target.averageValue", why))


def _scaling(errors: Errors, path: str, rules: Object) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        errors.append(bad_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    if window is not None and window > 3600:
        errors.append(bad_value(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    policy = rules.get("selectPolicy")
    if policy is not None and policy not in ("Disabled", "Max", "Min"):
        errors.append(not_supported(f"{path}.selectPolicy", policy, ("Disabled", "Max", "Min")))
    if not rules.get("policies"):
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, item in enumerate(rules.get("policies") or ()):
        at = f"{path}.policies[{index}]"
        if item.get("type") not in ("Percent", "Pods"):
            errors.append(not_supported(f"{at}.type", item.get("type", ""), ("Percent", "Pods")))
        if item.get("value", 0) <= 0:
            errors.append(bad_value(f"{at}.value", item.get("value", 0), "must be greater than zero"))
        seconds = item.get("periodSeconds", 0)
        if seconds <= 0:
            errors.append(bad_value(f"{at}.periodSeconds", seconds, "must be greater than zero"))
        if seconds > 1800:
            errors.append(bad_value(f"{at}.periodSeconds", seconds, "must be less than or equal to 1800"))


def autoscaler_update(new: Object, old: Object) -> Errors:
    del old
    return autoscaler(new)

"""Checks of policy, scheduling, coordination and node kinds (upstream's pkg/apis validation)."""

from __future__ import annotations

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

_HIGHEST_PRIORITY = 1_000_000_000
_SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def disruption_budget(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        shown = {
            "MinAvailable": least, "Selector": spec.get("selector"), "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }  # fmt: skip
        errors.append(bad_value("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            checks.int_or_percent(errors, f"spec.{field}", value)
            checks.not_over_hundred(errors, f"spec.{field}", value)
    checks.label_selector(errors, "spec.selector", spec.get("selector"))
    policy = spec.get("unhealthyPodEvictionPolicy")
    allowed = ("AlwaysAllow", "IfHealthyBudget")
    if policy is not None and policy not in allowed:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, allowed))
    return errors


def disruption_budget_update(new: Object, old: Object) -> Errors:
    del old
    return disruption_budget(new)


def priority_class(obj: Object) -> Errors:
    errors: Errors = []
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        reserved = "priority class names with 'system-' prefix are reserved for system use only. error: "
        if name not in _SYSTEM_CLASSES:
            why = f"{name} is not a known system priority class"
            errors.append(not_allowed("metadata.name", reserved + why))
        elif value != _SYSTEM_CLASSES[name]:
            why = f"value of {name} PriorityClass must be {_SYSTEM_CLASSES[name]}"
            errors.append(not_allowed("metadata.name", reserved + why))
    elif value > _HIGHEST_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        errors.append(not_allowed("value", why))
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        checks.one_of(errors, "preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    return errors


def priority_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    if new.get("value") != old.get("value"):
        errors.append(not_allowed("value", "may not be changed in an update."))
    checks.immutable(errors, "preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))
    return errors


def lease(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(bad_value("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(bad_value("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return errors


def lease_update(new: Object, old: Object) -> Errors:
    del old
    return lease(new)


def runtime_class(obj: Object) -> Errors:
    errors: Errors = []
    if not obj.get("handler"):
        errors.append(required("handler"))
    else:
        checks.named(errors, "handler", obj["handler"], names.dns_label)
    return errors


def runtime_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.immutable(errors, "handler", new.get("handler"), old.get("handler"))
    return errors

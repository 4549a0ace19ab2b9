"""Checks of scheduling.k8s.io/v1alpha2 (KEP-4671): one policy, a count that makes sense, one topology level."""

from __future__ import annotations

from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, required

_MOST_TEMPLATES = 8


def pod_group(obj: Object) -> Errors:
    errors: Errors = []
    _group(errors, "spec", obj.get("spec") or {})
    return errors


def pod_group_update(new: Object, old: Object) -> Errors:
    errors = pod_group(new)
    if new.get("spec") != old.get("spec"):
        errors.append(bad_value("spec", new.get("spec"), checks.IMMUTABLE))
    return errors


def workload(obj: Object) -> Errors:
    errors: Errors = []
    templates = (obj.get("spec") or {}).get("podGroupTemplates") or []
    if not templates:
        errors.append(required("spec.podGroupTemplates"))
    if len(templates) > _MOST_TEMPLATES:
        errors.append(bad_value("spec.podGroupTemplates", len(templates), f"must have at most {_MOST_TEMPLATES} items"))
    for index, template in enumerate(templates):
        _group(errors, f"spec.podGroupTemplates[{index}]", template)
    return errors


def workload_update(new: Object, old: Object) -> Errors:
    errors = workload(new)
    if (new.get("spec") or {}).get("podGroupTemplates") != (old.get("spec") or {}).get("podGroupTemplates"):
        errors.append(bad_value("spec.podGroupTemplates", None, checks.IMMUTABLE))
    return errors


def _group(errors: Errors, path: str, group: Object) -> None:
    policy = group.get("schedulingPolicy") or {}
    if ("basic" in policy) == ("gang" in policy):
        errors.append(bad_value(f"{path}.schedulingPolicy", None, "must specify one of: `basic`, `gang`"))
    if "gang" in policy:
        checks.positive(errors, f"{path}.schedulingPolicy.gang.minCount", int(policy["gang"].get("minCount") or 0))
    if "disruptionMode" in group:
        checks.one_of(errors, f"{path}.disruptionMode", group["disruptionMode"], ("Pod", "PodGroup"), empty=None)
    levels = (group.get("schedulingConstraints") or {}).get("topology") or []
    if len(levels) > 1:
        errors.append(bad_value(f"{path}.schedulingConstraints.topology", len(levels), "must have at most 1 item"))

"""Checks of batch/v1 (upstream's pkg/apis/batch/validation)."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.cron import schedule_error
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.internal import internal
from atoll.cluster.apiserver.behaviour.podspec import validate_template
from atoll.cluster.apiserver.behaviour.workloads import MISMATCH, template_labels
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_supported, required

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")


def job(obj: Object) -> Errors:
    errors: Errors = []
    metadata, spec = obj["metadata"], obj["spec"]
    _generated_selector(errors, metadata, spec)
    _job_with_selector(errors, spec)
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions:
        host = f"{metadata.get('name', '')}-{completions - 1}"
        if names.dns_label(host):
            why = f"will not able to create pod with invalid DNS label: {host}"
            errors.append(bad_value("metadata.name", metadata.get("name", ""), why))
    return errors


def _generated_selector(errors: Errors, metadata: Object, spec: Object) -> None:
    selector = spec.get("selector")
    if spec.get("manualSelector") or selector is None:
        return
    found = template_labels(spec.get("template") or {})
    uid, name = metadata.get("uid", ""), metadata.get("name", "")
    expected = {
        "controller-uid": uid,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
    }
    for key, value in expected.items():
        at = f"spec.template.metadata.labels[{key}]"
        if key not in found:
            errors.append(required(at.removesuffix(f"[{key}]"), f"must be '{value}'"))
        elif found[key] != value:
            errors.append(bad_value("spec.template.metadata.labels", found, f"must be '{value}'"))
    if not checks.selects(selector, expected):
        errors.append(bad_value("spec.selector", selector, "`selector` not auto-generated"))


def _job_with_selector(errors: Errors, spec: Object) -> None:
    _job(errors, spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
        return
    before = len(errors)
    checks.label_selector(errors, "spec.selector", selector)
    found = template_labels(spec.get("template") or {})
    if len(errors) == before and not checks.selects(selector, found):
        errors.append(bad_value("spec.template.metadata.labels", found or None, MISMATCH))


def _job(errors: Errors, spec: Object, path: str) -> None:
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
              "backoffLimitPerIndex", "maxFailedIndexes")  # fmt: skip
    for field in counts:
        checks.nonnegative(errors, f"{path}.{field}", spec.get(field))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    _completion_mode(errors, spec, path)
    if "podFailurePolicy" in spec:
        _failure_policy(errors, spec, f"{path}.podFailurePolicy")
    if "successPolicy" in spec and spec.get("completionMode") != "Indexed":
        shown = internal("batch.SuccessPolicy", spec["successPolicy"])
        errors.append(bad_value(f"{path}.successPolicy", shown, "requires indexed completion mode"))
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        allowed = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
        if replacement not in allowed:
            errors.append(not_supported(f"{path}.podReplacementPolicy", replacement, allowed))
    template = spec.get("template") or {}
    validate_template(errors, template, f"{path}.template")
    policy, at = (template.get("spec") or {}).get("restartPolicy", ""), f"{path}.template.spec.restartPolicy"
    if policy in ("Always", ""):
        errors.append(required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(at, policy, ("OnFailure", "Never")))
    elif "podFailurePolicy" in spec and policy != "Never":
        errors.append(bad_value(at, policy, 'only "Never" is supported when podFailurePolicy is specified'))


def _completion_mode(errors: Errors, spec: Object, path: str) -> None:
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", "Indexed"):
        errors.append(not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
        if completions is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if spec.get("parallelism", 0) > 100000:
            why = "must be less than or equal to 100000 when completion mode is Indexed"
            errors.append(bad_value(f"{path}.parallelism", spec["parallelism"], why))
        if completions is not None and failed is not None and failed > completions:
            errors.append(bad_value(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    elif mode == "NonIndexed":
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                errors.append(bad_value(f"{path}.{field}", spec[field], "requires indexed completion mode"))


def _failure_policy(errors: Errors, spec: Object, path: str) -> None:
    pod = (spec.get("template") or {}).get("spec") or {}
    known = {item.get("name") for item in (*(pod.get("containers") or ()), *(pod.get("initContainers") or ()))}
    for index, rule in enumerate(spec["podFailurePolicy"].get("rules") or ()):
        at = f"{path}.rules[{index}]"
        action = rule.get("action", "")
        if not action:
            errors.append(required(f"{at}.action", 'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]'))
        elif action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                errors.append(bad_value(f"{at}.action", action, "requires the backoffLimitPerIndex to be set"))
        elif action not in _ACTIONS:
            errors.append(not_supported(f"{at}.action", action, _ACTIONS))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        if codes is not None:
            _exit_codes(errors, f"{at}.onExitCodes", codes, known)
        for place, pattern in enumerate(conditions):
            here = f"{at}.onPodConditions[{place}]"
            checks.named(errors, f"{here}.type", pattern.get("type", ""), names.qualified_name)
            if pattern.get("status") not in _STATUSES:
                errors.append(not_supported(f"{here}.status", pattern.get("status", ""), _STATUSES))
        if (codes is not None) == bool(conditions):
            which = "both OnExitCodes and" if conditions else "one of OnExitCodes and"
            end = "is not supported" if conditions else "is required"
            why = f"specifying {which} OnPodConditions {end}"
            cause = bad_value(at, "", why)
            errors.append(type(cause)(cause.reason, f"Invalid value: {why}", at))


def _exit_codes(errors: Errors, path: str, codes: Object, known: set[Any]) -> None:
    operator, values = codes.get("operator", ""), codes.get("values") or ()
    if not operator:
        errors.append(required(f"{path}.operator", 'valid values: ["In" "NotIn"]'))
    elif operator not in ("In", "NotIn"):
        errors.append(not_supported(f"{path}.operator", operator, ("In", "NotIn")))
    if "containerName" in codes and codes["containerName"] not in known:
        why = "must be one of the container or initContainer names in the pod template"
        errors.append(bad_value(f"{path}.containerName", codes["containerName"], why))
    if not values:
        errors.append(bad_value(f"{path}.values", codes.get("values"), "at least one value is required"))
    seen: set[int] = set()
    for index, value in enumerate(values):
        at = f"{path}.values[{index}]"
        if operator == "In" and value == 0:
            errors.append(bad_value(at, 0, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(at, value))
        seen.add(value)
    if list(values) != sorted(values):
        errors.append(bad_value(f"{path}.values", list(values), "must be ordered"))


def job_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    spec, was = new["spec"], old["spec"]
    _job_with_selector(errors, spec)
    completions = spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        checks.immutable(errors, "spec.completions", completions, was.get("completions"))
    elif completions != was.get("completions") and completions is not None and completions != spec.get("parallelism"):
        why = "can only be modified in tandem with spec.parallelism"
        errors.append(bad_value("spec.completions", completions, why))
    checks.immutable(errors, "spec.selector", spec.get("selector"), was.get("selector"))
    _job_template_update(errors, spec, old)
    for field in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        if spec.get(field) != was.get(field):
            shown = spec.get(field)
            if isinstance(shown, dict):
                shown = internal(f"batch.{field[0].upper()}{field[1:]}", shown)
            errors.append(bad_value(f"spec.{field}", shown, checks.IMMUTABLE))
    return errors


def _job_template_update(errors: Errors, spec: Object, old: Object) -> None:
    was = old["spec"]
    template, before = spec.get("template") or {}, was.get("template") or {}
    if _at_rest(old):
        pod = template.get("spec") or {}
        if pod != _mutable_resources(pod, _mutable_directives(template, before)["spec"]):
            errors.append(bad_value("spec.template.spec", internal("core.PodSpec", pod), checks.IMMUTABLE))
    elif template != before:
        shown = internal("core.PodTemplateSpec", template)
        errors.append(bad_value("spec.template", shown, checks.IMMUTABLE))


def _at_rest(job: Object) -> bool:
    """Suspended, and either never started or brought to rest since."""
    status = job.get("status") or {}
    rests = any(
        item.get("type") == "Suspended" and item.get("status") == "True" for item in status.get("conditions") or ()
    )
    return bool(job["spec"].get("suspend")) and (status.get("startTime") is None or rests) and not status.get("active")


def _mutable_resources(pod: Object, before: Object) -> Object:
    """`before` with the resources of `pod`'s containers, by which a queue sets how large a suspended job runs."""
    found = dict(before)
    for field in ("containers", "initContainers"):
        new, old = pod.get(field) or (), before.get(field) or ()
        if len(new) == len(old) and old:
            found[field] = [
                {**was, "resources": now.get("resources") or {}} if was.get("name") == now.get("name") else was
                for now, was in zip(new, old, strict=True)
            ]
    return found


def _mutable_directives(template: Object, before: Object) -> Object:
    """`before` with what a suspended job may change of where its pods go."""
    pod, was = template.get("spec") or {}, dict(before.get("spec") or {})
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        if field in pod:
            was[field] = pod[field]
        else:
            was.pop(field, None)
    affinity = dict(was.get("affinity") or {})
    affinity.pop("nodeAffinity", None)
    wanted = (pod.get("affinity") or {}).get("nodeAffinity")
    if wanted is not None:
        affinity["nodeAffinity"] = wanted
    if affinity:
        was["affinity"] = affinity
    else:
        was.pop("affinity", None)
    metadata = dict(before.get("metadata") or {})
    for field in ("labels", "annotations"):
        if field in (template.get("metadata") or {}):
            metadata[field] = template["metadata"][field]
        else:
            metadata.pop(field, None)
    return {**before, "metadata": metadata, "spec": was}


def cron_job(obj: Object) -> Errors:
    errors = _cron_job(obj["spec"], None)
    name = obj["metadata"].get("name", "")
    if len(name) > 52:
        errors.append(bad_value("metadata.name", name, "must be no more than 52 characters"))
    return errors


def cron_job_update(new: Object, old: Object) -> Errors:
    return _cron_job(new["spec"], old["spec"])


def _cron_job(spec: Object, was: Object | None) -> Errors:
    errors: Errors = []
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        errors.append(required("spec.schedule"))
    else:
        problem = schedule_error(schedule)
        if problem:
            errors.append(bad_value("spec.schedule", schedule, problem))
        old_zone = was is not None and "TZ" in was.get("schedule", "")
        if "TZ" in schedule and not old_zone:
            why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            errors.append(bad_value("spec.schedule", schedule, why))
        elif "TZ" in schedule and zone is not None:
            why = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            errors.append(bad_value("spec.schedule", schedule, why))
    checks.nonnegative(errors, "spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if zone is not None and (was is None or was.get("timeZone") != zone):
        _time_zone(errors, zone)
    policies = ("Allow", "Forbid", "Replace")
    checks.one_of(errors, "spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    _job(errors, template, "spec.jobTemplate.spec")
    if template.get("selector") is not None:
        why = "`selector` will be auto-generated"
        errors.append(bad_value("spec.jobTemplate.spec.selector", template["selector"], why))
    if template.get("manualSelector"):
        errors.append(not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
    checks.nonnegative(errors, "spec.successfulJobsHistoryLimit", spec.get("successfulJobsHistoryLimit"))
    checks.nonnegative(errors, "spec.failedJobsHistoryLimit", spec.get("failedJobsHistoryLimit"))
    return errors


def _time_zone(errors: Errors, zone: str) -> None:
    path = "spec.timeZone"
    if not zone:
        errors.append(bad_value(path, zone, "timeZone must be nil or non-empty string"))
        return
    if zone.lower() == "local":
        why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        errors.append(bad_value(path, zone, why))
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        errors.append(bad_value(path, zone, f"unknown time zone {zone}"))

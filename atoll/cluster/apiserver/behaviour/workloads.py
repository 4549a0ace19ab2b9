"""Checks of apps/v1 and batch/v1 (upstream's pkg/apis/apps/validation, pkg/apis/batch/validation)."""

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
from atoll.cluster.apiserver.behaviour.storage import validate_claim_spec
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required

_MISMATCH = "`selector` does not match template `labels`"
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")


def _template_labels(template: Object) -> dict[str, str]:
    return (template.get("metadata") or {}).get("labels") or {}


def _no_job_fields(errors: Errors, path: str, template: Object, kind: str) -> None:
    spec = template.get("spec") or {}
    if spec.get("restartPolicy") != "Always":
        errors.append(not_supported(f"{path}.spec.restartPolicy", spec.get("restartPolicy", ""), ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(not_allowed(f"{path}.spec.activeDeadlineSeconds", why))


def _selector(errors: Errors, selector: Object | None, kind: str) -> bool:
    """Whether it is valid, so that the template can be compared with it."""
    before = len(errors)
    if selector is None:
        errors.append(required("spec.selector"))
        return True
    checks.label_selector(errors, "spec.selector", selector)
    valid = len(errors) == before
    if checks.empty_selector(selector):
        errors.append(bad_value("spec.selector", selector, f"empty selector is invalid for {kind}"))
    return valid or not any(cause.field.endswith(".operator") for cause in errors[before:])


def _match(errors: Errors, selector: Object | None, template: Object) -> None:
    """No selector selects nothing, an empty one everything."""
    found = _template_labels(template)
    if selector is None or (not checks.empty_selector(selector) and not checks.selects(selector, found)):
        errors.append(bad_value("spec.template.metadata.labels", found or None, _MISMATCH))


def _selected_template(errors: Errors, spec: Object, kind: str, *, selectable: bool) -> None:
    template, selector = spec.get("template") or {}, spec.get("selector")
    if not selectable:
        errors.append(bad_value("spec.selector", selector, "invalid label selector"))
        return
    _match(errors, selector, template)
    validate_template(errors, template, "spec.template")
    _no_job_fields(errors, "spec.template", template, kind)


# Deployment, ReplicaSet


def deployment(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    checks.nonnegative(errors, "spec.replicas", spec.get("replicas"))
    selectable = _selector(errors, spec.get("selector"), "deployment")
    _selected_template(errors, spec, "ReplicaSet", selectable=selectable)
    _deployment_strategy(errors, spec.get("strategy") or {})
    checks.nonnegative(errors, "spec.minReadySeconds", spec.get("minReadySeconds"))
    checks.nonnegative(errors, "spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        checks.nonnegative(errors, "spec.progressDeadlineSeconds", deadline)
        if deadline <= spec.get("minReadySeconds", 0):
            why = "must be greater than minReadySeconds"
            errors.append(bad_value("spec.progressDeadlineSeconds", deadline, why))
    return errors


def _deployment_strategy(errors: Errors, strategy: Object) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    path = "spec.strategy.rollingUpdate"
    if kind == "Recreate":
        if rolling is not None:
            errors.append(not_allowed(path, "may not be specified when strategy `type` is 'Recreate'"))
    elif kind == "RollingUpdate":
        if rolling is None:
            errors.append(required(path, "this should be defaulted and never be nil"))
            return
        unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
        checks.int_or_percent(errors, f"{path}.maxUnavailable", unavailable)
        checks.int_or_percent(errors, f"{path}.maxSurge", surge)
        if _amount(unavailable) == 0 and _amount(surge) == 0:
            errors.append(bad_value(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
        checks.not_over_hundred(errors, f"{path}.maxUnavailable", unavailable)
    else:
        errors.append(not_supported("spec.strategy", _go_strategy(strategy), ("Recreate", "RollingUpdate")))


def _go_strategy(strategy: Object) -> Object:
    """How Go prints its internal struct."""
    return {"Type": strategy.get("type", ""), "RollingUpdate": strategy.get("rollingUpdate")}


def _amount(value: Any) -> int:
    if isinstance(value, int):
        return value
    text = value.removesuffix("%")
    return int(text) if text.isdigit() else 0


def deployment_update(new: Object, old: Object) -> Errors:
    errors = deployment(new)
    checks.immutable(errors, "spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))
    return errors


def replica_set(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    checks.nonnegative(errors, "spec.replicas", spec.get("replicas"))
    checks.nonnegative(errors, "spec.minReadySeconds", spec.get("minReadySeconds"))
    selectable = _selector(errors, spec.get("selector"), "deployment")
    _selected_template(errors, spec, "ReplicaSet", selectable=selectable)
    return errors


def replica_set_update(new: Object, old: Object) -> Errors:
    errors = replica_set(new)
    checks.immutable(errors, "spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))
    return errors


def replicas_status(*, total: str = "status.replicas", ready: str = "readyReplicas") -> Any:
    """Counts are not negative and no part exceeds the whole."""
    parts = ("fullyLabeledReplicas", "updatedReplicas", "currentReplicas", "readyReplicas", "availableReplicas")

    def validate(new: Object, old: Object) -> Errors:
        errors: Errors = []
        status = new.get("status") or {}
        for field in ("observedGeneration", "replicas", *parts, "unavailableReplicas", "collisionCount"):
            checks.nonnegative(errors, f"status.{field}", status.get(field))
        for field in parts:
            if status.get(field, 0) > status.get("replicas", 0):
                errors.append(bad_value(f"status.{field}", status[field], f"cannot be greater than {total}"))
        if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
            why = f"cannot be greater than {ready}"
            errors.append(bad_value("status.availableReplicas", status["availableReplicas"], why))
        before = (old.get("status") or {}).get("collisionCount", 0)
        if before > status.get("collisionCount", 0):
            why = "cannot be decremented"
            errors.append(bad_value("status.collisionCount", status.get("collisionCount", 0), why))
        return errors

    return validate


def replication_controller(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    checks.nonnegative(errors, "spec.minReadySeconds", spec.get("minReadySeconds"))
    selector = spec.get("selector") or {}
    if not selector:
        errors.append(required("spec.selector"))
    if spec.get("replicas") is None:
        errors.append(required("spec.replicas"))
    else:
        checks.nonnegative(errors, "spec.replicas", spec["replicas"])
    template = spec.get("template")
    if template is None:
        errors.append(required("spec.template"))
        return errors
    found = _template_labels(template)
    if any(found.get(key) != value for key, value in selector.items()):
        errors.append(bad_value("spec.template.metadata.labels", found or None, _MISMATCH))
    validate_template(errors, template, "spec.template")
    _no_job_fields(errors, "spec.template", template, "ReplicationController")
    return errors


def replication_controller_update(new: Object, old: Object) -> Errors:
    del old
    return replication_controller(new)


# StatefulSet, DaemonSet, ControllerRevision


def stateful_set(obj: Object) -> Errors:
    errors: Errors = []
    _stateful_set(errors, obj["spec"])
    return errors


def _stateful_set(errors: Errors, spec: Object, *, update: bool = False) -> None:
    management = spec.get("podManagementPolicy", "")
    if management not in ("OrderedReady", "Parallel"):
        if management:
            why = "must be 'OrderedReady' or 'Parallel'"
            errors.append(bad_value("spec.podManagementPolicy", management, why))
        else:
            errors.append(required("spec.podManagementPolicy"))
    _stateful_set_strategy(errors, spec.get("updateStrategy") or {})
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        policy = retention.get(field, "")
        if policy not in ("Retain", "Delete"):
            at = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            errors.append(not_supported(at, policy, ("Retain", "Delete")))
    if not update:
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            validate_claim_spec(errors, f"spec.volumeClaimTemplates[{index}].spec", claim.get("spec") or {})
    checks.nonnegative(errors, "spec.replicas", spec.get("replicas"))
    checks.nonnegative(errors, "spec.minReadySeconds", spec.get("minReadySeconds"))
    checks.nonnegative(errors, "spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    if not update and spec.get("serviceName"):
        checks.named(errors, "spec.serviceName", spec["serviceName"], names.dns_label)
    selector = spec.get("selector")
    selectable = _selector(errors, selector, "statefulset")
    template = _with_claims(spec)
    if not selectable:
        errors.append(bad_value("spec.selector", selector, ""))
    else:
        _match(errors, selector, template)
        validate_template(errors, template, "spec.template")
        metadata = template.get("metadata") or {}
        checks.labels(errors, "spec.template.labels", metadata.get("labels"))
        checks.annotation_keys(errors, "spec.template.annotations", metadata.get("annotations"))
    _no_job_fields(errors, "spec.template", template, "StatefulSet")


def _with_claims(spec: Object) -> Object:
    """The template as pods will have it: with the claims' volumes, without host name and subdomain."""
    template: Object = spec.get("template") or {}
    pod = dict(template.get("spec") or {})
    pod.pop("subdomain", None)
    pod.pop("hostname", None)
    claims = [(claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()]
    if claims:
        own = [volume for volume in pod.get("volumes") or () if volume.get("name") not in claims]
        mounted = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
        pod["volumes"] = mounted + own
    return {**template, "spec": pod}


def _stateful_set_strategy(errors: Errors, strategy: Object) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    path = "spec.updateStrategy"
    if not kind:
        errors.append(required(path))
    elif kind == "OnDelete":
        if rolling is not None:
            why = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(bad_value(f"{path}.rollingUpdate", rolling, why))
    elif kind == "RollingUpdate":
        if rolling is not None:
            checks.nonnegative(errors, f"{path}.rollingUpdate.partition", rolling.get("partition"))
            most = rolling.get("maxUnavailable")
            if most is not None:
                at = f"{path}.rollingUpdate.maxUnavailable"
                checks.int_or_percent(errors, at, most)
                if _amount(most) == 0:
                    errors.append(bad_value(at, most, "cannot be 0"))
                checks.not_over_hundred(errors, at, most)
    else:
        errors.append(bad_value(path, _go_strategy(strategy), "must be 'RollingUpdate' or 'OnDelete'"))


_STATEFUL_SET_MUTABLE = frozenset(
    (
        "replicas", "template", "updateStrategy", "minReadySeconds", "ordinals", "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    )
)  # fmt: skip


def stateful_set_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    _stateful_set(errors, new["spec"], update=True)
    fields = (new["spec"].keys() | old["spec"].keys()) - _STATEFUL_SET_MUTABLE
    if any(new["spec"].get(field) != old["spec"].get(field) for field in fields):
        why = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy',"
            " 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        errors.append(not_allowed("spec", why))
    return errors


def daemon_set(obj: Object) -> Errors:
    errors: Errors = []
    _daemon_set(errors, obj["spec"])
    return errors


def _daemon_set(errors: Errors, spec: Object) -> None:
    selector, template = spec.get("selector"), spec.get("template") or {}
    before = len(errors)
    checks.label_selector(errors, "spec.selector", selector)
    valid = len(errors) == before
    found = _template_labels(template)
    if valid and (selector is None or not checks.selects(selector, found)):
        errors.append(bad_value("spec.template.metadata.labels", found or None, _MISMATCH))
    if selector is not None and checks.empty_selector(selector):
        errors.append(bad_value("spec.selector", selector, "empty selector is invalid for daemonset"))
    validate_template(errors, template, "spec.template")
    _no_job_fields(errors, "spec.template", template, "DaemonSet")
    checks.nonnegative(errors, "spec.minReadySeconds", spec.get("minReadySeconds"))
    _daemon_set_strategy(errors, spec.get("updateStrategy") or {})
    checks.nonnegative(errors, "spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _daemon_set_strategy(errors: Errors, strategy: Object) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "RollingUpdate":
        at = "spec.updateStrategy.rollingUpdate"
        if rolling is None:
            errors.append(required(at))
            return
        unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
        for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
            checks.int_or_percent(errors, f"{at}.{field}", value)
        for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
            checks.not_over_hundred(errors, f"{at}.{field}", value)
        if _amount(unavailable) and _amount(surge):
            why = "may not be set when maxUnavailable is non-zero"
            errors.append(bad_value(f"{at}.maxSurge", surge, why))
        elif not _amount(unavailable) and not _amount(surge):
            errors.append(required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    elif kind != "OnDelete":
        allowed = ("RollingUpdate", "OnDelete")
        errors.append(not_supported("spec.updateStrategy", _go_strategy(strategy), allowed))


def daemon_set_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.immutable(errors, "spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))
    _daemon_set(errors, new["spec"])
    return errors


def daemon_set_status(new: Object, old: Object) -> Errors:
    del old
    errors: Errors = []
    for field, value in (new.get("status") or {}).items():
        if isinstance(value, int):
            checks.nonnegative(errors, f"status.{field}", value)
    return errors


def controller_revision(obj: Object) -> Errors:
    errors: Errors = []
    checks.nonnegative(errors, "revision", obj.get("revision"))
    data = obj.get("data")
    if data is None:
        errors.append(required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        errors.append(required("data", "data must be a valid JSON object"))
    return errors


def controller_revision_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.nonnegative(errors, "revision", new.get("revision"))
    checks.immutable(errors, "data", new.get("data"), old.get("data"))
    return errors


# Job, CronJob


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
    found = _template_labels(spec.get("template") or {})
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
    found = _template_labels(spec.get("template") or {})
    if len(errors) == before and not checks.selects(selector, found):
        errors.append(bad_value("spec.template.metadata.labels", found or None, _MISMATCH))


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
    not_started = was.get("suspend") and (old.get("status") or {}).get("startTime") is None
    if not_started:
        before = _mutable_directives(template, before)
    if template != before:
        shown = internal("core.PodTemplateSpec", template)
        errors.append(bad_value("spec.template", shown, checks.IMMUTABLE))


def _mutable_directives(template: Object, before: Object) -> Object:
    """A suspended job that never ran may change where its pods go, and their resources."""
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

"""Checks of apps/v1 and of replication controllers (upstream's pkg/apis/apps/validation)."""

from __future__ import annotations

from typing import Any

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.podspec import validate_template
from atoll.cluster.apiserver.behaviour.storage import validate_claim_spec
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

MISMATCH = "`selector` does not match template `labels`"


def template_labels(template: Object) -> dict[str, str]:
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
    found = template_labels(template)
    if selector is None or (not checks.empty_selector(selector) and not checks.selects(selector, found)):
        errors.append(bad_value("spec.template.metadata.labels", found or None, MISMATCH))


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
    found = template_labels(template)
    if any(found.get(key) != value for key, value in selector.items()):
        errors.append(bad_value("spec.template.metadata.labels", found or None, MISMATCH))
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
    found = template_labels(template)
    if valid and (selector is None or not checks.selects(selector, found)):
        errors.append(bad_value("spec.template.metadata.labels", found or None, MISMATCH))
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

"""Checks of DeviceTaintRule (upstream's pkg/apis/resource/validation): which devices, which taint, and its status."""

from __future__ import annotations

import re

from msgspec.structs import replace

from atoll.base.clock import Clock, rfc3339
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour import device_fields as fields
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.ports import Behaviour
from atoll.cluster.apiserver.problems import bad_value, not_supported, required, too_long, too_many

_CONDITIONS, _REASON, _MESSAGE = 8, 1024, 32768
_STATUSES = ("False", "True", "Unknown")
_REASON_FORM = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_NO_REASON = checks.regex_error(
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric"
    " characters or '_,:', and must end with an alphanumeric character or '_'",
    _REASON_FORM,
    *("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"),
)


def dated(behaviour: Behaviour, clock: Clock) -> Behaviour:
    """DeviceTaintRule's with the time: a taint is as old as its effect, unless the client says otherwise."""

    def default(obj: Object) -> None:
        behaviour.default(obj)
        taint = (obj.get("spec") or {}).get("taint")
        if isinstance(taint, dict) and not taint.get("timeAdded"):
            taint["timeAdded"] = rfc3339(clock.wall())

    def update(new: Object, old: Object) -> None:
        taint, before = new["spec"]["taint"], old["spec"]["taint"]
        if taint.get("effect") != before.get("effect") and taint.get("timeAdded") == before.get("timeAdded"):
            taint["timeAdded"] = rfc3339(clock.wall())
        behaviour.prepare_update(new, old)

    return replace(behaviour, default=default, prepare_update=update)


def rule(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    selector = spec.get("deviceSelector") or {}
    for field, check in (("driver", fields.driver), ("pool", fields.pool_name), ("device", fields.label)):
        if selector.get(field) is not None:
            check(errors, f"spec.deviceSelector.{field}", selector[field])
    fields.taint(errors, "spec.taint", spec.get("taint") or {})
    return errors


def rule_status(new: Object, _: Object) -> Errors:
    errors: Errors = []
    found = (new.get("status") or {}).get("conditions") or []
    for index, condition in enumerate(found):
        _condition(errors, f"status.conditions[{index}]", condition)
    if len(found) > _CONDITIONS:
        errors.append(too_many("status.conditions", len(found), _CONDITIONS))
    return errors


def _condition(errors: Errors, path: str, condition: Object) -> None:
    """As metav1.ValidateCondition."""
    checks.label_name(errors, f"{path}.type", condition.get("type") or "")
    if condition.get("status") not in _STATUSES:
        errors.append(not_supported(f"{path}.status", condition.get("status") or "", _STATUSES))
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        why = "must be greater than or equal to zero"
        errors.append(bad_value(f"{path}.observedGeneration", generation, why))
    if not condition.get("lastTransitionTime"):
        errors.append(required(f"{path}.lastTransitionTime"))
    reason = condition.get("reason") or ""
    if not reason:
        errors.append(required(f"{path}.reason"))
    else:
        if not re.fullmatch(_REASON_FORM, reason):
            errors.append(bad_value(f"{path}.reason", reason, _NO_REASON))
        if len(reason) > _REASON:
            errors.append(too_long(f"{path}.reason", _REASON))
    if len(condition.get("message") or "") > _MESSAGE:
        errors.append(too_long(f"{path}.message", _MESSAGE))

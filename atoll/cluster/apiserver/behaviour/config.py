"""Checks of ConfigMap, Secret, Namespace, Node, ResourceQuota, LimitRange, Event (upstream's core validation)."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import (
    bad_value,
    duplicate,
    not_allowed,
    quoted,
    required,
    too_long,
)

MAX_BYTES = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"
_SERVICE_ACCOUNT = "kubernetes.io/service-account.name"
_SCOPES = frozenset(
    (
        "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass",
        "CrossNamespacePodAffinity", "VolumeAttributesClass",
    )
)  # fmt: skip
_COMPUTE = frozenset(("pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"))


def _bytes(text: str | None) -> int:
    if not text:
        return 0
    return len(text) * 3 // 4 - text[-2:].count("=")


def config_map(obj: Object) -> Errors:
    errors: Errors = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        checks.named(errors, f"data[{key}]", key, checks.config_key_errors)
        if key in binary:
            errors.append(bad_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        checks.named(errors, f"binaryData[{key}]", key, checks.config_key_errors)
        size += _bytes(value)
    if size > MAX_BYTES:
        errors.append(too_long("[]", MAX_BYTES))
    return errors


def _frozen(errors: Errors, new: Object, old: Object, *fields: str) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        errors.append(not_allowed("immutable", _FROZEN))
    for field in fields:
        if new.get(field) != old.get(field):
            errors.append(not_allowed(field, _FROZEN))


def config_map_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    _frozen(errors, new, old, "data", "binaryData")
    return errors + config_map(new)


def secret(obj: Object) -> Errors:
    errors: Errors = []
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        checks.named(errors, f"data[{key}]", key, checks.config_key_errors)
        size += _bytes(value)
    if size > MAX_BYTES:
        errors.append(too_long("data", MAX_BYTES))
    check = _SECRET_TYPES.get(obj.get("type", ""))
    if check is not None:
        check(errors, obj, data)
    return errors


def _token(errors: Errors, obj: Object, data: Object) -> None:
    del data
    if not (obj["metadata"].get("annotations") or {}).get(_SERVICE_ACCOUNT):
        errors.append(required(f"metadata.annotations[{_SERVICE_ACCOUNT}]"))


def _docker(key: str) -> Any:
    def check(errors: Errors, obj: Object, data: Object) -> None:
        del obj
        if key not in data:
            errors.append(required(f"data[{key}]"))
            return
        try:
            json.loads(base64.b64decode(data[key]))
        except (ValueError, binascii.Error):
            why = "invalid character 'o' in literal null (expecting 'u')"
            raw = base64.b64decode(data[key])
            if not raw:
                why = "unexpected end of JSON input"
            elif raw[:1] not in b'{["tfn-0123456789':
                why = f"invalid character '{raw[:1].decode(errors='replace')}' looking for beginning of value"
            errors.append(bad_value(f"data[{key}]", "<secret contents redacted>", why))

    return check


def _needs(*keys: str, any_of: bool = False) -> Any:
    def check(errors: Errors, obj: Object, data: Object) -> None:
        del obj
        missing = [key for key in keys if key not in data]
        if any_of and len(missing) < len(keys):
            return
        errors.extend(required(f"data[{key}]") for key in missing)

    return check


_SECRET_TYPES: dict[str, Any] = {
    "kubernetes.io/service-account-token": _token,
    "kubernetes.io/dockercfg": _docker(".dockercfg"),
    "kubernetes.io/dockerconfigjson": _docker(".dockerconfigjson"),
    "kubernetes.io/basic-auth": _needs("username", "password", any_of=True),
    "kubernetes.io/ssh-auth": _needs("ssh-privatekey"),
    "kubernetes.io/tls": _needs("tls.crt", "tls.key"),
}


def secret_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.immutable(errors, "type", new.get("type"), old.get("type"))
    _frozen(errors, new, old, "data")
    return errors + secret(new)


def namespace(obj: Object) -> Errors:
    errors: Errors = []
    for finalizer in (obj.get("spec") or {}).get("finalizers") or ():
        _finalizer(errors, "spec.finalizers", finalizer)
    return errors


def _finalizer(errors: Errors, path: str, finalizer: str) -> None:
    checks.named(errors, path, finalizer, names.qualified_name)
    if "/" not in finalizer and finalizer not in ("kubernetes", "orphan", "foregroundDeletion"):
        why = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(bad_value(path, finalizer, why))


def namespace_update(new: Object, old: Object) -> Errors:
    del new, old
    return []


def namespace_status(new: Object, old: Object) -> Errors:
    del old
    phase, deleting = (new.get("status") or {}).get("phase", ""), "deletionTimestamp" in new["metadata"]
    wanted = "Terminating" if deleting else "Active"
    if phase == wanted:
        return []
    why = f"may only be '{wanted}' if `deletionTimestamp` is {'not ' if deleting else ''}empty"
    return [bad_value("status.Phase", phase, why)]


# Nodes


def node(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    _taints(errors, spec.get("taints") or ())
    _node_amounts(errors, obj)
    for index, block in enumerate(spec.get("podCIDRs") or ()):
        if not _is_cidr(block):
            errors.append(
                bad_value(
                    f"spec.podCIDRs[{index}]", block, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                )
            )
    return errors


def _is_cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    parsed = checks.parse_ip(address)
    return bool(slash) and parsed is not None and bits.isdigit() and int(bits) <= parsed.max_prefixlen


def _taints(errors: Errors, taints: Any) -> None:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        path = f"metadata.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        checks.label_name(errors, f"{path}.key", key)
        problems = names.label_value(taint.get("value", ""))
        if problems:
            errors.append(bad_value(f"{path}.value", taint.get("value", ""), ";".join(problems)))
        checks.one_of(errors, f"{path}.effect", effect, ("NoSchedule", "PreferNoSchedule", "NoExecute"))
        if (effect, key) in seen:
            shown = {"Key": key, "Value": taint.get("value", ""), "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            why = f"Duplicate value: {quoted(shown)}: taints must be unique by key and effect pair"
            errors.append(Cause("FieldValueDuplicate", why, path))
        seen.add((effect, key))


def _node_amounts(errors: Errors, obj: Object) -> None:
    status = obj.get("status") or {}
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or {}).items():
            checks.resource_amount(errors, f"status.{field}.{name}", name, amount)


def node_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    _node_amounts(errors, new)
    seen: list[Object] = []
    for index, address in enumerate((new.get("status") or {}).get("addresses") or ()):
        if address in seen:
            shown = {"Type": address.get("type", ""), "Address": address.get("address", "")}
            errors.append(duplicate(f"status.addresses[{index}]", shown))
        seen.append(address)
    for field, shown_name in (("podCIDRs", "podCIDR"), ("providerID", "providerID")):
        if was.get(field) and was[field] != spec.get(field):
            why = f'node updates may not change {shown_name} except from "" to valid'
            errors.append(not_allowed(f"spec.{field}", why))
    _taints(errors, spec.get("taints") or ())
    if spec.get("externalID") != was.get("externalID"):
        errors.append(not_allowed("spec.externalID", "may not be updated"))
    return errors


# ResourceQuota, LimitRange


def resource_quota(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    for name, amount in hard.items():
        checks.quota_resource_name(errors, f"spec.hard[{name}]", name)
        checks.resource_amount(errors, f"spec.hard[{name}]", name, amount)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(bad_value("spec.scopes", scopes, "unsupported scope"))
        for name in sorted(hard):
            if checks.is_quota_name(name) and not _scope_fits(scope, name):
                errors.append(bad_value("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if all(scope in scopes for scope in pair):
            errors.append(bad_value("spec.scopes", scopes, "conflicting scopes"))
    for requirement in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        _scope_requirement(errors, requirement)
    return errors


def _scope_fits(scope: str, name: str) -> bool:
    if scope == "BestEffort":
        return name == "pods"
    if scope in ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"):
        return name in _COMPUTE or name.startswith(("requests.", "limits.", "hugepages-")) or "/" in name
    return True


def _scope_requirement(errors: Errors, requirement: Object) -> None:
    path = "spec.scopeSelector.matchExpressions"
    scope, operator, values = (
        requirement.get("scopeName", ""),
        requirement.get("operator", ""),
        requirement.get("values"),
    )
    if scope not in _SCOPES:
        errors.append(bad_value(f"{path}.scopeName", scope, "unsupported scope"))
    if scope in _SCOPES - {"PriorityClass", "VolumeAttributesClass"} and operator != "Exists":
        why = (
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating,"
            " ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or"
            " ResourceQuotaScopeCrossNamespacePodAffinity"
        )
        errors.append(bad_value(f"{path}.operator", operator, why))
    if operator in ("In", "NotIn"):
        if not values:
            why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            errors.append(required(f"{path}.values", why))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            errors.append(bad_value(f"{path}.values", values, why))
    else:
        errors.append(bad_value(f"{path}.operator", operator, "not a valid selector operator"))


def resource_quota_update(new: Object, old: Object) -> Errors:
    errors = resource_quota(new)
    scopes = (new.get("spec") or {}).get("scopes")
    if set(scopes or ()) != set((old.get("spec") or {}).get("scopes") or ()):
        errors.append(bad_value("spec.scopes", scopes, checks.IMMUTABLE))
    return errors


def limit_range(obj: Object) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", item.get("type", "")
        problems = names.qualified_name(kind)
        for message in problems:
            errors.append(bad_value(f"{path}.type", kind, message))
        if not problems and "/" not in kind and kind not in ("Pod", "Container", "PersistentVolumeClaim"):
            errors.append(bad_value(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        _limit(errors, path, kind, item)
    return errors


def _limit(errors: Errors, path: str, kind: str, item: Object) -> None:
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        amounts = item.get(field) or {}
        if kind == "Pod" and field in ("default", "defaultRequest"):
            if amounts:
                errors.append(not_allowed(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
            continue
        for name in amounts:
            if kind in ("Pod", "Container"):
                checks.container_resource_name(errors, f"{path}.{field}[{name}]", name)
            else:
                checks.resource_name(errors, f"{path}.{field}[{name}]", name)
    if kind == "PersistentVolumeClaim" and "storage" not in {**(item.get("min") or {}), **(item.get("max") or {})}:
        why = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", why))
    fields = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
    for name in sorted({name for field in fields for name in item.get(field) or {}}):
        _limit_order(errors, path, name, {field: (item.get(field) or {}).get(name) for field in fields})


def _limit_order(errors: Errors, path: str, name: str, of: dict[str, str | None]) -> None:
    def above(left: str, right: str) -> bool:
        one, two = of[left], of[right]
        return one is not None and two is not None and quantity.parse(one) > quantity.parse(two)

    low, high, default, request = of["min"], of["max"], of["default"], of["defaultRequest"]
    for left, right, field, shown, why in (
        ("min", "max", "min", low, f"min value {low} is greater than max value {high}"),
        ("min", "defaultRequest", "defaultRequest", request,
         f"min value {low} is greater than default request value {request}"),
        ("defaultRequest", "max", "defaultRequest", request,
         f"default request value {request} is greater than max value {high}"),
        ("defaultRequest", "default", "defaultRequest", request,
         f"default request value {request} is greater than default limit value {default}"),
        ("min", "default", "default", low, f"min value {low} is greater than default value {default}"),
        ("default", "max", "default", high, f"default value {default} is greater than max value {high}"),
    ):  # fmt: skip
        if above(left, right):
            errors.append(bad_value(f"{path}.{field}[{name}]", shown, why))
    ratio = of["maxLimitRequestRatio"]
    if ratio is None:
        return
    at = f"{path}.maxLimitRequestRatio[{name}]"
    if quantity.parse(ratio) < quantity.NANO:
        errors.append(bad_value(at, ratio, f"ratio {ratio} is less than 1"))
    if low is not None and high is not None and quantity.parse(low):
        most = quantity.parse(high) / quantity.parse(low)
        if quantity.parse(ratio) / quantity.NANO > most:
            errors.append(bad_value(at, ratio, f"ratio {ratio} is greater than max/min = {most:.6f}"))


def event(obj: Object) -> Errors:
    errors: Errors = []
    mine = obj["metadata"].get("namespace", "")
    theirs = (obj.get("involvedObject") or {}).get("namespace", "")
    mismatch = bad_value("involvedObject.namespace", theirs, "does not match event.namespace")
    if obj.get("eventTime") is None:
        if (not theirs and mine not in ("", "default")) or (theirs and mine != theirs):
            errors.append(mismatch)
        return errors
    if not theirs and mine not in ("default", "kube-system"):
        errors.append(mismatch)
    controller = obj.get("reportingComponent", "")
    if not controller:
        errors.append(required("reportingComponent"))
    checks.named(errors, "reportingComponent", controller, names.qualified_name)
    for field in ("reportingInstance", "action", "reason"):
        if not obj.get(field):
            errors.append(required(field))
        elif len(obj[field]) > 128:
            errors.append(bad_value(field, "", "can have at most 128 characters"))
    if len(obj.get("message", "")) > 1024:
        errors.append(bad_value("message", "", "can have at most 1024 characters"))
    return errors


def event_v1(obj: Object) -> Errors:
    """The stricter rules of events.k8s.io/v1, on the stored (core) form."""
    errors = [_renamed(cause) for cause in event(obj)]
    if obj.get("eventTime") is None:
        errors.append(required("eventTime"))
    kind = obj.get("type", "")
    if kind not in ("Normal", "Warning"):
        errors.append(bad_value("type", "", f"has invalid value: {kind}"))
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if obj.get(field):
            errors.append(bad_value(field, "", "needs to be unset"))
    if obj.get("source"):
        errors.append(bad_value("source", "", "needs to be unset"))
    return errors


def _renamed(cause: Cause) -> Cause:
    if cause.field != "reportingComponent":
        return cause
    return Cause(cause.reason, cause.message, "reportingController")


_EVENT_FROZEN = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "reason", "type",
    "eventTime", "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip


def event_v1_update(new: Object, old: Object) -> Errors:
    errors = [_renamed(cause) for cause in event(new)]
    for field in _EVENT_FROZEN:
        shown = "reportingController" if field == "reportingComponent" else field
        checks.immutable(errors, shown, new.get(field), old.get(field))
    return errors


def event_update(new: Object, old: Object) -> Errors:
    del old
    return event(new)

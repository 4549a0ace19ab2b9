"""Checks of DeviceClass, ResourceClaim and ResourceClaimTemplate (upstream's pkg/apis/resource/validation).

Whether a namespace may have admin access, and whether a user may allocate, is admission's (`admission/devices.py`).
"""

from __future__ import annotations

from functools import partial

from atoll.cluster.apiserver.behaviour import checks, device_forms
from atoll.cluster.apiserver.behaviour import device_fields as fields
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_supported, required

REQUESTS, _CONSTRAINTS, _ALTERNATIVES = 32, 32, 8
_ONE_FORM = "exactly one of `exactly` or `firstAvailable` is required"
_ONE_ATTRIBUTE = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"

RequestNames = dict[str, frozenset[str]]


def device_class(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    fields.selectors(errors, "spec.selectors", spec.get("selectors"))
    fields.every(errors, "spec.config", spec.get("config"), fields.CONFIGS, fields.opaque)
    extended = spec.get("extendedResourceName")
    if extended is not None and not checks.is_extended(extended):
        errors.append(bad_value("spec.extendedResourceName", extended, "must be a valid extended resource name"))
    return errors


def resource_claim(obj: Object) -> Errors:
    errors: Errors = []
    _device_claim(errors, "spec.devices", (obj.get("spec") or {}).get("devices") or {})
    return errors


def resource_claim_update(new: Object, old: Object) -> Errors:
    """The spec never changes, so it is not looked at again."""
    spec = new.get("spec") or {}
    if spec == (old.get("spec") or {}):
        return []
    return [bad_value("spec", device_forms.claim_spec(spec), checks.IMMUTABLE)]


def template(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    metadata = spec.get("metadata") or {}
    checks.annotation_keys(errors, "spec.metadata.annotations", metadata.get("annotations"))
    checks.labels(errors, "spec.metadata.labels", metadata.get("labels"))
    _device_claim(errors, "spec.spec.devices", (spec.get("spec") or {}).get("devices") or {})
    return errors


def template_update(new: Object, old: Object) -> Errors:
    errors = template(new)
    spec = new.get("spec") or {}
    if spec != (old.get("spec") or {}):
        errors.append(bad_value("spec", device_forms.template_spec(spec), checks.IMMUTABLE))
    return errors


def request_names(spec: Object) -> RequestNames:
    """The requests of a claim's spec, each with its alternatives."""
    requests = (spec.get("devices") or {}).get("requests") or ()
    return {
        fields.name_of(request): frozenset(fields.name_of(item) for item in request.get("firstAvailable") or ())
        for request in requests
    }


def reference(known: RequestNames, errors: Errors, path: str, name: str) -> None:
    """A request named by a constraint, a configuration or an allocation."""
    parts = name.split("/")
    if len(parts) > 2:
        errors.append(bad_value(path, name, _REFERENCE))
        return
    for part in parts:
        fields.label(errors, path, part)
    if parts[0] not in known or (len(parts) == 2 and parts[1] not in known[parts[0]]):
        errors.append(bad_value(path, name, _REFERENCE))


def _device_claim(errors: Errors, path: str, claim: Object) -> None:
    known = request_names({"devices": claim})
    fields.unique(errors, f"{path}.requests", claim.get("requests"), REQUESTS, _request, fields.name_of)
    fields.every(errors, f"{path}.constraints", claim.get("constraints"), _CONSTRAINTS, partial(_constraint, known))
    fields.every(errors, f"{path}.config", claim.get("config"), fields.CONFIGS, partial(_configuration, known))


def _request(errors: Errors, path: str, request: Object) -> None:
    fields.label(errors, f"{path}.name", fields.name_of(request))
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable")
    if exactly is None and not alternatives:
        errors.append(required(path, _ONE_FORM))
    elif exactly is not None and alternatives:
        errors.append(bad_value(path, None, f"{_ONE_FORM}, but multiple fields are set"))
    elif exactly is not None:
        _devices(errors, f"{path}.exactly", exactly)
    else:
        at = f"{path}.firstAvailable"
        fields.unique(errors, at, alternatives, _ALTERNATIVES, _alternative, fields.name_of)


def _alternative(errors: Errors, path: str, request: Object) -> None:
    fields.label(errors, f"{path}.name", fields.name_of(request))
    _devices(errors, path, request)


def _devices(errors: Errors, path: str, request: Object) -> None:
    fields.class_name(errors, f"{path}.deviceClassName", request.get("deviceClassName") or "")
    fields.selectors(errors, f"{path}.selectors", request.get("selectors"))
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            errors.append(bad_value(f"{path}.count", count, "must not be specified when allocationMode is 'All'"))
    elif mode == "ExactCount":
        checks.positive(errors, f"{path}.count", count)
    else:
        errors.append(not_supported(f"{path}.allocationMode", mode, ("All", "ExactCount")))
    fields.every(errors, f"{path}.tolerations", request.get("tolerations"), None, fields.toleration)


def _constraint(known: RequestNames, errors: Errors, path: str, constraint: Object) -> None:
    named = constraint.get("requests")
    fields.unique(errors, f"{path}.requests", named, REQUESTS, partial(reference, known))
    for field in ("matchAttribute", "distinctAttribute"):
        if constraint.get(field) is not None:
            fields.fully_qualified_name(errors, f"{path}.{field}", constraint[field])
            return
    errors.append(required(path, _ONE_ATTRIBUTE))


def _configuration(known: RequestNames, errors: Errors, path: str, config: Object) -> None:
    fields.unique(errors, f"{path}.requests", config.get("requests"), REQUESTS, partial(reference, known))
    fields.opaque(errors, path, config)

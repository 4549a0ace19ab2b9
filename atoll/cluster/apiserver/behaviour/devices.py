"""Checks of resource.k8s.io/v1 (upstream's pkg/apis/resource/validation)."""

from __future__ import annotations

from typing import Any

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, duplicate, required


def resource_claim(obj: Object) -> Errors:
    errors: Errors = []
    devices(errors, "spec.devices", (obj.get("spec") or {}).get("devices") or {})
    return errors


def devices(errors: Errors, path: str, claim: Object) -> None:
    seen: set[str] = set()
    for index, request in enumerate(claim.get("requests") or ()):
        at, name = f"{path}.requests[{index}]", request.get("name", "")
        if not name:
            errors.append(required(f"{at}.name"))
        else:
            checks.named(errors, f"{at}.name", name, names.dns_label)
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        exactly, first = request.get("exactly"), request.get("firstAvailable")
        if (exactly is None) == (not first):
            why = "exactly one of `exactly` or `firstAvailable` is required"
            errors.append(required(at, why) if exactly is None else bad_value(at, None, why))
        elif exactly is not None and not exactly.get("deviceClassName"):
            errors.append(required(f"{at}.exactly.deviceClassName"))


def resource_claim_update(new: Object, old: Object) -> Errors:
    errors = resource_claim(new)
    if new.get("spec") != old.get("spec"):
        errors.append(bad_value("spec", _internal(new.get("spec") or {}), checks.IMMUTABLE))
    return errors


_REQUEST = ("DeviceClassName", "Selectors", "AllocationMode", "Count", "AdminAccess", "Tolerations", "Capacity")


def _internal(spec: Object) -> Object:
    """A claim's spec as Go prints its internal type."""
    claim = spec.get("devices") or {}

    def exact(request: Object | None) -> Object | None:
        if request is None:
            return None
        zeros: dict[str, Any] = {"DeviceClassName": "", "AllocationMode": "", "Count": 0}
        return {name: request.get(name[0].lower() + name[1:], zeros.get(name)) for name in _REQUEST}

    requests = [
        {
            "Name": item.get("name", ""),
            "Exactly": exact(item.get("exactly")),
            "FirstAvailable": item.get("firstAvailable"),
        }
        for item in claim.get("requests") or ()
    ]
    return {
        "Devices": {
            "Requests": requests or None,
            "Constraints": claim.get("constraints"),
            "Config": claim.get("config"),
        }
    }


def resource_slice(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    driver, pool = spec.get("driver", ""), spec.get("pool") or {}
    if not driver:
        errors.append(required("spec.driver"))
    else:
        checks.named(errors, "spec.driver", driver, names.dns_subdomain)
    if not pool.get("name"):
        errors.append(required("spec.pool.name"))
    count = pool.get("resourceSliceCount", 0)
    if count <= 0:
        errors.append(bad_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    checks.nonnegative(errors, "spec.pool.generation", pool.get("generation"))
    places = [field for field in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(field)]
    if not places:
        why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        errors.append(required("spec", why))
    for index, device in enumerate(spec.get("devices") or ()):
        checks.named(errors, f"spec.devices[{index}].name", device.get("name", ""), names.dns_label)
    return errors

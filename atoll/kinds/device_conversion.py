"""Conversion of resource.k8s.io's kinds between v1 and its betas (upstream's pkg/apis/resource/v1beta1/conversion.go).

v1beta2 has v1's form. v1beta1 has what a request asks beside its name, where v1 has it under `exactly`; and a device's
fields under `basic`. `convert` gives a new object that shares what is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.kinds.devices import GROUP

Object = dict[str, Any]
_ASKED = ("deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity")
_OLD = f"{GROUP}/v1beta1"


def convert(obj: Object, api_version: str) -> Object:
    """To another version of the group."""
    made = {**obj, "apiVersion": api_version}
    old = obj.get("apiVersion") == _OLD
    if old == (api_version == _OLD) or not isinstance(spec := obj.get("spec"), dict):
        return made
    kind = obj.get("kind")
    if kind == "ResourceSlice":
        made["spec"] = _each(spec, "devices", _device_from_old if old else _device_to_old)
        if old and not made["spec"].get("nodeName"):
            made["spec"].pop("nodeName", None)
    elif kind == "ResourceClaim":
        made["spec"] = _claim(spec, old)
    elif kind == "ResourceClaimTemplate" and isinstance(spec.get("spec"), dict):
        made["spec"] = {**spec, "spec": _claim(spec["spec"], old)}
    return made


def _claim(spec: Object, old: bool) -> Object:
    devices = spec.get("devices")
    if not isinstance(devices, dict):
        return spec
    return {**spec, "devices": _each(devices, "requests", _request_from_old if old else _request_to_old)}


def _each(holder: Object, field: str, change: Callable[[Object], Object]) -> Object:
    found = holder.get(field)
    if not isinstance(found, list):
        return dict(holder)
    return {**holder, field: [change(item) if isinstance(item, dict) else item for item in found]}


def _request_from_old(request: Object) -> Object:
    asked = {field: request[field] for field in _ASKED if _is_set(request.get(field))}
    rest = {field: value for field, value in request.items() if field not in _ASKED}
    if not asked:
        return rest
    if not asked.get("deviceClassName"):
        asked = {"deviceClassName": "", "allocationMode": "", **asked}  # v1beta1 has no default for the mode then
    return {**rest, "exactly": asked}


def _request_to_old(request: Object) -> Object:
    rest = {field: value for field, value in request.items() if field != "exactly"}
    asked = {field: value for field, value in (request.get("exactly") or {}).items() if _is_set(value)}
    return {**rest, "deviceClassName": "", **asked}


def _is_set(value: Any) -> bool:
    """Not Go's zero value; of a flag that may be absent False says something."""
    return value is not None and value != "" and (value is False or value != 0)


def _device_from_old(device: Object) -> Object:
    rest = {field: value for field, value in device.items() if field != "basic"}
    return {**rest, **(device.get("basic") or {})}


def _device_to_old(device: Object) -> Object:
    basic = {field: value for field, value in device.items() if field != "name"}
    return {"name": device.get("name", ""), "basic": basic}

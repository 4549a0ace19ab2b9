"""The status of a ResourceClaim: who allocates, for whom, and what drivers say of their devices."""

from __future__ import annotations

import ipaddress
import re
from functools import partial

from atoll.cluster.apiserver.behaviour import checks, device_forms, podspec, strategy
from atoll.cluster.apiserver.behaviour import device_fields as fields
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.device_claims import REQUESTS, RequestNames, reference, request_names
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required, too_long, too_many

_RESULTS, _USERS, _CONDITIONS, _DATA = 32, 256, 8, 10 * 1024
_INTERFACE, _HARDWARE, _ADDRESSES = 256, 128, 16
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_UID_FORM = (
    "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal"
    " characters"
)

DeviceKey = tuple[str, str, str, str]


def prepare_status(new: Object, old: Object) -> None:
    """What drivers said of devices that are not allocated any more goes with the allocation."""
    strategy.status_and_no_metadata(new, old)
    status = new.get("status") or {}
    gone = _allocated(old.get("status") or {}) - _allocated(status)
    devices = status.get("devices")
    if devices:
        kept = [device for device in devices if _key(device) not in gone]
        if kept:
            status["devices"] = kept
        else:
            del status["devices"]


def resource_claim_status(new: Object, old: Object) -> Errors:
    errors: Errors = []
    status, before = new.get("status") or {}, old.get("status") or {}
    users, allocation = status.get("reservedFor"), status.get("allocation")
    fields.unique(errors, "status.reservedFor", users, _USERS, _user, lambda user: user.get("uid") or "")
    allocated = _allocated(status)
    at = "status.devices"
    fields.unique(errors, at, status.get("devices"), None, partial(_device, allocated), _key)
    if users:
        if allocation is None:
            errors.append(not_allowed("status.reservedFor", "may not be specified when `allocated` is not set"))
        elif "deletionTimestamp" in new["metadata"]:
            known = before.get("reservedFor") or ()
            if any(user not in known for user in users):
                why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
                errors.append(not_allowed("status.reservedFor", why))
    if allocation is not None:
        if before.get("allocation") is None:
            _allocation(errors, "status.allocation", allocation, request_names(new.get("spec") or {}))
        elif allocation != before["allocation"]:
            printed = device_forms.allocation(allocation)
            errors.append(bad_value("status.allocation", printed, checks.IMMUTABLE))
    return errors


def _key(device: Object) -> DeviceKey:
    return (
        device.get("driver") or "",
        device.get("pool") or "",
        device.get("device") or "",
        device.get("shareID") or "",
    )


def _allocated(status: Object) -> frozenset[DeviceKey]:
    allocation = status.get("allocation") or {}
    return frozenset(_key(result) for result in (allocation.get("devices") or {}).get("results") or ())


def _user(errors: Errors, path: str, user: Object) -> None:
    for field in ("resource", "name", "uid"):
        if not user.get(field):
            errors.append(required(f"{path}.{field}"))


def _allocation(errors: Errors, path: str, allocation: Object, known: RequestNames) -> None:
    devices = allocation.get("devices") or {}
    fields.every(errors, f"{path}.devices.results", devices.get("results"), _RESULTS, partial(_result, known))
    configs = devices.get("config")
    fields.every(errors, f"{path}.devices.config", configs, 2 * fields.CONFIGS, partial(_configuration, known))
    if allocation.get("nodeSelector") is not None:
        podspec.node_selector(errors, f"{path}.nodeSelector", allocation["nodeSelector"])


def _result(known: RequestNames, errors: Errors, path: str, result: Object) -> None:
    reference(known, errors, f"{path}.request", result.get("request") or "")
    fields.driver(errors, f"{path}.driver", result.get("driver") or "")
    fields.pool_name(errors, f"{path}.pool", result.get("pool") or "")
    fields.label(errors, f"{path}.device", result.get("device") or "")
    fields.binding_conditions(errors, path, result)
    if result.get("shareID") is not None:
        _uid(errors, f"{path}.shareID", result["shareID"])


def _uid(errors: Errors, path: str, uid: str) -> None:
    if not _UUID.match(uid):
        errors.append(bad_value(path, uid, _UID_FORM))


def _configuration(known: RequestNames, errors: Errors, path: str, config: Object) -> None:
    source = config.get("source") or ""
    if not source:
        errors.append(required(f"{path}.source"))
    elif source not in ("FromClaim", "FromClass"):
        errors.append(not_supported(f"{path}.source", source, ("FromClaim", "FromClass")))
    fields.unique(errors, f"{path}.requests", config.get("requests"), REQUESTS, partial(reference, known))
    fields.opaque(errors, path, config)


def _device(allocated: frozenset[DeviceKey], errors: Errors, path: str, device: Object) -> None:
    fields.driver(errors, f"{path}.driver", device.get("driver") or "")
    fields.pool_name(errors, f"{path}.pool", device.get("pool") or "")
    fields.label(errors, f"{path}.device", device.get("device") or "")
    if device.get("shareID") is not None:
        _uid(errors, f"{path}.shareID", device["shareID"])
    if _key(device) not in allocated:
        why = "must be an allocated device in the claim"
        errors.append(bad_value(path, device_forms.device_id(device), why))
    conditions = device.get("conditions") or ()
    if len(conditions) > _CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(conditions), _CONDITIONS))
    if device.get("data"):
        fields.raw(errors, f"{path}.data", device["data"], _DATA)
    if device.get("networkData") is not None:
        _network(errors, f"{path}.networkData", device["networkData"])


def _network(errors: Errors, path: str, data: Object) -> None:
    for field, most in (("interfaceName", _INTERFACE), ("hardwareAddress", _HARDWARE)):
        if len((data.get(field) or "").encode()) > most:
            errors.append(too_long(f"{path}.{field}", most))
    fields.unique(errors, f"{path}.ips", data.get("ips"), _ADDRESSES, _address)


def _address(errors: Errors, path: str, text: str) -> None:
    try:
        if "/" not in text:
            raise ValueError
        ipaddress.ip_interface(text)
    except ValueError:
        why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        errors.append(bad_value(path, text, why))

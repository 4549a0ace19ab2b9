"""Checks of ResourceSlice (upstream's pkg/apis/resource/validation): devices as a driver publishes them."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks, device_forms, podspec
from atoll.cluster.apiserver.behaviour import device_fields as fields
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, required, too_long, too_many

_DEVICES, _DEVICES_ADVANCED, _ENTRIES, _VALUES = 128, 64, 32, 48
_COUNTER_SETS, _COUNTERS, _CONSUMPTIONS, _OPTIONS = 8, 32, 2, 10
_TEXT = 64
_KEY_SHOWN = 63 + 1 + 32
_NUMBER, _PRE, _BUILD = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", "[0-9a-zA-Z-]+"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?\Z", re.ASCII)
_ONE_PLACE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_OWN_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true"
    " in the ResourceSlice spec"
)
_NO_OWN_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the"
    " ResourceSlice spec"
)
_UNSET_OR_TRUE = "must be either unset or set to true"
_LISTS = ("ints", "bools", "strings", "versions")


def drop_disabled(obj: Object) -> None:
    """Fields of features that are off by default in 1.36: attributes that are lists, mappings to node resources."""
    for device in (obj.get("spec") or {}).get("devices") or ():
        device.pop("nodeAllocatableResourceMappings", None)
        for attribute in (device.get("attributes") or {}).values():
            for field in _LISTS:
                attribute.pop(field, None)


def resource_slice(obj: Object) -> Errors:
    errors: Errors = []
    _spec(errors, "spec", obj.get("spec") or {}, None)
    return errors


def resource_slice_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    _spec(errors, "spec", new.get("spec") or {}, old.get("spec") or {})
    return errors


def uppercase_warning(new: Object, _: Object | None) -> list[str]:
    name = (new.get("spec") or {}).get("driver") or ""
    if name == name.lower():
        return []
    return [f'spec.driver: driver names should be lowercase; "{name}" contains uppercase characters']


def selectable(obj: Object) -> dict[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver") or ""}


def _spec(errors: Errors, path: str, spec: Object, old: Object | None) -> None:
    fields.driver(errors, f"{path}.driver", spec.get("driver") or "")
    pool = spec.get("pool") or {}
    _pool(errors, f"{path}.pool", pool)
    if old is not None:
        checks.immutable(errors, f"{path}.pool.name", pool.get("name"), (old.get("pool") or {}).get("name"))
        checks.immutable(errors, f"{path}.driver", spec.get("driver"), old.get("driver"))
        checks.immutable(errors, f"{path}.nodeName", spec.get("nodeName"), old.get("nodeName"))
    _places(errors, path, spec)
    counters, devices = spec.get("sharedCounters"), spec.get("devices")
    if counters is not None and devices is not None:
        errors.append(bad_value(path, "", "only one of `sharedCounters` or `devices` is allowed"))
    most = _DEVICES_ADVANCED if any(_advanced(device) for device in devices or ()) else _DEVICES
    before = {fields.name_of(device): device for device in (old or {}).get("devices") or ()}
    check = partial(_device, before, spec.get("perDeviceNodeSelection") is True)
    fields.unique(errors, f"{path}.devices", devices, most, check, fields.name_of)
    at = f"{path}.sharedCounters"
    fields.unique(errors, at, counters, _COUNTER_SETS, _counter_set, fields.name_of)


def _advanced(device: Object) -> bool:
    return bool(device.get("taints") or device.get("consumesCounters"))


def _pool(errors: Errors, path: str, pool: Object) -> None:
    fields.pool_name(errors, f"{path}.name", pool.get("name") or "")
    checks.positive(errors, f"{path}.resourceSliceCount", pool.get("resourceSliceCount") or 0)
    generation = pool.get("generation") or 0
    if generation < 0:
        errors.append(bad_value(f"{path}.generation", generation, "must be greater than or equal to zero"))


def _places(errors: Errors, path: str, spec: Object) -> None:
    given = []
    if spec.get("nodeName") is not None:
        if spec["nodeName"]:
            given.append("`nodeName`")
            checks.named(errors, f"{path}.nodeName", spec["nodeName"], names.dns_subdomain)
        else:
            why = "must be either unset or set to a non-empty string"
            errors.append(bad_value(f"{path}.nodeName", "", why))
    if spec.get("nodeSelector") is not None:
        given.append("`nodeSelector`")
        podspec.node_selector(errors, f"{path}.nodeSelector", spec["nodeSelector"])
        terms = spec["nodeSelector"].get("nodeSelectorTerms") or []
        if len(terms) != 1:
            why = "must have exactly one node selector term"
            errors.append(bad_value(f"{path}.nodeSelector.nodeSelectorTerms", terms, why))
    for field in ("allNodes", "perDeviceNodeSelection"):
        _flag(errors, path, spec, field, given)
    if not given:
        errors.append(required(path, _ONE_PLACE))
    elif len(given) > 1:
        listed = f"{{{', '.join(given)}}}"
        errors.append(bad_value(path, listed, f"{_ONE_PLACE}, but multiple fields are set"))


def _flag(errors: Errors, path: str, holder: Object, field: str, given: list[str]) -> None:
    if holder.get(field):
        given.append(f"`{field}`")
    elif holder.get(field) is False:
        errors.append(bad_value(f"{path}.{field}", False, _UNSET_OR_TRUE))


def _device(before: dict[str, Object], own_places: bool, errors: Errors, path: str, device: Object) -> None:
    fields.label(errors, f"{path}.name", fields.name_of(device))
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    entries = len(attributes) + len(capacity)
    if entries > _ENTRIES:
        why = f"the total number of attributes and capacities must not exceed {_ENTRIES}"
        errors.append(bad_value(path, entries, why))
    if len(attributes) > _VALUES:
        why = f"the total number of attribute values must not exceed {_VALUES}"
        errors.append(bad_value(path, len(attributes), why))
    for name, attribute in attributes.items():
        fields.qualified_name(errors, f"{path}.attributes", name)
        _attribute(errors, f"{path}.attributes[{_shown(name)}]", attribute)
    for name, amount in capacity.items():
        fields.qualified_name(errors, f"{path}.capacity", name)
        at = f"{path}.capacity[{_shown(name)}].requestPolicy"
        if amount.get("requestPolicy") is not None:
            if device.get("allowMultipleAllocations"):
                _policy(errors, at, amount["value"], amount["requestPolicy"])
            else:
                errors.append(not_allowed(at, "allowMultipleAllocations must be true"))
    old = before.get(fields.name_of(device))
    if old is None or old.get("taints") != device.get("taints"):
        fields.every(errors, f"{path}.taints", device.get("taints"), fields.TAINTS, fields.taint)
    consumed = device.get("consumesCounters")
    at = f"{path}.consumesCounters"
    fields.unique(errors, at, consumed, _CONSUMPTIONS, _consumption, lambda item: item.get("counterSet") or "")
    _own_place(errors, path, device, own_places)
    fields.binding_conditions(errors, path, device)


def _shown(key: str) -> str:
    """A key in a path, its middle left out where it is too long."""
    if len(key) <= _KEY_SHOWN:
        return key
    rest = _KEY_SHOWN - 3
    return key[: (rest + 1) // 2] + "..." + key[-(rest // 2) :]


def _attribute(errors: Errors, path: str, attribute: Object) -> None:
    text, version = attribute.get("string"), attribute.get("version")
    if text is not None and len(text.encode()) > _TEXT:
        errors.append(too_long(f"{path}.string", _TEXT))
    if version is not None:
        if not _SEMVER.match(version):
            errors.append(
                bad_value(f"{path}.version", version, "must be a string compatible with semver.org spec 2.0.0")
            )
        if len(version.encode()) > _TEXT:
            errors.append(too_long(f"{path}.version", _TEXT))
    given = [field for field in ("int", "bool", "string", "version") if attribute.get(field) is not None]
    if len(given) != 1:
        shown: Any = device_forms.attribute(attribute) if given else ""
        errors.append(bad_value(path, shown, "exactly one value must be specified"))


def _own_place(errors: Errors, path: str, device: Object, own_places: bool) -> None:
    if not own_places:
        if any(device.get(field) is not None for field in ("nodeName", "nodeSelector", "allNodes")):
            errors.append(bad_value(path, None, _NO_OWN_PLACE))
        return
    given = []
    if device.get("nodeName") is not None:
        if device["nodeName"]:
            given.append("`nodeName`")
            checks.named(errors, f"{path}.nodeName", device["nodeName"], names.dns_subdomain)
        else:
            errors.append(bad_value(f"{path}.nodeName", "", "must not be empty"))
    if device.get("nodeSelector") is not None:
        given.append("`nodeSelector`")
        podspec.node_selector(errors, f"{path}.nodeSelector", device["nodeSelector"])
    _flag(errors, path, device, "allNodes", given)
    if not given:
        errors.append(required(path, _ONE_OWN_PLACE))
    elif len(given) > 1:
        errors.append(bad_value(path, f"{{{', '.join(given)}}}", _ONE_OWN_PLACE))


def _counter_set(errors: Errors, path: str, found: Object) -> None:
    fields.needed_label(errors, f"{path}.name", fields.name_of(found))
    _counters(errors, f"{path}.counters", found.get("counters"))


def _consumption(errors: Errors, path: str, found: Object) -> None:
    fields.needed_label(errors, f"{path}.counterSet", found.get("counterSet") or "")
    _counters(errors, f"{path}.counters", found.get("counters"))


def _counters(errors: Errors, path: str, counters: Object | None) -> None:
    if not counters:
        errors.append(required(path))
    elif len(counters) > _COUNTERS:
        errors.append(too_many(path, len(counters), _COUNTERS))
    else:
        for name in counters:
            fields.label(errors, path, name)


# Capacity that several claims share


def _policy(errors: Errors, path: str, most: str, policy: Object) -> None:
    values, limits, default = policy.get("validValues"), policy.get("validRange"), policy.get("default")
    if values and limits is not None:
        why = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        errors.append(not_allowed(path, why))
    elif values:
        if default is None:
            errors.append(required(f"{path}.default", "required when validValues is defined"))
        else:
            _values(errors, f"{path}.validValues", default, most, values)
    elif limits is not None:
        if default is None:
            errors.append(required(f"{path}.default", "required when validRange is defined"))
        else:
            _range(errors, f"{path}.validRange", default, most, limits)


def _values(errors: Errors, path: str, default: str, most: str, values: list[str]) -> None:
    amounts = [quantity.parse(value) for value in values]
    for index in range(1, len(amounts)):
        if amounts[index - 1] > amounts[index]:
            errors.append(bad_value(f"{path}[{index}]", values[index], "values must be sorted in ascending order"))
    if len(values) > _OPTIONS:
        errors.append(too_many(path, len(values), _OPTIONS))
        return
    for index, amount in enumerate(amounts):
        if amount > quantity.parse(most):
            why = f"option is larger than capacity value: {most}"
            errors.append(bad_value(f"{path}[{index}]", values[index], why))
    for index, amount in enumerate(amounts):
        if amount in amounts[:index]:
            errors.append(duplicate(f"{path}[{index}]", str(quantity.units(values[index]))))
    if quantity.parse(default) not in amounts:
        errors.append(bad_value(path, default, "default value is not valid according to the requestPolicy"))


def _range(errors: Errors, path: str, default: str, most: str, limits: Object) -> None:
    low, high, step = limits.get("min"), limits.get("max"), limits.get("step")
    if low is None:
        errors.append(required(f"{path}.min", "required when validRange is defined"))
        return

    def refuse_above(field: str, shown: str, limit: str, why: str) -> None:
        if quantity.parse(shown) > quantity.parse(limit):
            errors.append(bad_value(f"{path}.{field}", shown, f"{why}: {limit}"))

    refuse_above("min", low, most, "min is larger than capacity value")
    if quantity.parse(default) < quantity.parse(low):
        errors.append(bad_value(f"{path}.min", default, f"default is less than min: {low}"))
    if high is not None:
        refuse_above("max", low, high, "min is larger than max")
        refuse_above("max", high, most, "max is larger than capacity value")
        refuse_above("max", default, high, "default is more than max")
    if step is not None:
        total = quantity.parse(low) + quantity.parse(step)
        if total > quantity.parse(most):
            why = f"one step {quantity.from_nano(total)} is larger than capacity value: {most}"
            errors.append(bad_value(f"{path}.step", step, why))
        for value in (default, *(() if high is None else (high,))):
            if (quantity.units(value) - quantity.units(low)) % quantity.units(step):
                why = f"value is not a multiple of a given step ({step}) from ({low})"
                errors.append(bad_value(f"{path}.step", value, why))

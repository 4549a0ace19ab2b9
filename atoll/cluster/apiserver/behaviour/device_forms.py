"""How Go prints the values of resource.k8s.io when a change of them is refused: its internal types, nulls included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atoll.cluster.apiserver.problems import GoStruct

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Field:
    """`form`: of a struct or of a list's items; `empty`: Go's zero value."""

    go: str
    json: str
    empty: Any = None
    form: tuple[_Field, ...] = ()


def _fields(*texts: str) -> tuple[_Field, ...]:
    return tuple(_Field(text[0].upper() + text[1:], text, "") for text in texts)


_SELECTOR = (_Field("CEL", "cel", None, _fields("expression")),)
_TOLERATION = (*_fields("key", "operator", "value", "effect"), _Field("TolerationSeconds", "tolerationSeconds"))
_OPAQUE = (_Field("Opaque", "opaque", None, (*_fields("driver"), _Field("Parameters", "parameters"))),)
_ASKED = (
    _Field("DeviceClassName", "deviceClassName", ""),
    _Field("Selectors", "selectors", None, _SELECTOR),
    _Field("AllocationMode", "allocationMode", ""),
    _Field("Count", "count", 0),
)
_REST = (
    _Field("Tolerations", "tolerations", None, _TOLERATION),
    _Field("Capacity", "capacity", None, (_Field("Requests", "requests"),)),
)
_REQUEST = (
    _Field("Name", "name", ""),
    _Field("Exactly", "exactly", None, (*_ASKED, _Field("AdminAccess", "adminAccess"), *_REST)),
    _Field("FirstAvailable", "firstAvailable", None, (_Field("Name", "name", ""), *_ASKED, *_REST)),
)
_CONSTRAINT = (
    _Field("Requests", "requests"),
    _Field("MatchAttribute", "matchAttribute"),
    _Field("DistinctAttribute", "distinctAttribute"),
)
_CLAIM = (
    _Field("Requests", "requests", None, _REQUEST),
    _Field("Constraints", "constraints", None, _CONSTRAINT),
    _Field("Config", "config", None, (_Field("Requests", "requests"), *_OPAQUE)),
)
_RESULT = (
    *_fields("request", "driver", "pool", "device"),
    _Field("AdminAccess", "adminAccess"),
    _Field("Tolerations", "tolerations", None, _TOLERATION),
    _Field("BindingConditions", "bindingConditions"),
    _Field("BindingFailureConditions", "bindingFailureConditions"),
    _Field("ShareID", "shareID"),
    _Field("ConsumedCapacity", "consumedCapacity"),
)
_REQUIREMENT = (*_fields("key", "operator"), _Field("Values", "values"))
_TERM = (
    _Field("MatchExpressions", "matchExpressions", None, _REQUIREMENT),
    _Field("MatchFields", "matchFields", None, _REQUIREMENT),
)
_ALLOCATION = (
    _Field(
        "Devices",
        "devices",
        {},
        (
            _Field("Results", "results", None, _RESULT),
            _Field("Config", "config", None, (*_fields("source"), _Field("Requests", "requests"), *_OPAQUE)),
        ),
    ),
    _Field("NodeSelector", "nodeSelector", None, (_Field("NodeSelectorTerms", "nodeSelectorTerms", None, _TERM),)),
    _Field("AllocationTimestamp", "allocationTimestamp"),
)
_ATTRIBUTE = tuple(
    _Field(f"{name}Value{plural}", f"{name.lower()}{plural}")
    for plural in ("", "s")
    for name in ("Int", "Bool", "String", "Version")
)


def _printed(value: Any, form: tuple[_Field, ...]) -> Any:
    if value is None or not form:
        return value
    if isinstance(value, list):
        return [_printed(item, form) for item in value]
    return GoStruct(
        {
            field.go: _printed(value.get(field.json) or field.empty, field.form)
            if field.form
            else value.get(field.json, field.empty)
            for field in form
        }
    )


def claim_spec(spec: Object) -> Object:
    return {"Devices": _printed(spec.get("devices") or {}, _CLAIM)}


def template_spec(spec: Object) -> Object:
    """Metadata is printed by its JSON names, and only where there is any."""
    metadata = {"metadata": spec["metadata"]} if spec.get("metadata") else {}
    return {**metadata, "Spec": claim_spec(spec.get("spec") or {})}


def allocation(found: Object) -> Object:
    printed: Object = _printed(found, _ALLOCATION)
    return printed


def attribute(found: Object) -> Object:
    printed: Object = _printed(found, _ATTRIBUTE)
    return printed


def device_id(device: Object) -> Object:
    form = (("Driver", "driver"), ("Pool", "pool"), ("Device", "device"), ("ShareID", "shareID"))
    return GoStruct({go: device.get(json) or "" for go, json in form})

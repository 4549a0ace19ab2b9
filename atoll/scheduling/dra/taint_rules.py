"""DeviceTaintRules (KEP-5055): taints that an administrator puts on devices, beside those that drivers publish.

A rule selects by driver, pool and device, each of them optional; one without a selector selects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atoll.objects.resource_claims import DeviceId

Object = dict[str, Any]


def selects(rule: Object, device: DeviceId) -> bool:
    """Whether a rule's taint is on a device."""
    selector = (rule.get("spec") or {}).get("deviceSelector")
    if selector is None:
        return False
    fields = zip(("driver", "pool", "device"), device, strict=True)
    return all(selector.get(field) in (None, value) for field, value in fields)


def may_select(rule: Object, pool: tuple[str, str]) -> bool:
    """Whether a rule can select any device of a pool (driver, name)."""
    selector = (rule.get("spec") or {}).get("deviceSelector")
    if selector is None:
        return False
    return all(selector.get(field) in (None, value) for field, value in zip(("driver", "pool"), pool, strict=True))


def taints_by(rules: Iterable[Object], device: DeviceId) -> list[Object]:
    """Those that rules put on a device, in the order of the rules."""
    return [rule["spec"]["taint"] for rule in rules if selects(rule, device)]

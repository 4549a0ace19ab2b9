"""What a pod asks for and what a node has, in integers: milli-CPU, bytes, and counts.

Requests follow k8s.io/component-helpers/resource: containers are summed, restartable init containers (sidecars)
added, ordinary init containers a lower bound, pod-level requests override, overhead is on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll.base import quantity

Object = dict[str, Any]
Amounts = dict[str, int]

CPU, MEMORY, STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"
DEFAULT_NONZERO: Mapping[str, int] = {CPU: 100, MEMORY: 200 * 1024 * 1024}
MOST = 1 << 55
"""More of anything is taken for this: arrays hold 64 bits, and a score is a hundred times an amount."""
_POD_LEVEL = (CPU, MEMORY)


def amount(resource: str, value: str | int | float) -> int:
    """Milli-units of CPU, whole units of anything else, rounded up, 0 to MOST. A malformed quantity is zero."""
    try:
        return max(0, min(MOST, quantity.milli(value) if resource == CPU else quantity.units(value)))
    except ValueError:
        return 0


def amounts(resource_list: Mapping[str, Any] | None) -> Amounts:
    return {name: amount(name, value) for name, value in (resource_list or {}).items()}


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise_to(total: Amounts, least: Mapping[str, int]) -> None:
    for name, value in least.items():
        if value > total.get(name, 0):
            total[name] = value


def _container(container: Object, missing: Mapping[str, int]) -> Amounts:
    found = amounts((container.get("resources") or {}).get("requests"))
    for name, value in missing.items():
        found.setdefault(name, value)
    return found


def pod_requests(spec: Object, missing: Mapping[str, int] | None = None) -> Amounts:
    """The pod's effective requests; `missing` are defaults for containers that ask for none (scoring)."""
    defaults = missing or {}
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _container(container, defaults))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _container(container, defaults)
        if container.get("restartPolicy") == "Always":
            _add(total, asked)
            _add(sidecars, asked)
            asked = dict(sidecars)
        else:
            _add(asked, sidecars)
        _raise_to(peak, asked)
    _raise_to(total, peak)
    for name, value in ((spec.get("resources") or {}).get("requests") or {}).items():
        if name in _POD_LEVEL or name.startswith("hugepages-"):
            total[name] = amount(name, value)
    if spec.get("overhead"):
        _add(total, amounts(spec["overhead"]))
    return {name: min(MOST, value) for name, value in total.items()}


def shown(found: Mapping[str, int]) -> str:
    """For people: `2 cpu, 4Gi memory, 8 nvidia.com/gpu`."""
    return ", ".join(f"{_shown(name, value)} {name}" for name, value in found.items() if value)


def _shown(name: str, value: int) -> str:
    if name == CPU:
        return f"{value // 1000}" if value % 1000 == 0 else f"{value}m"
    if name in (MEMORY, STORAGE) or name.startswith("hugepages-"):
        for shift, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
            if value % (1 << shift) == 0:
                return f"{value >> shift}{unit}"
    return str(value)

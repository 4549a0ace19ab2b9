"""A pod's resources as a whole: pure. Sums of its containers', or what `spec.resources` says for the pod itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atoll.base import quantity

Object = dict[str, Any]


def add_up(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Sums by name, in units of a billionth."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, text in part.items():
            sums[name] = sums.get(name, 0) + quantity.parse(text)
    return {name: f"{value}n" for name, value in sums.items()}


def pod_totals(spec: Object, containers: Iterable[Object]) -> Object:
    """{requests, limits}; a limit only where each container has it."""
    resources = [container.get("resources") or {} for container in containers]
    most = add_up(item.get("limits") or {} for item in resources)
    limits = {
        name: text for name, text in most.items() if all(name in (item.get("limits") or {}) for item in resources)
    }
    out = {"requests": add_up(item.get("requests") or {} for item in resources), "limits": limits}
    own = spec.get("resources") or {}
    for key in ("requests", "limits"):
        out[key] = {**out[key], **(own.get(key) or {})}
    return out

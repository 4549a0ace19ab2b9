"""Parts of a device's capacity (KEP-5075): what a request consumes of each, and whether that is left.

A device that is not shared is taken whole, but what is asked of its capacity must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.base import quantity
from atoll.scheduling.dra.model import Capacity, Device, Object


@dataclass(frozen=True, slots=True)
class Part:
    """Of one capacity: an amount, and how it is written."""

    amount: int
    text: str

    @staticmethod
    def of(text: str) -> Part:
        return Part(quantity.parse(text), quantity.canonical(text))


def consumed(wanted: Mapping[str, str], device: Device) -> dict[str, Part] | None:
    """What a request takes of each capacity; None where the device can't give it, whatever is left."""
    if any(name not in device.capacity for name in wanted):
        return None
    found: dict[str, Part] = {}
    for name, capacity in device.capacity.items():
        part = _part(wanted.get(name), capacity)
        if part.amount > capacity.amount or not _allowed(part, capacity.policy):
            return None
        found[name] = part
    return found


def fits(parts: Mapping[str, Part], device: Device, taken: Mapping[str, int]) -> bool:
    """`taken`: of each capacity, by others."""
    return all(taken.get(name, 0) + part.amount <= device.capacity[name].amount for name, part in parts.items())


def _part(wanted: str | None, capacity: Capacity) -> Part:
    policy = capacity.policy or {}
    if wanted is None:
        return Part.of(policy.get("default") or capacity.text)
    limits, values = policy.get("validRange") or {}, policy.get("validValues")
    if limits.get("min") is not None:
        return _in_range(Part.of(wanted), limits)
    if values:
        amount = quantity.parse(wanted)
        return next((Part.of(value) for value in values if amount <= quantity.parse(value)), Part.of(wanted))
    return Part.of(wanted)


def _in_range(wanted: Part, limits: Object) -> Part:
    """Raised to the least, and to a whole number of steps above it."""
    least = Part.of(limits["min"])
    if wanted.amount < least.amount:
        return least
    if limits.get("step") is None:
        return wanted
    low, step = quantity.units(limits["min"]), quantity.units(limits["step"])
    steps = -(-(quantity.units(wanted.text) - low) // step)
    return Part.of(quantity.from_units_binary(low + steps * step))


def _allowed(part: Part, policy: Object | None) -> bool:
    if not policy:
        return True
    if policy.get("default") is not None and part.amount == quantity.parse(policy["default"]):
        return True
    limits, values = policy.get("validRange"), policy.get("validValues")
    if limits is not None:
        if limits.get("max") is not None and part.amount > quantity.parse(limits["max"]):
            return False
        if limits.get("step") is None:
            return True
        above = quantity.units(part.text) - quantity.units(limits["min"])
        return above % quantity.units(limits["step"]) == 0
    return not values or any(part.amount == quantity.parse(value) for value in values)

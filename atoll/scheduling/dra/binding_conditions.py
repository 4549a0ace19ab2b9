"""Devices that a driver must make ready before a pod may be bound (KEP-5007): what is missing, what has failed."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.objects.resource_claims import results
from atoll.scheduling.dra.model import Object


def has_conditions(claim: Object) -> bool:
    return any(result.get("bindingConditions") for result in results(claim))


def missing(claim: Object) -> bool:
    """Whether a condition of one of its devices is not True yet."""
    return any(
        not all(_is_true(told, name) for name in result["bindingConditions"])
        for result, told in _told(claim)
        if result.get("bindingConditions")
    )


def failure(claim: Object) -> str:
    """Why it will never be ready; "" as long as it may."""
    for result, told in _told(claim):
        for name in result.get("bindingFailureConditions") or ():
            found = _condition(told, name)
            if found is not None and found.get("status") == "True":
                name = claim["metadata"]["name"]
                why = f'reason={found.get("reason")}, message="{found.get("message")}"'
                return f"device binding failed: claim={name}, {why}"
    return ""


def _told(claim: Object) -> Iterable[tuple[Object, Object]]:
    """Each device of the claim and what its driver says of it."""
    devices = (claim.get("status") or {}).get("devices") or ()
    same = ("driver", "pool", "device")
    for result in results(claim):
        found: Object = next((item for item in devices if all(item.get(field) == result[field] for field in same)), {})
        yield result, found


def _condition(told: Object, name: str) -> Object | None:
    return next((item for item in told.get("conditions") or () if item.get("type") == name), None)


def _is_true(told: Object, name: str) -> bool:
    found = _condition(told, name)
    return found is not None and found.get("status") == "True"

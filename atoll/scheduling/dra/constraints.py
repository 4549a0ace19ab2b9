"""What the devices of one claim must share, or must not: matchAttribute and distinctAttribute.

Both are monotonic: what a set of devices violates, no further device mends, so the search turns back at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.dra.model import AllocationError, Attribute, Device, Object, Request


class Constraint:
    """Over the devices of the requests that it names; `distinct`: no two alike, else all alike."""

    def __init__(self, requests: Sequence[str], attribute: str, distinct: bool) -> None:
        self._requests = requests
        self._attribute = attribute
        self._distinct = distinct
        self._values: list[Attribute] = []

    def add(self, request: Request, device: Device) -> bool:
        """Whether the device may join; if so it has."""
        if not request.is_named(self._requests):
            return True
        value = device.attribute(self._attribute)
        if value is None:
            return False
        if self._values and (value in self._values) == self._distinct:
            return False
        self._values.append(value)
        return True

    def remove(self, request: Request) -> None:
        """Takes back the last `add` that was granted."""
        if request.is_named(self._requests):
            self._values.pop()


def constraints_of(spec: Object) -> list[Constraint]:
    """Those of a claim's spec. Raises AllocationError."""
    found = []
    for index, item in enumerate((spec.get("devices") or {}).get("constraints") or ()):
        attribute = item.get("matchAttribute") or item.get("distinctAttribute")
        if not attribute:
            raise AllocationError(f"constraint #{index}: empty constraint (unsupported constraint type?)")
        found.append(Constraint(item.get("requests") or (), attribute, item.get("matchAttribute") is None))
    return found

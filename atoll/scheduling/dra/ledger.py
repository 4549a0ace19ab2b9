"""Which devices are taken, by whom: what ResourceClaims say, and what has been decided but not been written yet.

A device with admin access is not taken. A shared one has parts of its capacity taken, by any number of claims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from atoll.base import quantity
from atoll.objects.resource_claims import DeviceId, device_id
from atoll.scheduling.dra.model import Object


class Ledger:
    """Counts, so that it stays right even where two claims name one device."""

    def __init__(self) -> None:
        self._whole: Counter[DeviceId] = Counter()
        self._shares: Counter[DeviceId] = Counter()
        self._parts: dict[DeviceId, dict[str, int]] = {}

    def copy(self) -> Ledger:
        other = Ledger()
        other._whole, other._shares = self._whole.copy(), self._shares.copy()
        other._parts = {device: dict(parts) for device, parts in self._parts.items()}
        return other

    def add(self, results: Iterable[Object], sign: int = 1) -> None:
        """Take (or, with -1, give back) what an allocation's results name."""
        for result in results:
            if result.get("adminAccess"):
                continue
            device = device_id(result)
            if result.get("shareID") is None:
                _count(self._whole, device, sign)
                continue
            _count(self._shares, device, sign)
            parts = self._parts.setdefault(device, {})
            for name, amount in (result.get("consumedCapacity") or {}).items():
                parts[name] = parts.get(name, 0) + sign * quantity.parse(amount)
            if device not in self._shares:
                del self._parts[device]

    def is_taken(self, device: DeviceId) -> bool:
        """Whole."""
        return device in self._whole

    def is_used(self, device: DeviceId) -> bool:
        """Whole, or in part."""
        return device in self._whole or device in self._shares

    def parts(self, device: DeviceId) -> Mapping[str, int]:
        return self._parts.get(device, _NOTHING)

    def devices(self) -> frozenset[DeviceId]:
        """Those that are taken whole."""
        return frozenset(self._whole)


_NOTHING: Mapping[str, int] = {}


def _count(counts: Counter[DeviceId], device: DeviceId, sign: int) -> None:
    counts[device] += sign
    if not counts[device]:
        del counts[device]

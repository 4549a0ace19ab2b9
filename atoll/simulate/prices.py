"""What nodes cost: those of fixed pools all the time, machines from their order until they are given back. Pure.

Machines are the entries of the simulated provider's ConfigMap, seen as they are committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from atoll.capacity import names
from atoll.capacity.autoscale.model import Machine
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.capacity.autoscale.simulated import CONFIG_MAP
from atoll.simulate.ledger import Listener
from atoll.simulate.scenario.model import Pool

Object = dict[str, Any]
_HOUR = 3600.0


class Prices(Listener):
    """`rate`: of an hour, now; `known`: whether anything has a price."""

    resources = ("configmaps",)

    def __init__(self, pools: Iterable[Pool], autoscale: AutoscaleSettings | None) -> None:
        scaled = autoscale.pools if autoscale is not None else ()
        self.rate = sum(pool.nodes * pool.price_per_hour for pool in pools)
        self.known = bool(self.rate) or any(pool.price_per_hour for pool in scaled)
        self._by_pool: Mapping[str, float] = {pool.name: pool.price_per_hour for pool in scaled}
        self._spent = 0.0
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Count from here on."""
        self._spent, self._since = 0.0, now

    def spent(self, now: float) -> float:
        return self._spent + self.rate * max(0.0, now - self._since) / _HOUR

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        metadata = (new or old or {})["metadata"]
        if (metadata["name"], metadata.get("namespace")) != (CONFIG_MAP, names.SYSTEM_NAMESPACE):
            return
        before, after = ((obj or {}).get("data") or {} for obj in (old, new))
        self._spent, self._since = self.spent(now), now
        for sign, entries, others in ((-1, before, after), (1, after, before)):
            for name in sorted(entries.keys() - others.keys()):
                machine = msgspec.json.decode(entries[name], type=Machine)
                self.rate += sign * self._by_pool.get(machine.pool, 0.0)

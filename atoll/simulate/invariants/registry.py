"""The invariants by the names that scenarios use."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.simulate.invariants.budgets import Budgets
from atoll.simulate.invariants.devices import Devices
from atoll.simulate.invariants.gangs import Gangs
from atoll.simulate.invariants.port import Make
from atoll.simulate.invariants.preflight import Preflight
from atoll.simulate.invariants.quota import Quota
from atoll.simulate.invariants.teams import Teams

MAKERS: Mapping[str, Make] = {
    "devices": Devices,
    "gangs": Gangs,
    "quota": Quota,
    "budgets": Budgets,
    "preflight": Preflight,
    "teams": Teams,
}
INVARIANTS: tuple[str, ...] = tuple(MAKERS)

"""The invariants by the names that scenarios use."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.simulate.invariants.devices import Devices
from atoll.simulate.invariants.port import Make
from atoll.simulate.invariants.quota import Quota

MAKERS: Mapping[str, Make] = {"devices": Devices, "quota": Quota}
INVARIANTS: tuple[str, ...] = tuple(MAKERS)

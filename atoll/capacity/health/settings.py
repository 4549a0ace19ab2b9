"""Settings of node health: the key health.yaml of the ConfigMap atoll-system/atoll-health."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from atoll.capacity.health.model import Remedy

CONFIG_MAP: Final = "atoll-health"
KEY: Final = "health.yaml"
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^\d+(\.\d+)?%$")]


class RemedySeconds(Struct, frozen=True, forbid_unknown_fields=True):
    """How long remedies of simulated nodes take."""

    reset: Positive = 30.0
    reboot: Positive = 240.0
    replace: Positive = 1800.0

    def of(self, remedy: Remedy) -> float:
        return {"reset": self.reset, "reboot": self.reboot, "replace": self.replace}.get(remedy, 0.0)


class HealthSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`budget` and `pool_budget`: how many nodes may be out at once, of all and of each pool: a number, or a share."""

    budget: Share = "10%"
    pool_budget: Share = "20%"
    thermal_celsius: Positive = 95.0
    uncorrected_errors: Annotated[int, Meta(ge=1)] = 1
    nvlink_errors: Annotated[int, Meta(ge=1)] = 100
    remedies: dict[int, Remedy] = msgspec.field(default_factory=dict)  # by XID, instead of the catalogue's
    checkpoint_grace_seconds: Annotated[float, Meta(ge=0)] = 600.0
    patience_seconds: Positive = 3600.0  # for an overheated GPU to cool, and for a remedy to be done
    escalate_within_seconds: Positive = 86400.0  # the same again in that time takes the next remedy
    simulated_seconds: RemedySeconds = RemedySeconds()
    terminating_seconds: Positive = 120.0  # a pod that should be gone for that long holds up nothing


def allowed(share: int | str, total: int) -> int:
    """How many of `total` nodes; at least one."""
    if isinstance(share, int):
        return share
    return max(1, int(total * float(share.rstrip("%")) / 100))

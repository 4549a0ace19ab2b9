"""The port of GPU placement policies: a score per kind of pod for one node, and the devices on the chosen node.

What a policy says may depend on the node and the kind alone. Scores of kinds that don't fit the node are not looked at.
`atoll/scheduling/plugins/gpu_scores.py` makes a score plugin of each.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from atoll.scheduling.arrays import Ints
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import Kinds, first_fitting, least_left
from atoll.scheduling.devices.model import WHOLE


class Policy(Protocol):
    """Shared pods go to the fitting device with the least left, whole ones to the first free, unless overridden."""

    kinds: Kinds
    parts: int = 1
    """The scores are in parts of a point: 0 to 100 times this."""

    @abstractmethod
    def scores(self, gpus: Gpus, row: int) -> Ints:
        """One integer per kind; greater is better."""
        ...

    def devices(self, gpus: Gpus, row: int, kind: int) -> list[int]:
        """Which devices of a node a pod takes that fits it."""
        request = self.kinds.requests[kind]
        pick = first_fitting if request.milli == WHOLE else least_left
        return pick(gpus.left[row], request.count, request.milli)

"""The port of GPU placement policies: a score per kind of pod for one node, and the devices on the chosen node.

A policy is asked for a node's scores whenever that node has changed, and for nothing else: what it says may depend on
the node and the kind alone. Scores of kinds that don't fit the node are not looked at.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import numpy as np

from atoll.base.chance import Chance
from atoll.scheduling.devices.model import WHOLE
from atoll.scheduling.devices.pool import Ints, Kinds, Pool, first_fitting, least_left

NEVER = int(np.iinfo(np.int64).min)
"""The rank of a node that can't take such a pod."""


class Policy(Protocol):
    """Shared pods go to the fitting device with the least left, whole ones to the first free, unless overridden."""

    pool: Pool
    kinds: Kinds

    def begin(self, pool: Pool, chance: Chance) -> None:
        """Place on this pool from now on, with this source of chance; nothing is placed on it yet."""
        self.pool = pool

    @abstractmethod
    def scores(self, row: int) -> Ints:
        """One integer per kind; greater is better."""
        ...

    def choose(self, ranks: Ints) -> int | None:
        """The row with the greatest rank; None where all are NEVER."""
        row = int(ranks.argmax())
        return row if ranks[row] != NEVER else None

    def devices(self, row: int, kind: int) -> list[int]:
        """Which devices of a node a pod takes that fits it."""
        request = self.kinds.requests[kind]
        pick = first_fitting if request.milli == WHOLE else least_left
        return pick(self.pool.left[row], request.count, request.milli)

    def placed(self, row: int, kind: int) -> None:
        """A pod of this kind was placed on the node."""
        return

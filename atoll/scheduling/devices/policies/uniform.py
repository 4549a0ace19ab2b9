"""Random: a uniform feasible node, and for shared pods a uniform fitting device."""

from __future__ import annotations

import numpy as np

from atoll.base.chance import Chance
from atoll.scheduling.devices.policies.port import NEVER, Policy
from atoll.scheduling.devices.pool import Ints, Kinds, Pool


class Uniform(Policy):
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self._even: Ints = np.zeros(len(kinds), np.int64)

    def begin(self, pool: Pool, chance: Chance) -> None:
        super().begin(pool, chance)
        self._chance = chance

    def scores(self, row: int) -> Ints:
        return self._even

    def choose(self, ranks: Ints) -> int | None:
        open_rows = (ranks != NEVER).nonzero()[0]
        return int(open_rows[self._chance.integer(0, len(open_rows) - 1)]) if len(open_rows) else None

    def devices(self, row: int, kind: int) -> list[int]:
        request = self.kinds.requests[kind]
        if not request.shared:
            return super().devices(row, kind)
        fitting = (self.pool.left[row] >= request.milli).nonzero()[0].tolist()
        return [self._chance.choice(fitting)]

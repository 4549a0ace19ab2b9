"""GpuClustering: pods beside pods of their own sort (a share, or so many whole GPUs).

As Weng et al. (USENIX ATC 2023) compare it: 75 where the sort is the node's only one, 50 where it is among others, 25
on a node that has no GPU pods yet, else 0; and up to 25 for how far 8 GPUs are taken, which on smaller nodes starts
high.
"""

from __future__ import annotations

import numpy as np

from atoll.base.chance import Chance
from atoll.scheduling.devices.policies.port import Policy
from atoll.scheduling.devices.pool import Ints, Kinds, Pool

MOST_GPU = 8_000


class Clustering(Policy):
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        sorts: dict[int, int] = {}
        named = [0 if item.shared else item.count for item in kinds.requests]
        self._bit: Ints = np.array([1 << sorts.setdefault(name, len(sorts)) for name in named], np.int64)
        self._with_gpu: Ints = (kinds.gpu > 0).astype(np.int64)

    def begin(self, pool: Pool, chance: Chance) -> None:
        super().begin(pool, chance)
        self._sorts: Ints = np.zeros(len(pool), np.int64)

    def scores(self, row: int) -> Ints:
        there = int(self._sorts[row])
        if there == 0:
            company = np.full(len(self.kinds), 25, np.int64)
        else:
            company = np.where(self._bit == there, 75, np.where(self._bit & there, 50, 0))
        taken = 25 * (MOST_GPU - int(self.pool.idle[row])) // MOST_GPU
        return (company + taken) * self._with_gpu

    def placed(self, row: int, kind: int) -> None:
        if self._with_gpu[kind]:
            self._sorts[row] |= self._bit[kind]

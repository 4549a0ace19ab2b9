"""GpuClustering: pods beside pods of their own sort (a share, or so many whole GPUs).

As Weng et al. (USENIX ATC 2023) compare it: 75 where the sort is the node's only one, 50 where it is among others, 25
on a node that has no GPU pods yet, else 0; and up to 25 for how far 8 GPUs are taken, which on smaller nodes starts
high.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Ints, np
from atoll.scheduling.devices.gpus import Gpus, sort_of
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.policies.port import Policy

MOST_GPU = 8_000


class Clustering(Policy):
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self._bit: Ints = np.array([sort_of(item) for item in kinds.requests], np.int64)
        self._with_gpu: Ints = (kinds.gpu > 0).astype(np.int64)

    def scores(self, gpus: Gpus, row: int) -> Ints:
        there = int(gpus.sorts[row])
        if there == 0:
            company = np.full(len(self.kinds), 25, np.int64)
        else:
            company = np.where(self._bit == there, 75, np.where(self._bit & there, 50, 0))
        taken = 25 * (MOST_GPU - int(gpus.idle[row])) // MOST_GPU
        return (company + taken) * self._with_gpu

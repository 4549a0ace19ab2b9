"""DotProd and BestFit: scores that are one expression of idle and requested CPU and GPU.

Both as Weng et al. (USENIX ATC 2023) compare them, over the largest node's 128 CPUs and 8 GPUs. The paper's BestFit
scales its truncated scores to 0…100 over the feasible nodes and truncates again; that keeps the order of nodes and who
is equal best (only the greatest becomes 100), so the scores before it decide the same.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Ints
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.policies.port import Policy

MOST_CPU, MOST_GPU = 128_000, 8_000


class DotProduct(Policy):
    """Least where what is idle and what is asked for point the same way."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self._cpu = kinds.cpu / (2 * MOST_CPU**2)
        self._gpu = kinds.gpu / (2 * MOST_GPU**2)

    def scores(self, gpus: Gpus, row: int) -> Ints:
        product = gpus.cpu(row) * self._cpu + int(gpus.idle[row]) * self._gpu
        found: Ints = (100 * (1 - product)).astype("int64")
        return found


class BestFit(Policy):
    """Greatest where least would stay idle."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds

    def scores(self, gpus: Gpus, row: int) -> Ints:
        cpu = (gpus.cpu(row) - self.kinds.cpu) / (2 * MOST_CPU)
        gpu = (int(gpus.idle[row]) - self.kinds.gpu) / (2 * MOST_GPU)
        found: Ints = (100 * (1 - cpu - gpu)).astype("int64")
        return found

"""GpuPacking: devices that are in use first, then fresh devices of nodes in use, then empty nodes.

As Weng et al. (USENIX ATC 2023) compare it. A pod takes the fitting devices with the least left first. An empty node
scores max(33 − n, n) for its n GPUs; where f fresh devices are needed max(50 − f, 33); else, the less is left on the
devices it takes, the nearer to 100, and at least 50. Kinds of equal (count, milli) score alike.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Ints, np
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import Kinds, least_left
from atoll.scheduling.devices.model import WHOLE
from atoll.scheduling.devices.policies.port import Policy


class Packing(Policy):
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self._known: dict[bytes, Ints] = {}

    def scores(self, gpus: Gpus, row: int) -> Ints:
        key = gpus.devices_key(row)
        found = self._known.get(key)
        if found is None:
            left = gpus.left[row]
            by_move = [self._score(left, *move) for move in self.kinds.moves]
            found = self._known[key] = np.array(by_move, np.int64)[self.kinds.move]
        return found

    def _score(self, left: Ints, count: int, milli: int) -> int:
        if count == 0:
            return 0
        devices = left[left >= 0]
        if (devices == WHOLE).all():
            return max(33 - len(devices), len(devices))
        taken = [int(left[device]) for device in least_left(left, count, milli)]
        fresh = taken.count(WHOLE)
        if fresh:
            return max(50 - fresh, 33)
        return max(100 - sum(amount // 10 for amount in taken) // 10, 50)

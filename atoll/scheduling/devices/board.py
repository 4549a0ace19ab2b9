"""Every kind of pod against every node, kept up to date by the node that has changed.

One line per kind, one entry per node: the policy's score and, within equal scores, the node's place in a fixed order,
as one number. A decision is the greatest number of a line; a placement computes one column again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll.scheduling.devices.policies.port import NEVER, Policy
from atoll.scheduling.devices.pool import Bools, Ints, Kinds, Pool, fits


class Board:
    """`policy` has begun on `pool`. `order[row]`: among equal scores the smallest wins."""

    def __init__(self, pool: Pool, kinds: Kinds, policy: Policy, order: Sequence[int]) -> None:
        self._pool = pool
        self._kinds = kinds
        self._policy = policy
        self._tie: Ints = len(pool) - 1 - np.array(order, np.int64)
        self._fits: dict[bytes, Bools] = {}
        self.ranks: Ints = np.full((len(kinds), len(pool)), NEVER, np.int64)
        for row in range(len(pool)):
            self._update(row)

    def place(self, kind: int) -> tuple[int, list[int]] | None:
        """Place one pod of a kind: its node and devices; None where it fits nowhere."""
        row = self._policy.choose(self.ranks[kind])
        if row is None:
            return None
        request = self._kinds.requests[kind]
        devices = self._policy.devices(row, kind) if request.count else []
        self._pool.take(row, request, devices)
        self._policy.placed(row, kind)
        self._update(row)
        return row, devices

    def feasible(self, row: int) -> Bools:
        """Which kinds fit a node: CPU, memory, GPU model, and enough left on enough devices."""
        pool, kinds = self._pool, self._kinds
        key = pool.devices_key(row)
        enough = self._fits.get(key)
        if enough is None:
            enough = self._fits[key] = fits(pool.left[row], kinds.move_count, kinds.move_milli)[kinds.move]
        found: Bools = (kinds.cpu <= pool.cpu[row]) & (kinds.memory <= pool.memory[row])
        found &= enough
        found &= kinds.allowed[:, pool.model[row]]
        return found

    def _update(self, row: int) -> None:
        ranks = self._policy.scores(row) * len(self._tie) + self._tie[row]
        self.ranks[:, row] = np.where(self.feasible(row), ranks, NEVER)

"""What an evaluation keeps of its last decision, so that the next one goes on from there. See evaluation.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atoll.scheduling.arrays import Floats, Ints, Rows, np

NEVER = -(1 << 63)
"""The rank of a node that a pod does not fit."""
_FEW = 32


@dataclass(slots=True, eq=False)
class Kept:
    """The feasible rows in order, their ranks, and what of these is normalised.

    Rows that were filled since have the rank NEVER. `leaders`: the places that had the greatest rank, `lead`, when they
    were sorted, the first in the snapshot's order last; some may have less by now. None where not sorted.
    """

    rows: Rows
    ranks: Ints
    normal: Ints
    leaders: list[int] | None = None
    lead: int = NEVER
    stale: int = 0  # leaders that have less by now
    used: bool = False  # for more than one decision

    def places(self, moved: list[int], now: Ints) -> tuple[list[int] | None, list[int]]:
        """Where these rows are, and those that are not feasible any more (`now`: plain ranks). None: new ones are."""
        rows, ranks = self.rows, self.ranks
        there: list[int] = []
        gone: list[int] = []
        for row, place in zip(moved, rows.searchsorted(moved).tolist(), strict=True):
            is_in = place < len(rows) and rows.item(place) == row and ranks.item(place) != NEVER
            if now.item(row) == NEVER:
                if is_in:
                    gone.append(place)
            elif not is_in:
                return None, []
            else:
                there.append(place)
        return there, gone

    def rerank(self, place: int, rank: int) -> None:
        """Note the new rank of one place."""
        old = self.ranks.item(place)
        if old != rank:
            if rank >= self.lead:
                self.leaders = None
            self.stale += old == self.lead
        self.ranks[place] = rank

    def sort(self, place: int, order: Floats) -> bool:
        """Take those that rank as high as `place` as leaders; False: two come equally early: names decide."""
        lead = self.ranks.item(place)
        equals = (self.ranks == lead).nonzero()[0]
        orders = order.take(self.rows[equals])
        places = orders.argsort()[::-1]
        if (np.diff(orders[places]) == 0).any():
            return False
        self.leaders, self.lead, self.stale = equals[places].tolist(), lead, 0
        return True

    def leading(self) -> Iterator[int]:
        """Those of the leaders that still are."""
        leaders, ranks, lead = self.leaders or [], self.ranks, self.lead
        while leaders and ranks.item(leaders[-1]) != lead:
            leaders.pop()
            self.stale -= 1
        if self.stale > _FEW:
            leaders[:] = [place for place in leaders if ranks.item(place) == lead]
            self.stale = 0
        return (place for place in reversed(leaders) if ranks.item(place) == lead)

"""What an evaluation keeps of its last decision, so that the next one goes on from there. See evaluation.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush

from atoll.scheduling.arrays import Floats, Ints, Rows, np

NEVER = -(1 << 63)
"""The rank of a node that a pod does not fit."""


@dataclass(slots=True, eq=False)
class Kept:
    """The feasible rows in order, their ranks, and what of these is normalised.

    Rows that were filled since have the rank NEVER. `order`: the places that had the greatest rank, `lead`, when they
    were sorted, as the snapshot's order has them. `leaders`, a heap of places in `order`: those that are still to be
    looked at, some of which may have less by now; None where not sorted. `passed`: by row, those that were left out,
    which are in `out`.
    """

    rows: Rows
    ranks: Ints
    normal: Ints
    order: list[int] = field(default_factory=list)
    leaders: list[int] | None = None
    lead: int = NEVER
    passed: dict[int, int] = field(default_factory=dict)
    out: Set[int] = frozenset()
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
        if rank >= self.lead and self.ranks.item(place) != rank:
            self.leaders = None
            self.passed.clear()
        self.ranks[place] = rank

    def sort(self, place: int, order: Floats) -> bool:
        """Take those that rank as high as `place` as leaders; False: two come equally early: names decide."""
        lead = self.ranks.item(place)
        equals = (self.ranks == lead).nonzero()[0]
        orders = order.take(self.rows[equals])
        places = orders.argsort()
        if (np.diff(orders[places]) == 0).any():
            return False
        self.order, self.lead = equals[places].tolist(), lead
        self.leaders = list(range(len(self.order)))
        self.passed.clear()
        return True

    def leading(self) -> Iterator[int]:
        """Those of the leaders that still are, but for rows in `out`: these are passed until they are recalled.

        One that was given is to be in `out` before the next is asked for.
        """
        leaders, ranks, lead = self.leaders, self.ranks, self.lead
        while leaders:
            place = self.order[leaders[0]]
            if ranks.item(place) != lead:
                heappop(leaders)
            elif (row := self.rows.item(place)) in self.out:
                self.passed[row] = heappop(leaders)
            else:
                yield place

    def leave_out(self, out: Set[int]) -> None:
        """From now on these instead."""
        if self.out is not out:
            self.recall(list(self.passed))
            self.out = out

    def recall(self, rows: Iterable[int]) -> None:
        """Rows that were passed are to be looked at again."""
        for row in rows:
            place = self.passed.pop(row, None)
            if place is not None and self.leaders is not None:
                heappush(self.leaders, place)

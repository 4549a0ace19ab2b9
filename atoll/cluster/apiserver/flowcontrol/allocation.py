"""How the server's seats are divided among the levels anew, by what each was seen to need (KEP-1040, borrowing).

Each level has a target (its smoothed demand) and bounds; the answer is the one proportion of all targets, bounded for
each level, that uses up all the seats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

LEAST_TARGET = 0.001
SMOOTHING = 0.977  # of the envelope of demand: half of it fades in five minutes


class Share(Struct, frozen=True):
    """One level's wish."""

    target: float
    lower: float
    upper: float


def allocate(total: float, shares: Sequence[Share]) -> tuple[list[float], float]:
    """(seats for each, the proportion that decided). Raises ValueError where bounds leave no answer."""
    for share in shares:
        if share.lower < 0 or share.target < share.lower or share.upper < share.lower:
            raise ValueError(f"bounds are in disorder: {share}")
    low, high = sum(share.lower for share in shares), sum(share.upper for share in shares)
    if total < low - 1e-7 or total > high + 1e-7:
        raise ValueError(f"{total} seats can't be divided within {low} and {high}")
    targets = [max(share.target, LEAST_TARGET) for share in shares]

    def given(proportion: float) -> list[float]:
        return [
            max(share.lower, min(share.upper, proportion * target))
            for share, target in zip(shares, targets, strict=True)
        ]

    if not total or not shares:
        return [0.0] * len(shares), 0.0
    edges = sorted(
        {share.lower / target for share, target in zip(shares, targets, strict=True)}
        | {share.upper / target for share, target in zip(shares, targets, strict=True)}
    )
    below = 0.0
    for edge in edges:  # the sum grows with the proportion, in straight pieces between the edges
        if sum(given(edge)) >= total:
            return _between(total, below, edge, given)
        below = edge
    return given(below), below


def _between(total: float, below: float, above: float, given: object) -> tuple[list[float], float]:
    assert callable(given)
    low, high = sum(given(below)), sum(given(above))
    proportion = above if high == low else below + (total - low) * (above - below) / (high - low)
    return given(proportion), proportion


class Demand:
    """Integrates one level's seat demand (executing and waiting) over time; `settle` closes a period."""

    def __init__(self, now: float) -> None:
        self.value = 0
        self.high = 0
        self.smoothed = 0.0
        self.average = 0.0
        self.deviation = 0.0
        self.high_watermark = 0
        self._since = now
        self._elapsed = self._sum = self._squares = 0.0

    def set(self, now: float, value: int) -> None:
        self._advance(now)
        self.value = value
        if value > self.high:
            self.high = value

    def settle(self, now: float) -> None:
        """Take the period's average, deviation and high watermark over; begin the next."""
        self._advance(now)
        self.high_watermark = self.high
        if self._elapsed > 0:
            self.average = self._sum / self._elapsed
            self.deviation = math.sqrt(max(0.0, self._squares / self._elapsed - self.average**2))
            envelope = self.average + self.deviation
            self.smoothed = max(envelope, SMOOTHING * self.smoothed + (1 - SMOOTHING) * envelope)
        self._elapsed = self._sum = self._squares = 0.0
        self.high = self.value

    def _advance(self, now: float) -> None:
        passed = now - self._since
        if passed > 0:
            self._since = now
            value = self.value
            self._elapsed += passed
            self._sum += passed * value
            self._squares += passed * value * value

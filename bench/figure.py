"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured row. `factor` is how many times better ours is; None where there is no peer in this run."""

    what: str
    real: str
    ours: str
    factor: float | None
    reach: float
    basis: str

    @property
    def reached(self) -> bool | None:
        return None if self.factor is None else self.factor >= self.reach


Row = Callable[[], list[Figure]]


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

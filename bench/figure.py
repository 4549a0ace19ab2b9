"""What a row of the table is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured row; `reached` is None where there is nothing to compare with."""

    what: str
    real: str
    ours: str
    reach: str
    reached: bool | None
    basis: str
    factor: float | None = None


def compared(what: str, real: str, ours: str, factor: float | None, least: float, basis: str) -> Figure:
    """A row whose goal is to be so many times better."""
    reached = None if factor is None else factor >= least
    return Figure(what, real, ours, f"≥ {least:g}×", reached, basis, factor)


def within(what: str, real: str, ours: str, value: float, most: float, goal: str, basis: str) -> Figure:
    """A row whose goal is an absolute measure."""
    return Figure(what, real, ours, goal, value <= most, basis)


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

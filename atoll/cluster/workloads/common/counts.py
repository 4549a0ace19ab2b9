"""Counts as users write them: 3, or "25%"."""

from __future__ import annotations

import math


def scaled(value: int | str | None, total: int, *, round_up: bool, default: int = 0) -> int:
    """intstr.GetScaledValueFromIntOrPercent. Raises ValueError for other text."""
    if value is None:
        return default
    if isinstance(value, int):
        return value
    if value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value)


def fenceposts(surge: int | str | None, unavailable: int | str | None, desired: int) -> tuple[int, int]:
    """(max surge, max unavailable); both zero would stand still, so then one may be unavailable."""
    most_surge = scaled(surge, desired, round_up=True)
    most_unavailable = scaled(unavailable, desired, round_up=False)
    if most_surge == 0 and most_unavailable == 0:
        most_unavailable = 1
    return most_surge, most_unavailable

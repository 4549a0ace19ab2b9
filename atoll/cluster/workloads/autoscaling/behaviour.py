"""From what the metrics ask for to what is done: stabilisation, policies, limits, with what was done before. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
DOWN_WINDOW_SECONDS = 300.0
_UP_FACTOR, _UP_LEAST = 2.0, 4.0
_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_DOWN_STABLE = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_UP_STABLE = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_READY = ("ReadyForNewScale", "recommended size matches current size")
Told = tuple[str, str]


@dataclass(slots=True)
class History:
    """Of one autoscaler, by wall seconds: what was recommended, and by how much it scaled up and down."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, current: int, now: float) -> None:
        if not self.recommendations:
            self.recommendations.append((now, current))

    def scaled(self, before: int, after: int, behaviour: Object | None, now: float) -> None:
        """Remember a change where policies will ask for it."""
        if behaviour is None:
            return
        events, rules = (self.ups, "scaleUp") if after > before else (self.downs, "scaleDown")
        longest = max((item["periodSeconds"] for item in (behaviour.get(rules) or {}).get("policies") or ()), default=0)
        events[:] = [item for item in events if item[0] >= now - longest]
        events.append((now, abs(after - before)))


@dataclass(frozen=True, slots=True)
class Normal:
    """`able` and `limited` are what the conditions AbleToScale and ScalingLimited say."""

    replicas: int
    able: Told
    limited: bool
    limit: Told


def normalise(
    history: History, behaviour: Object | None, current: int, wanted: int, least: int, most: int, now: float
) -> Normal:
    """Adds the recommendation to the history."""
    if behaviour is None:
        stable = _stable(history, wanted, now)
        able = _DOWN_STABLE if stable != wanted else _READY
        replicas, limit = _within(current, stable, least, most)
    else:
        up, down = behaviour["scaleUp"], behaviour["scaleDown"]
        stable, told = _stable_by_rules(history, up, down, current, wanted, now)
        able = told if stable != wanted else _READY
        replicas, limit = _within_rules(history, up, down, current, stable, least, most, now)
    return Normal(replicas, able, replicas != stable, limit)


def _stable(history: History, wanted: int, now: float) -> int:
    """The highest recommendation of the window."""
    cutoff = now - DOWN_WINDOW_SECONDS
    history.recommendations = [item for item in history.recommendations if item[0] >= cutoff]
    highest = max((replicas for _, replicas in history.recommendations), default=wanted)
    history.recommendations.append((now, wanted))
    return max(highest, wanted)


def _stable_by_rules(
    history: History, up: Object, down: Object, current: int, wanted: int, now: float
) -> tuple[int, Told]:
    up_window = float(up.get("stabilizationWindowSeconds") or 0)
    given = down.get("stabilizationWindowSeconds")
    down_window = DOWN_WINDOW_SECONDS if given is None else float(given)
    lowest = min((replicas for at, replicas in history.recommendations if at > now - up_window), default=wanted)
    highest = max((replicas for at, replicas in history.recommendations if at > now - down_window), default=wanted)
    oldest = now - max(up_window, down_window)
    history.recommendations = [item for item in history.recommendations if item[0] >= oldest]
    history.recommendations.append((now, wanted))
    stable = min(max(current, min(lowest, wanted)), max(highest, wanted))
    return stable, _UP_STABLE if wanted >= current else _DOWN_STABLE


def _within(current: int, wanted: int, least: int, most: int) -> tuple[int, Told]:
    limit = int(max(_UP_FACTOR * current, _UP_LEAST))
    allowed, told = (limit, _UP_LIMIT) if most > limit else (most, _TOO_MANY)
    if wanted < least:
        return least, _TOO_FEW
    return (allowed, told) if wanted > allowed else (wanted, _WITHIN)


def _within_rules(
    history: History, up: Object, down: Object, current: int, wanted: int, least: int, most: int, now: float
) -> tuple[int, Told]:
    if wanted > current:
        limit = max(_limit(history, up, current, now, up=True), current)
        allowed, told = (limit, _UP_LIMIT) if most > limit else (most, _TOO_MANY)
        if wanted > allowed:
            return allowed, told
    elif wanted < current:
        limit = min(_limit(history, down, current, now, up=False), current)
        allowed, told = (limit, _DOWN_LIMIT) if least < limit else (least, _TOO_FEW)
        if wanted < allowed:
            return allowed, told
    return wanted, _WITHIN


def _limit(history: History, rules: Object, current: int, now: float, *, up: bool) -> int:
    """How far the policies let it go from here."""
    policy = rules.get("selectPolicy") or "Max"
    if policy == "Disabled":
        return current
    proposals = []
    for item in rules.get("policies") or ():
        period = float(item["periodSeconds"])
        begun = current - _changed(history.ups, period, now) + _changed(history.downs, period, now)
        value = item["value"]
        if item["type"] == "Pods":
            proposals.append(begun + value if up else begun - value)
        elif up:
            proposals.append(math.ceil(begun * (1 + value / 100)))
        else:
            proposals.append(int(begun * (1 - value / 100)))
    largest_change = (policy == "Max") == up
    return (max if largest_change else min)(proposals, default=current)


def _changed(events: Iterable[tuple[float, int]], period: float, now: float) -> int:
    return sum(change for at, change in events if at > now - period)

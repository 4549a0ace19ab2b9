"""How many replicas each cluster gets. Pure and exact: integers only, so that the sums always hold.

`webster` is Webster's method (Sainte-Laguë): the next replica goes to the highest weight / (2 * given + 1); a tie
goes to the heavier one, then to the lower name. It is a function of replicas, weights and names alone and house
monotone: one replica more never takes one from anybody.

`grow` and `shrink` serve dynamic weights and aggregation: what stands stays, only the difference is divided.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Shares = dict[str, int]
_FEW = 64  # replicas: one by one is as fast


@dataclass(frozen=True, slots=True)
class Division:
    """`unplaced` replicas found no room, and `reason` says why."""

    shares: Shares = field(default_factory=dict)
    unplaced: int = 0
    reason: str = ""


def webster(
    replicas: int,
    weights: Mapping[str, int],
    most: Mapping[str, int] | None = None,
    given: Mapping[str, int] | None = None,
) -> Division:
    """Divides `replicas` by weight, nobody above `most[name]`; `given` replicas count as handed out before.

    The shares do not contain what was given. Names without a positive weight get nothing.
    """
    start = {name: (given or {}).get(name, 0) for name in weights}
    room = {name: replicas if most is None else most.get(name, replicas) for name in weights}
    shares = _certain(replicas, weights, start, room)
    heap = [
        (-Fraction(weight, 2 * (start[name] + shares[name]) + 1), -weight, name)
        for name, weight in weights.items()
        if weight > 0 and shares[name] < room[name]
    ]
    heapq.heapify(heap)
    left = replicas - sum(shares.values())
    while left > 0 and heap:
        _, weight, name = heapq.heappop(heap)
        shares[name] += 1
        left -= 1
        if shares[name] < room[name]:
            heapq.heappush(heap, (Fraction(weight, 2 * (start[name] + shares[name]) + 1), weight, name))
    return Division(shares, left, "no cluster has room for more" if left else "")


def _certain(replicas: int, weights: Mapping[str, int], start: Shares, room: Shares) -> Shares:
    """The shares after some steps, all but a few: of all seats whose rank is above a bar that is found by halving.

    The bar is total / place; there are as many seats above it as weight·place / total, rounded, of each.
    """
    total = sum(weight for weight in weights.values() if weight > 0)

    def above(place: int) -> Shares:
        return {
            name: max(0, min(room[name], (weight * place + total) // (2 * total) - start[name])) if weight > 0 else 0
            for name, weight in weights.items()
        }

    low, high = 0, (2 * (replicas + max(start.values(), default=0)) + 1) * total + 1
    while replicas > _FEW and high - low > 1:
        place = (low + high) // 2
        if sum(above(place).values()) <= replicas:
            low = place
        else:
            high = place
    return above(low) if low else dict.fromkeys(weights, 0)


def grow(replicas: int, standing: Mapping[str, int], available: Mapping[str, int]) -> Division:
    """`standing` stays; the rest is divided by what is available, nobody above it; what does not fit is unplaced."""
    missing = replicas - sum(standing.values())
    if missing <= 0:
        return Division(dict(standing))
    part = webster(missing, available, most=available)
    return _added(standing, part, available)


def shrink(replicas: int, standing: Mapping[str, int]) -> Division:
    """Takes the surplus in proportion to what stands: nobody grows."""
    if sum(standing.values()) <= replicas:
        return Division(dict(standing))
    return Division(webster(replicas, standing, most=standing).shares)


def aggregate(replicas: int, standing: Mapping[str, int], available: Mapping[str, int]) -> Division:
    """As few clusters as possible: what stands stays and is filled up first, then the roomiest, by name on ties."""
    shares = dict(standing)
    missing = replicas - sum(standing.values())
    if missing < 0:
        return aggregate_down(replicas, standing)
    order = sorted(available, key=lambda name: (standing.get(name, 0) == 0, -available[name], name))
    for name in order:
        if missing <= 0:
            break
        take = min(missing, max(0, available[name]))
        if take:
            shares[name] = shares.get(name, 0) + take
            missing -= take
    return Division(shares, missing, _no_room(missing, available))


def aggregate_down(replicas: int, standing: Mapping[str, int]) -> Division:
    """Scaling down an aggregated workload empties the smallest shares first, so that few clusters remain."""
    shares = dict(standing)
    surplus = sum(shares.values()) - replicas
    for name in sorted(shares, key=lambda name: (shares[name], name)):
        take = min(surplus, shares[name])
        shares[name] -= take
        surplus -= take
    return Division(shares)


def _added(standing: Mapping[str, int], part: Division, available: Mapping[str, int]) -> Division:
    shares = dict(standing)
    for name, more in part.shares.items():
        shares[name] = shares.get(name, 0) + more
    return Division(shares, part.unplaced, _no_room(part.unplaced, available))


def _no_room(unplaced: int, available: Mapping[str, int]) -> str:
    if not unplaced:
        return ""
    room = ", ".join(f"{name} {available[name]}" for name in sorted(available)) or "no cluster"
    return f"{unplaced} replicas are not placed: clusters had room for {sum(available.values())} more ({room})"

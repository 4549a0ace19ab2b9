"""Admission fair sharing (Kueue KEP 4136): what local queues have consumed, slowly forgotten.

Each sample is an exponential mean: consumed = (1 - a)·consumed + a·current, a = 1 - ½^(interval / half-life). An
admission counts a·its requests at once, so that a queue can't take everything between two samples.
"""

from __future__ import annotations

from collections.abc import Mapping

from atoll.capacity.queueing.model import Key, PastUsage

Consumed = dict[str, float]


class Consumption:
    """By local queue, in the amounts of the model (milli-cpu, units)."""

    def __init__(self, options: PastUsage) -> None:
        self._options = options
        self._consumed: dict[Key, Consumed] = {}
        self._penalties: dict[Key, Consumed] = {}

    def configure(self, options: PastUsage) -> None:
        self._options = options

    def restore(self, local: Key, consumed: Mapping[str, float]) -> None:
        """What the LocalQueue's status says, where nothing is known yet."""
        self._consumed.setdefault(local, dict(consumed))

    def consumed(self, local: Key) -> Consumed:
        return self._consumed.get(local, {})

    def _alpha(self) -> float:
        half_life = self._options.half_life_seconds
        return 1.0 - 0.5 ** (self._options.sampling_seconds / half_life) if half_life else 0.0

    def admitted(self, local: Key, requests: Mapping[str, int]) -> None:
        """The entry penalty."""
        penalty = self._penalties.setdefault(local, {})
        for name, amount in requests.items():
            penalty[name] = penalty.get(name, 0.0) + self._alpha() * amount

    def sample(self, local: Key, current: Mapping[str, int]) -> Consumed:
        """A sampling interval is over."""
        alpha, old = self._alpha(), self._consumed.get(local, {})
        self._penalties.pop(local, None)
        names = sorted(old.keys() | current.keys())
        fresh = {name: (1 - alpha) * old.get(name, 0.0) + alpha * current.get(name, 0) for name in names}
        self._consumed[local] = fresh
        return fresh

    def of(self, local: Key, weight: float) -> float:
        """The weighted sum; the lower, the sooner."""
        total = 0.0
        for part in (self._consumed.get(local), self._penalties.get(local)):
            for name, amount in (part or {}).items():
                total += self._options.weights.get(name, 1.0) * amount
        return total / weight if weight else (float("inf") if total else 0.0)

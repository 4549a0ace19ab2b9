"""How soon a change is told: at once when little happens, gathered when much does.

Each key is told at most once per interval, and the interval grows with the number of keys told in the last second: a
single rollout is followed closely, and three hundred of them cost few writes each.
"""

from __future__ import annotations

from collections.abc import Hashable

from atoll.base.clock import Clock

_WINDOW_SECONDS = 1.0


class Pace:
    """`least_seconds` gathers what comes together even when nothing else happens."""

    def __init__(
        self, clock: Clock, least_seconds: float, *, per_key_seconds: float = 0.001, most_seconds: float = 0.4
    ):
        self._clock = clock
        self._least = least_seconds
        self._per_key = per_key_seconds
        self._most = most_seconds
        self._now: dict[Hashable, float] = {}
        self._before: dict[Hashable, float] = {}
        self._turned = 0.0

    def wait(self, key: Hashable) -> float:
        """Seconds after which the key's change should be told."""
        now = self._clock.monotonic()
        self._turn(now)
        interval = min(self._most, 2 * self._least + self._per_key * max(len(self._now), len(self._before)))
        last = self._now.get(key, self._before.get(key))
        if last is None:
            return self._least
        return max(self._least, last + interval - now)

    def told(self, key: Hashable) -> None:
        """The key has just been told."""
        now = self._clock.monotonic()
        self._turn(now)
        self._now[key] = now

    def _turn(self, now: float) -> None:
        if now - self._turned > _WINDOW_SECONDS:
            self._before = self._now if now - self._turned < 2 * _WINDOW_SECONDS else {}
            self._now = {}
            self._turned = now

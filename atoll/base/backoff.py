"""Exponential back-off with jitter, as data."""

from __future__ import annotations

from msgspec import Struct

from atoll.base.chance import Chance


class Backoff(Struct, frozen=True):
    """delay(n) = min(first * factor**n, most), times 1 ± jitter."""

    first_seconds: float = 0.005
    factor: float = 2.0
    most_seconds: float = 60.0
    jitter: float = 0.1

    def delay(self, failures: int, chance: Chance | None = None) -> float:
        """Seconds to wait after `failures` (0 = after the first) failures in a row."""
        exponent = min(failures, 64)
        seconds = min(self.first_seconds * self.factor**exponent, self.most_seconds)
        if chance is not None and self.jitter:
            seconds *= 1 + chance.uniform(-self.jitter, self.jitter)
        return seconds

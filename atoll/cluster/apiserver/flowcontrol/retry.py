"""After how many seconds a refused client may come again: doubled while refusals go on, less when they cease."""

from __future__ import annotations

from msgspec import Struct

MOST_SECONDS = 32


class RetryAfter(Struct):
    """Of one priority level (apiserver's dropped requests tracker)."""

    seconds: int = 1
    _current: int = 0
    _count: int = 0
    _raised_at: int = 0
    _history: list[tuple[int, int]] = []

    def refused(self, wall_seconds: int) -> int:
        """Count a refusal; returns what to tell the client."""
        if wall_seconds == self._current:
            self._count += 1
            return self.seconds
        self._history.append((self._current, self._count))
        oldest = wall_seconds - min(2 * self.seconds, MOST_SECONDS)
        self._history = [item for item in self._history if item[0] >= oldest]
        self._current, self._count = wall_seconds, 1
        recent = sum(count for when, count in self._history if wall_seconds - when <= self.seconds)
        if wall_seconds - self._raised_at >= self.seconds and recent >= 3 * self.seconds:
            self.seconds = min(2 * self.seconds, MOST_SECONDS)
            self._raised_at = wall_seconds
        elif recent < self.seconds and self.seconds > 1:
            self.seconds -= 1
        return self.seconds

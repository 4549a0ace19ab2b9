"""What a controller has asked for and not yet seen in its cache (pkg/controller's ControllerExpectations).

While something is outstanding the cache is behind, and acting on it would create or delete twice. A watch that
loses an event can't stop a controller for good: expectations older than five minutes don't count.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 300.0


@dataclass(slots=True)
class _Outstanding:
    since: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)


class Expectations:
    """By controller key; deletions by the object's uid. Times are monotonic."""

    def __init__(self) -> None:
        self._outstanding: dict[Hashable, _Outstanding] = {}

    def expect_creations(self, key: Hashable, count: int, now: float) -> None:
        self._outstanding[key] = _Outstanding(now, creations=count)

    def expect_deletions(self, key: Hashable, uids: Iterable[str], now: float) -> None:
        self._outstanding[key] = _Outstanding(now, deletions=set(uids))

    def expect(self, key: Hashable, creations: int, deletions: Iterable[str], now: float) -> None:
        self._outstanding[key] = _Outstanding(now, creations, set(deletions))

    def creation_observed(self, key: Hashable, count: int = 1) -> None:
        found = self._outstanding.get(key)
        if found is not None:
            found.creations -= count

    def deletion_observed(self, key: Hashable, uid: str) -> None:
        found = self._outstanding.get(key)
        if found is not None:
            found.deletions.discard(uid)

    def satisfied(self, key: Hashable, now: float) -> bool:
        found = self._outstanding.get(key)
        if found is None or (found.creations <= 0 and not found.deletions):
            return True
        return now - found.since > TIMEOUT_SECONDS

    def outstanding(self, key: Hashable) -> int:
        """How many creations and deletions are still to be seen."""
        found = self._outstanding.get(key)
        return max(found.creations, 0) + len(found.deletions) if found is not None else 0

    def forget(self, key: Hashable) -> None:
        self._outstanding.pop(key, None)

"""Who is not ready, since when, and whether it is the hub itself that is cut off or was asleep. Pure of I/O.

Times are the hub's own observations, so a hub that stalled, slept, or lost all its clusters at once has observed
nothing: then every clock of every cluster starts anew, and nothing is moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Observed:
    """What is known of one cluster's health."""

    failures: int = 0
    failing_since: float | None = None
    ready: bool = False
    ever: bool = False  # has been ready since the hub started


@dataclass(slots=True)
class Suspicion:
    """`tick` at least every `stall_seconds` / 2; all times are monotonic but `wall`."""

    stall_seconds: float
    failure_threshold: int
    clusters: dict[str, Observed] = field(default_factory=dict)
    suspect: bool = False
    _last: float | None = None
    _last_wall: float | None = None

    def tick(self, monotonic: float, wall: float) -> bool:
        """Whether the hub has stalled since the last tick; then all evidence is void."""
        last, last_wall = self._last, self._last_wall
        self._last, self._last_wall = monotonic, wall
        if last is None or last_wall is None:
            return False
        gap = max(monotonic - last, wall - last_wall)
        if gap <= self.stall_seconds:
            return False
        self._forgive(monotonic)
        return True

    def answered(self, name: str) -> bool:
        """A probe succeeded. True when the cluster was not ready before."""
        seen = self.clusters.setdefault(name, Observed())
        was = seen.ready
        seen.failures, seen.failing_since, seen.ready, seen.ever = 0, None, True, True
        return not was

    def failed(self, name: str, began: float, *, timed_out: bool) -> bool:
        """A probe that began then failed. True when the cluster is not ready from now on.

        A time-out is evidence enough; a refusal may be a restart, and is asked again at once.
        """
        seen = self.clusters.setdefault(name, Observed())
        seen.failures += self.failure_threshold if timed_out else 1
        if seen.failing_since is None:
            seen.failing_since = began
        if seen.ready and seen.failures >= self.failure_threshold:
            seen.ready = False
            return True
        return False

    def forget(self, name: str) -> None:
        self.clusters.pop(name, None)

    def judge(self, monotonic: float) -> bool:
        """Whether the hub is the suspect: every cluster that was ever ready is failing, and there are several."""
        known = [seen for seen in self.clusters.values() if seen.ever]
        suspect = len(known) > 1 and not any(seen.ready and seen.failing_since is None for seen in known)
        if self.suspect or suspect:
            self._forgive(monotonic)
        self.suspect = suspect
        return suspect

    def lost_for(self, name: str, monotonic: float) -> float | None:
        """Seconds for which the cluster has been observed not ready; None while it is ready or the hub is suspect."""
        seen = self.clusters.get(name)
        if seen is None or seen.ready or seen.failing_since is None or self.suspect:
            return None
        return monotonic - seen.failing_since

    def _forgive(self, monotonic: float) -> None:
        for seen in self.clusters.values():
            if seen.failing_since is not None:
                seen.failing_since = monotonic

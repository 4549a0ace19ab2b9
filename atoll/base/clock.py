"""Time as a parameter.

Nothing below `atoll.app` calls `time` or `datetime.now`. Waiting is `asyncio.sleep`: under the virtual
event loop (`atoll.runtime.virtual`) it is virtual too, so a Clock only has to tell the time.
"""

from __future__ import annotations

import datetime
import functools
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time (may jump, for timestamps) and monotonic time (never goes back, for deadlines)."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves when told; for unit tests of pure parts."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._wall = wall
        self._monotonic = 0.0

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._wall += seconds
        self._monotonic += seconds


_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # the years 1 and 9999: what lies beyond is told as these


def rfc3339(wall_seconds: float) -> str:
    """Kubernetes' metav1.Time: whole seconds, UTC, e.g. 2026-11-23T16:00:00Z."""
    seconds = int(wall_seconds)
    return _rfc3339(seconds if _FIRST <= seconds <= _LAST else max(_FIRST, min(seconds, _LAST)))


@functools.lru_cache(maxsize=4096)
def _rfc3339(seconds: int) -> str:
    return rfc3339_of(datetime.datetime.fromtimestamp(seconds, datetime.UTC))


def rfc3339_micro(wall_seconds: float) -> str:
    """Kubernetes' metav1.MicroTime: six decimals, UTC."""
    seconds = max(_FIRST, min(wall_seconds, _LAST))
    return rfc3339_of(datetime.datetime.fromtimestamp(seconds, datetime.UTC), "microseconds")


def rfc3339_of(moment: datetime.datetime, to: str = "seconds") -> str:
    """A moment in UTC, cut `to` "seconds" or "microseconds"; years have four digits (strftime's %Y may have fewer)."""
    return moment.replace(tzinfo=None).isoformat(timespec=to) + "Z"


@functools.lru_cache(maxsize=4096)  # many things happen in the same second
def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time. Raises ValueError."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

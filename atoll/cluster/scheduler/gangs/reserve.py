"""Whose turn it is to have room kept: of the gangs that have lacked room for long, one at a time.

A gang that has waited RESERVE_AFTER_SECONDS for room is due. Of those due the most important has room kept for it, of
equals the one that waits longest; a more important one takes its turn at once. After HOLD_SECONDS what it kept is let
go, and it is due again only after as long again, so work that never ends can't make nodes idle for good. Until when
room is kept stands in what the gang's pods are told: a scheduler that is started again goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atoll.base.clock import Clock, parse_rfc3339, rfc3339
from atoll.objects.meta import condition
from atoll.scheduling.gang import Gang
from atoll.scheduling.gang_reservation import plan_reservation
from atoll.scheduling.groups.model import GroupKey
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.reservation import Reservation

Object = dict[str, Any]
RESERVE_AFTER_SECONDS: Final = 300.0
HOLD_SECONDS: Final = 3600.0
_REPLAN_SECONDS: Final = 60.0  # nodes come and go, and more important work takes what was kept
_WORDS = re.compile(r"is kept for it until (\S+)$")


@dataclass(slots=True)
class _Wait:
    priority: int
    due: float  # monotonic


class Reserving:
    """`helped` is called when room is no longer kept: others may be placed."""

    def __init__(self, planner: Planner, clock: Clock, helped: Callable[[], None]) -> None:
        self._planner = planner
        self._clock = clock
        self._helped = helped
        self._waits: dict[GroupKey, _Wait] = {}
        self._holder: GroupKey | None = None
        self._until = 0.0  # wall
        self._planned = 0.0

    def lacks_room(self, key: GroupKey, gang: Gang) -> tuple[str, float | None]:
        """What is kept for it, in words ("": nothing), and when (monotonic) to ask again whatever happens.

        Only the next in turn is to ask again: with many that wait, all would be tried each time for one of them.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        wait = self._waits.get(key)
        if wait is None:
            told = kept_until(gang.pods)
            wait = self._waits[key] = _Wait(gang.priority, now if told > wall else now + RESERVE_AFTER_SECONDS)
            if told > wall and self._is_first(wait):
                self._keep(key, gang, told)
        elif self._holder == key:
            if wall >= self._until:
                self._let_go()
                wait.due = now + HOLD_SECONDS
            elif now - self._planned >= _REPLAN_SECONDS:
                self._keep(key, gang, self._until)
        elif now >= wait.due and self._is_first(wait):
            self._keep(key, gang, wall + HOLD_SECONDS)
        if self._holder == key and self._planner.reservation is not None:
            return words(self._planner.reservation, self._until), now + min(_REPLAN_SECONDS, self._until - wall)
        return "", wait.due if wait.due > now and self._is_first(wait) else None

    def over(self, key: GroupKey) -> None:
        """It does not lack room (any more)."""
        self._waits.pop(key, None)
        if self._holder == key:
            self._let_go()

    def waiting(self) -> list[GroupKey]:
        return list(self._waits)

    def _is_first(self, wait: _Wait) -> bool:
        """Of those that are due, or will be no later."""
        holder = None if self._holder is None else self._waits.get(self._holder)
        if holder is not None and holder.priority >= wait.priority:
            return False
        at = max(wait.due, self._clock.monotonic())
        return not any(
            (-item.priority, item.due) < (-wait.priority, wait.due) for item in self._waits.values() if item.due <= at
        )

    def _keep(self, key: GroupKey, gang: Gang, until: float) -> None:
        """Where nothing that ends by itself would let it in, others may have their turn."""
        now = self._clock.monotonic()
        self._let_go()
        self._planner.reservation = plan_reservation(self._planner, gang)
        if self._planner.reservation is None:
            self._waits[key].due = now + RESERVE_AFTER_SECONDS
        else:
            self._holder, self._until, self._planned = key, until, now

    def _let_go(self) -> None:
        self._planner.reservation = None
        if self._holder is not None:
            self._holder = None
            self._helped()


def words(reservation: Reservation, until: float) -> str:
    count = len(reservation.amounts)
    return f"room on {count} {'node' if count == 1 else 'nodes'} is kept for it until {rfc3339(until)}"


def kept_until(pods: Sequence[PodInfo]) -> float:
    """Until when (wall seconds) room is kept for a gang, by what its pods were told; 0: for none."""
    messages = ((condition(pod.obj, "PodScheduled") or {}).get("message") or "" for pod in pods)
    found = [match[1] for text in messages if (match := _WORDS.search(text)) is not None]
    return max(map(_moment, found), default=0.0)


def _moment(text: str) -> float:
    """0 for what is no time: others may write such a message too."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        return 0.0

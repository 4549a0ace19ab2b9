"""Pods that wait for a node: ready, backing off, unschedulable until something changes, gated.

As kube-scheduler's PrioritySort: the highest priority first, then the longest waiting. A pod that failed to fit
comes back when the cluster changes, after a back-off that grows with its attempts; where nothing else is ready, the
back-off is cut short (upstream's SchedulerPopFromBackoffQ).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from atoll.scheduling.pod import PodInfo

INITIAL_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 10.0
FLUSH_SECONDS = 300.0


@dataclass(slots=True, eq=False)
class Waiting:
    """A queued pod and its history."""

    pod: PodInfo
    since: float
    attempts: int = 0
    ready_at: float = 0.0  # end of its back-off
    error: bool = False  # the last attempt failed for a reason that is not the cluster's state
    seen: int = 0  # the changes of the cluster that its last attempt knew of
    place: str = ""  # which part of the queue holds it: active, backoff, unschedulable, gated, out


class SchedulingQueue:
    """Keeps each pod in exactly one place. Times are the caller's (monotonic seconds)."""

    def __init__(self) -> None:
        self._pods: dict[str, Waiting] = {}
        self._active: list[tuple[int, float, int, Waiting]] = []
        self._backoff: list[tuple[float, int, Waiting]] = []
        self._parked: dict[str, Waiting] = {}
        self._sequence = 0
        self._helps = 0  # changes of the cluster that may help
        self._served = 0  # how many of them parked pods were moved for

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, uid: str) -> Waiting | None:
        return self._pods.get(uid)

    def places(self) -> Iterator[str]:
        """Where each pod is."""
        return (waiting.place for waiting in self._pods.values())

    def everyone(self) -> list[Waiting]:
        """All that wait, gated ones too."""
        return list(self._pods.values())

    def parked(self) -> Iterator[Waiting]:
        """Unschedulable pods."""
        return iter(list(self._parked.values()))

    def add(self, pod: PodInfo, now: float) -> None:
        """A new or changed pod: it is tried at once."""
        waiting = self._pods.get(pod.uid)
        if waiting is None:
            waiting = self._pods[pod.uid] = Waiting(pod, now)
        waiting.pod = pod
        if (pod.obj.get("spec") or {}).get("schedulingGates"):
            self._parked.pop(pod.uid, None)
            waiting.place = "gated"
        elif waiting.place not in ("active", "taken"):
            self._activate(waiting)

    def refresh(self, pod: PodInfo) -> None:
        """A change of the pod that does not help it (its status)."""
        waiting = self._pods.get(pod.uid)
        if waiting is not None:
            waiting.pod = pod

    def remove(self, uid: str) -> None:
        waiting = self._pods.pop(uid, None)
        if waiting is not None:
            waiting.place = "out"
            self._parked.pop(uid, None)

    def pop(self, now: float) -> Waiting | None:
        """The next pod to try; it stays known as taken until `park`, `retry` or `remove`."""
        self._ripen(now)
        waiting = self._pop_active()
        if waiting is None and self._served < self._helps:
            self._move_parked(now)
            waiting = self._pop_active()
        return waiting or self._pop_backoff()

    def _pop_active(self) -> Waiting | None:
        while self._active:
            waiting = heapq.heappop(self._active)[3]
            if waiting.place == "active":
                return self._take(waiting)
        return None

    def _pop_backoff(self) -> Waiting | None:
        while self._backoff:  # nothing is ready: cut a back-off short, but for errors
            waiting = self._backoff[0][2]
            if waiting.place == "backoff" and waiting.error:
                return None
            heapq.heappop(self._backoff)
            if waiting.place == "backoff":
                return self._take(waiting)
        return None

    def next_time(self) -> float | None:
        """When the next back-off ends."""
        while self._backoff and self._backoff[0][2].place != "backoff":
            heapq.heappop(self._backoff)
        return self._backoff[0][0] if self._backoff else None

    def take(self, waiting: Waiting) -> None:
        """Tried beside another of its gang, wherever in the queue it is."""
        self._parked.pop(waiting.pod.uid, None)
        self._take(waiting)

    def hold(self, waiting: Waiting, until: float) -> None:
        """Not before then, unless it changes."""
        if waiting.place == "out":
            return
        waiting.error = True
        waiting.ready_at = until
        self._back_off(waiting)

    def park(self, waiting: Waiting, now: float) -> None:
        """It fits nowhere: wait for a change."""
        if waiting.place == "out":
            return
        waiting.error = False
        waiting.ready_at = now + _backoff(waiting.attempts)
        waiting.place = "unschedulable"
        self._parked[waiting.pod.uid] = waiting

    def retry(self, waiting: Waiting, now: float) -> None:
        """It failed by an error: back off."""
        if waiting.place == "out":
            return
        waiting.error = True
        waiting.ready_at = now + _backoff(waiting.attempts)
        self._back_off(waiting)

    def helped(self) -> None:
        """The cluster has changed so that unschedulable pods may fit: they are tried once what is ready was."""
        self._helps += 1

    def _move_parked(self, now: float) -> None:
        self._served = self._helps
        for waiting in [item for item in self._parked.values() if item.seen < self._helps]:
            if waiting.ready_at > now:
                self._back_off(waiting)
            else:
                self._activate(waiting)

    def flush(self, now: float) -> None:
        """Unschedulable for long: try again, in case a change was missed."""
        for waiting in list(self._parked.values()):
            if now - waiting.ready_at > FLUSH_SECONDS:
                del self._parked[waiting.pod.uid]
                self._activate(waiting)

    def _take(self, waiting: Waiting) -> Waiting:
        waiting.place = "taken"
        waiting.seen = self._helps
        waiting.attempts += 1
        return waiting

    def _ripen(self, now: float) -> None:
        while self._backoff and self._backoff[0][0] <= now:
            waiting = heapq.heappop(self._backoff)[2]
            if waiting.place == "backoff":
                self._activate(waiting)

    def _activate(self, waiting: Waiting) -> None:
        self._parked.pop(waiting.pod.uid, None)
        waiting.place = "active"
        self._sequence += 1
        heapq.heappush(self._active, (-waiting.pod.priority, waiting.since, self._sequence, waiting))

    def _back_off(self, waiting: Waiting) -> None:
        self._parked.pop(waiting.pod.uid, None)
        waiting.place = "backoff"
        self._sequence += 1
        heapq.heappush(self._backoff, (waiting.ready_at, self._sequence, waiting))


def _backoff(attempts: int) -> float:
    doublings = min(max(0, attempts - 1), 10)  # more than reach the most
    return min(INITIAL_BACKOFF_SECONDS * 2.0**doublings, MAX_BACKOFF_SECONDS)

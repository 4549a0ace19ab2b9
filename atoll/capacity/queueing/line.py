"""The pending workloads of one ClusterQueue, in order, by class.

Workloads of one class (local queue, priority, shape) are alike to quota: if the first of them can't be admitted, none
can until something changes. So a queue of thousands is looked through by its few classes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.capacity.queueing.model import Key, Workload

ClassKey = tuple[Key, int, int]
"""(local queue, priority, id of the shape)."""


def class_of(workload: Workload) -> ClassKey:
    return workload.queue_key, workload.priority, id(workload.shape)


@dataclass(slots=True)
class Parked:
    """Why a class waits, and what it lacks by (flavour, resource)."""

    message: str
    lacks: dict[tuple[str, str], int]


@dataclass(slots=True)
class _Class:
    heap: list[tuple[float, str, Key]] = field(default_factory=list)
    members: dict[Key, Workload] = field(default_factory=dict)

    def first(self) -> Workload | None:
        while self.heap:
            at, uid, key = self.heap[0]
            found = self.members.get(key)
            if found is not None and (found.order_at, found.uid) == (at, uid):
                return found
            heapq.heappop(self.heap)
        return None


class Line:
    """`parked` classes are passed over until something changes (`unpark`)."""

    def __init__(self) -> None:
        self._classes: dict[ClassKey, _Class] = {}
        self._class_of: dict[Key, ClassKey] = {}
        self.parked: dict[ClassKey, Parked] = {}

    def __len__(self) -> int:
        return len(self._class_of)

    def __contains__(self, key: Key) -> bool:
        return key in self._class_of

    def add(self, workload: Workload) -> None:
        """Or put it anew."""
        self.discard(workload.key)
        name = class_of(workload)
        group = self._classes.setdefault(name, _Class())
        group.members[workload.key] = workload
        heapq.heappush(group.heap, (workload.order_at, workload.uid, workload.key))
        self._class_of[workload.key] = name

    def discard(self, key: Key) -> None:
        name = self._class_of.pop(key, None)
        if name is None:
            return
        group = self._classes[name]
        del group.members[key]
        if not group.members:
            del self._classes[name]
            self.parked.pop(name, None)

    def parked_count(self) -> int:
        """How many wait until something changes."""
        return sum(len(group.members) for name, group in self._classes.items() if name in self.parked)

    def leads(self, workload: Workload) -> bool:
        """Whether it is the first of its class."""
        group = self._classes.get(class_of(workload))
        first = group.first() if group is not None else None
        return first is not None and first.key == workload.key

    def head(self, past_usage: Callable[[Key], float], *, strict: bool) -> Workload | None:
        """The next one; with `strict`, None if that one is parked: nobody overtakes it."""
        best: Workload | None = None
        rank: tuple[float, int, float, str] | None = None
        for name, group in self._classes.items():
            if not strict and name in self.parked:
                continue
            first = group.first()
            if first is None:
                continue
            own = (past_usage(name[0]), -first.priority, first.order_at, first.uid)
            if rank is None or own < rank:
                best, rank = first, own
        return None if best is not None and class_of(best) in self.parked else best

    def ordered(self, past_usage: Callable[[Key], float]) -> list[Workload]:
        """All of them, the next one first."""
        found = [item for group in self._classes.values() for item in group.members.values()]
        return sorted(found, key=lambda it: (past_usage(it.queue_key), -it.priority, it.order_at, it.uid))

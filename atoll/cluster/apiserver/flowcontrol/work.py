"""How much work a request is thought to be: seats now, and seats that its watchers will take after it.

From KEP-1040 and apiserver's work estimators: a list or a watch with initial events takes a seat for each 100 KB that
it is thought to hold in memory at once; a write that many watch keeps seats for some milliseconds after it is answered.
"""

from __future__ import annotations

import math

from msgspec import Struct

BYTES_PER_SEAT = 100_000
STREAMED_BYTES = 1_000_000  # the most that a list from memory is thought to hold at once
LARGEST_OBJECT_BYTES = 1_500_000
MOST_LIST_SEATS = 100
MOST_WRITE_SEATS = 10
WATCHES_PER_SEAT = 1000  # upstream: 10; to send one an event takes it hundreds of microseconds, this server about 3
EVENT_SECONDS = 0.005

_WRITES = frozenset({"create", "update", "patch", "delete"})


class Work(Struct, frozen=True):
    """`final_seats` are kept for `extra_seconds` after the answer."""

    initial_seats: int = 1
    final_seats: int = 0
    extra_seconds: float = 0.0

    @property
    def seats(self) -> int:
        """Reserved while it runs and after."""
        return max(self.initial_seats, self.final_seats)


ONE = Work()


class Stored(Struct, frozen=True):
    """What is known of a resource's objects."""

    objects: int
    average_bytes: int


class Listing(Struct, frozen=True):
    """What matters of a list's or watch's options."""

    single: bool = False  # a name is asked for
    limit: int = 0
    selects: bool = False
    from_memory: bool = True


def list_work(stored: Stored | None, listing: Listing, max_seats: int) -> Work:
    """`stored` None: not a resource of this server, which costs it little."""
    if stored is None:
        return ONE
    average = stored.average_bytes
    if average <= 0 and stored.objects:
        average = LARGEST_OBJECT_BYTES
    limited = min(listing.limit, stored.objects) if listing.limit > 0 else stored.objects
    if listing.single:
        loaded = 1
    elif not listing.from_memory and listing.selects:
        loaded = max(limited, stored.objects // 2)
    else:
        loaded = limited
    used = loaded * average
    if listing.from_memory:
        used = min(used, STREAMED_BYTES)
    most = min(max_seats or MOST_LIST_SEATS, MOST_LIST_SEATS)
    seats = min(max(1, math.ceil(used / BYTES_PER_SEAT)), most)
    return Work(seats) if seats > 1 else ONE


def write_work(watchers: int, max_seats: int) -> Work:
    """The work of sending the change to that many watchers, reshaped to be no wider than `max_seats`."""
    if watchers < WATCHES_PER_SEAT:
        return ONE
    seats = math.ceil(watchers / WATCHES_PER_SEAT)
    most = min(max_seats or MOST_WRITE_SEATS, MOST_WRITE_SEATS)
    final = min(seats, most)
    return Work(1, final, seats * EVENT_SECONDS / final)


def is_write(verb: str) -> bool:
    """Whether the verb makes an event for watchers (deletecollection is not counted, as upstream)."""
    return verb in _WRITES


class WatchCounts:
    """How many watch what: (group, resource, namespace, name) → watches."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], int] = {}

    def add(self, group: str, resource: str, namespace: str, name: str) -> tuple[str, str, str, str]:
        """Returns what `remove` takes."""
        key = (group, resource, namespace, name)
        self._counts[key] = self._counts.get(key, 0) + 1
        return key

    def remove(self, key: tuple[str, str, str, str]) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]

    def interested(self, group: str, resource: str, namespace: str, name: str) -> int:
        """Watches that a write of that object may concern."""
        counts = self._counts
        if not counts:
            return 0
        found = counts.get((group, resource, "", ""), 0)
        if namespace:
            found += counts.get((group, resource, namespace, ""), 0)
        if name:
            found += counts.get((group, resource, namespace, name), 0)
        return found

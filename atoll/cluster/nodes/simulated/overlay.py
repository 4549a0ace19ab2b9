"""Fresh heartbeats for whoever looks: leases of healthy simulated nodes are renewed as they are read.

Nothing is written; what a reader gets differs from the store in `spec.renewTime` alone. Watchers are shown writes
only: the node lifecycle controller goes by the mark on the lease (`leases.py`), not by its age.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from atoll.base.clock import Clock
from atoll.cluster.nodes.simulated.leases import refreshed
from atoll.cluster.store.port import Key, Origin, Record, Watcher

Object = dict[str, Any]
RESOURCE = "leases.coordination.k8s.io"


class FreshRecord:
    """A stored lease as its first reader is to see it. A list of many is read by pages: most of it is not looked at."""

    __slots__ = ("_clock", "_shown", "_stored", "key", "version")

    def __init__(self, stored: Record, clock: Clock) -> None:
        self.key = stored.key
        self.version = stored.version
        self._stored = stored
        self._clock = clock
        self._shown: tuple[Object, bytes] | None = None

    @property
    def object(self) -> Object:
        return self._seen()[0]

    @property
    def data(self) -> bytes:
        return self._seen()[1]

    def _seen(self) -> tuple[Object, bytes]:
        if self._shown is None:
            fresh = refreshed(self._stored.object, self._clock.wall)
            self._shown = (self._stored.object, self._stored.data) if fresh is None else (fresh, orjson.dumps(fresh))
        return self._shown

    @property
    def uid(self) -> str:
        return self._stored.uid

    @property
    def labels(self) -> dict[str, str]:
        return self._stored.labels

    @property
    def node_name(self) -> str:
        return ""

    @property
    def origin(self) -> Origin | None:
        return None

    @property
    def values(self) -> Sequence[bytes]:
        return ()


class LeaseOverlay:
    """See `atoll.cluster.apiserver.api.Overlay`; for leases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(self, key: Key, stored: Record | None) -> Record | None:
        return None if stored is None else FreshRecord(stored, self._clock)

    def records(self, namespace: str | None, stored: list[Record]) -> list[Record]:
        return [FreshRecord(record, self._clock) for record in stored]

    def watcher(self, stored: Watcher, after: int, namespace: str | None) -> Watcher:
        return stored

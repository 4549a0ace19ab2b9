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
    """A stored lease as readers are to see it now."""

    __slots__ = ("data", "key", "labels", "node_name", "object", "origin", "uid", "values", "version")

    def __init__(self, stored: Record, obj: Object) -> None:
        self.object = obj
        self.key = stored.key
        self.version = stored.version
        self.data: bytes = orjson.dumps(obj)
        self.uid = stored.uid
        self.labels = stored.labels
        self.node_name = ""
        self.origin: Origin | None = None
        self.values: Sequence[bytes] = ()


class LeaseOverlay:
    """See `atoll.cluster.apiserver.api.Overlay`; for leases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(self, key: Key, stored: Record | None) -> Record | None:
        return None if stored is None else self._shown(stored)

    def records(self, namespace: str | None, stored: list[Record]) -> list[Record]:
        return [self._shown(record) for record in stored]

    def watcher(self, stored: Watcher, after: int, namespace: str | None) -> Watcher:
        return stored

    def _shown(self, stored: Record) -> Record:
        fresh = refreshed(stored.object, self._clock.wall)
        return stored if fresh is None else FreshRecord(stored, fresh)

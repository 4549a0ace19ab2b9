"""The storage port: versioned objects, compare-and-swap, history.

Implementations: `memory.MemoryStore` (pure) and `durable.DurableStore` (memory authoritative, an append-only
SQLite log). One contract suite for both: `atoll.testing.contracts.store`.

Rules: one version counter per store, +1 a write, never going back over a crash. A write is checked against the
newest *pending* state at the call, with no await, and becomes visible, is published to watchers and
acknowledged only once durable, in version order. A commit that fails fails every pending write after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

Object = dict[str, Any]

ABSENT = 0
"""`expected` of a write that must create."""


class Origin(Protocol):
    """What many objects were made from."""

    def read(self, data: bytes) -> list[bytes]:
        """What was filled in to make these bytes; the version last."""
        ...

    def parse(self, data: bytes, values: Sequence[bytes] | None = None) -> Object:
        """The object of bytes that were made from it, as a JSON parser gives it; parts may be shared with others.

        `values`: what `read` gives, where that is known.
        """
        ...


class Encoded(Struct, frozen=True):
    """An object that is JSON already: its resourceVersion is written between the two parts."""

    head: bytes
    tail: bytes
    origin: Origin | None = None  # for the record to name
    values: Sequence[bytes] | None = None  # what `origin` will read from it but for the version, where that is known
    uid: str = ""  # where it is known


class Key(NamedTuple):
    """resource is "pods" or "deployments.apps" (any served version); namespace "" for cluster-scoped ones."""

    resource: str
    namespace: str
    name: str


class Record(Protocol):
    """One version of one object. Immutable and shared."""

    @property
    def key(self) -> Key: ...

    @property
    def version(self) -> int: ...

    @property
    def data(self) -> bytes:
        """Canonical JSON, metadata.resourceVersion == str(version)."""

    @property
    def object(self) -> Object:
        """Parsed, shared: never change it."""

    @property
    def uid(self) -> str: ...

    @property
    def labels(self) -> dict[str, str]: ...

    @property
    def origin(self) -> Origin | None:
        """What the Encoded that it was written from named; None where there was none, or it was read from the disk."""

    @property
    def values(self) -> Sequence[bytes]:
        """What its origin reads in it; nothing where it has none."""

    @property
    def node_name(self) -> str:
        """spec.nodeName of a pod, "" if none."""


class Event(NamedTuple):
    """A change. DELETED carries the last state, stamped with the version of the deletion."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    version: int
    record: Record
    previous: Record | None


class StaleVersion(Exception):
    """The compare failed; `current` is the newest pending record (None: absent)."""

    def __init__(self, key: Key, current: Record | None) -> None:
        super().__init__(f"{key} is at {current.version if current else 'absent'}")
        self.current = current


class TooOld(Exception):
    """That version is below the history."""


class TooNew(Exception):
    """That version has not happened yet."""


class Watcher(Protocol):
    """A position in the history of one resource."""

    async def next(self) -> list[Event]:
        """At least one event, all that are there now; none after `nudge`. Raises TooOld when history has passed it."""

    def nudge(self) -> None:
        """Let the task that waits in `next`, or the next that comes, have an empty answer: its time is over."""

    @property
    def version(self) -> int:
        """All changes up to here were delivered (moves on idle too: the version of a bookmark)."""

    def close(self) -> None: ...


class Store(Protocol):
    @property
    def version(self) -> int:
        """The newest durable version."""

    def get(self, key: Key) -> Record | None:
        """The newest durable record."""

    def newest(self, key: Key) -> Record | None:
        """The newest record, pending ones included: what writers compare with."""

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        """Create (expected=ABSENT), replace, or delete (obj=None; the record is then the DELETED one).

        `obj` becomes the store's; its metadata.resourceVersion is set here. Raises StaleVersion at once; the
        future is done when durable, or fails with StorageFailed.
        """

    async def settle(self, key: Key) -> None:
        """Wait until what `newest` says now is durable. Raises StorageFailed where it is not and won't be."""

    def scan(self, resource: str, namespace: str | None = None, at: int | None = None) -> list[Record]:
        """Durable records in (namespace, name) order, now or exactly at a version. Raises TooOld, TooNew."""

    def count(self, resource: str) -> int:
        """Durable objects of a resource."""

    def last_change(self, resource: str) -> int:
        """The version of the newest durable change of a resource, 0 if none: a cheap "has anything changed"."""

    def resources(self) -> Iterable[str]:
        """Resources that have objects."""

    def watch(self, resource: str, after: int, namespace: str | None = None) -> Watcher:
        """Changes after a version. Raises TooOld, TooNew."""

    def trouble(self) -> str:
        """Why the last writes were not stored, or that one is not stored for long; "" where all is well."""

    async def close(self) -> None:
        """Flush and close."""


class StorageFailed(Exception):
    """The write is not durable (disk full, I/O error) or was built on one that is not."""

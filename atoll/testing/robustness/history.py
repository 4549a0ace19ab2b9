"""What clients did and saw, in the order in which it happened to them.

Moments are numbers from one counter of the recording process, not times: "a returned before b was called" is exact,
and no clock can make it false.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from atoll.client.port import Object

VALUE = "value"  # the key in `data` that holds who wrote it: each write's own
COLOUR = "colour"  # a label that changes, for watches with a selector

UNKNOWN = "unknown"  # the answer was lost, or says that the server can't tell: it may have happened, or may yet
NOT_SENT = "not sent"  # certainly not carried out


@dataclass(frozen=True, slots=True)
class Seen:
    """One version of one object."""

    resource: str
    namespace: str
    name: str
    uid: str
    version: int
    value: str
    colour: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.resource, self.namespace, self.name)


def seen(resource: str, obj: Object) -> Seen:
    """What matters of an object."""
    metadata = obj["metadata"]
    return Seen(
        resource,
        metadata.get("namespace") or "",
        metadata["name"],
        metadata.get("uid") or "",
        int(metadata["resourceVersion"]),
        ((obj.get("data") or {}).get(VALUE) or (obj.get("metadata", {}).get("annotations") or {}).get(VALUE) or ""),
        (metadata.get("labels") or {}).get(COLOUR) or "",
    )


@dataclass(slots=True)
class Operation:
    """One request. `returned` is 0 as long as it has no answer; `error` is a Status' reason, UNKNOWN or NOT_SENT."""

    client: str
    verb: str  # create, update, patch, delete, get, list
    resource: str
    namespace: str
    name: str = ""
    value: str = ""  # what a write writes
    precondition: int = 0  # the resourceVersion that it must find
    stale_ok: bool = False  # a list with resourceVersion=0: any past state will do
    called: int = 0
    returned: int = 0
    error: str = ""
    found: tuple[Seen, ...] = ()  # the objects in the answer
    version: int = 0  # of a list
    uid: str = ""  # that a deletion says it deleted

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.resource, self.namespace, self.name)

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete")

    @property
    def known(self) -> bool:
        return bool(self.returned) and self.error not in (UNKNOWN, NOT_SENT)

    def __str__(self) -> str:
        what = f"{self.client}: {self.verb} {self.resource} {self.namespace}/{self.name}"
        if self.precondition:
            what += f" at {self.precondition}"
        return f"{what} [{self.called}..{self.returned or '?'}] → {self.error or self.version or list(self.found)[:1]}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a watch delivered; a BOOKMARK has only its version."""

    type: str
    version: int
    at: int
    object: Seen | None = None


@dataclass(slots=True)
class Stream:
    """One watch, from its request to its end."""

    watcher: str
    resource: str
    namespace: str  # "" is all
    since: int
    colour: str = ""  # its label selector, "" is none
    delivered: list[Delivered] = field(default_factory=list)
    ended: str = ""  # a Status' reason, or how the connection ended

    @property
    def last(self) -> int:
        """From where it is resumed."""
        return self.delivered[-1].version if self.delivered else self.since

    def __str__(self) -> str:
        return f"{self.watcher}: watch {self.resource} {self.namespace or '*'} {self.colour} after {self.since}"


class History:
    """Recorded by one process: `call` before a request, `done` with its answer."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.streams: list[Stream] = []
        self._moment = 0

    def moment(self) -> int:
        self._moment += 1
        return self._moment

    def call(self, operation: Operation) -> Operation:
        operation.called = self.moment()
        self.operations.append(operation)
        return operation

    def done(self, operation: Operation, **answer: Any) -> Operation:
        for name, value in answer.items():
            setattr(operation, name, value)
        operation.returned = self.moment()
        return operation

    def stream(self, stream: Stream) -> Stream:
        self.streams.append(stream)
        return stream

    def deliver(self, stream: Stream, kind: str, version: int, found: Seen | None = None) -> None:
        stream.delivered.append(Delivered(kind, version, self.moment(), found))

    def digest(self) -> str:
        """The same for the same history."""
        lines: Iterable[str] = (repr(item) for item in (*self.operations, *self.streams))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

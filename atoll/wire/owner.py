"""What a connection, of whichever protocol, and its server ask of each other."""

from __future__ import annotations

import asyncio
from typing import Protocol

from atoll.wire.heads import Heads
from atoll.wire.limits import Limits
from atoll.wire.messages import Handler, Immediate


class Served(Protocol):
    """A connection, to its server."""

    deadline: float  # by the loop's time; past it the server calls `expire`

    def expire(self, now: float) -> None: ...

    def shut_down(self) -> None: ...

    def abort(self) -> None: ...


class Owner(Protocol):
    """The server, to a connection."""

    handler: Handler
    immediate: Immediate | None
    limits: Limits
    closing: bool
    connections: set[Served]
    buffer: memoryview  # lent to one connection at a time, for the length of one read
    heads: Heads

    def adopt(self, task: asyncio.Task[None]) -> None: ...

    def forget(self, connection: Served) -> None: ...

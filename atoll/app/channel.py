"""A child process's end of its line to the supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson

Message = dict[str, Any]


class Channel:
    """report() tells the supervisor; instructions() yields what it says."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.setblocking(False)

    def report(self, **message: Any) -> None:
        """Small messages to a local socket: written at once, dropped only if the supervisor is gone."""
        try:
            self._connection.send(orjson.dumps(message) + b"\n")
        except (BlockingIOError, OSError):
            return

    def fatal(self, why: str, hint: str | None = None) -> None:
        """This process can't start and a restart won't help."""
        self.report(phase="failed", fatal=why, hint=hint)

    async def instructions(self) -> AsyncIterator[Message]:
        """Ends when the supervisor has gone."""
        loop = asyncio.get_running_loop()
        buffer = b""
        while True:
            data = await loop.sock_recv(self._connection, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line:
                    yield orjson.loads(line)

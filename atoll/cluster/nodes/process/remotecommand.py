"""Exec and attach on the wire: channels of a WebSocket (v4/v5.channel.k8s.io) or streams of SPDY/3.1 (v1 to v4).

Both are made into one shape (`Streams`): stdin as an iterator, sinks for stdout and stderr, sizes of the terminal, and
a status at the end, which carries the exit code.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.spdy import SpdyError, SpdySession, SpdyStream
from atoll.wire.spdy import is_upgrade as is_spdy
from atoll.wire.spdy import upgrade as spdy_upgrade
from atoll.wire.websocket import WebSocket, WebSocketClosed
from atoll.wire.websocket import is_upgrade as is_websocket
from atoll.wire.websocket import upgrade as websocket_upgrade

Status = dict[str, Any]
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_BINARY, _BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
_SPDY_VERSIONS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_STREAM_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the caller asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Streams(Protocol):
    """One exec or attach as seen from the container."""

    def stdin(self) -> AsyncIterator[bytes]:
        """What the caller sends, until it closes its side."""

    async def stdout(self, data: bytes) -> None: ...

    async def stderr(self, data: bytes) -> None: ...

    async def resized(self) -> tuple[int, int]:
        """The next size (width, height) of the caller's terminal."""


Run = Callable[[Streams], Awaitable[Status]]
"""Does the work and returns the final Status."""


def success() -> Status:
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> Status:
    """The Status of a command's end, as the kubelet writes it."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> Status:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def upgrade(request: HttpRequest, wanted: Wanted, run: Run) -> HttpResponse:
    """The response that turns the request into an exec or attach; 400 where it can't be."""
    if is_websocket(request):

        async def serve(socket: WebSocket) -> None:
            await _serve_websocket(socket, wanted, run)

        return websocket_upgrade(request, (_V5, _V4, _BINARY, ""), serve)
    if is_spdy(request):
        offered = [part.strip() for part in request.headers.get("x-stream-protocol-version", "").split(",")]
        version = next((item for item in _SPDY_VERSIONS if item in offered), "")
        if not version and any(offered):
            text = f"unable to upgrade: unable to negotiate protocol: client supports {offered}"
            return HttpResponse(403, [("Content-Type", "text/plain")], text.encode())

        async def serve_spdy(session: SpdySession) -> None:
            await _serve_spdy(session, version or "channel.k8s.io", wanted, run)

        return spdy_upgrade(request, serve_spdy, headers=[("X-Stream-Protocol-Version", version)] if version else [])
    return HttpResponse(400, [("Content-Type", "text/plain")], b"Upgrade request required")


class _Base:
    def __init__(self) -> None:
        self.input: asyncio.Queue[bytes | None] = asyncio.Queue(64)
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    async def stdin(self) -> AsyncIterator[bytes]:
        while (data := await self.input.get()) is not None:
            yield data

    async def resized(self) -> tuple[int, int]:
        return await self.sizes.get()

    def size(self, text: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            wanted = json.loads(text)
            self.sizes.put_nowait((int(wanted["Width"]), int(wanted["Height"])))


class _WebSocketStreams(_Base):
    def __init__(self, socket: WebSocket, wanted: Wanted) -> None:
        super().__init__()
        self._socket = socket
        self._wanted = wanted

    async def stdout(self, data: bytes) -> None:
        if self._wanted.stdout:
            await self._socket.send(bytes((_STDOUT,)) + data)

    async def stderr(self, data: bytes) -> None:
        if self._wanted.stderr:
            await self._socket.send(bytes((_STDERR,)) + data)

    async def receive(self) -> None:
        """Sort the caller's messages until it goes."""
        try:
            while True:
                message = await self._socket.receive()
                data = message.encode() if isinstance(message, str) else message
                if not data:
                    continue
                if data[0] == _STDIN and len(data) > 1:
                    await self.input.put(data[1:])
                elif data[0] == _RESIZE:
                    self.size(data[1:])
                elif data[0] == _CLOSE and data[1:2] == bytes((_STDIN,)):
                    await self.input.put(None)
        except WebSocketClosed:
            await self.input.put(None)


async def _serve_websocket(socket: WebSocket, wanted: Wanted, run: Run) -> None:
    streams = _WebSocketStreams(socket, wanted)
    first = _STDOUT if wanted.stdout else _STDERR if wanted.stderr else _ERROR
    await socket.send(bytes((first,)))  # tells the client that the connection stands
    status = await _run_while(streams, streams.receive(), run)
    if status is None:
        return
    if socket.subprotocol in (_V4, _V5):
        await socket.send(bytes((_ERROR,)) + json.dumps(status).encode())
    elif status["status"] != "Success":
        await socket.send(bytes((_ERROR,)) + status["message"].encode())
    await socket.close()


async def _run_while(streams: Streams, receiving: Awaitable[None], run: Run) -> Status | None:
    """Run; None if the caller has gone before the end."""
    receiver = asyncio.ensure_future(receiving)
    work = asyncio.ensure_future(run(streams))
    try:
        await asyncio.wait([receiver, work], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return None
        return work.result()
    except ConnectionError:
        return None
    finally:
        for task in (receiver, work):
            task.cancel()
        await asyncio.gather(receiver, work, return_exceptions=True)


class _SpdyStreams(_Base):
    def __init__(self, found: dict[str, SpdyStream]) -> None:
        super().__init__()
        self.found = found

    async def stdout(self, data: bytes) -> None:
        await self._write("stdout", data)

    async def stderr(self, data: bytes) -> None:
        await self._write("stderr", data)

    async def _write(self, name: str, data: bytes) -> None:
        stream = self.found.get(name)
        if stream is not None:
            await stream.write(data)

    async def read_stdin(self) -> None:
        stream = self.found.get("stdin")
        with suppress(SpdyError):
            while stream is not None and (data := await stream.read()):
                await self.input.put(data)
        await self.input.put(None)

    async def read_sizes(self) -> None:
        stream = self.found.get("resize")
        text = b""
        with suppress(SpdyError):
            while stream is not None and (data := await stream.read()):
                text += data
                while b"}" in text:
                    one, _, text = text.partition(b"}")
                    self.size(one + b"}")


async def _serve_spdy(session: SpdySession, version: str, wanted: Wanted, run: Run) -> None:
    names = {"error"}
    names |= {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
    if wanted.tty:
        names.discard("stderr")
        if version in _SPDY_VERSIONS[:2]:
            names.add("resize")
    found: dict[str, SpdyStream] = {}
    async with asyncio.timeout(_STREAM_WAIT_SECONDS):
        while set(found) < names:
            stream = await session.accept_stream()
            if stream is None:
                return
            found[stream.headers.get("streamtype", "")] = stream
    streams = _SpdyStreams(found)
    readers = [asyncio.ensure_future(streams.read_stdin()), asyncio.ensure_future(streams.read_sizes())]
    try:
        status = await _run_while(streams, _session_end(session), run)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    if status is None:
        return
    with suppress(SpdyError):
        if version == _V4:
            await found["error"].write(json.dumps(status).encode())
        elif status["status"] != "Success":
            await found["error"].write(status["message"].encode())
        for stream in found.values():
            await stream.close()


async def _session_end(session: SpdySession) -> None:
    while await session.accept_stream() is not None:
        pass

"""One HTTP/2 connection of the server: many requests at once, each answered by a task of its own.

Handlers, limits and answers are those of `atoll.wire.http1`; a connection can't be hijacked (clients that want exec or
port-forward ask for HTTP/1.1 by ALPN), nor is WebSocket over HTTP/2 offered. Nothing more is read while the peer does
not read what was written for it, so that no flood of any frames makes anything grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from math import inf
from typing import Any, cast

from atoll.wire.compression import compress, is_to_be_compressed
from atoll.wire.http2 import frames
from atoll.wire.http2.frames import ConnectionFault, ErrorCode, FrameReader
from atoll.wire.http2.incoming import CONNECTION_ROOM_BYTES, Incoming
from atoll.wire.http2.outgoing import Outgoing
from atoll.wire.http2.request import Head
from atoll.wire.http2.stream import MOST_STREAMS, ROOM_BYTES, Stream, Streams
from atoll.wire.limits import Limits, plain_error
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.owner import Owner

log = logging.getLogger(__name__)

_LINGER_SECONDS = 1.0


class Http2Protocol(asyncio.BufferedProtocol):
    """See the module."""

    def __init__(self, owner: Owner) -> None:
        self.deadline = inf  # no later than when the peer has to have done something
        self._owner = owner
        self._limits: Limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._out: Outgoing = cast(Outgoing, None)
        self._incoming: Incoming = cast(Incoming, None)
        self._reader: FrameReader = cast(FrameReader, None)
        self._streams = Streams(self._sooner)
        self._certificate: bytes | None = None
        self._remote = ""
        self._failed = False  # what else comes is dropped
        self._head_due = inf
        self._idle_due = inf
        self._write_due = inf

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._out = Outgoing(self._transport, self._loop)
        self._incoming = Incoming(self._limits, self._streams, self._out, self)
        self._reader = FrameReader(self._incoming, self._limits.head_bytes)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._certificate = secured.getpeercert(True)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._remote = f"{name[0]}:{name[1]}"
        self._owner.connections.add(self)
        if self._owner.closing:
            self._transport.abort()
            return
        announced = {
            frames.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
            frames.INITIAL_WINDOW_SIZE: ROOM_BYTES,
            frames.MAX_HEADER_LIST_SIZE: self._limits.head_bytes,
        }
        more = frames.window_update(0, CONNECTION_ROOM_BYTES - frames.WINDOW_BYTES)
        self._out.write(frames.settings(announced) + more)
        now = self._loop.time()
        self._head_due = now + self._limits.head_seconds
        self._idle_due = now + self._limits.keep_alive_seconds
        self.deadline = min(self._head_due, self._idle_due)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.forget(self)
        self.deadline = inf
        self._failed = True
        self._drop_all()

    def eof_received(self) -> bool:
        return False  # close: as to Go's server, a client that ends its side has gone

    def pause_writing(self) -> None:
        if not self._out.paused:
            self._out.paused = True
            self._write_due = self._loop.time() + self._limits.write_idle_seconds
            self._sooner(self._write_due)
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._out.paused = False
        self._write_due = inf
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._out.wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._failed:
            return
        self._out.hold()
        try:
            self._reader.feed(bytes(self._owner.buffer[:nbytes]))
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
        else:
            if not self._reader.awaits_head:
                self._head_due = inf
            elif self._head_due == inf:
                self._head_due = self._loop.time() + self._limits.head_seconds
                self._sooner(self._head_due)
        finally:
            self._out.flush()

    # -- the server's side

    def shut_down(self) -> None:
        """The server closes: streams end now, running requests may end first."""
        self.leave()
        for stream in list(self._streams.open.values()):
            if stream.streaming and stream.task is not None:
                stream.ending = True
                stream.task.cancel()
            elif stream.task is None:
                self._streams.drop(stream)
        self._close_if_done()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """A deadline may have passed: the peer is too slow, or idle for too long."""
        streams = self._streams.open
        if self._failed or self._transport.is_closing() or self._write_due <= now:
            self._transport.abort()
            self.deadline = inf
            return
        if self._head_due <= now or (not streams and self._idle_due <= now):
            self._drop_all()
            self.leave()
            self.deadline = now + _LINGER_SECONDS
            return
        for stream in [stream for stream in streams.values() if stream.deadline <= now]:
            if stream.body is not None:
                self.refuse(stream.number, plain_error(408, "the request body came too slowly"), ErrorCode.NO_ERROR)
            else:
                self.reset(stream.number, ErrorCode.CANCEL)
        nearest = min((stream.deadline for stream in streams.values()), default=self._idle_due)
        self.deadline = min(nearest, self._head_due, self._write_due)

    def _sooner(self, deadline: float) -> None:
        if deadline < self.deadline:
            self.deadline = deadline

    def leave(self) -> None:
        """No new requests; the connection closes when those that run are answered."""
        if not self._incoming.closed:
            self._incoming.closed = True
            self._out.write(frames.goaway(self._streams.last, ErrorCode.NO_ERROR))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._incoming.closed and not self._streams.open:
            self._out.flush()
            self._transport.close()

    def _fail(self, code: ErrorCode, text: str) -> None:
        """Say why, and linger, so that a client that is still sending reads it before a reset."""
        log.debug("%s: %s: %s", self._remote, code.name, text)
        self._failed = True
        self._drop_all()
        self._out.write(frames.goaway(self._streams.last, code, text))
        self.deadline = self._loop.time() + _LINGER_SECONDS

    def _drop_all(self) -> None:
        for stream in list(self._streams.open.values()):
            self._streams.drop(stream)

    # -- requests to responses

    def submit(self, number: int, head: Head, body: bytes, stream: Stream | None) -> None:
        request = HttpRequest(
            head.method, head.path, head.query, head.headers, body, self._certificate, self._remote, head.target,
            head.repeated, True,
        )  # fmt: skip
        if stream is None:
            if head.method == "GET" and self._answer_at_once(number, request):
                return
            stream = self._streams.begin(number, self._out.stream_window)
        stream.task = self._loop.create_task(self._run(stream, request))

    def _answer_at_once(self, number: int, request: HttpRequest) -> bool:
        """Whether the whole answer could be written here and now."""
        owner = self._owner
        if owner.immediate is None or self._out.paused:
            return False
        try:
            response = owner.immediate(request)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            response = self._limits.failed(request, error)
        if not isinstance(response, HttpResponse):
            return False
        size = len(response.body)
        if size > self._limits.gzip_above_bytes or not self._out.is_room_for(size):
            return False
        self._out.whole(number, response, "GET")
        self._answered()
        return True

    def _answered(self) -> None:
        """An answer has gone out, or its head."""
        self._incoming.answered()
        self._rest()

    def _rest(self) -> None:
        """Where nothing more is to be answered: the connection is idle from now on, or closes."""
        if self._out.closing:
            self.leave()
        if not self._streams.open:
            self._idle_due = self._loop.time() + self._limits.keep_alive_seconds
            self._sooner(self._idle_due)
            self._close_if_done()

    async def _run(self, stream: Stream, request: HttpRequest) -> None:
        try:
            try:
                response = await self._owner.handler(request)
            except Exception as error:
                log.exception("%s %s", request.method, request.path)
                response = self._limits.failed(request, error)
            if response.upgrade is not None:  # as Go's server has it: such a connection is no Hijacker
                response = plain_error(500, "unable to upgrade: unable to hijack response")
            stream.answering = True
            if response.stream is not None:
                await self._write_stream(stream, request, response, response.stream)
            else:
                if is_to_be_compressed(request, response, self._limits):
                    await compress(response)
                if not self._out.whole(stream.number, response, request.method, stream):
                    await self._out.send(stream, response.body, True, self._limits.write_idle_seconds)
                self._incoming.answered()
        finally:
            self._streams.end(stream)
            self._rest()

    async def _write_stream(
        self, stream: Stream, request: HttpRequest, response: HttpResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        """Write chunks as they come."""
        out = self._out
        silent = request.method == "HEAD"
        out.write(out.head(stream.number, response, silent))
        self._answered()
        stream.streaming = True
        try:
            if not silent:
                async for chunk in chunks:
                    if chunk and not out.data(stream, chunk):
                        await out.send(stream, chunk, False, self._limits.write_idle_seconds)
                out.end(stream)
        except asyncio.CancelledError:
            if stream.ending:
                out.end(stream)
            raise
        except Exception:
            log.exception("%s %s: stream", request.method, request.path)
            stream.task = None  # which is this one
            self.reset(stream.number, ErrorCode.INTERNAL_ERROR)  # the client sees that it is cut short
        finally:
            stream.streaming = False
            closing: Any = getattr(chunks, "aclose", None)
            if closing is not None:
                await closing()

    def refuse(self, number: int, response: HttpResponse | None, code: ErrorCode) -> None:
        stream = self._streams.open.get(number)
        if response is None:
            assert stream is not None and stream.head is not None
            head = stream.head
            response = self._limits.too_large(
                HttpRequest(head.method, head.path, head.query, head.headers, b"", remote=self._remote)
            )
        if not self._out.is_room_for(len(response.body), stream):
            response.body = b""
        self._out.whole(number, response, "", stream)
        self.reset(number, code)
        self._answered()

    def reset(self, number: int, code: ErrorCode) -> None:
        self._out.write(frames.reset(number, code))
        self._streams.remember_reset(number)
        stream = self._streams.open.get(number)
        if stream is not None:
            self._drop(stream)

    def gone(self, stream: Stream) -> None:
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        self._streams.drop(stream)
        self._rest()

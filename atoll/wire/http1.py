"""One HTTP/1.1 connection of the server: bytes to requests, responses to bytes. See `atoll.wire.server`."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator
from http import HTTPStatus
from math import inf
from typing import Any, NamedTuple, cast

import httptools

from atoll.wire.compression import compress, is_to_be_compressed
from atoll.wire.connection import RawConnection
from atoll.wire.heads import LOOKED_UP_BYTES
from atoll.wire.limits import plain_error
from atoll.wire.messages import HttpRequest, HttpResponse, Promise
from atoll.wire.owner import Owner
from atoll.wire.parsing import RequestParser

log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n\r\n"
_CLOSE = b"Connection: close\r\n\r\n"
_BODILESS = (204, 304)
_IMMEDIATE = ("GET", "POST")
_LINGER_SECONDS = 2.0
_PIECE_BYTES = 256 * 1024
_NOTHING = memoryview(b"")


class _Parsed(NamedTuple):
    request: HttpRequest
    keep_alive: bool
    http_1_0: bool
    answer: HttpResponse | None  # there already: why it is refused, or what was promised


class HttpProtocol(asyncio.BufferedProtocol):
    """Reads requests one after another, hands each to the handler, writes the answers in order.

    It is a BufferedProtocol because for a plain one the TLS layer makes a fresh 256 KB object for each read.
    """

    def __init__(self, owner: Owner) -> None:
        self.deadline = inf
        self._owner = owner
        self._limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = RequestParser(owner.limits, self)
        self._waiting: deque[_Parsed] = deque()
        self._task: asyncio.Task[None] | None = None  # answers this connection's requests, made with the first
        self._busy = False
        self._next: _Parsed | None = None
        self._wake: asyncio.Future[None] | None = None  # what an idle task waits for
        self._eof = False
        self._streaming = False
        self._ending = False
        self._paused_reading = False
        self._drained: asyncio.Future[None] | None = None
        self._left = _NOTHING  # of a large body that is being written
        self._tail: list[bytes] | None = None  # what came after an upgrade request

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._parser.certificate = secured.getpeercert(True)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._parser.remote = f"{name[0]}:{name[1]}"
        self._owner.connections.add(self)
        if self._owner.closing:
            self._transport.abort()
        self.deadline = self._loop.time() + self._limits.head_seconds

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.forget(self)
        self.deadline = inf
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._parser.close()

    def eof_received(self) -> bool:
        self._eof = True
        return False  # close: as to Go's server, a client that ends its side has gone

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()
            self.deadline = self._loop.time() + self._limits.write_idle_seconds

    def resume_writing(self) -> None:
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self.deadline = inf if self._busy else self._loop.time() + self._limits.keep_alive_seconds

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._owner.buffer[:nbytes]
        parser = self._parser
        if nbytes > LOOKED_UP_BYTES or not parser.between or parser.stopped or self._tail is not None:
            self._received(data)
            return
        whole = bytes(data)
        known = self._owner.heads.read(whole)
        if known is None:
            request = self._received(whole)
            if request is not None:
                self._owner.heads.remember(whole, request)
            return
        head, body = known
        request = HttpRequest(
            head.method, head.path, head.query, head.headers, body, parser.certificate, parser.remote,
            head.target, head.repeated,
        )  # fmt: skip
        self.take(request)
        if not self._busy:
            self.deadline = self._loop.time() + self._limits.keep_alive_seconds

    def _received(self, data: memoryview | bytes) -> HttpRequest | None:
        """The request, where this was exactly one."""
        if self._parser.stopped:
            return None
        if self._tail is not None:
            self._tail.append(bytes(data))
            self._pause_reading()
            return None
        try:
            request = self._parser.feed(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._tail = [bytes(data[upgrade.args[0] :])]
            self._pause_reading()
            if not self._busy:  # answered at once, without what it asked for: nobody else goes on
                self._loop.call_soon(self._go_on_reading)
            return None
        except httptools.HttpParserError:
            self._parser.refuse(plain_error(400, "malformed HTTP request"))
            return None
        if not self._busy and not self._parser.stopped:
            self._bound_partial(len(data))
        return request

    def _bound_partial(self, size: int) -> None:
        """Set the deadline of a request that is not whole yet, and bound its head."""
        seconds = self._limits.keep_alive_seconds
        if self._parser.headed:
            seconds = self._limits.body_idle_seconds
        elif self._parser.begun:
            if not self._parser.bound_head(size) or self._parser.stopped:
                return
            seconds = self._limits.head_seconds
        self.deadline = self._loop.time() + seconds

    def shut_down(self) -> None:
        """The server closes: idle connections and streams end now, a running request may end first."""
        if not self._busy:
            self._transport.close()
        elif self._streaming and self._task is not None:
            self._ending = True
            self._task.cancel()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """The deadline has passed: the peer is too slow, or idle for too long."""
        self.deadline = now + 5
        if self._drained is not None or self._parser.stopped or self._transport.is_closing():
            self._transport.abort()
        elif self._parser.headed and not self._busy:
            self._parser.refuse(plain_error(408, "the request body came too slowly"))
        else:
            self._transport.close()

    # -- requests to responses

    def take(self, request: HttpRequest, keep_alive: bool = True, http_1_0: bool = False) -> None:
        """Answer it, in its turn."""
        if not self._busy and keep_alive and request.method in _IMMEDIATE and self._answer_at_once(request, http_1_0):
            return
        self._submit(_Parsed(request, keep_alive, http_1_0, None))

    def refuse(self, request: HttpRequest, answer: HttpResponse) -> None:
        """Answer so, in its turn, then close; what else comes is dropped."""
        self._submit(_Parsed(request, False, False, answer))

    def invite(self) -> None:
        """Tell the client that it may send the body."""
        if not self._busy:
            self._transport.write(_CONTINUE)

    def _submit(self, parsed: _Parsed) -> None:
        if self._busy:
            self._waiting.append(parsed)
            self._pause_reading()
            return
        self._busy = True
        self.deadline = inf
        self._begin(parsed)

    def _begin(self, parsed: _Parsed) -> None:
        """By the connection's task."""
        if self._wake is not None:
            self._next = parsed
            self._wake.set_result(None)
            self._wake = None
        else:
            self._task = self._loop.create_task(self._run(parsed))

    def _answer_at_once(self, request: HttpRequest, http_1_0: bool) -> bool:
        """Whether the whole answer could be written here and now, or is promised."""
        owner = self._owner
        if owner.immediate is None or self._drained is not None or owner.closing:
            return False
        try:
            response = owner.immediate(request)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            response = self._limits.failed(request, error)
        if isinstance(response, Promise):
            response.respond = functools.partial(self._respond, _Parsed(request, True, http_1_0, None))
            self._busy = True
            self.deadline = inf
            return True
        if response is None or len(response.body) > self._limits.gzip_above_bytes:
            return False
        self._write_whole(request.method, http_1_0, response, True)
        return True

    def _respond(self, parsed: _Parsed, response: HttpResponse) -> None:
        """What was promised is there."""
        if self._transport.is_closing():
            return
        ending = self._parser.stopped or self._eof or self._owner.closing
        held_up = self._drained is not None or self._tail is not None
        if ending or held_up or len(response.body) > self._limits.gzip_above_bytes:
            self._begin(parsed._replace(answer=response))
            return
        self._write_whole(parsed.request.method, parsed.http_1_0, response, True)
        self._busy = False
        self.deadline = self._loop.time() + self._limits.keep_alive_seconds
        while self._waiting and not self._busy:
            waiting = self._waiting.popleft()
            if waiting.answer is None:
                self.take(waiting.request, waiting.keep_alive, waiting.http_1_0)
            else:
                self._submit(waiting)
        if not self._busy:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused_reading and not self._transport.is_closing():
            self._paused_reading = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading and not self._transport.is_closing():
            self._paused_reading = False
            self._transport.resume_reading()

    async def _run(self, parsed: _Parsed) -> None:
        """Answer requests, one after another, as long as the connection is kept."""
        while await self._answer(parsed):
            if self._drained is not None:
                await self._drained
            if not self._waiting:
                self._busy = False
                if self._owner.closing or self._eof:
                    self._transport.close()
                    return
                self.deadline = self._loop.time() + self._limits.keep_alive_seconds
                self._wake = self._loop.create_future()
                self._go_on_reading()
                if self._wake is not None:
                    await self._wake
            found = self._next or self._waiting.popleft()
            self._next = None
            parsed = found

    def _go_on_reading(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:  # an upgrade that was not taken: the rest is HTTP again
            self._parser.renew()
        self._resume_reading()
        for data in tail or ():
            if data:
                self._received(data)

    async def _answer(self, parsed: _Parsed) -> bool:
        """Handle one request and write its response; False when the connection ends with it."""
        request = parsed.request
        response = parsed.answer
        if response is None:
            try:
                response = await self._owner.handler(request)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("%s %s", request.method, request.path)
                response = self._limits.failed(request, error)
        if response.upgrade is not None:
            await self._hijack(response)
            return False
        keep = parsed.keep_alive and not self._owner.closing and (not self._parser.stopped or bool(self._waiting))
        if response.stream is not None:
            keep = await self._write_stream(parsed, response, response.stream, keep)
        else:
            if is_to_be_compressed(request, response, self._limits):
                await compress(response)
            self._write_whole(request.method, parsed.http_1_0, response, keep)
            if self._left:
                await self._write_pieces()
        if not keep:
            self._finish()
        return keep

    def _finish(self) -> None:
        """Close; after a refusal linger, so that a client that is still sending reads the answer before a reset."""
        self._task = None
        self._busy = False
        if self._parser.stopped and not self._eof:
            self.deadline = self._loop.time() + _LINGER_SECONDS
            if self._transport.can_write_eof():
                self._transport.write_eof()
        else:
            self._transport.close()

    def _write_whole(self, method: str, http_1_0: bool, response: HttpResponse, keep: bool) -> None:
        body, status = response.body, response.status
        length = b"" if status in _BODILESS else b"Content-Length: %d\r\n" % len(body)
        head = _head(status, response.headers, length, keep, http_1_0)
        if method == "HEAD" or status in _BODILESS or not body:
            self._transport.write(head)
        elif len(body) < 65536:
            self._transport.write(head + body)
        elif len(body) <= _PIECE_BYTES:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head)
            self._left = memoryview(body)

    async def _write_pieces(self) -> None:
        """A large body by pieces: the client reads one while the next is encrypted, and others get their turns."""
        body, self._left = self._left, _NOTHING
        for start in range(0, len(body), _PIECE_BYTES):
            if self._transport.is_closing():
                return
            self._transport.write(body[start : start + _PIECE_BYTES])
            if self._drained is not None:
                await self._drained
            else:
                await asyncio.sleep(0)

    async def _write_stream(
        self, parsed: _Parsed, response: HttpResponse, stream: AsyncIterator[bytes], keep: bool
    ) -> bool:
        """Write chunks as they come. Returns whether the connection may be kept."""
        chunked = not parsed.http_1_0
        keep = keep and chunked
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        write = self._transport.write
        write(_head(response.status, response.headers, framing, keep, parsed.http_1_0))
        self._streaming = True
        try:
            if self._eof:
                return False
            if parsed.request.method != "HEAD":
                async for chunk in stream:
                    if not chunk:
                        continue
                    write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                    if self._drained is not None:
                        await self._drained
                if chunked:
                    write(b"0\r\n\r\n")
        except asyncio.CancelledError:
            if self._ending and chunked and not self._transport.is_closing():
                write(b"0\r\n\r\n")
                self._transport.close()
            raise
        except Exception:
            log.exception("%s %s: stream", parsed.request.method, parsed.request.path)
            self._transport.abort()  # no last chunk: the client sees that it is cut short
            return False
        finally:
            self._streaming = False
            closing: Any = getattr(stream, "aclose", None)
            if closing is not None:
                await closing()
        return keep

    async def _hijack(self, response: HttpResponse) -> None:
        assert response.upgrade is not None
        task = asyncio.current_task()
        assert task is not None
        pending = b"".join(self._tail or [])
        self._owner.forget(self)
        self._owner.adopt(task)
        self._task = None  # the connection's loss is now the hijacker's to see
        self.deadline = inf
        connection = RawConnection.take_over(self._transport, pending)
        self._resume_reading()
        try:
            await response.upgrade(connection)
        except ConnectionError:
            pass
        except Exception:
            log.exception("upgraded connection")
        finally:
            await connection.close()


def _head(status: int, headers: list[tuple[str, str]], framing: bytes, keep: bool, http_1_0: bool) -> bytes:
    connection = b"\r\n" if keep and not http_1_0 else _KEEP_ALIVE if keep else _CLOSE
    return b"".join((_status_and_headers(status, tuple(headers)), framing, connection))


@functools.lru_cache(maxsize=1024)
def _status_and_headers(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Mostly the same few again and again."""
    parts = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"]
    parts += [f"{name}: {value}\r\n" for name, value in headers]
    text = "".join(parts)
    if text.count("\n") != len(parts):  # a header value must not start another header
        parts = [part.rstrip("\r\n").replace("\r", " ").replace("\n", " ") + "\r\n" for part in parts]
        text = "".join(parts)
    return text.encode("latin-1", "replace")

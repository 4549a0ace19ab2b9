"""The userspace forwarders behind a listener: TCP by connection, UDP by client session.

An endpoint that refuses is passed over for the next one; when none answers the caller is reset, at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.network.services import Endpoint, Forward, Listener

log = logging.getLogger(__name__)
_DIAL_SECONDS = 5.0
_MOST_TRIES = 8
_UDP_IDLE_SECONDS = 60.0
_BUFFER = 256 * 1024


class Balancer:
    """Which endpoint a new connection gets: round robin from a random start, or the client's own with affinity."""

    def __init__(self, forward: Forward, clock: Clock, chance: Chance) -> None:
        self.forward = forward
        self._clock = clock
        self._next = chance.integer(0, 1 << 30)
        self._held: dict[str, tuple[tuple[str, int], float]] = {}

    def order(self, client: str) -> list[tuple[str, int]]:
        """Endpoints in the order in which to try them."""
        endpoints = self._allowed(client)
        if not endpoints:
            return []
        start = self._next % len(endpoints)
        self._next += 1
        order = [*endpoints[start:], *endpoints[:start]]
        held = self._held.get(client)
        seconds = self.forward.affinity_seconds
        if seconds and held is not None and held[0] in order and self._clock.monotonic() - held[1] < seconds:
            order.remove(held[0])
            order.insert(0, held[0])
        return order[:_MOST_TRIES]

    def _allowed(self, client: str) -> tuple[Endpoint, ...]:
        for cidr, endpoints in self.forward.local:
            if ipaddress.ip_address(client) in ipaddress.ip_network(cidr):
                return endpoints
        return self.forward.endpoints

    def changed(self, forward: Forward) -> Balancer:
        """The same with other endpoints: clients stay with theirs where it is still there."""
        self.forward = forward
        return self

    def chosen(self, client: str, endpoint: tuple[str, int]) -> None:
        """Remember, for affinity, the endpoint that answered."""
        if self.forward.affinity_seconds:
            if len(self._held) > 10_000:
                self._held.clear()
            self._held[client] = (endpoint, self._clock.monotonic())


class _Half(asyncio.Protocol):
    """One side of a forwarded TCP connection; reading waits while the other side is not there or takes no more."""

    def __init__(self, made: Callable[[_Half], None] | None = None) -> None:
        self.other: _Half | None = None
        self.transport: asyncio.Transport | None = None
        self._made = made
        self._ended = False
        self._early = bytearray()  # what came before the other side was there
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # event loops' own are not all subclasses
        self.transport.set_write_buffer_limits(_BUFFER)
        if self._made is not None:
            self._made(self)

    def join(self, other: _Half) -> None:
        """Let both sides flow into each other."""
        self.other, other.other = other, self
        self._hand_over(other)
        other._hand_over(self)

    def _hand_over(self, other: _Half) -> None:
        """Pass on what came before the other side was there."""
        assert self.transport is not None and other.transport is not None
        if self._early:
            other.transport.write(bytes(self._early))
            self._early.clear()
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()
        if self._ended and other.transport.can_write_eof():
            other.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
            return
        self._early += data
        if len(self._early) > _BUFFER and self.transport is not None and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        if self.other is None or self.other.transport is None:
            return True
        if self.other._ended:
            self.other.transport.close()
            return False
        if not self.other.transport.is_closing() and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        other = self.other.transport if self.other is not None else None
        if other is None:
            return
        if error is not None:
            reset(other)
        else:
            other.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.other.transport if self.other is not None else None
        if other is not None and not other.is_closing():
            other.resume_reading()


def reset(transport: asyncio.BaseTransport) -> None:
    """Close with RST, so that the caller knows at once."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast(asyncio.Transport, transport).abort()


class TcpForwarder:
    """Made by `open`; the balancer may be exchanged while connections go on."""

    def __init__(self, listener: Listener, balancer: Balancer) -> None:
        self.listener = listener
        self.balancer = balancer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._halves: set[asyncio.Transport] = set()

    async def open(self) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        where = (self.listener.address, self.listener.port)
        self._server = await loop.create_server(lambda: _Half(self._accepted), *where, reuse_address=True, backlog=1024)

    def _accepted(self, half: _Half) -> None:
        assert half.transport is not None
        self._halves = {transport for transport in self._halves if not transport.is_closing()}
        self._halves.add(half.transport)
        task = asyncio.get_running_loop().create_task(self._connect(half), name=f"forward-{self.listener.port}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, half: _Half) -> None:
        assert half.transport is not None
        client = (half.transport.get_extra_info("peername") or ("",))[0]
        loop = asyncio.get_running_loop()
        for endpoint in self.balancer.order(client):
            try:
                async with asyncio.timeout(_DIAL_SECONDS):
                    _, far = await loop.create_connection(_Half, *endpoint)
            except (OSError, TimeoutError) as error:
                log.debug("%s: %s:%d: %s", self.balancer.forward.service, *endpoint, error)
                continue
            self.balancer.chosen(client, endpoint)
            if half.transport.is_closing():
                assert far.transport is not None
                far.transport.close()
                return
            half.join(far)
            return
        reset(half.transport)

    async def close(self) -> None:
        """Stop listening; connections that stand go on, as with kube-proxy, until `cut`."""
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        for transport in self._halves:
            transport.abort()


class _UdpSession(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], None]) -> None:
        self._answer = answer
        self.transport: asyncio.DatagramTransport | None = None
        self.used = 0.0
        self.endpoint: Endpoint = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # event loops' own are not all subclasses

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._answer(data)

    def error_received(self, exc: Exception) -> None:
        log.debug("udp: %s", exc)


class UdpForwarder(asyncio.DatagramProtocol):
    """A socket towards the endpoint for each client, closed when it has been idle."""

    def __init__(self, listener: Listener, balancer: Balancer, clock: Clock) -> None:
        self.listener = listener
        self.balancer = balancer
        self._clock = clock
        self._transport: asyncio.DatagramTransport | None = None
        self._sessions: dict[object, asyncio.Future[_UdpSession]] = {}

    async def open(self) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        where = (self.listener.address, self.listener.port)
        await loop.create_datagram_endpoint(lambda: self, local_addr=where)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # event loops' own are not all subclasses

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        session = self._sessions.get(addr)
        if session is None:
            self._sweep()
            session = self._sessions[addr] = asyncio.ensure_future(self._session(addr))
        session.add_done_callback(lambda done: self._send(done, data))

    def _send(self, done: asyncio.Future[_UdpSession], data: bytes) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        session = done.result()
        session.used = self._clock.monotonic()
        if session.transport is not None and not session.transport.is_closing():
            session.transport.sendto(data)

    async def _session(self, addr: tuple[str, int]) -> _UdpSession:
        order = self.balancer.order(addr[0])
        if not order:
            raise ConnectionRefusedError(f"{self.balancer.forward.service} has no endpoint for {addr[0]}")
        endpoint = order[0]

        def answer(data: bytes) -> None:
            if self._transport is not None:
                self._transport.sendto(data, addr)

        loop = asyncio.get_running_loop()
        _, session = await loop.create_datagram_endpoint(lambda: _UdpSession(answer), remote_addr=endpoint)
        session.used = self._clock.monotonic()
        session.endpoint = endpoint
        self.balancer.chosen(addr[0], endpoint)
        return session

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for addr, future in list(self._sessions.items()):
            if not future.done():
                continue
            failed = future.cancelled() or future.exception() is not None
            if failed or now - future.result().used > _UDP_IDLE_SECONDS:
                del self._sessions[addr]
                _close_session(future)

    def forget(self) -> None:
        """Sessions with endpoints that are no more: the next datagram goes to another one."""
        held = self.balancer.forward.endpoints
        for addr, future in list(self._sessions.items()):
            made = future.done() and not future.cancelled() and future.exception() is None
            if made and future.result().endpoint not in held:
                del self._sessions[addr]
                _close_session(future)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self.cut()

    def cut(self) -> None:
        for future in self._sessions.values():
            _close_session(future)
        self._sessions.clear()


def _close_session(future: asyncio.Future[_UdpSession]) -> None:
    if not future.done():
        future.cancel()
        return
    if future.cancelled() or future.exception() is not None:
        return
    transport = future.result().transport
    if transport is not None:
        transport.close()

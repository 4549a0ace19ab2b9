"""Keeps the listeners what the plan says: opens, closes, and exchanges endpoints without breaking connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.network.forwarding import Balancer, TcpForwarder, UdpForwarder
from atoll.cluster.network.services import Forward, Listener

log = logging.getLogger(__name__)


class ServiceProxy:
    """`apply` is idempotent; what can't be listened on now is tried again at the next one."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance.stream("service-proxy")
        self._open: dict[Listener, TcpForwarder | UdpForwarder] = {}
        self._refused: dict[Listener, str] = {}
        self._closing: list[TcpForwarder | UdpForwarder] = []

    @property
    def refused(self) -> Mapping[Listener, str]:
        """Listeners that could not be opened, and why (a port in use)."""
        return self._refused

    async def apply(self, wanted: Mapping[Listener, Forward]) -> None:
        for listener in [item for item in self._open if item not in wanted]:
            forwarder = self._open.pop(listener)
            await forwarder.close()
            self._closing = [*self._closing[-200:], forwarder]
        for listener, forward in wanted.items():
            present = self._open.get(listener)
            if present is None:
                await self._start(listener, forward)
            elif present.balancer.forward != forward:
                present.balancer.changed(forward)
                if isinstance(present, UdpForwarder):
                    present.forget()
        for listener in [item for item in self._refused if item not in wanted]:
            del self._refused[listener]

    async def _start(self, listener: Listener, forward: Forward) -> None:
        balancer = Balancer(forward, self._clock, self._chance)
        forwarder: TcpForwarder | UdpForwarder
        if listener.protocol == "TCP":
            forwarder = TcpForwarder(listener, balancer)
        else:
            forwarder = UdpForwarder(listener, balancer, self._clock)
        try:
            await forwarder.open()
        except OSError as error:
            if listener not in self._refused:
                where = f"{listener.protocol} {listener.address}:{listener.port}"
                log.warning("%s can't be served on %s: %s", forward.service, where, error)
            self._refused[listener] = str(error)
            return
        self._refused.pop(listener, None)
        self._open[listener] = forwarder

    async def close(self) -> None:
        """Close all listeners and cut what goes through them."""
        forwarders = [*self._open.values(), *self._closing]
        self._open.clear()
        self._closing.clear()
        await asyncio.gather(*(forwarder.close() for forwarder in forwarders))
        for forwarder in forwarders:
            forwarder.cut()

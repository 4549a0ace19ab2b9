"""Leader election by a Lease (client-go tools/leaderelection): one of many leads, and stops before another may start.

Guarantee: `lead` is cancelled once the lease could not be renewed for `renew_deadline_seconds`, which is shorter than
`duration_seconds`, after which others take over. Others judge the holder's silence by their own monotonic clock, not
by the times in the Lease: clocks of machines differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from atoll.base.chance import Chance
from atoll.base.clock import Clock, rfc3339_micro
from atoll.base.errors import AlreadyExists, AtollError, Conflict, NotFound
from atoll.client.port import Client, Object
from atoll.kinds.builtin import LEASES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """client-go's usual figures."""

    namespace: str = "kube-system"
    name: str = ""
    duration_seconds: float = 15.0
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0
    jitter: float = 0.2


class LeaderElection:
    """`transitions` of the held lease is an epoch: it grows with each change of the leader."""

    def __init__(self, client: Client, identity: str, clock: Clock, chance: Chance, options: LeaseOptions) -> None:
        self.identity = identity
        self.leader = ""
        self.transitions = 0
        self._client = client
        self._clock = clock
        self._chance = chance.stream(f"lease/{options.name}/{identity}")
        self._options = options
        self._seen: Object | None = None
        self._seen_at = 0.0

    @property
    def is_leader(self) -> bool:
        return self.leader == self.identity

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, lead while it is held, wait again; returns when `lead` returns. Gives the lease back."""
        while True:
            await self._acquire()
            leading = asyncio.ensure_future(lead())
            renewing = asyncio.ensure_future(self._renew())
            try:
                await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
                if leading.done():
                    leading.result()
                    return
                log.warning("%s: lost the lease %s", self.identity, self._options.name)
            finally:
                for task in (leading, renewing):
                    task.cancel()
                await asyncio.gather(leading, renewing, return_exceptions=True)
                await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._try():
                return
            await asyncio.sleep(self._pause())

    async def _renew(self) -> None:
        """Returns when the lease is lost."""
        last = self._clock.monotonic()
        while self._clock.monotonic() - last < self._options.renew_deadline_seconds:
            await asyncio.sleep(min(self._options.retry_seconds, self._options.renew_deadline_seconds / 2))
            try:
                async with asyncio.timeout(self._options.renew_deadline_seconds):
                    renewed = await self._try()
            except TimeoutError:
                renewed = False
            if renewed:
                last = self._clock.monotonic()
            elif self.leader and not self.is_leader:
                return
        self.leader = ""

    async def _try(self) -> bool:
        """Take or renew the lease. False while another holds it, or the server can't be asked."""
        try:
            return await self._take()
        except (Conflict, AlreadyExists):
            return False
        except AtollError as error:
            log.info("lease %s: %s", self._options.name, error)
            return False

    async def _take(self) -> bool:
        options, now = self._options, rfc3339_micro(self._clock.wall())
        mine: Object = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(options.duration_seconds)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        try:
            lease = await self._client.get(LEASES, options.name, options.namespace)
        except NotFound:
            fresh = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": options.name}}
            self._hold(await self._client.create(LEASES, {**fresh, "spec": mine}, options.namespace))
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if self._seen is None or self._seen.get("spec") != spec:
            self._seen, self._seen_at = lease, self._clock.monotonic()
        if holder and holder != self.identity:
            self.leader = holder
            if self._clock.monotonic() - self._seen_at < float(spec.get("leaseDurationSeconds") or 0):
                return False
        mine["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
        if holder == self.identity:
            mine["acquireTime"] = spec.get("acquireTime") or now
        self._hold(await self._client.update(LEASES, {**lease, "spec": mine}))
        return True

    def _hold(self, lease: Object) -> None:
        self._seen, self._seen_at = lease, self._clock.monotonic()
        self.leader = self.identity
        self.transitions = int(lease["spec"].get("leaseTransitions") or 0)

    async def _release(self) -> None:
        """Let the next one start at once."""
        if not self.is_leader or self._seen is None:
            return
        self.leader = ""
        spec = {**self._seen["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        with suppress(AtollError):
            await self._client.update(LEASES, {**self._seen, "spec": spec})

    def _pause(self) -> float:
        return self._options.retry_seconds * (1 + self._chance.uniform(0, self._options.jitter))

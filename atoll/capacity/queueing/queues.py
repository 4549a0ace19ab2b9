"""The status of ClusterQueues, LocalQueues and Cohorts: what is used, who waits, whether they can admit.

Written at most once in a while: a queue's numbers change with every workload, and nobody reads them that fast. Where
nothing has changed, nothing is counted either.
"""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.errors import AtollError
from atoll.capacity.queueing import status
from atoll.capacity.queueing.controller import QueueController
from atoll.capacity.queueing.flavors import shown
from atoll.capacity.queueing.model import Key, Object, Workload
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.kinds import kueue

_EVERY_SECONDS = 1.0


class QueueStatus:
    """Level-triggered by time: each pass compares what is with what is said."""

    def __init__(self, parts: Parts, queues: QueueController) -> None:
        self.name = "queueing-status"
        self._parts = parts
        self._queues = queues
        of = parts.informers.of
        self._cluster_queues, self._local_queues = of(kueue.CLUSTER_QUEUES), of(kueue.LOCAL_QUEUES)
        self._cohorts = of(kueue.COHORTS)
        self._stale = asyncio.Event()

    async def run(self) -> None:
        looked_at = (
            self._cluster_queues, self._local_queues, self._cohorts, self._queues.workloads,
            self._parts.informers.of(kueue.RESOURCE_FLAVORS), self._parts.informers.of(kueue.ADMISSION_CHECKS),
        )  # fmt: skip
        for informer in looked_at:
            await informer.synced.wait()
            informer.add_handler(lambda old, new: self._stale.set())
        while True:
            if not self._queues.state.setup.past.half_life_seconds:  # past usage changes by time alone
                await self._stale.wait()
            await asyncio.sleep(_EVERY_SECONDS)
            if self._parts.on():
                self._stale.clear()
                await self.tell()

    async def tell(self) -> None:
        """One pass; a write that fails comes again with the next one."""
        now = self._parts.clock.wall()
        state = self._queues.state
        for obj in self._cluster_queues:
            name = obj["metadata"]["name"]
            if name in state.nodes:
                await self._write(kueue.CLUSTER_QUEUES, obj, status.cluster_queue_status(state, name, obj, now))
        for obj in self._local_queues:
            key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
            if key in state.setup.local_queues:
                own = list(state.by_local.get(key, {}).values())
                await self._write(kueue.LOCAL_QUEUES, obj, self._local(key, obj, own, now))
        if state.setup.fair.enabled:
            for obj in self._cohorts:
                node = state.cohorts.get(obj["metadata"]["name"])
                if node is not None:
                    share = {"weightedShare": status.share_of(node)}
                    await self._write(kueue.COHORTS, obj, {**(obj.get("status") or {}), "fairSharing": share})

    def _local(self, key: Key, obj: Object, own: list[Workload], now: float) -> Object:
        state = self._queues.state
        running = [item for item in own if item.admission is not None]
        new = status.local_queue_status(state, key, obj, running, sum(1 for item in own if item.pending), now)
        past = state.setup.past
        if past.half_life_seconds:
            new["fairSharing"] = self._consumed(key, obj, running, now)
        return new

    def _consumed(self, key: Key, obj: Object, running: list[Workload], now: float) -> Object:
        state = self._queues.state
        said = (obj.get("status") or {}).get("fairSharing") or {}
        past = said.get("admissionFairSharingStatus") or {}
        last = past.get("lastUpdate")
        if last is not None and now - parse_rfc3339(last) < state.setup.past.sampling_seconds:
            return dict(said)
        current: dict[str, int] = {}
        for (_, resource), amount in status.sum_of(running).items():
            current[resource] = current.get(resource, 0) + amount
        consumed = state.consumption.sample(key, current)
        amounts = {name: shown(name, round(amount)) for name, amount in consumed.items()}
        update = {"consumedResources": amounts, "lastUpdate": rfc3339(now)}
        return {"weightedShare": 0, **said, "admissionFairSharingStatus": update}

    async def _write(self, resource: Any, obj: Object, new: Object) -> None:
        try:
            await write_status(self._parts.client, resource, obj, {**obj, "status": new})
        except AtollError:
            self._stale.set()

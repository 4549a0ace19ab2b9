"""What goes when its time is over: events after an hour, Jobs after ttlSecondsAfterFinished."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import suppress

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import EVENTS, JOBS
from atoll.objects.meta import is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key


class EventExpiry:
    """etcd forgets events by a lease; here they are deleted once nothing was added for the TTL.

    They are many: one timer is for all of them.
    """

    def __init__(self, context: Context) -> None:
        self.name = "event-expiry"
        self._client = context.client(self.name)
        self._clock = context.clock
        self._ttl = context.options.event_ttl_seconds
        self._events = context.informers.of(EVENTS, transform=slim_event)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, wait_for=(self._events,))
        self._due: list[tuple[float, Key]] = []  # a heap of when each is to be looked at, by the monotonic clock
        self._sooner = asyncio.Event()
        self._events.add_handler(self._changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run())
            group.create_task(self._hand_out())

    async def _hand_out(self) -> None:
        """Those whose time has come."""
        while True:
            self._sooner.clear()
            now = self._clock.monotonic()
            while self._due and self._due[0][0] <= now:
                self.loop.queue.add(heapq.heappop(self._due)[1])
            with suppress(TimeoutError):
                async with asyncio.timeout(self._due[0][0] - now if self._due else None):
                    await self._sooner.wait()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            at = self._clock.monotonic() + max(1.0, self._left(new))
            heapq.heappush(self._due, (at, key(new)))
            if self._due[0][0] == at:
                self._sooner.set()

    def _left(self, event: Object) -> float:
        """From when it was last written, as an etcd lease counts; what it tells of may be long ago."""
        now = self._clock.wall()
        left = parse_rfc3339(event["told"]) + self._ttl - now
        return left if left > 0 else max(map(parse_rfc3339, event["written"])) + self._ttl - now

    async def _reconcile(self, name: Key) -> float | None:
        event = self._events.by_key(name)
        if event is None:
            return None
        left = self._left(event)
        if left > 0:
            return left + 1.0
        try:
            options = DeleteOptions(uid=event["metadata"]["uid"])
            await self._client.delete(EVENTS, name[1], name[0], options=options)
        except NotFound:
            return None
        return None


def slim_event(event: Object) -> Object:
    """What is kept of an event, of which there may be several a pod: who it is, when it was told and written."""
    metadata = event["metadata"]
    created = metadata["creationTimestamp"]
    told = event.get("lastTimestamp") or (event.get("series") or {}).get("lastObservedTime") or event.get("eventTime")
    written = (item.get("time") for item in metadata.get("managedFields") or ())
    return {
        "metadata": {name: metadata[name] for name in ("namespace", "name", "uid", "resourceVersion")},
        "told": told or created,
        "written": (created, *(time for time in written if time and time != created)),
    }


class FinishedJobs:
    """Deletes Jobs that ask for it, some time after they have finished."""

    def __init__(self, context: Context) -> None:
        self.name = "ttl-after-finished-controller"
        self._client = context.client(self.name)
        self._clock = context.clock
        self._jobs = context.informers.of(JOBS)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, wait_for=(self._jobs,))
        self._jobs.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and job_expiry(new) is not None:
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        job = self._jobs.by_key(name)
        expiry = job_expiry(job) if job is not None else None
        if expiry is None:
            return None
        left = expiry - self._clock.wall()
        if left > 0:
            return left
        try:
            fresh = await self._client.get(JOBS, name[1], name[0])
            expiry = job_expiry(fresh)
            if expiry is None or expiry > self._clock.wall():
                return None
            options = DeleteOptions(propagation="Foreground", uid=fresh["metadata"]["uid"])
            await self._client.delete(JOBS, name[1], name[0], options=options)
        except NotFound:
            return None
        return None


def job_expiry(job: Object) -> float | None:
    """When a finished Job with ttlSecondsAfterFinished is to go; None for others."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None or is_deleting(job):
        return None
    for item in (job.get("status") or {}).get("conditions") or ():
        if item["type"] in ("Complete", "Failed") and item["status"] == "True":
            return parse_rfc3339(item["lastTransitionTime"]) + float(seconds)
    return None

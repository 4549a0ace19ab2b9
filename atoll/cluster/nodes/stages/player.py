"""Plays stages on the objects of one resource, in time: one heap of what is due, and a few writers.

An object that changes is looked at again; a stage that it is already waiting for keeps its time. A failed write is
tried again after a back-off for as long as the object stays as it was.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.backoff import Backoff
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import AlreadyExists, ApiError, AtollError, NotFound
from atoll.client.port import APPLY_PATCH, Client, DeleteOptions, patch_all
from atoll.cluster.nodes.stages.model import (
    ApplyStep,
    DeleteStep,
    EventStep,
    Functions,
    PatchStep,
    Stage,
    Step,
    choose,
)
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder

Object = dict[str, Any]
Key = tuple[str | None, str]
Impersonate = Callable[[str], Client]
FindResource = Callable[[str, str], Awaitable[Resource | None]]  # (apiVersion, kind)

log = logging.getLogger(__name__)
_WRITERS = 64
_TOGETHER = 64  # patches of one call
_FEW = 64


@dataclass(slots=True, eq=False)
class Job:
    """A stage that an object is waiting for."""

    key: Key
    obj: Object
    stage: Stage
    step: int = 0
    failures: int = 0
    dropped: bool = False
    held: bool = False  # not to be played for now
    overdue: bool = False  # its time came while it was held
    entry: Entry | None = None  # in the agenda


@dataclass(slots=True)
class Entry:
    """What an agenda has to do; nothing once it is done or called off."""

    callback: Callable[[], None] | None


class Agenda:
    """One event heap for many players: calls back when something is due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._off = 0  # entries of the heap that were called off
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float, callback: Callable[[], None]) -> Entry:
        """`when` is the loop's time."""
        self._sequence += 1
        entry = Entry(callback)
        heapq.heappush(self._heap, (when, self._sequence, entry))
        if self._heap[0][1] == self._sequence:
            self._arm()
        return entry

    def call_off(self, entry: Entry) -> None:
        """It keeps nothing alive any more; those called off go from the heap before they are half of it."""
        if entry.callback is None:
            return
        entry.callback = None
        self._off += 1
        if self._off > _FEW and self._off * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].callback is not None]
            heapq.heapify(self._heap)
            self._off = 0

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now + 0.0005:
            entry = heapq.heappop(self._heap)[2]
            callback, entry.callback = entry.callback, None
            if callback is None:
                self._off -= 1
            else:
                callback()
        if self._heap:
            self._arm()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a player writes through."""

    client: Client
    events: EventRecorder
    clock: Clock
    chance: Chance
    impersonate: Impersonate | None = None
    find_resource: FindResource | None = None


class StagePlayer:
    """`observe` each state of each object that is to be played; `forget` it when it is gone."""

    def __init__(
        self,
        resource: Resource,
        stages: Sequence[Stage],
        functions: Functions,
        surroundings: Surroundings,
        agenda: Agenda,
    ) -> None:
        self.resource = resource
        self.stages = list(stages)
        self._functions = functions
        self._around = surroundings
        self._agenda = agenda
        self._jobs: dict[Key, Job] = {}
        self._ready: deque[Job] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._backoff = Backoff(first_seconds=0.2, most_seconds=30.0)

    def replace_stages(self, stages: Sequence[Stage]) -> None:
        """Other stages from now on; the owner observes its objects again."""
        self.stages = list(stages)
        for key in list(self._jobs):
            self.forget(key)

    def observe(self, obj: Object) -> None:
        """An object's newest state."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace"), metadata["name"])
        job = self._jobs.get(key)
        if job is not None and job.obj["metadata"].get("resourceVersion") == metadata.get("resourceVersion"):
            return
        stage = choose(self.stages, obj, self._around.chance)
        if job is not None:
            if stage is not None and job.stage is stage and job.step == 0:
                job.obj = obj  # already waiting for it: keep its time
                return
            self.forget(key)
        if stage is None:
            return
        self._jobs[key] = job = Job(key, obj, stage)
        delay = self._delay(stage, obj)
        if delay <= 0:
            self._due(job)
        else:
            job.entry = self._agenda.at(asyncio.get_running_loop().time() + delay, lambda: self._due(job))

    def forget(self, key: Key) -> None:
        job = self._jobs.pop(key, None)
        if job is not None:
            job.dropped = True
            if job.entry is not None:
                self._agenda.call_off(job.entry)

    def hold(self, key: Key) -> None:
        """Nothing more is written of the object until `release`; its time goes on."""
        job = self._jobs.get(key)
        if job is not None:
            job.held = True

    def release(self, key: Key) -> None:
        """What came due meanwhile is due now."""
        job = self._jobs.get(key)
        if job is not None and job.held:
            job.held = False
            if job.overdue:
                job.overdue = False
                self._due(job)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(_WRITERS):
                group.create_task(self._write(), name=f"stages-{self.resource.plural}-{number}")

    def _delay(self, stage: Stage, obj: Object) -> float:
        try:
            bounds = stage.delay(obj, self._around.clock.wall())
        except AtollError as error:
            log.warning("stage %s: %s", stage.name, error)
            return 0.0
        if bounds is None:
            return 0.0
        least, most = bounds
        return most if most <= least else self._around.chance.uniform(least, most)

    def _due(self, job: Job) -> None:
        if job.dropped:
            return
        if job.held:
            job.overdue = True
            return
        self._ready.append(job)
        if len(self._ready) == 1:
            self._wake()

    def _wake(self) -> None:
        """One writer, who wakes the next where there is more than one takes at a time."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._ready:
                waiter = loop.create_future()
                self._idle.append(waiter)
                await waiter
            patches, other = self._take()
            if self._ready:
                self._wake()
            if patches:
                await self._logged(self._patch(patches))
            if other is not None:
                await self._logged(self._play(*other))

    async def _logged(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("stages of %s", self.resource.plural)

    def _take(self) -> tuple[list[tuple[Job, PatchStep]], tuple[Job, Sequence[Step]] | None]:
        """Jobs that are due: those that are like patches, to be written together; or one that is to be played alone."""
        patches: list[tuple[Job, PatchStep]] = []
        while self._ready and len(patches) < _TOGETHER:
            job = self._ready.popleft()
            if job.held:
                job.overdue = True
                continue
            if job.dropped:
                continue
            self._jobs.pop(job.key, None)
            steps = self._steps(job)
            if steps is None:
                continue
            first = steps[0] if len(steps) == 1 and not job.stage.immediate else None
            if not isinstance(first, PatchStep):
                return patches, (job, steps)
            if patches and _way(first) != _way(patches[0][1]):
                return patches, (job, steps)
            patches.append((job, first))
        return patches, None

    def _steps(self, job: Job) -> Sequence[Step] | None:
        """None: it could not be said, which was told."""
        try:
            return job.stage.steps(job.obj, self._functions)
        except AtollError as error:
            self._around.events.event(job.obj, "Warning", "StageFailed", f"stage {job.stage.name}: {error}")
        except Exception:
            log.exception("stage %s of %s", job.stage.name, job.key)
        return None

    async def _patch(self, patches: Sequence[tuple[Job, PatchStep]]) -> None:
        step = patches[0][1]
        results: Sequence[AtollError | None]
        try:
            results = await patch_all(
                self._as(step.user), self.resource, [(*job.key, patch.data) for job, patch in patches],
                content_type=step.content_type, subresource=step.subresource or None,
            )  # fmt: skip
        except AtollError as error:
            results = [error] * len(patches)
        except Exception as fault:  # of ours: none is to wait for ever
            log.exception("stages of %s", self.resource.plural)
            results = [AtollError(f"patching: {fault}")] * len(patches)
        for (job, _), failure in zip(patches, results, strict=True):
            if failure is not None and not isinstance(failure, NotFound):
                self._failed(job, 0, failure)

    async def _play(self, job: Job, steps: Sequence[Step]) -> None:
        result: Object | None = None
        deleted = False
        for number in range(job.step, len(steps)):
            if deleted and not isinstance(steps[number], EventStep):
                continue
            try:
                done = await self._carry_out(job.obj, steps[number])
            except NotFound:
                return
            except AtollError as error:
                self._failed(job, number, error)
                return
            deleted = deleted or isinstance(steps[number], DeleteStep)
            result = done or result
        if result is not None and job.stage.immediate:
            self.observe(result)

    def _failed(self, job: Job, step: int, error: AtollError) -> None:
        if isinstance(error, ApiError) and not error.retryable and error.code != 409:
            log.warning("stage %s of %s: %s", job.stage.name, job.key, error)
            self._around.events.event(job.obj, "Warning", "StageFailed", f"stage {job.stage.name}: {error}")
            return
        if job.key in self._jobs:
            return  # the object has changed meanwhile, and was looked at again
        job.step = step
        job.failures += 1
        self._jobs[job.key] = job
        delay = self._backoff.delay(job.failures - 1, self._around.chance)
        job.entry = self._agenda.at(asyncio.get_running_loop().time() + delay, lambda: self._due(job))

    async def _carry_out(self, obj: Object, step: Step) -> Object | None:
        metadata = obj["metadata"]
        client, namespace = self._around.client, metadata.get("namespace")
        if isinstance(step, PatchStep):
            return await self._as(step.user).patch(
                self.resource,
                metadata["name"],
                step.data,
                namespace,
                content_type=step.content_type,
                subresource=step.subresource or None,
            )
        if isinstance(step, EventStep):
            self._around.events.event(obj, step.type, step.reason, step.message)
        elif isinstance(step, DeleteStep):
            options = DeleteOptions(grace_period_seconds=0, uid=metadata.get("uid"))
            await client.delete(self.resource, metadata["name"], namespace, options=options)
        else:
            await self._apply(step, namespace)
        return None

    async def _apply(self, step: ApplyStep, namespace: str | None) -> None:
        data = step.data
        find = self._around.find_resource
        resource = await find(data.get("apiVersion") or "", data.get("kind") or "") if find is not None else None
        if resource is None:
            raise ApiError(f"no such kind: {data.get('apiVersion')} {data.get('kind')}", code=404, reason="NotFound")
        client = self._as(step.user)
        space = (data["metadata"].get("namespace") or namespace) if resource.namespaced else None
        name = data["metadata"]["name"]
        if not step.subresource:
            try:
                await client.create(resource, data, space)
                return
            except AlreadyExists:
                pass
        if step.content_type == APPLY_PATCH:
            body = {**data, "metadata": {**data["metadata"], **({"namespace": space} if space else {})}}
            await client.apply(resource, body, subresource=step.subresource or None, force=True)
        else:
            await client.patch(
                resource, name, data, space, content_type=step.content_type, subresource=step.subresource or None
            )

    def _as(self, user: str) -> Client:
        impersonate = self._around.impersonate
        return impersonate(user) if user and impersonate is not None else self._around.client


def _way(step: PatchStep) -> tuple[str, str, str]:
    """Patches of one way are written together."""
    return step.user, step.content_type, step.subresource

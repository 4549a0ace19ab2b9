"""The loop: take the next pod, decide on the snapshot, assume, and bind in the background.

Only pods whose schedulerName is the scheduler's own are looked at. Decisions are made one after the other, for all
members of a gang at once; bindings and status writes run beside them. A pod whose binding fails is taken off the
snapshot and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.base.metrics import Metrics
from atoll.client.port import Client
from atoll.cluster.scheduler.binding import Binder, shortened
from atoll.cluster.scheduler.cache import SchedulerCache
from atoll.cluster.scheduler.claims import ClaimBinder
from atoll.cluster.scheduler.gangs.attempt import Gangs, Outcome
from atoll.cluster.scheduler.gangs.book import GangBook
from atoll.cluster.scheduler.leaving import Leaving
from atoll.cluster.scheduler.metrics import SchedulerMetrics
from atoll.cluster.scheduler.queue import Waiting
from atoll.cluster.scheduler.spreading import DefaultSelectors
from atoll.cluster.scheduler.together import BoundTogether
from atoll.objects.meta import condition
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informers
from atoll.scheduling.dra.model import AllocationError, Selectors
from atoll.scheduling.dra.needs import DeviceNeeds, DevicePlan
from atoll.scheduling.dra.state import assume_plan
from atoll.scheduling.gang import Gang
from atoll.scheduling.gang_preemption import GangPreemption, plan_gang_preemption
from atoll.scheduling.groups.model import GroupKey
from atoll.scheduling.plan import Decision, Planner
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.preemption import Victims, plan_preemption
from atoll.scheduling.status import Failure

log = logging.getLogger(__name__)

DEFAULT_SCHEDULER = "default-scheduler"
USER = "system:kube-scheduler"
_PARALLEL_WRITES = 128
_BATCH = 32  # decisions between looks at the event loop; they are bound together
_FLUSH_EVERY_SECONDS = 30.0
_SOON_SECONDS = 0.01  # a timer may come a rounding error early: what it is for must have come the next time


class Scheduler:
    """One cluster's default scheduler. `run` works until cancelled."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        chance: Chance,
        *,
        name: str = DEFAULT_SCHEDULER,
        metrics: Metrics | None = None,
        plugins: Sequence[Plugin] = (),
        selectors: Selectors | None = None,
        gangs: GangBook | None = None,
        also: Callable[[str], bool] = lambda name: False,
        profiles: Mapping[str, Sequence[Plugin]] | None = None,
        taint_rules: bool = False,
    ) -> None:
        """`plugins` decide beside the default ones; `selectors` is CEL over devices; `gangs` knows which pods belong
        together (None: none do).

        `also`: other schedulerNames whose pods are placed. `profiles`: those whose pods other plugins decide for.
        `taint_rules`: whether the cluster serves DeviceTaintRules.
        """
        self.name = name
        self._also = also
        self._clock = clock
        self._selectors = DefaultSelectors(informers)
        self.planner = Planner(
            chance.stream("scheduler"), self._selectors, (*default_plugins(), *plugins), selectors, profiles
        )
        self._profiles = frozenset(profiles or ())
        self._wakeup = asyncio.Event()
        self._cache = SchedulerCache(informers, self.planner, clock, self._is_ours, self._wakeup.set, taint_rules)
        self._queue = self._cache.queue
        self._gangs = None if gangs is None else Gangs(gangs, self.planner, self._queue, clock, self._cache.helped)
        self._leaving = Leaving(self.planner)
        self._timers: dict[GroupKey, asyncio.TimerHandle] = {}
        self._metrics = None if metrics is None else SchedulerMetrics(metrics, name, self._queue)
        if self._metrics is not None and gangs is not None:
            self._metrics.watch_gangs(gangs.key, clock.monotonic)
        self._events = EventRecorder(client, name, clock, chance)
        claims = ClaimBinder(client, self.planner.devices, clock, self._cache.watch_devices)
        self._binder = Binder(client, self._events, self._cache, claims, clock, name)
        self._writes: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_PARALLEL_WRITES)
        self._together = BoundTogether(self._binder, _PARALLEL_WRITES, _BATCH, self._start, self._bound, self._unbind)

    async def run(self) -> None:
        for informer in (*self._cache.informers(), *self._selectors.informers()):
            await informer.synced.wait()
        if self._gangs is not None:
            for informer in self._gangs.book.informers():
                await informer.answered.wait()
            self._gangs.book.start(self._cache.helped)
        self._cache.start()
        if self._gangs is not None:
            self._gangs.start()
        flush_at = self._clock.monotonic() + _FLUSH_EVERY_SECONDS
        try:
            while True:
                await self._work()
                self.planner.prepare()
                now = self._clock.monotonic()
                if now >= flush_at:
                    self._queue.flush(now)
                    if self._gangs is not None:
                        self._gangs.prune()
                    flush_at = now + _FLUSH_EVERY_SECONDS
                await self._idle(min(self._queue.next_time() or flush_at, flush_at) - now)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for task in self._writes:
                task.cancel()
            await asyncio.gather(*self._writes, return_exceptions=True)

    async def _idle(self, seconds: float) -> None:
        if seconds <= 0:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wakeup.set)
        try:
            await self._wakeup.wait()
        finally:
            timer.cancel()

    async def _work(self) -> None:
        """Decide until the queue is empty; wakes that come meanwhile are taken in."""
        self._wakeup.clear()
        done = 0
        while (waiting := self._queue.pop(self._clock.monotonic())) is not None:
            started = self._clock.monotonic()
            try:
                result = self._schedule(waiting)
            except AllocationError as error:
                self._fail(waiting, error)
                result = "error"
            except Exception:
                log.exception("scheduling %s", waiting.pod.key)
                self._queue.retry(waiting, self._clock.monotonic())
                result = "error"
            if self._metrics is not None:
                self._metrics.attempted(result, self._clock.monotonic() - started)
            done += 1
            if done % _BATCH == 0:
                self._together.begin()
                await asyncio.sleep(0)
                while len(self._writes) + self._together.under_way >= 4 * _PARALLEL_WRITES:
                    await asyncio.wait(self._writes, return_when=asyncio.FIRST_COMPLETED)
        self._together.begin()

    def _schedule(self, waiting: Waiting) -> str:
        """What came of it: scheduled or unschedulable."""
        pod = waiting.pod
        outcome = None if self._gangs is None else self._gangs.attempt(waiting, list(self._cache.budgets))
        if outcome is not None:
            return self._carry_out(outcome)
        decision = self.planner.decide(pod)
        if decision.node is not None:
            self._assume(pod, decision)
            self._carry(waiting, decision)
            return "scheduled"
        assert decision.failure is not None
        self._reject(waiting, decision.failure)
        return "unschedulable"

    def _is_ours(self, name: str) -> bool:
        return name == self.name or name in self._profiles or self._also(name)

    def _carry_out(self, outcome: Outcome) -> str:
        """Of a gang's attempt."""
        for waiting, decision in outcome.placed:
            self._assume(waiting.pod, decision)
            self._carry(waiting, decision, outcome.key)
        if outcome.preemption is not None:
            self._promise(outcome.preemption, [waiting.pod for waiting in outcome.members])
        self._set_aside(outcome)
        message = shortened(f"gang {outcome.key} did not become whole in time")
        for pod in outcome.released:
            self._write(self._binder.release(pod, message))
        self._look_again(outcome)
        return "scheduled" if outcome.placed else "unschedulable"

    def _set_aside(self, outcome: Outcome) -> None:
        """Those without a node are parked and told why."""
        now = self._clock.monotonic()
        for waiting in outcome.left:
            pod = waiting.pod
            if not outcome.reason:
                self._queue.hold(waiting, outcome.settled)
                continue
            self._queue.park(waiting, now)
            if outcome.withdrawn:
                self.planner.state.withdraw(pod.uid)
            nominated = self.planner.state.nomination(pod.uid) or ""
            if (condition(pod.obj, "PodScheduled") or {}).get("message") != outcome.reason:
                self._events.event(pod.obj, WARNING, "FailedScheduling", shortened(outcome.reason))
            self._write(self._binder.tell(pod, "Unschedulable", outcome.reason, nominated))

    def _promise(self, preemption: GangPreemption, members: Sequence[PodInfo]) -> None:
        for pod, node in zip(members, preemption.placement.nodes, strict=True):
            self.planner.state.nominate(pod, node)
        self._evict(members[0], preemption)

    def _evict(self, pod: PodInfo, preemption: GangPreemption) -> None:
        victims = list(self._leaving.add(found for unit in preemption.units for found in unit.pods))
        if self._metrics is not None and victims:
            self._metrics.preempted(len(victims))
        for victim, node in victims:
            self._write(self._displace(pod, victim, node))

    async def _displace(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        try:
            await self._binder.preempt(pod, victim, node)
        except AtollError:
            self._leaving.forget(victim, node)
            raise

    def _look_again(self, outcome: Outcome) -> None:
        timer = self._timers.pop(outcome.key, None)
        if timer is not None:
            timer.cancel()
        if outcome.again is not None:
            delay = max(_SOON_SECONDS, outcome.again - self._clock.monotonic())
            self._timers[outcome.key] = asyncio.get_running_loop().call_later(delay, self._cache.helped)

    def _fail(self, waiting: Waiting, error: AllocationError) -> None:
        """A claim or class is wrong: the pod is tried again, as it may have been mended."""
        message = f'running "DynamicResources" filter plugin: {error.message}'
        self._queue.retry(waiting, self._clock.monotonic())
        self._events.event(waiting.pod.obj, WARNING, "FailedScheduling", shortened(message))
        self._write(self._binder.tell(waiting.pod, "SchedulerError", message, None))

    def _assume(self, pod: PodInfo, decision: Decision) -> None:
        assert decision.node is not None
        self.planner.assume(pod, decision.node)
        self.planner.state.withdraw(pod.uid)
        if decision.devices is not None:
            assume_plan(self.planner.devices, decision.devices, pod.uid)
        if decision.volumes is not None:
            for volume, claim in decision.volumes.bindings:
                self.planner.volumes.assumed[volume["metadata"]["name"]] = claim["metadata"]["uid"]
            if decision.volumes.bindings:
                self.planner.volumes.changed()

    def _carry(self, waiting: Waiting, decision: Decision, gang: GroupKey | None = None) -> None:
        """Have a decision carried out, with others where nothing is to be bound before the pod."""
        if not self._together.add(waiting, decision, gang):
            self._write(self._bind(waiting, decision, gang))

    async def _bind(self, waiting: Waiting, decision: Decision, gang: GroupKey | None = None) -> None:
        pod = waiting.pod
        assert decision.node is not None
        try:
            await self._binder.bind(pod, decision.node, decision.volumes, decision.devices)
        except AtollError as error:
            if not self._is_bound(pod):
                await self._give_back(pod, decision.devices)
            self._unbind(waiting, decision, error)
        else:
            self._bound(waiting, gang)

    def _bound(self, waiting: Waiting, gang: GroupKey | None) -> None:
        if gang is not None and self._gangs is not None:
            self._gangs.bound(gang, waiting.pod.uid)
        if self._metrics is not None:
            self._metrics.placed(waiting, self._clock.monotonic())

    def _is_bound(self, pod: PodInfo) -> bool:
        """After all: an answer was lost, or another scheduler was faster."""
        live = self._cache.pod(*pod.key)
        return bool(live and (live.get("spec") or {}).get("nodeName") and live["metadata"].get("uid") == pod.uid)

    async def _give_back(self, pod: PodInfo, devices: DevicePlan | None) -> None:
        if devices is None:
            return
        try:
            await self._binder.claims.unbind(pod, devices)
        except AtollError as error:
            log.info("freeing claims of %s: %s", pod.key, error)  # its next attempt, or the controller, frees them

    def _unbind(self, waiting: Waiting, decision: Decision, error: AtollError) -> None:
        pod = waiting.pod
        live = self._cache.pod(*pod.key)
        if self._is_bound(pod):
            return
        self.planner.forgo(pod)
        if decision.volumes is not None:
            for volume, _ in decision.volumes.bindings:
                self.planner.volumes.assumed.pop(volume["metadata"]["name"], None)
        if isinstance(error, NotFound) and live is None:
            self._queue.remove(pod.uid)
            return
        log.log(logging.DEBUG if isinstance(error, Conflict) else logging.INFO, "binding %s: %s", pod.key, error)
        self._queue.retry(waiting, self._clock.monotonic())
        self._cache.helped()
        self._events.event(pod.obj, WARNING, "FailedScheduling", shortened(f"binding rejected: {error}"))

    def _reject(self, waiting: Waiting, failure: Failure) -> None:
        """No node: try preemption, park the pod, and say why."""
        pod = waiting.pod
        nominated: str | None = None
        if failure.devices is not None:
            self._free(pod, failure.devices)
        room = self._leaving.room_for(pod)
        if room is not None:
            self.planner.state.nominate(pod, room)
            self._park(waiting, f"0/{failure.total} nodes are available: waits until preempted pods are gone", room)
            return
        if failure.total:
            preemption = plan_preemption(self.planner, pod, failure, list(self._cache.budgets))
            failure.postfilter = preemption.message
            if preemption.victims is not None and self._would_break_a_gang(preemption.victims):
                whole = self._whole_gangs(pod)
                if whole is not None:
                    nominated = whole.placement.nodes[0]
                    self._promise(whole, [pod])
            elif preemption.victims is not None:
                nominated = preemption.victims.node
                self._nominate(pod, preemption.victims)
            elif preemption.clear:
                nominated = ""
                self.planner.state.withdraw(pod.uid)
        self._park(waiting, failure.message, nominated)

    def _park(self, waiting: Waiting, message: str, nominated: str | None) -> None:
        """Until something changes; and say why."""
        self._queue.park(waiting, self._clock.monotonic())
        self._events.event(waiting.pod.obj, WARNING, "FailedScheduling", shortened(message))
        self._write(self._binder.tell(waiting.pod, "Unschedulable", message, nominated))

    def _would_break_a_gang(self, victims: Victims) -> bool:
        return self._gangs is not None and any(self._gangs.book.gang_of(victim) for victim in victims.pods)

    def _whole_gangs(self, pod: PodInfo) -> GangPreemption | None:
        """The cheapest work that can go, gangs as a whole, so that the pod fits."""
        assert self._gangs is not None
        alone = Gang(f"{pod.template.namespace}/{pod.name}", [pod])
        return plan_gang_preemption(self.planner, alone, self._gangs.work, list(self._cache.budgets))

    def _free(self, pod: PodInfo, needs: DeviceNeeds) -> None:
        """A claim that is idle where the pod can't go, or was left by an attempt of the pod's before."""
        claims = self._binder.claims
        if needs.stale is not None:
            self._write(claims.delete(needs.stale))
        elif not needs.error and (idle := needs.in_the_way(self.planner.state.nodes, pod.uid)) is not None:
            self._write(claims.deallocate(idle))

    def _nominate(self, pod: PodInfo, victims: Victims) -> None:
        state = self.planner.state
        for other in list(state.nominated.get(victims.node, {}).values()):
            if other.priority < pod.priority:
                state.withdraw(other.uid)
                self._write(self._binder.withdraw(other))
        state.nominate(pod, victims.node)
        if self._metrics is not None:
            self._metrics.preempted(len(victims.pods))
        for victim in victims.pods:
            self._write(self._binder.preempt(pod, victim, victims.node))

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        self._start(self._guarded(work))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="scheduler-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._slots:
                await work
        except NotFound as error:
            log.debug("gone: %s", error)
        except AtollError as error:
            log.info("write failed: %s", error)

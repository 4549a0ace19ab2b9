"""The loop that admits: keeps the state true by watches, decides, and writes what was decided.

Guarantees: an admission is one write with the Workload's resourceVersion as its precondition, so nothing is admitted
twice; quota is taken in memory before the write is sent, so two admissions in flight never share it. Killed at any
point and started again, it takes up from what the API server has: it decides nothing before all informers have
listed. Where a write fails, the Workload counts again as the server has it.
"""

from __future__ import annotations

import asyncio
import logging

from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.capacity.queueing import config, read, status
from atoll.capacity.queueing.flavors import amount_of
from atoll.capacity.queueing.model import Key, Object, Workload
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.plan import Admit, Broken, Evict, plan_cycle
from atoll.capacity.queueing.read import Shapes
from atoll.capacity.queueing.requests import surroundings_of
from atoll.capacity.queueing.rooms import Rooms
from atoll.capacity.queueing.state import Setup, State
from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, LIMIT_RANGES, NAMESPACES, RESOURCE_CLAIM_TEMPLATES, RUNTIME_CLASSES
from atoll.objects.meta import condition
from atoll.runtime.events import NORMAL, WARNING

NAME = "queueing"
_RETRY_SECONDS = 0.5
log = logging.getLogger(__name__)


class QueueController:
    """`state` is what others (status, explanations) read."""

    def __init__(self, parts: Parts) -> None:
        self.name = NAME
        self.state = State()
        self.options = config.Options()
        self._parts = parts
        self._shapes = Shapes()
        self._writing: dict[Key, str] = {}  # keys whose write is in flight, and what it was computed from
        self._read: dict[Key, tuple[tuple[str, str, str], int | None, Workload]] = {}  # version, generation, as read
        self._wake = asyncio.Event()
        self._reconfigure = True
        of = parts.informers.of
        self._queues, self._cohorts = of(kueue.CLUSTER_QUEUES), of(kueue.COHORTS)
        self._flavors, self._locals = of(kueue.RESOURCE_FLAVORS), of(kueue.LOCAL_QUEUES)
        self._checks, self._namespaces = of(kueue.ADMISSION_CHECKS), of(NAMESPACES)
        self._configs = of(CONFIGMAPS, namespace=config.NAMESPACE)
        self._topologies = of(kueue.TOPOLOGIES)
        self._limit_ranges, self._runtime_classes = of(LIMIT_RANGES), of(RUNTIME_CLASSES)
        self._templates = of(RESOURCE_CLAIM_TEMPLATES)
        self._rooms = Rooms(parts, self._nodes_changed)
        self.workloads = of(kueue.WORKLOADS)
        self._setup_informers = (
            self._queues, self._cohorts, self._flavors, self._locals, self._checks, self._namespaces, self._configs,
            self._topologies, self._limit_ranges, self._runtime_classes,
        )  # fmt: skip
        for informer in self._setup_informers:
            informer.add_handler(self._setup_changed)
        self._templates.add_handler(self._template_changed)
        self.workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        """Until cancelled."""
        for informer in (*self._setup_informers, self._templates, self.workloads):
            await informer.synced.wait()
        await self._rooms.synced()
        self._wake.set()
        self._parts.metrics.follow(self.state)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._until_needed()
                self._wake.clear()
                if not self._parts.on():
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._wake.set()
                    continue
                if self._reconfigure:
                    self._configure()
                if self.state.setup.topologies and self._rooms.dirty:
                    self.state.set_rooms(self._rooms.rooms())
                plan = plan_cycle(self.state, self._parts.clock.wall())
                if plan.admit or plan.waiting:
                    self._parts.metrics.attempted(bool(plan.admit))
                for admit in plan.admit:
                    group.create_task(self._admit(admit))
                for evict in plan.evict:
                    group.create_task(self._evict(evict))
                for broken in plan.broken:
                    group.create_task(self._mend(broken))

    async def _until_needed(self) -> None:
        """A change, or the end of someone's back-off."""
        at = self.state.next_wake()
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self._parts.clock.wall())):
                await self._wake.wait()
        except TimeoutError:
            return

    # -- what changes

    def _setup_changed(self, old: Object | None, new: Object | None) -> None:
        def settings(obj: Object | None) -> object:
            metadata = (obj or {}).get("metadata") or {}
            active = condition(obj, "Active") if obj else None
            leaving = "deletionTimestamp" in metadata
            return obj and (
                obj.get("spec"),
                obj.get("data"),
                obj.get("overhead"),
                metadata.get("labels"),
                active and active["status"],
                leaving,
            )

        if settings(old) != settings(new):
            self._reconfigure = True
            self._wake.set()

    def _nodes_changed(self) -> None:
        if self.state.setup.topologies:
            self._wake.set()

    def _template_changed(self, old: Object | None, new: Object | None) -> None:
        """Templates never change; workloads that named one before it was there can be counted now."""
        if old is not None or new is None or not self.options.counting.classes:
            return
        self._shapes.forget_problems()
        namespace = new["metadata"]["namespace"]
        for key in [it.key for it in self.state.workloads.values() if it.shape.problem and it.key[0] == namespace]:
            if key not in self._writing:
                self._read.pop(key, None)
                self._refresh(key)

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        key = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        if new is None:
            self._writing.pop(key, None)
            self._read.pop(key, None)
            self.state.drop(key)
        elif key not in self._writing:
            self.state.put(self.read(new, old))
        self._wake.set()

    def read(self, obj: Object, old: Object | None = None) -> Workload:
        """As the queues see it; of one version of an object always the same value. `old`: what it was before."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace") or "", metadata["name"])
        version = (metadata["uid"], metadata["resourceVersion"], self.options.pods_ready.order_by)
        known = self._read.get(key)
        if known is not None and known[0] == version:
            return known[2]
        generation = metadata.get("generation")
        same_spec = known is not None and known[0][0] == version[0] and known[1] == generation is not None
        before = known[2] if known is not None and same_spec else None
        if known is not None and old is not None and old["metadata"]["resourceVersion"] != known[0][1]:
            old = None
        found = read.workload(obj, self._shapes, order_by=version[2], before=before, old=old)
        self._read[key] = (version, generation, found)
        return found

    def manages(self, job: Object) -> bool:
        """Whether a job waits for quota: it names a queue, or those that name none are managed in its namespace."""
        metadata = job["metadata"]
        if (metadata.get("labels") or {}).get(kueue.QUEUE_LABEL):
            return True
        namespace = self._namespaces.get(metadata["namespace"])
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        return self.options.unnamed.selects(metadata["namespace"], labels)

    def _configure(self) -> None:
        self._reconfigure = False
        self.options = self._read_options()
        local_queues = {local.key: local for local in map(read.local_queue, self._locals)}
        self.state.configure(
            Setup(
                {obj["metadata"]["name"]: read.cluster_queue(obj) for obj in self._queues},
                {obj["metadata"]["name"]: read.cohort(obj) for obj in self._cohorts},
                {obj["metadata"]["name"]: read.flavor(obj) for obj in self._flavors},
                local_queues,
                {obj["metadata"]["name"]: obj["metadata"].get("labels") or {} for obj in self._namespaces},
                {obj["metadata"]["name"]: status.is_true(obj, "Active") for obj in self._checks},
                self.options.fair,
                self.options.past,
                {obj["metadata"]["name"]: read.topology_levels(obj) for obj in self._topologies},
                self.options.pods_ready.enabled and self.options.pods_ready.block,
            )
        )
        for obj in self._locals:
            past = ((obj.get("status") or {}).get("fairSharing") or {}).get("admissionFairSharingStatus") or {}
            consumed = {
                name: float(amount_of(name, text)) for name, text in (past.get("consumedResources") or {}).items()
            }
            self.state.consumption.restore((obj["metadata"]["namespace"], obj["metadata"]["name"]), consumed)
        counting = self.options.counting
        around = surroundings_of(self._limit_ranges, self._runtime_classes, counting, self._templates.get)
        if around != self._shapes.surroundings:
            self._read_anew(Shapes(around))

    def _read_anew(self, shapes: Shapes) -> None:
        """What pods will ask for has changed: of workloads that wait it decides, of others the status says it."""
        self._shapes = shapes
        self._read.clear()
        for obj in self.workloads:
            if (obj["metadata"].get("namespace") or "", obj["metadata"]["name"]) not in self._writing:
                self.state.put(self.read(obj))

    def _read_options(self) -> config.Options:
        """A configuration that can't be read changes nothing, and is told."""
        found = self._configs.get(config.NAME, config.NAMESPACE)
        text = ((found or {}).get("data") or {}).get(config.FILE)
        if found is None or text is None:
            return config.Options()
        try:
            return config.parse(text)
        except config.ConfigError as error:
            log.warning("%s/%s: %s", config.NAMESPACE, config.NAME, error)
            self._parts.events.event(found, WARNING, "InvalidConfiguration", str(error))
            return self.options

    # -- what was decided

    async def _admit(self, admit: Admit) -> None:
        workload = admit.workload
        obj = self._current(workload)
        admission = workload.admission
        if obj is None or admission is None:
            return
        now = self._parts.clock.wall()
        new = status.reserved(obj, admission, admit.checks, now)
        if not await self._write(workload.key, obj, new):
            return
        events, waited = self._parts.events, int(now - workload.created)
        since = now - max(workload.order_at, workload.created)
        self._parts.metrics.reserved(admission.queue, workload.queue_key, since)
        text = f"Quota reserved in ClusterQueue {admission.queue}, wait time since queued was {waited}s"
        events.event(obj, NORMAL, "QuotaReserved", text)
        if not admit.checks:
            self._parts.metrics.admitted(admission.queue, workload.queue_key, since, 0.0)
            text = f"Admitted by ClusterQueue {admission.queue}, wait time since reservation was 0s"
            events.event(obj, NORMAL, "Admitted", text)

    async def _evict(self, evict: Evict) -> None:
        obj = self._current(evict.victim)
        if obj is None or status.is_true(obj, "Evicted"):
            return
        by = self.workloads.get(evict.by.key[1], evict.by.key[0])
        message = status.preemption_message(by, evict.by.uid, evict.reason)
        new = status.evicted(obj, "Preempted", message, self._parts.clock.wall(), preempted=evict.reason)
        if await self._write(evict.victim.key, obj, new):
            self._parts.events.event(obj, NORMAL, "Preempted", message)
            queue = evict.victim.admission.queue if evict.victim.admission is not None else ""
            self._parts.metrics.preempted(queue, evict.victim.queue_key, evict.queue, evict.reason)
        else:
            self.state.look_at(evict.queue)  # who waits for it is decided about again

    async def _mend(self, broken: Broken) -> None:
        """Other hosts for those that failed; or it goes."""
        workload, now = broken.workload, self._parts.clock.wall()
        obj = self._current(workload)
        if obj is None or workload.admission is None or status.is_true(obj, "Evicted"):
            return
        if not broken.why:
            if await self._write(workload.key, obj, status.mended(obj, workload.admission)):
                self._parts.events.event(obj, NORMAL, "NodesReplaced", "Its pods on failed nodes get other ones")
            return
        message = f"A node of its pods failed: {broken.why}"
        if await self._write(workload.key, obj, status.evicted(obj, "NodeFailures", message, now)):
            self._parts.metrics.evicted(workload.admission.queue, workload.queue_key, "NodeFailures")
            self._parts.events.event(obj, NORMAL, "EvictedDueToNodeFailures", message)

    def _current(self, workload: Workload) -> Object | None:
        """As the informer has it; where that is another one by now, the state is put right."""
        namespace, name = workload.key
        obj = self.workloads.get(name, namespace)
        if obj is not None and obj["metadata"]["uid"] == workload.uid:
            return obj
        self._refresh(workload.key)
        return None

    async def _write(self, key: Key, old: Object, new: Object) -> bool:
        """While it is on its way the state keeps what was decided; afterwards it is what the server has."""
        self._writing[key] = old["metadata"]["resourceVersion"]
        try:
            written = await write_status(self._parts.client, kueue.WORKLOADS, old, new)
        except (Conflict, NotFound) as error:
            log.debug("workload %s/%s: %s", *key, error)
            self._writing.pop(key, None)
            self._refresh(key)
            return False
        except AtollError as error:
            log.log(logging.DEBUG if error.retryable else logging.WARNING, "workload %s/%s: %s", *key, error)
            truth = await self._truth(key)
            if truth is None or _version(truth) == _version(old):
                self._writing.pop(key, None)
                self._refresh(key)
                return False
            written = truth
        if self._writing.pop(key, None) is not None:
            current = self.workloads.get(key[1], key[0])
            newer = current is not None and int(current["metadata"]["resourceVersion"]) > _version(written)
            if newer or (current is not None and current["metadata"]["uid"] == written["metadata"]["uid"]):
                self.state.put(self.read(current if newer and current is not None else written, old))
            self._wake.set()
        return True

    async def _truth(self, key: Key) -> Object | None:
        """What the server has, after a write whose outcome is not known; until then its quota stays taken."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                return await self._parts.client.get(kueue.WORKLOADS, key[1], key[0])
            except NotFound:
                return None
            except AtollError as error:
                log.debug("workload %s/%s: %s", *key, error)

    def _refresh(self, key: Key) -> None:
        obj = self.workloads.get(key[1], key[0])
        if obj is None:
            self.state.drop(key)
        else:
            self.state.put(self.read(obj))
        self._wake.set()


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])

"""The loop of node health: read, say by conditions, and carry out the next step of each node's plan.

Guarantees: a node is taken out by one write with its resourceVersion as precondition, for which a place in the budget
is held from before the write until its outcome is known; pods leave by the eviction API alone; all state is on the
Node, so it may be killed at any await. Without a reading nothing is done to a node that works, and none returns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from atoll.base.errors import AtollError, NotFound
from atoll.capacity import names
from atoll.capacity.eviction import evict
from atoll.capacity.health import changes, checkpoint, plan
from atoll.capacity.health.findings import gpu_findings
from atoll.capacity.health.fleet import Fleet
from atoll.capacity.health.host import host_findings
from atoll.capacity.health.measures import HealthMetrics
from atoll.capacity.health.model import LADDER, Finding, Object, Repair, repair_of
from atoll.capacity.health.plan import Drain, Mend, Move, Rest, Return, Step, TakeOut, View
from atoll.capacity.health.readings import GpuReadings
from atoll.capacity.health.remedy import Remedies
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.nodes import annotation, has_taint, is_simulated
from atoll.capacity.parts import Parts, pods_by_node
from atoll.capacity.settings import Live
from atoll.client.port import STRATEGIC_PATCH
from atoll.kinds.builtin import NODES
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING

NAME = "node-health"
_NO_READING_SECONDS = 30.0
_BLOCKED_SECONDS = 10.0
_BUDGET_SECONDS = 60.0
log = logging.getLogger(__name__)


class HealthController:
    """`tests(node)`: whether a mended node must pass preflight before it returns."""

    def __init__(
        self,
        parts: Parts,
        settings: Live[HealthSettings],
        readings: GpuReadings,
        remedies: Remedies,
        tests: Callable[[Object], bool],
    ) -> None:
        self.name = NAME
        self._parts = parts
        self._readings = readings
        self._remedies = remedies
        self._tests = tests
        self._nodes = parts.informers.of(NODES)
        self._pods = pods_by_node(parts.informers)
        self._settings = settings
        self._fleet = Fleet()
        self._waiting: dict[str, Repair] = {}  # nodes for which the budget has no place
        self._metrics = HealthMetrics(parts.metrics, self._nodes, self._waiting)
        self.loop: Controller[str] = Controller(
            NAME, self._reconcile, workers=8, wait_for=(self._nodes, self._pods, self._settings.informer)
        )
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        self._settings.on_change(self._all_again)

    async def run(self) -> None:
        await self.loop.run()

    # -- what changes

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        before = len(self._fleet.out)
        if new is None:
            self._fleet.drop(name)
            self._fleet.release(name)
            self._waiting.pop(name, None)
        else:
            self._fleet.put(new)
            if has_taint(new, names.UNHEALTHY_TAINT):
                self._fleet.release(name)
        self.loop.queue.add(name)
        if len(self._fleet.out) < before:
            self._offer_places()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        name = ((new or old or {}).get("spec") or {}).get("nodeName")
        node = self._nodes.get(name) if name else None
        repair = repair_of(node) if node is not None else None
        if repair is not None and repair.phase == "draining":
            self.loop.queue.add(str(name))

    def _all_again(self) -> None:
        for node in self._nodes:
            self.loop.queue.add(node["metadata"]["name"])

    def _offer_places(self) -> None:
        """The worst first."""
        for name, repair in sorted(self._waiting.items(), key=lambda it: (-LADDER.index(it[1].remedy), it[0])):
            log.debug("%s waits for a place (%s)", name, repair.reason)
            self.loop.queue.add(name)

    # -- one node

    async def _reconcile(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        reading = await self._readings.read(node)
        settings, now = self._settings.value, self._parts.clock.wall()
        findings = host_findings(node)
        if reading is not None:
            findings += gpu_findings(node, reading, settings)
        read = plan.is_read(node, reading is not None)
        await self._say(node, findings, reading is not None, now)
        view = View(node, findings, read, self._pods.by_index("node", name), now, settings)
        step = plan.plan_node(view)
        if not isinstance(step, TakeOut):
            self._waiting.pop(name, None)
        again = [await self._carry_out(step, view)]
        if reading is not None:
            again.append(reading.again_seconds)
        elif not read:
            again.append(_NO_READING_SECONDS)
        return min((seconds for seconds in again if seconds is not None), default=None)

    async def _say(self, node: Object, findings: list[Finding], has_reading: bool, now: float) -> None:
        changed = changes.conditions(node, findings, has_reading, now)
        if not changed:
            return
        name = node["metadata"]["name"]
        patch = {"status": {"conditions": changed}}
        await self._parts.client.patch(NODES, name, patch, content_type=STRATEGIC_PATCH, subresource="status")
        for item in changed:
            self._metrics.said(item)
            if item["reason"] not in ("NoFault", "NoNotice"):
                kind = NORMAL if item["status"] == "Unknown" else WARNING
                self._parts.events.event(node, kind, item["reason"], item["message"])

    async def _carry_out(self, step: Step, view: View) -> float | None:
        match step:
            case Rest(again_seconds):
                return again_seconds
            case TakeOut(repair):
                return await self._take_out(view, repair)
            case Drain(drain):
                return await self._evict(view, drain.evict, drain.again_seconds)
            case Move(repair):
                await self._move(view, repair)
                return None
            case Mend(repair):
                return await self._mend(view, repair)
            case Return(repair):
                await self._return(view, repair)
                return None

    async def _take_out(self, view: View, repair: Repair) -> float | None:
        node = view.node
        name = node["metadata"]["name"]
        if not self._fleet.take(name, view.settings):
            if name not in self._waiting:
                text = f"{repair.message}; it stays, as the budget has no place for one more that is out"
                self._parts.events.event(node, WARNING, "OverBudget", text)
            self._waiting[name] = repair
            return _BUDGET_SECONDS
        self._waiting.pop(name, None)
        try:
            await self._parts.client.patch(NODES, name, changes.taken_out(node, repair, view.now))
        except AtollError:
            await self._settle(name)
            raise
        except asyncio.CancelledError:
            self._fleet.release(name)
            raise
        self._metrics.taken_out.of(repair.reason).value += 1
        self._parts.events.event(node, WARNING, "TakenOut", f"{repair.message}; remedy: {repair.remedy}")
        return None

    async def _settle(self, name: str) -> None:
        """After a write that failed, or may have: the place is kept until it is known which."""
        while True:
            try:
                found = await self._parts.client.get(NODES, name)
            except NotFound:
                found = None
            except AtollError as error:
                log.debug("node %s: %s", name, error)
                await asyncio.sleep(1.0)
                continue
            if found is None or not has_taint(found, names.UNHEALTHY_TAINT):
                self._fleet.release(name)  # else the informer will show the taint, and it is released then
            return

    async def _evict(self, view: View, pods: tuple[Object, ...], again: float | None) -> float | None:
        results = await asyncio.gather(*(self._evict_one(view, pod) for pod in pods))
        return min([_BLOCKED_SECONDS, again or _BLOCKED_SECONDS]) if not all(results) else again

    async def _evict_one(self, view: View, pod: Object) -> bool:
        """False where a PodDisruptionBudget does not allow it now."""
        outcome = await evict(self._parts.client, pod)
        self._metrics.evictions.of(outcome).value += 1
        if outcome == "evicted" and not annotation(pod, names.STOP_AS_ONE):  # a group's loss is counted when it stops
            lost = checkpoint.lost_seconds(pod, view.now, simulated=is_simulated(view.node))
            self._metrics.lost_seconds.of().value += lost
        return outcome != "blocked"

    async def _mend(self, view: View, repair: Repair) -> float | None:
        progress = await self._remedies.advance(view.node, repair)
        following = plan.after_remedy(view, repair, done=progress.done, failed=progress.failed)
        if following is None:
            return progress.again_seconds
        name = view.node["metadata"]["name"]
        # the remedy may have written to the node: plan on what is there now
        node = await self._parts.client.get(NODES, name)
        if repair_of(node) == repair:
            await self._move(View(node, view.findings, view.read, view.pods, view.now, view.settings), following)
        return None

    async def _move(self, view: View, repair: Repair) -> None:
        tests = repair.phase == "testing" and self._tests(view.node)
        patch = changes.moved(view.node, repair, view.now, tests=tests)
        await self._parts.client.patch(NODES, view.node["metadata"]["name"], patch)
        self._metrics.remedies.of(repair.remedy, repair.phase).value += 1
        if repair.phase == "given-up":
            self._parts.events.event(view.node, WARNING, "GivenUp", f"no remedy helped: {repair.message}")
        else:
            self._parts.events.event(view.node, NORMAL, repair.phase.capitalize(), f"remedy: {repair.remedy}")

    async def _return(self, view: View, repair: Repair) -> None:
        patch = changes.returned(view.node, repair, view.now)
        await self._parts.client.patch(NODES, view.node["metadata"]["name"], patch)
        self._metrics.returned.of(repair.remedy).value += 1
        self._parts.events.event(view.node, NORMAL, "Returned", f"{repair.remedy} has mended it")

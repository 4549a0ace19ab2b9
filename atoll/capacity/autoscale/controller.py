"""The loop of autoscaling: observe, plan, carry out.

Guarantees: a node is given back only after it was closed, a while has passed, and the API server itself says that no
work is there; each pass counts the machines that the provider has, so an order whose answer was lost is not placed
twice; where the provider can't say, nothing is done. Killed at any await it goes on from Nodes and machines.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import msgspec

from atoll.base.chance import Chance
from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.autoscale.devices import DeviceView, PoolDevices
from atoll.capacity.autoscale.model import (
    Create,
    Empty,
    Leave,
    Leaving,
    Machine,
    Object,
    Remove,
    Stay,
    Step,
    leaving_of,
)
from atoll.capacity.autoscale.plan import View, has_work, in_service, is_idle, plan_pools, price
from atoll.capacity.autoscale.provider import OutOfStock, Provider
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.capacity.autoscale.trial import Surroundings, asks_for_devices
from atoll.capacity.autoscale.underused import share_asked_for
from atoll.capacity.eviction import evict
from atoll.capacity.nodes import is_over, with_taint, without_taint
from atoll.capacity.parts import Parts, pods_by_node
from atoll.capacity.settings import Live
from atoll.kinds.builtin import (
    DAEMON_SETS,
    DEVICE_CLASSES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
)
from atoll.objects.meta import condition, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.scheduling.dra.model import Selectors

NAME = "autoscale"
_ALL = ""
_GATHER_SECONDS = 1.0
_LOOK_SECONDS = 30.0
_INDEX = "unschedulable"
log = logging.getLogger(__name__)


class AutoscaleController:
    """One key: pools are planned together, as pods choose among them."""

    def __init__(
        self,
        parts: Parts,
        settings: Live[AutoscaleSettings],
        provider: Provider,
        chance: Chance,
        selectors: Selectors | None = None,
    ) -> None:
        """`selectors`: CEL over devices."""
        self.name = NAME
        self._parts = parts
        self._settings = settings
        self._provider = provider
        self._chance = chance.stream("machines")
        self._nodes = parts.informers.of(NODES)
        self._pods = pods_by_node(parts.informers)
        self._pods.add_index(_INDEX, _unschedulable)
        self._namespaces = parts.informers.of(NAMESPACES)
        self._budgets = parts.informers.of(POD_DISRUPTION_BUDGETS)
        self._claims = parts.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = parts.informers.of(PERSISTENT_VOLUMES)
        self._classes = parts.informers.of(STORAGE_CLASSES)
        self._daemons = parts.informers.of(DAEMON_SETS)
        self._selectors = selectors
        self._slices = parts.informers.of(RESOURCE_SLICES)
        self._device_classes = parts.informers.of(DEVICE_CLASSES)
        self._device_claims = parts.informers.of(RESOURCE_CLAIMS)
        self._idle_since: dict[str, float] = {}
        self._underused_since: dict[str, float] = {}
        self._shares: dict[str, tuple[frozenset[str], float]] = {}  # node → its pods, and what they ask for of it
        self._leaving: frozenset[str] = frozenset()
        self._bare: frozenset[str] = frozenset()  # pools whose nodes turned out to have no devices
        self._dry: dict[str, float] = {}  # pool → until when it is not asked
        self._told: dict[str, str] = {}
        self._machines: list[Machine] = []
        self._steps = parts.metrics.counter("atoll_autoscale_steps_total", "What was done.", ("step", "why"))
        others = (self._claims, self._volumes, self._classes, self._daemons)
        known = (self._nodes, self._pods, self._namespaces, self._budgets, *others, settings.informer)
        self.loop: Controller[str] = Controller(NAME, self._reconcile, wait_for=known)
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        settings.on_change(self._again)
        self._again()
        self._show()

    async def run(self) -> None:
        await self.loop.run()

    def _again(self) -> None:
        self.loop.queue.add_after(_ALL, _GATHER_SECONDS)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if names.MACHINE in labels(new or old or {}):
            self._again()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        waits = bool(_unschedulable(pod)) or (old is not None and bool(_unschedulable(old)))
        if waits:
            self._again()
        elif (pod.get("spec") or {}).get("nodeName") in self._leaving:
            self.loop.queue.add_after(_ALL, _GATHER_SECONDS)  # others are seen when it looks again

    def _show(self) -> None:
        metrics = self._parts.metrics
        machines = metrics.gauge("atoll_autoscale_machines", "Machines that the provider has made.", ("pool", "state"))
        cost = metrics.gauge("atoll_autoscale_price_per_hour", "What all machines cost in an hour.")
        waiting = metrics.gauge("atoll_autoscale_unplaced_pods", "Pods that wait, and that no pool can serve.")

        def refresh() -> None:
            machines.clear()
            counts = Counter((it.pool, "running" if self._nodes.get(it.name) else "booting") for it in self._machines)
            for (pool, state), count in counts.items():
                machines.of(pool, state).set(count)
            cost.of().set(price(self._machines, self._settings.value.pools))
            waiting.of().set(len(self._told))

        metrics.on_scrape(refresh)

    # -- passes

    async def _reconcile(self, key: str) -> float | None:
        settings, now = self._settings.value, self._parts.clock.wall()
        if not settings.pools:
            return None
        devices = (self._slices, self._device_classes, self._device_claims)  # an older cluster serves none
        if not all(informer.answered.is_set() for informer in devices):
            return _GATHER_SECONDS
        self._machines = await self._provider.machines()
        found = plan_pools(self._observe(settings, now))
        waits = [_LOOK_SECONDS, *([found.again_seconds] if found.again_seconds is not None else [])]
        for step in found.steps:
            try:
                await self._carry_out(step, settings, now)
            except OutOfStock as error:
                log.info("%s", error.message)
                assert isinstance(step, Create)
                self._dry[step.pool] = now + settings.stockout_seconds
                self._steps.of("out-of-stock", step.pool).value += 1
                waits.append(_GATHER_SECONDS)
        self._tell(found.unplaced)
        return min(waits)

    def _observe(self, settings: AutoscaleSettings, now: float) -> View:
        nodes = {node["metadata"]["name"]: node for node in self._nodes if names.MACHINE in labels(node)}
        pods = {name: self._pods.by_index("node", name) for name in nodes}
        idle = {name for name, node in nodes.items() if is_idle(node, pods[name])}
        self._idle_since = {name: self._idle_since.get(name, now) for name in idle}
        self._leaving = frozenset(name for name, node in nodes.items() if leaving_of(node) is not None)
        self._dry = {pool: until for pool, until in self._dry.items() if until > now}
        pending = self._pods.by_index(_INDEX, True)
        self._look_for_underused(settings, nodes, pods, now)
        storage = (list(self._claims), list(self._volumes), list(self._classes))
        daemons = list(self._daemons)
        devices = self._devices(now)
        around = Surroundings(list(self._nodes), list(self._pods), list(self._namespaces), *storage, daemons, devices)
        return View(
            settings, self._machines, nodes, pods, pending, now, self._idle_since, self._underused_since,
            frozenset(self._dry), around, list(self._budgets),
        )  # fmt: skip

    def _devices(self, now: float) -> DeviceView:
        """Where nobody asks for any, none are looked at."""
        classes = list(self._device_classes)
        stand_in = any((item.get("spec") or {}).get("extendedResourceName") for item in classes)
        if not stand_in and not asks_for_devices(self._pods):
            return DeviceView(selectors=self._selectors, now=now)
        slices, claims = list(self._slices), list(self._device_claims)
        view = DeviceView(slices, classes, claims, self._selectors, now, self._bare)
        self._bare = PoolDevices(view, list(self._nodes)).bare()
        return replace(view, bare=self._bare)

    def _look_for_underused(
        self, settings: AutoscaleSettings, nodes: dict[str, Object], pods: dict[str, list[Object]], now: float
    ) -> None:
        found = set()
        for name, node in nodes.items():
            if leaving_of(node) is not None or not in_service(node) or not has_work(pods[name]):
                continue
            uids = frozenset(pod["metadata"]["uid"] for pod in pods[name] if not is_over(pod))
            known = self._shares.get(name)
            if known is None or known[0] != uids:
                known = self._shares[name] = (uids, share_asked_for(node, pods[name]))
            if known[1] < settings.underused_share:
                found.add(name)
        self._underused_since = {name: self._underused_since.get(name, now) for name in found}
        self._shares = {name: known for name, known in self._shares.items() if name in nodes}

    async def _carry_out(self, step: Step, settings: AutoscaleSettings, now: float) -> None:
        match step:
            case Create(name, replaces):
                pool = settings.pool(name)
                if pool is not None:
                    await self._provider.create(pool, f"{name}-{self._chance.name_suffix()}", replaces)
                    self._steps.of("create", "replace" if replaces else "demand").value += 1
            case Leave(node, why):
                stamp = rfc3339(now)
                told = msgspec.json.encode(Leaving(why, stamp)).decode()
                await self._patch(node, told, with_taint(node, names.LEAVING, why, stamp))
                self._parts.events.event(node, NORMAL, "Leaving", f"it is to be given back: {why}")
            case Stay(node):
                await self._patch(node, None, without_taint(node, names.LEAVING))
            case Empty(_, pods):
                for pod in pods:
                    self._steps.of("evict", await evict(self._parts.client, pod)).value += 1
            case Remove(name, why):
                await self._remove(name, why)

    async def _patch(self, node: Object, told: str | None, taints: list[Object]) -> None:
        metadata = {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "annotations": {names.LEAVING: told},
        }
        await self._parts.client.patch(
            NODES, node["metadata"]["name"], {"metadata": metadata, "spec": {"taints": taints}}
        )

    async def _remove(self, name: str, why: str) -> None:
        """Only if the API server itself says that no work is there."""
        there = await self._parts.client.list(PODS, field_selector=f"spec.nodeName={name}")
        alive = [pod for pod in there.items if "deletionTimestamp" not in pod["metadata"] or why != "broken"]
        if has_work(alive):
            return
        node = self._nodes.get(name)
        if why != "broken" and (node is None or leaving_of(node) is None):
            return
        await self._provider.delete(name)
        self._machines = [machine for machine in self._machines if machine.name != name]
        self._steps.of("remove", why).value += 1

    def _tell(self, unplaced: dict[str, str]) -> None:
        for name, why in unplaced.items():
            if self._told.get(name) != why:
                namespace, _, own = name.partition("/")
                pod = self._pods.get(own, namespace)
                if pod is not None:
                    self._parts.events.event(pod, WARNING, "NotTriggeredScaleUp", f"no pool helps: {why}")
        self._told = unplaced


def _unschedulable(pod: Object) -> tuple[bool, ...]:
    """Pods that wait for a node; not those for which another one is making room, nor tests of nodes."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("nodeName") or "deletionTimestamp" in pod["metadata"] or status.get("nominatedNodeName"):
        return ()
    if names.TEST_LABEL in labels(pod):
        return ()
    found = condition(pod, "PodScheduled") or {}
    waits = found.get("status") == "False" and found.get("reason") == "Unschedulable"
    return (True,) if waits and status.get("phase") == "Pending" else ()

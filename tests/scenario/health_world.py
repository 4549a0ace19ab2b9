"""A cluster of simulated GPU nodes in virtual time, with all controllers and capacity's own, which can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.autoscale import make_autoscale
from atoll.app.fleetspec import ClusterSpec
from atoll.app.health import make_health
from atoll.app.scheduling import make_scheduler
from atoll.app.teams import make_teams
from atoll.base.chance import Chance
from atoll.base.errors import AlreadyExists
from atoll.capacity import names
from atoll.capacity.nodes import has_taint
from atoll.cluster.nodes.lifecycle.controller import NodeLifecycleController
from atoll.cluster.nodes.lifecycle.eviction import TaintEvictionController
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.nodes.simulated.nodes import SimulatedNodes
from atoll.cluster.nodes.simulated.overlay import RESOURCE, LeaseOverlay
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.all import full_controllers
from atoll.kinds.builtin import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS
from atoll.objects.gpu_faults import ANNOTATION
from atoll.objects.meta import annotations, condition, labels
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock

GPUS = SimulatedGroup(4, "gpu", cpu="64", resources={"nvidia.com/gpu": "8"}, labels={"nvidia.com/gpu.count": "8"})


MAKERS: dict[str, Any] = {"health": make_health, "teams": make_teams, "autoscale": make_autoscale}


class HealthWorld:
    """`kill` and `start` end and begin the health controllers alone; `watched` has each state of each node."""

    def __init__(self, groups: tuple[SimulatedGroup, ...], seed: int, parts: frozenset[str]) -> None:
        self.clock = LoopClock(asyncio.get_running_loop())
        self.chance = Chance(seed)
        self.parts = parts
        options = ApiOptions(health="health" in parts, teams="teams" in parts)
        self.assembly = assemble(MemoryStore(self.clock), self.clock, self.chance, options)
        self.client = self.assembly.client()
        self.informers = Informers(self.client)
        self.simulated = SimulatedNodes(self.client, self.informers, self.clock, self.chance, groups=groups)
        self.most_out = 0
        self._out: set[str] = set()
        self.early: list[str] = []  # pods that were bound to a node before its preflight
        self._health: list[asyncio.Task[None]] = []
        self._own: Informers | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        await bootstrap(self.assembly)
        clock, informers = self.clock, self.informers
        controller = self.assembly.controller_client("node-controller")
        events = EventRecorder(controller, "node-controller", clock, self.chance)
        parts: list[Any] = [
            make_scheduler(self.assembly, informers, ClusterSpec("w")),
            self.simulated,
            NodeLifecycleController(controller, informers, clock, events),
            TaintEvictionController(controller, informers, clock, events),
            *full_controllers(self.assembly.controller_client, informers, clock, self.chance),
        ]
        self.assembly.api.overlay(RESOURCE, LeaseOverlay(clock))
        informers.of(NODES).add_handler(self._count)
        informers.of(PODS).add_handler(self._look)
        informers.start()
        self._tasks = [asyncio.create_task(part.run()) for part in parts]
        await self.simulated.ready.wait()

    def start(self) -> None:
        self._own = Informers(self.assembly.client())
        assembly = self.assembly
        given = (assembly.controller_client, self._own, self.clock, self.chance, assembly.metrics)
        made = [controller for name, make in MAKERS.items() if name in self.parts for controller in make(*given)]
        self._own.start()
        self._health = [asyncio.create_task(part.run(), name=part.name) for part in made]

    def kill(self) -> None:
        """At once: whatever they were awaiting."""
        for task in self._health:
            task.cancel()

    async def end(self) -> None:
        self.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._health, *self._tasks, return_exceptions=True)
        for informers in (self._own, self.informers):
            if informers is not None:
                await informers.stop()

    def _count(self, old: Any, new: Any) -> None:
        name = (new or old)["metadata"]["name"]
        if new is not None and has_taint(new, names.UNHEALTHY_TAINT):
            self._out.add(name)
        else:
            self._out.discard(name)
        self.most_out = max(self.most_out, len(self._out))

    def _look(self, old: Any, new: Any) -> None:
        """The invariant: nothing lands on a node before preflight but what tolerates its taint."""
        name = new and new["spec"].get("nodeName")
        if not name or (old is not None and old["spec"].get("nodeName")):
            return
        record = self.informers.of(NODES).get(name)
        tolerant = any(item.get("operator") == "Exists" and not item.get("key") for item in new["spec"]["tolerations"])
        if record is not None and has_taint(record, names.PREFLIGHT) and not tolerant:
            self.early.append(f"{new['metadata']['name']} on {name}")

    def out(self) -> list[str]:
        nodes = self.informers.of(NODES)
        return sorted(node["metadata"]["name"] for node in nodes if has_taint(node, names.UNHEALTHY_TAINT))

    async def until(self, holds: Any, seconds: float = 3600.0) -> Any:
        end = self.clock.monotonic() + seconds
        while True:
            found = await holds()
            if found:
                return found
            assert self.clock.monotonic() < end, "it did not come to that"
            await asyncio.sleep(0.5)

    async def node(self, name: str) -> Any:
        return await self.client.get(NODES, name)

    async def open(self, count: int) -> None:
        """Until so many nodes have passed preflight and are free of our taints."""

        async def holds() -> bool:
            nodes = (await self.client.list(NODES)).items
            free = [it for it in nodes if not it["spec"].get("taints") and not it["spec"].get("unschedulable")]
            return sum(labels(it).get(names.PREFLIGHT) == "passed" for it in free) == count

        await self.until(holds)

    async def fault(self, name: str, text: str | None) -> None:
        await self.client.patch(NODES, name, {"metadata": {"annotations": {ANNOTATION: text}}})

    async def returned(self, name: str, seconds: float = 7200.0) -> Any:
        async def holds() -> Any:
            node = await self.node(name)
            return node if names.REPAIRS in annotations(node) and not node["spec"].get("taints") else None

        return await self.until(holds, seconds)

    async def events(self, reason: str) -> list[Any]:
        return [it for it in (await self.client.list(EVENTS)).items if it["reason"] == reason]

    async def configure(self, **documents: str) -> None:
        """health=…, preflight=…, teams=…: YAML."""
        with suppress(AlreadyExists):
            await self.client.create(NAMESPACES, {"metadata": {"name": names.SYSTEM_NAMESPACE}})
        for key, text in documents.items():
            name = "atoll-health" if key == "preflight" else f"atoll-{key}"
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {f"{key}.yaml": text},
            }
            config["metadata"]["namespace"] = names.SYSTEM_NAMESPACE
            await self.client.apply(CONFIGMAPS, config, field_manager=key)

    async def pod(self, name: str, node: str = "", gpus: int = 1, **metadata: Any) -> Any:
        limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
        container = {"name": "c", "image": "i", "resources": {"limits": limits}}
        spec: Any = {"containers": [container]}
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        return await self.client.create(PODS, {"metadata": {"name": name, **metadata}, "spec": spec}, "default")

    async def running(self, name: str) -> Any:
        return await self.running_within(name, 120)

    async def running_within(self, name: str, seconds: float) -> Any:
        async def holds() -> Any:
            pod = await self.client.get(PODS, name, "default")
            return pod if pod["status"].get("phase") == "Running" else None

        return await self.until(holds, seconds)


def gpu_healthy(node: Any) -> tuple[str, str]:
    found = condition(node, names.GPU_HEALTHY) or {}
    return found.get("status", ""), found.get("reason", "")


@asynccontextmanager
async def health_world(
    *groups: SimulatedGroup, seed: int = 1, start: bool = True, parts: tuple[str, ...] = ("health",)
) -> AsyncIterator[HealthWorld]:
    """`parts`: of MAKERS."""
    world = HealthWorld(groups or ((GPUS,) if "autoscale" not in parts else ()), seed, frozenset(parts))
    await world.begin()
    if start:
        world.start()
    try:
        yield world
        assert world.early == []
    finally:
        await world.end()

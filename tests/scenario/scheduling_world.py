"""A whole cluster's scheduling half in virtual time: API, scheduler, simulated nodes, node lifecycle."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.fleetspec import ClusterSpec
from atoll.app.scheduling import make_scheduler
from atoll.base.chance import Chance
from atoll.cluster.nodes.lifecycle.controller import NodeLifecycleController
from atoll.cluster.nodes.lifecycle.eviction import TaintEvictionController
from atoll.cluster.nodes.simulated.nodes import SimulatedNodes
from atoll.cluster.nodes.simulated.overlay import RESOURCE, LeaseOverlay
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.common.context import Context, Options
from atoll.kinds.builtin import EVENTS, NODES, PODS, SERVICE_ACCOUNTS
from atoll.objects.meta import condition
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock


class World:
    """What a test acts on."""

    def __init__(self, assembly, clock, informers, nodes):
        self.assembly, self.clock, self.informers, self.simulated = assembly, clock, informers, nodes
        self.client = assembly.client()

    async def until(self, holds, seconds=120.0):
        """Wait (virtually) until `await holds()` gives something true, and return it."""
        end = self.clock.monotonic() + seconds
        while True:
            found = await holds()
            if found:
                return found
            assert self.clock.monotonic() < end, "it did not come to that"
            await asyncio.sleep(0.25)

    async def pod(self, name, *, spec=None, labels=None, annotations=None, cpu="100m"):
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        obj = {"metadata": metadata, "spec": {"containers": [container], **(spec or {})}}
        return await self.client.create(PODS, obj, "default")

    async def get(self, name):
        return await self.client.get(PODS, name, "default")

    async def phase(self, name, phase):
        async def holds():
            found = await self.get(name)
            return found if found["status"].get("phase") == phase else None

        return await self.until(holds)

    async def why_not(self, name, contains=""):
        """The message of PodScheduled=False, once it says something with `contains`."""

        async def holds():
            found = condition(await self.get(name), "PodScheduled")
            return found and found["status"] == "False" and contains in found["message"] and found["message"]

        return await self.until(holds)

    async def events(self, reason):
        page = await self.client.list(EVENTS, "default")
        return [item for item in page.items if item["reason"] == reason]

    async def node(self, name):
        return await self.client.get(NODES, name)


@asynccontextmanager
async def world(*groups, more=lambda context: [], profiles=None, previews=False):
    """A running world; all simulated nodes are Ready and free of taints. `more` makes controllers beside them.

    `previews`: what of devices is off by default is served.
    """
    clock, chance = LoopClock(asyncio.get_running_loop()), Chance(7)
    assembly = assemble(MemoryStore(clock), clock, chance, ApiOptions(device_previews=previews))
    await bootstrap(assembly)
    client = assembly.client()
    informers = Informers(client)
    nodes = SimulatedNodes(client, informers, clock, chance, groups=groups)
    controller = assembly.controller_client("node-controller")
    events = EventRecorder(controller, "node-controller", clock, chance)
    parts = [
        make_scheduler(assembly, informers, ClusterSpec("w", device_previews=previews), profiles=profiles),
        nodes,
        NodeLifecycleController(controller, informers, clock, events),
        TaintEvictionController(controller, informers, clock, events),
        *more(Context(assembly.controller_client, informers, clock, chance, Options(device_taint_rules=previews))),
    ]
    assembly.api.overlay(RESOURCE, LeaseOverlay(clock))
    informers.start()
    tasks = [asyncio.create_task(part.run()) for part in parts]
    found = World(assembly, clock, informers, nodes)
    try:
        await nodes.ready.wait()
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")

        async def clean():
            page = await client.list(NODES)
            return all(not (item["spec"].get("taints")) or groups[0].taints for item in page.items)

        await found.until(clean)
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await informers.stop()

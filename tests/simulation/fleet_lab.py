"""A fleet in virtual time: a hub with all its controllers and whole members, whose connections can be cut.

`lab.cut(name)` refuses at once, `lab.hang(name)` never answers, `lab.heal(name)`. A member goes on living while it
is cut off. `lab.reads` and `lab.writes` count what the hub's controllers asked of the hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scenario"))

from scenario_cluster import ScenarioCluster

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.errors import NotFound, Unreachable
from atoll.client.port import Client, ListResult, Object, RawResponse
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.all import hub_controllers
from atoll.fleet.hub import Hub
from atoll.fleet.options import HubOptions
from atoll.kinds import hub as kinds
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, NAMESPACES, NODES
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock

POLICY = kinds.PROPAGATION_POLICIES


class Wire:
    """A client whose connection can be cut or hang: the port's faults, not a mock."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.mode = "up"
        self.unseen = ""  # a path that discovery does not show yet
        self._changed = asyncio.Event()
        self.calls: dict[str, int] = {}

    def set(self, mode: str) -> None:
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    async def _pass(self, verb: str) -> None:
        self.calls[verb] = self.calls.get(verb, 0) + 1
        while self.mode == "hung":
            await self._changed.wait()
        if self.mode == "cut":
            raise Unreachable("connection refused")

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        await self._pass("get")
        return await self._client.get(resource, name, namespace, **more)

    async def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> ListResult:
        await self._pass("list")
        return await self._client.list(resource, namespace, **more)

    async def watch(self, resource: Resource, namespace: str | None = None, **more: Any) -> AsyncIterator[Any]:
        await self._pass("watch")
        events = self._client.watch(resource, namespace, **more)
        step: asyncio.Task[Any] | None = None
        try:
            while True:
                step = step or asyncio.ensure_future(anext(events))  # type: ignore[arg-type]
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({step, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                await self._pass("event")
                if step.done():
                    try:
                        event = step.result()
                    except StopAsyncIteration:
                        return
                    step = None
                    yield event
        finally:
            if step is not None:
                step.cancel()

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        await self._pass("create")
        return await self._client.create(resource, obj, namespace, **more)

    async def update(self, resource: Resource, obj: Object, **more: Any) -> Object:
        await self._pass("update")
        return await self._client.update(resource, obj, **more)

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, **more: Any
    ) -> Object:
        await self._pass("patch")
        return await self._client.patch(resource, name, patch, namespace, **more)

    async def apply(self, resource: Resource, obj: Object, **more: Any) -> Object:
        await self._pass("apply")
        return await self._client.apply(resource, obj, **more)

    async def delete(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        await self._pass("delete")
        return await self._client.delete(resource, name, namespace, **more)

    async def raw(self, method: str, path: str, **more: Any) -> RawResponse:
        await self._pass("raw")
        if path == self.unseen:
            return RawResponse(404)
        return await self._client.raw(method, path, **more)

    async def close(self) -> None:
        return None


class FleetLab:
    """See the module. `client` is the hub's administrator."""

    DEPLOYMENTS = DEPLOYMENTS

    def __init__(self, members: int = 3, seed: int = 1, options: HubOptions | None = None) -> None:
        self.clock = LoopClock(asyncio.get_running_loop())
        self.chance = Chance(seed, "fleet")
        self.options = options or HubOptions()
        self.assembly = assemble(MemoryStore(clock=self.clock), self.clock, self.chance.stream("hub"), ApiOptions())
        handler_of(self.assembly)
        self.client = LocalClient(self.assembly.api)
        self.members = {f"member{number + 1}": ScenarioCluster(seed * 100 + number) for number in range(members)}
        self.wires = {name: Wire(LocalClient(one.api)) for name, one in self.members.items()}
        self.hub_wire = Wire(LocalClient(self.assembly.api))
        self.hub: Hub | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._hub_task: asyncio.Task[None] | None = None

    async def start(self, *, place: dict[str, Object] | None = None) -> None:
        await bootstrap(self.assembly)
        informers = Informers(self.client)
        loop = asyncio.get_running_loop()
        made = hub_controllers(
            self.assembly.controller_client, informers, self.clock, self.chance.stream("controllers")
        )
        informers.start()
        self._tasks += [loop.create_task(one.run()) for one in made]
        for crd in kinds.custom_resource_definitions():
            await self.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
        await self.until(self._served)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "karmada-cluster"}}
        await self.client.create(NAMESPACES, space)
        for name, member in self.members.items():
            await member.start()
            await self._equip(member)
            await self.join(name, **(place or {}).get(name, {}))
        self.start_hub()
        await self.until(lambda: all(self.is_known(name) for name in self.members))

    async def _equip(self, member: ScenarioCluster) -> None:
        """Nodes with room: 4 CPUs and 20 pods each."""
        for node in (await member.client.list(NODES)).items:
            room = {"cpu": "4", "memory": "16Gi", "pods": "20"}
            conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
            status = {"capacity": room, "allocatable": room, "conditions": conditions}
            await member.client.patch(NODES, node["metadata"]["name"], {"status": status}, subresource="status")

    async def _served(self) -> bool:
        page = await self.client.list(CUSTOM_RESOURCE_DEFINITIONS)
        return all(
            any(item["type"] == "Established" for item in (crd.get("status") or {}).get("conditions") or ())
            for crd in page.items
        )

    async def join(self, name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> None:
        cluster = {
            "apiVersion": kinds.CLUSTERS.api_version,
            "kind": "Cluster",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"syncMode": "Push", "apiEndpoint": f"https://{name}", **spec},
        }
        await self.client.create(kinds.CLUSTERS, cluster)

    def start_hub(self) -> None:
        def connect(cluster: Object, secret: Object | None) -> Client:
            return self.wires[cluster["metadata"]["name"]]

        self.hub = Hub(self.hub_wire, self.clock, self.chance.stream("atoll"), connect, self.options)
        self._hub_task = asyncio.get_running_loop().create_task(self.hub.run())

    async def stop_hub(self) -> None:
        assert self._hub_task is not None
        self._hub_task.cancel()
        await asyncio.gather(self._hub_task, return_exceptions=True)
        self.hub = None

    async def stop(self) -> None:
        if self.hub is not None:
            await self.stop_hub()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in self.members.values():
            await member.stop()

    def is_known(self, name: str) -> bool:
        return self.hub is not None and self.hub.members.is_known(name)

    def cut(self, name: str) -> None:
        self.wires[name].set("cut")

    def hang(self, name: str) -> None:
        self.wires[name].set("hung")

    def heal(self, name: str) -> None:
        self.wires[name].set("up")

    async def until(self, holds: Any, seconds: float = 60.0) -> None:
        """Wait in virtual time until `holds()` (or its awaited value) is true. Raises TimeoutError."""
        deadline = self.clock.monotonic() + seconds
        while True:
            value = holds()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            if self._hub_task is not None and self._hub_task.done():
                self._hub_task.result()
            if self.clock.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.02)

    async def get(self, resource: Resource, name: str, namespace: str | None = "default") -> Object | None:
        try:
            return await self.client.get(resource, name, namespace)
        except NotFound:
            return None

    async def in_member(self, member: str, resource: Resource, name: str, namespace: str | None = "default") -> Any:
        try:
            return await self.members[member].client.get(resource, name, namespace)
        except NotFound:
            return None

    async def replicas(self, name: str) -> dict[str, int]:
        """Member → spec.replicas of the Deployment there."""
        found = {}
        for member in self.members:
            live = await self.in_member(member, DEPLOYMENTS, name)
            if live is not None:
                found[member] = live["spec"]["replicas"]
        return found

    def digest(self) -> str:
        """A hash over the final state of hub and members."""
        code = hashlib.sha256()
        store = self.assembly.store
        for resource in sorted(store.resources()):
            for record in store.scan(resource):
                code.update(record.data)
        for member in self.members.values():
            code.update(member.digest().encode())
        return code.hexdigest()

    async def ready(self, name: str) -> int:
        live = await self.client.get(DEPLOYMENTS, name, "default")
        return int((live.get("status") or {}).get("readyReplicas") or 0)


def deployment(name: str = "web", replicas: int = 9, **annotations: str) -> Object:
    labels = {"app": name}
    container = {"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [container]}}},
    }  # fmt: skip


def policy(name: str = "web", *, kind: str = "Deployment", api_version: str = "apps/v1", **spec: Any) -> Object:
    return {
        "apiVersion": POLICY.api_version, "kind": POLICY.kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {"resourceSelectors": [{"apiVersion": api_version, "kind": kind, "name": name}], **spec},
    }  # fmt: skip


def divided(**placement: Any) -> Object:
    return {"placement": {"replicaScheduling": {
        "replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"}, **placement}}  # fmt: skip


@asynccontextmanager
async def fleet_lab(members: int = 3, seed: int = 1, options: HubOptions | None = None) -> AsyncIterator[FleetLab]:
    lab = FleetLab(members, seed, options)
    await lab.start()
    try:
        yield lab
    finally:
        await lab.stop()

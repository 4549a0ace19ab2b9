"""The simulation's fleet, in the flesh: a hub on a real kube-apiserver, two real members and one sandbox cluster.

`RealLab` has FleetLab's face, so the hub's tests of tests/simulation run here as they are written; only time is real.
The hub's kube-controller-manager runs what a hub needs (namespaces, garbage, service accounts), the real members' all.
A member is cut off at the transport, as there; `signal` stops its API server for real.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "simulation"))
from control_plane import ControlPlane, control_plane
from fleet_lab import FleetLab, Wire
from programs_on import add_nodes, our_cluster, start_all

from atoll.app.real_hub import install
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.base.errors import ApiError, NotFound, Unreachable
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client, Object
from atoll.fleet.hub import Hub
from atoll.fleet.options import HubOptions
from atoll.fleet.registry.join import Joining, access_of, join
from atoll.kinds import hub as kinds
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    JOBS,
    NAMESPACES,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)
from atoll.kinds.resource import Resource

HUB_CONTROLLERS = (
    "namespace-controller", "garbage-collector-controller", "serviceaccount-controller",
    "serviceaccount-token-controller",
)  # fmt: skip
_POLICIES = (
    kinds.PROPAGATION_POLICIES, kinds.CLUSTER_PROPAGATION_POLICIES, kinds.OVERRIDE_POLICIES,
    kinds.CLUSTER_OVERRIDE_POLICIES,
)  # fmt: skip
_TEMPLATES = (
    HORIZONTAL_POD_AUTOSCALERS, DEPLOYMENTS, STATEFUL_SETS, JOBS, SERVICES, CONFIGMAPS, SECRETS,
)  # fmt: skip
_PATIENCE = 10.0  # a real second may be short on a busy machine


@dataclass
class World:
    """What all tests of a module share: the control planes and the sandbox."""

    hub: ControlPlane
    members: dict[str, ControlPlane]
    sandbox_pid: Callable[[], int]

    def stop(self, member: str) -> Callable[[], None]:
        """A member's API server hangs, as a process; what lets it go on is returned."""
        plane = self.members[member]
        real = plane.processes.get("kube-apiserver")
        pid = real.pid if real is not None else self.sandbox_pid()
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    def kill(self, member: str) -> Callable[[], None]:
        """A real member's API server is gone; what starts it again is returned."""
        plane = self.members[member]
        process = plane.processes["kube-apiserver"]
        process.kill()
        process.wait()
        return lambda: plane.start("kube-apiserver", *process.args[1:])


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything started, side by side; everything gone at the end."""
    sandbox = folder / "member3"
    sandbox.mkdir()
    contexts: dict[str, AbstractContextManager[ControlPlane]] = {
        "hub": control_plane(),
        "member1": control_plane(),
        "member2": control_plane(),
        "member3": our_cluster(sandbox, "member3", "--nodes", "0", "--simulated", "3"),
    }
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(contexts)) as pool:
            futures = {name: pool.submit(stack.enter_context, context) for name, context in contexts.items()}
            planes = {name: future.result() for name, future in futures.items()}
        planes["hub"].start_controller_manager(HUB_CONTROLLERS)
        for name in ("member1", "member2"):
            start_all(planes[name])
            add_nodes(planes[name], 3)
        members = {name: plane for name, plane in planes.items() if name != "hub"}
        yield World(planes["hub"], members, lambda: _pid_of(sandbox))


def _pid_of(folder: Path) -> int:
    """The cluster's process is the supervisor's only child."""
    supervisor = int(next(folder.glob("state/atoll/fleets/*/supervisor.pid")).read_text().split()[0])
    return int(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()[0])


def access(plane: ControlPlane) -> Access:
    return Access(
        server=plane.server,
        ca_pem=plane.ca_pem.encode(),
        certificate_pem=plane.admin.certificate_pem,
        key_pem=plane.admin.key_pem,
    )


class ClosingWire(Wire):
    """With a socket of its own behind it."""

    async def close(self) -> None:
        await self._client.close()


@dataclass
class RealMember:
    """What the tests ask of a member: its administrator's client."""

    client: Client


class RealLab(FleetLab):
    """FleetLab over a World."""

    def __init__(self, there: World, options: HubOptions | None = None) -> None:
        self.world = there
        self.clock = SystemClock()
        self.chance = Chance.from_system()
        self.options = replace(options or HubOptions(), cluster_resource=kinds.STORED_CLUSTERS)
        self._clients: list[HttpClient] = []
        self.client = self._client(access(there.hub))
        self.members = {name: RealMember(self._client(access(plane))) for name, plane in there.members.items()}
        self.wires = {}
        self.hub = None
        self._tasks = []
        self._hub_task = None

    def _client(self, given: Access) -> HttpClient:
        client = HttpClient(given, clock=self.clock)
        self._clients.append(client)
        return client

    async def start(self, *, place: dict[str, Object] | None = None) -> None:
        await install(self.client, self.clock)
        await self.until(lambda: self._default_account())
        for name, plane in self.world.members.items():
            await self.until(lambda name=name: self._has_room(name))
            await self.join_member(name, plane)
        self.start_hub()
        await self.until(lambda: all(self.is_known(name) for name in self.members))

    async def _default_account(self) -> bool:
        return bool((await self.client.list(NAMESPACES)).items)

    async def _has_room(self, name: str) -> bool:
        nodes = (await self.members[name].client.list(kinds_nodes())).items
        ready = [
            node for node in nodes
            if not node["spec"].get("taints")
            and any(item["type"] == "Ready" and item["status"] == "True" for item in node["status"]["conditions"])
        ]  # fmt: skip
        return len(ready) >= 3

    async def join_member(self, name: str, plane: ControlPlane) -> None:
        wanted = Joining(name=name, server=plane.server, ca_pem=plane.ca_pem.encode())
        await join(self.client, self.members[name].client, wanted, clusters=kinds.STORED_CLUSTERS)

    def start_hub(self) -> None:
        def connect(cluster: Object, secret: Object | None) -> Client:
            name = cluster["metadata"]["name"]
            wire = ClosingWire(HttpClient(access_of(cluster, secret), clock=self.clock))
            if name in self.wires:
                wire.mode = self.wires[name].mode
            self.wires[name] = wire
            return wire

        self.hub = Hub(self.client, self.clock, self.chance, connect, self.options)
        self._hub_task = asyncio.get_running_loop().create_task(self.hub.run())

    def cut(self, name: str) -> None:
        if name in self.wires:
            return super().cut(name)
        self.wires[name] = Wire(self.members[name].client)
        self.wires[name].mode = "cut"
        return None

    async def stop(self) -> None:
        for name in self.wires:
            self.heal(name)
        if self.hub is None:
            self.start_hub()
        try:
            async with asyncio.timeout(90):
                await self.clean()
        finally:
            await self.stop_hub()
            for client in self._clients:
                await client.close()

    async def clean(self) -> None:
        """Take all that a test made away again, as a user would: templates, then policies, then what is left."""
        assert self._hub_task is not None
        await self.until(lambda: all(self.is_known(name) or not self._joined(name) for name in self.members))
        templates = (*_TEMPLATES, *await self._custom(self.client))
        for resource in templates:
            await self._delete_all(self.client, resource)
        await self.until(lambda: self._none_left(templates))
        for resource in _POLICIES:
            await self._delete_all(self.client, resource)
        for space in (await self.client.list(NAMESPACES)).items:
            if _is_mine(space["metadata"]["name"]):
                with suppress(NotFound):
                    await self.client.delete(NAMESPACES, space["metadata"]["name"])
        for client in (self.client, *(member.client for member in self.members.values())):
            for resource in await self._custom(client):
                with suppress(NotFound):
                    await client.delete(CUSTOM_RESOURCE_DEFINITIONS, f"{resource.plural}.{resource.group}")
        for member in self.members.values():
            for resource in _TEMPLATES:
                await self._delete_all(member.client, resource)

    async def _custom(self, client: Client) -> list[Resource]:
        """The kinds that a test made."""
        found = []
        for crd in (await client.list(CUSTOM_RESOURCE_DEFINITIONS)).items:
            spec = crd["spec"]
            if spec["group"].endswith("example") and "deletionTimestamp" not in crd["metadata"]:
                named = spec["names"]
                found.append(Resource(spec["group"], spec["versions"][0]["name"], named["plural"], named["kind"]))
        return found

    def _joined(self, name: str) -> bool:
        assert self.hub is not None
        return self.hub.clusters.informer.get(name) is not None

    async def _none_left(self, resources: tuple[Resource, ...]) -> bool:
        for resource in resources:
            if [item for item in (await self.client.list(resource, "default")).items if _is_test_object(item)]:
                return False
        return True

    async def _delete_all(self, client: Client, resource: Resource) -> None:
        namespace = "default" if resource.namespaced else None
        for item in (await client.list(resource, namespace)).items:
            if _is_test_object(item):
                with suppress(NotFound):
                    await client.delete(resource, item["metadata"]["name"], namespace)

    async def until(self, holds: Any, seconds: float = 60.0) -> None:
        """In real time, with patience."""
        deadline = self.clock.monotonic() + seconds + _PATIENCE
        while True:
            try:
                value = holds()
                if asyncio.iscoroutine(value):
                    value = await value
            except Unreachable:
                value = False
            except ApiError as error:
                if error.code < 500:
                    raise
                value = False
            if value:
                return
            if self._hub_task is not None and self._hub_task.done():
                self._hub_task.result()
            if self.clock.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.05)


def kinds_nodes() -> Resource:
    return Resource("", "v1", "nodes", "Node", False)


def _is_test_object(item: Object) -> bool:
    name = item["metadata"]["name"]
    return name not in ("kubernetes", "kube-root-ca.crt") and "deletionTimestamp" not in item["metadata"]


def _is_mine(namespace: str) -> bool:
    return namespace != "default" and not namespace.startswith(("kube-", "karmada-", "atoll-"))


@asynccontextmanager
async def real_lab(there: World, options: HubOptions | None = None) -> AsyncIterator[RealLab]:
    lab = RealLab(there, options)
    try:
        await lab.start()
        yield lab
    finally:
        await lab.stop()

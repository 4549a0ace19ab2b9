"""A whole cluster in one process and in virtual time: API on a memory store, controllers, a pod runner.

The pod runner stands for scheduler and nodes: it places a pod on the next node, makes it Running and Ready after a
moment, ends it when it is deleted, and plays what the annotation `scenario/exit-code` says ("1" fails, "0" succeeds).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.all import full_controllers
from atoll.cluster.workloads.common.context import Options
from atoll.kinds.builtin import NODES, PODS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock


class PodRunner:
    """See the module."""

    def __init__(self, client: LocalClient, informers: Informers, clock: LoopClock, nodes: int = 3) -> None:
        self._client = client
        self._clock = clock
        self._pods = informers.of(PODS)
        self._nodes = [f"node-{number}" for number in range(nodes)]
        self._next = 0
        self._address = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pods.add_handler(self._changed)

    def stop(self) -> None:
        """No node starts or ends anything from now on."""
        self._pods.remove_handler(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        if "deletionTimestamp" in new["metadata"]:
            if old is None or "deletionTimestamp" not in old["metadata"]:
                self._spawn(self._end(new))
        elif not new["spec"].get("schedulingGates") and (old is None or old["spec"].get("schedulingGates")):
            self._spawn(self._start(new))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, pod: Object) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        node = pod["spec"].get("nodeName") or _pinned(pod) or self._nodes[self._next % len(self._nodes)]
        self._next += 1
        self._address += 1
        address = f"10.1.{self._address // 250}.{self._address % 250 + 1}"
        told = metadata.get("annotations") or {}
        try:
            if not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": node}
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
                await self._client.create(PODS, binding, namespace, name=name, subresource="binding")
            await asyncio.sleep(float(told.get("scenario/start-seconds", "1")))
            if told.get("scenario/never-ready"):
                return
            await self._status(name, namespace, "Running", ready=True, address=address)
            code = told.get("scenario/exit-code")
            if code is not None:
                await asyncio.sleep(float(told.get("scenario/run-seconds", "5")))
                await self._status(name, namespace, "Failed" if code != "0" else "Succeeded", code=int(code))
        except AtollError:
            return

    async def _status(
        self, name: str, namespace: str, phase: str, *, ready: bool = False, address: str = "", code: int | None = None
    ) -> None:
        now = rfc3339(self._clock.wall())
        pod = await self._client.get(PODS, name, namespace)
        kept = [item for item in pod["status"].get("conditions") or () if item["type"] != "Ready"]
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}
        status: Object = {**pod["status"], "phase": phase, "conditions": [*kept, condition]}
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}], "startTime": now}
        container: Object = {"name": pod["spec"]["containers"][0]["name"], "ready": ready, "restartCount": 0}
        container |= {"image": pod["spec"]["containers"][0].get("image", ""), "imageID": ""}
        if code is not None:
            container["state"] = {"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now}}
        status["containerStatuses"] = [container]
        await self._client.update(PODS, {**pod, "status": status}, subresource="status")

    async def _end(self, pod: Object) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        await asyncio.sleep(min(2.0, float(metadata.get("deletionGracePeriodSeconds") or 0)))
        try:
            if pod["status"].get("phase") == "Running":
                await self._status(name, namespace, "Failed", code=143)
            options = DeleteOptions(grace_period_seconds=0, uid=metadata["uid"])
            await self._client.delete(PODS, name, namespace, options=options)
        except AtollError:
            return


def _pinned(pod: Object) -> str | None:
    """The node that a DaemonSet's pod names by its affinity."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    for term in terms:
        for field in term.get("matchFields") or ():
            return str(field["values"][0])
    return None


class ScenarioCluster:
    """`client` acts as the administrator; `log` has every change in order."""

    def __init__(
        self,
        seed: int = 1,
        nodes: int = 3,
        options: Options | None = None,
        *,
        controllers: bool = True,
        queueing: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = LoopClock(loop)
        chance = Chance(seed, "cluster")
        self.store = MemoryStore(clock=self.clock)
        self.assembly = assemble(self.store, self.clock, chance, ApiOptions(queueing=queueing))
        self.api = self.assembly.api
        handler_of(self.assembly)  # makes raw requests work in process
        self.client = LocalClient(self.api)
        self.informers = Informers(self.client)
        self.nodes = nodes
        self.runner = PodRunner(self.client, self.informers, self.clock, nodes)
        client_for = self.assembly.controller_client
        self.controllers = (
            full_controllers(client_for, self.informers, self.clock, chance, options) if controllers else []
        )
        self.log: list[tuple[int, str]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        watched = sorted({served.store_resource for served in self.api.registry})
        self._tasks = [loop.create_task(self._record(resource)) for resource in watched]
        await bootstrap(self.assembly)
        for number in range(self.nodes):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}}
            made = await self.client.create(NODES, node)
            await self.client.update(NODES, {**made, "spec": {}})  # without the taint of a node that is not ready yet
        self.informers.start()
        self._tasks += [loop.create_task(item.run(), name=item.name) for item in self.controllers]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.informers.stop()
        await self.store.close()

    async def until(self, holds: Any, seconds: float = 600.0) -> None:
        """Wait in virtual time until `holds()` (or its awaited value) is true. Raises TimeoutError."""
        deadline = self.clock.monotonic() + seconds
        while True:
            value = holds()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            if self.clock.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.25)

    async def _record(self, resource: str) -> None:
        watcher = self.store.watch(resource, 0)
        while True:
            for event in await watcher.next():
                digest = hashlib.sha256(event.record.data).hexdigest()
                self.log.append((event.version, f"{event.version} {event.type} {event.record.key} {digest}"))

    def spoiled(self) -> list[str]:
        """Objects that someone has changed though they are shared: parsed, they are not what is stored."""
        records = [record for resource in self.store.resources() for record in self.store.scan(resource)]
        return [str(record.key) for record in records if orjson.loads(record.data) != record.object]

    def digest(self) -> str:
        """A hash over every change that was made to any object, in order."""
        code = hashlib.sha256()
        for _, line in sorted(self.log):
            code.update(line.encode())
        return code.hexdigest()


@asynccontextmanager
async def cluster(
    seed: int = 1, nodes: int = 3, options: Options | None = None, *, controllers: bool = True
) -> AsyncIterator[ScenarioCluster]:
    """`controllers`: False where the test runs its own."""
    made = ScenarioCluster(seed, nodes, options, controllers=controllers)
    await made.start()
    try:
        yield made
        assert made.spoiled() == []
    finally:
        await made.stop()

"""A process node: registers itself, watches the pods bound to it, runs one worker for each.

It knows the API server only by a Client, so that any will do. `run` returns when cancelled, with nothing left running;
a killed one leaves nothing either (bubblewrap dies with its parent, network namespaces with their descriptor).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import replace
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import UserError
from atoll.client.port import Client
from atoll.cluster.network.bridge import ClusterBridge
from atoll.cluster.nodes.kernel.monitor import KernelMonitor
from atoll.cluster.nodes.kernel.port import KernelLog
from atoll.cluster.nodes.process import machine
from atoll.cluster.nodes.process.access import KubeletAccess
from atoll.cluster.nodes.process.admission import Admission
from atoll.cluster.nodes.process.devices import NodeDevices
from atoll.cluster.nodes.process.images import Catalogue
from atoll.cluster.nodes.process.model import NodeConfig, NodeContext, PodNetwork
from atoll.cluster.nodes.process.podnetwork import BridgeNetwork, HostNetwork, host_address
from atoll.cluster.nodes.process.registration import Registration
from atoll.cluster.nodes.process.server import KubeletServer
from atoll.cluster.nodes.process.volumes import remove_tree
from atoll.cluster.nodes.process.worker import PodWorker
from atoll.kinds.builtin import PODS, SERVICES
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informer
from atoll.wire.server import Server, serve

Object = dict[str, Any]
log = logging.getLogger(__name__)
_FAULT_SECONDS = 5.0


class ProcessNode:
    """`await run()`; `ready` is set once the Node is registered and its pods are watched.

    `tls` is the serving context of the kubelet's port (client certificates of the cluster's CA): without it there is no
    such port, hence no logs, exec or port-forward. `kernel_log`: the machine's, whose problems the Node then tells.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        config: NodeConfig,
        *,
        clock: Clock,
        chance: Chance,
        tls: ssl.SSLContext | None = None,
        devices: NodeDevices | None = None,
        kernel_log: KernelLog | None = None,
    ) -> None:
        self.name = name
        self._kernel_log = kernel_log
        self.ready = asyncio.Event()
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tls = tls
        network, config = _network(config)
        config.state_dir.mkdir(parents=True, exist_ok=True)
        config.volumes_dir.mkdir(parents=True, exist_ok=True)
        self._capacity = {**machine.capacity(config.state_dir, config.max_pods), **config.capacity}
        self._pods = Informer(client, PODS, field_selector=f"spec.nodeName={name}")
        self._services = Informer(client, SERVICES)
        self.context = NodeContext(
            name=name,
            config=config,
            client=client,
            clock=clock,
            chance=chance.stream(f"node/{name}"),
            recorder=EventRecorder(client, "kubelet", clock, chance, host=name),
            catalogue=Catalogue(config.images),
            network=network,
            services=self._services,
            allocatable=self._capacity,
            admission=Admission(self._capacity),
            devices=devices,
        )

    async def run(self) -> None:
        """Until cancelled. Containers then are killed; the API keeps its pods, and a later run starts them again."""
        server = await self._serve()
        try:
            await self._run(server.port if server is not None else self.context.config.kubelet_port)
        finally:
            if server is not None:
                await server.close(0.2)
            config = self.context.config
            if config.hierarchy is not None:
                config.hierarchy.group(config.cluster).drop()

    async def _serve(self) -> Server | None:
        """The kubelet's port; without a certificate there is none. Raises OSError where the port is in use."""
        if self._tls is None:
            return None
        access = KubeletAccess(self.context.client, self.name, self.context.clock)
        handler = KubeletServer(self.context, self.workers, access)
        config = self.context.config
        return await serve(handler, config.address, config.kubelet_port, ssl_context=self._tls)

    async def _run(self, port: int) -> None:
        registration = Registration(self.context, self._capacity, port)
        await registration.register()
        if self.context.devices is not None:
            await self.context.devices.ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(registration.run(), name=f"{self.name}-lease")
                group.create_task(self._services.run(), name=f"{self.name}-services")
                if self._kernel_log is not None:
                    group.create_task(self._monitor(self._kernel_log).run(), name=f"{self.name}-kernel-log")
                await self._services.synced.wait()
                self._pods.add_handler(self._changed)
                group.create_task(self._pods.run(), name=f"{self.name}-pods")
                await self._pods.synced.wait()
                self._forget_folders()
                self.ready.set()
        finally:
            self._group = None

    def _monitor(self, kernel_log: KernelLog) -> KernelMonitor:
        context = self.context
        kept = context.config.state_dir / "kernel-log.json"
        boot = machine.boot_id()
        return KernelMonitor(self.name, boot, kernel_log, kept, context.client, context.clock, context.recorder)

    def worker(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name."""
        for worker in self.workers.values():
            if worker.name == name and worker.namespace == namespace:
                return worker
        return None

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            gone = self.workers.get(old["metadata"]["uid"])
            if gone is not None:
                gone.update(None)
        if new is None or self._group is None:
            return
        uid = new["metadata"]["uid"]
        worker = self.workers.get(uid)
        if worker is not None:
            worker.update(new)
            return
        worker = self.workers[uid] = PodWorker(self.context, new)
        self._tasks[uid] = self._group.create_task(self._run_worker(uid, worker), name=f"pod-{worker.name}")

    async def _run_worker(self, uid: str, worker: PodWorker) -> None:
        """A worker that falls by a fault of ours is told, and its pod begun anew as after a restart of the node."""
        try:
            while True:
                try:
                    await worker.run()
                    return
                except Exception:
                    log.exception("pod %s/%s", worker.namespace, worker.name)
                await asyncio.sleep(_FAULT_SECONDS)
                pod = self._pods.get(worker.name, worker.namespace)
                if pod is None or pod["metadata"]["uid"] != uid:
                    return
                worker = self.workers[uid] = PodWorker(self.context, pod)
        finally:
            self.workers.pop(uid, None)
            self._tasks.pop(uid, None)

    def _forget_folders(self) -> None:
        """Folders of pods that the API no longer has."""
        root = self.context.config.state_dir / "pods"
        known = {worker.folder.name for worker in self.workers.values()}
        for folder in root.iterdir() if root.exists() else ():
            if folder.name not in known:
                remove_tree(folder)


def _network(config: NodeConfig) -> tuple[PodNetwork, NodeConfig]:
    if config.mode != "bridge":
        address = config.address if config.address != "127.0.0.1" else host_address()
        return HostNetwork(address), replace(config, address=address)
    bridge = ClusterBridge.existing(config.cluster)
    if bridge is None:
        raise UserError(
            f"cluster {config.cluster} has no bridge", hint="the cluster's network must run before its nodes"
        )
    network = BridgeNetwork(bridge, config.pod_cidr)
    return network, replace(config, address=network.gateway)

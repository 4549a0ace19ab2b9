"""Carries faults out where a real one would strike: machines fall silent, GPUs report errors, the API does not answer.

A node, rack or block that dies stops its heartbeats, and what ran on it stops; when it is back, its kubelet finds the
containers dead. A network fault stops the heartbeats alone: the pods run on. A GPU's fault is declared on its node
(`atoll.dev/gpu-faults`), and the pod that uses it fails. Of a pool that grows, whoever is there then is struck. The
injector itself is no part of the cluster: the API always answers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atoll.base.clock import Clock
from atoll.base.errors import NotFound
from atoll.client.port import Client
from atoll.cluster.gpus.settings import NAMESPACE as OPERATOR
from atoll.cluster.gpus.settings import read_settings
from atoll.cluster.gpus.slices import gpu_of_device
from atoll.cluster.gpus.survey import has_gpus, survey
from atoll.cluster.nodes.simulated.model import HEARTBEAT_ANNOTATION
from atoll.kinds.builtin import CONFIGMAPS, NODES
from atoll.objects.gpu_faults import ANNOTATION as GPU_ANNOTATION
from atoll.objects.gpu_faults import GpuFault, format_faults, read_faults
from atoll.simulate.faults import Fault
from atoll.simulate.gate import Gate
from atoll.simulate.ledger import Pod
from atoll.simulate.programs import Programs
from atoll.simulate.record import Recorder

_FATAL = ("xid", "ecc", "lost")  # what ends the program that uses the GPU


class Injector:
    """`run` plays the faults, each at its time after `epoch` (the loop's seconds)."""

    def __init__(self, client: Client, clock: Clock, recorder: Recorder, programs: Programs, gate: Gate) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._programs = programs
        self._gate = gate
        self._silent: dict[str, int] = {}

    async def run(self, faults: Sequence[Fault], epoch: float) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, epoch + fault.at - self._clock.monotonic()))
                group.create_task(self._play(fault), name=f"fault-{fault.name}")

    async def _play(self, planned: Fault) -> None:
        fault = planned.among(self._recorder.machines(planned.pool)) if planned.pool else planned
        if fault is None:
            return
        self._recorder.broke(fault, self._clock.monotonic())
        if fault.target == "apiServer":
            self._gate.shut()
            await asyncio.sleep(fault.seconds)
            self._gate.open()
        elif fault.target == "gpu":
            await self._break_gpu(fault)
            await asyncio.sleep(fault.seconds)
            await self._mend_gpu(fault)
        else:
            for node in fault.nodes:
                await self._silence(node)
            await asyncio.sleep(fault.seconds)
            for node in fault.nodes:
                await self._return(node, restarted=fault.target != "network")
        self._recorder.mended(fault, self._clock.monotonic())

    async def _silence(self, node: str) -> None:
        self._silent[node] = self._silent.get(node, 0) + 1
        if self._silent[node] == 1:
            await self._annotate(node, HEARTBEAT_ANNOTATION, "stopped")

    async def _return(self, node: str, *, restarted: bool) -> None:
        self._silent[node] -= 1
        if self._silent[node]:
            return
        if restarted:
            for pod in self._recorder.pods_on(node):
                if pod.running:
                    await self._programs.fail(pod, 137, "ContainerStatusUnknown")
        await self._annotate(node, HEARTBEAT_ANNOTATION, None)

    async def _break_gpu(self, fault: Fault) -> None:
        (name,) = fault.nodes
        await self._declare(name, add=_as_declared(fault))
        if fault.kind not in _FATAL:
            return
        for user in await self._users_of(name, fault.gpu):
            if user.running:
                self._recorder.hurt(fault, user)
                await self._programs.fail(user, 1, "Error")

    async def _users_of(self, name: str, gpu: int) -> list[Pod]:
        """By what kubelet has given them: of a partitioned or shared GPU there are several."""
        pods = self._recorder.pods_on(name)
        try:
            node = await self._client.get(NODES, name)
        except NotFound:
            return []
        if not has_gpus(node):
            return _users_by_order(pods, gpu)
        found = survey(node, read_settings((await self._client.list(CONFIGMAPS, OPERATOR)).items))
        own = {unit.id for unit in found.advertised.units if unit.gpu == gpu}
        minors = {it.minor for it in found.gpus if it.index == gpu}
        return [
            pod
            for pod in pods
            if not own.isdisjoint(pod.devices) or any(gpu_of_device(name) in minors for name in pod.claimed)
        ]

    async def _mend_gpu(self, fault: Fault) -> None:
        await self._declare(fault.nodes[0], remove=_as_declared(fault))

    async def _declare(self, name: str, *, add: GpuFault | None = None, remove: GpuFault | None = None) -> None:
        try:
            node = await self._client.get(NODES, name)
        except NotFound:
            return
        faults = [fault for fault in read_faults(node) if fault != remove]
        faults += [add] if add is not None else []
        await self._annotate(name, GPU_ANNOTATION, format_faults(faults) if faults else None)

    async def _annotate(self, node: str, annotation: str, value: str | None) -> None:
        try:
            await self._client.patch(NODES, node, {"metadata": {"annotations": {annotation: value}}})
        except NotFound:
            return


def _as_declared(fault: Fault) -> GpuFault:
    return GpuFault(fault.kind, 0 if fault.kind == "lost" else fault.value, fault.gpu)  # type: ignore[arg-type]


def _users_by_order(pods: Sequence[Pod], gpu: int) -> list[Pod]:
    """Where GPUs are not declared: handed out from index 0, in the order of the pods' names."""
    first = 0.0
    for pod in pods:
        if first <= gpu < first + pod.gpus:
            return [pod]
        first += pod.gpus
    return []

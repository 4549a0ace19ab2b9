"""The engine of simulated nodes: one informer of pods and one of nodes, one event heap, one write a pod's step.

It manages every node annotated `kwok.x-k8s.io/node: fake`, whoever made it, and makes those that it is asked for.
Their pods go through stages. A node whose heartbeats were stopped (annotation `atoll.dev/heartbeat: stopped`) says
nothing more: its lease runs out, its pods are shown as they were. They run on meanwhile: when the heartbeats are back,
those whose time is over have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.backoff import Backoff
from atoll.base.chance import Chance
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.base.names import SAVED_SECONDS
from atoll.client.port import Client
from atoll.cluster.nodes.simulated import fast
from atoll.cluster.nodes.simulated.claims import ClaimGate
from atoll.cluster.nodes.simulated.functions import Addresses, Devices, NodeFunctions, PodFunctions
from atoll.cluster.nodes.simulated.leases import LeaseKeeper
from atoll.cluster.nodes.simulated.model import (
    FAILED_ANNOTATION,
    HEARTBEAT_ANNOTATION,
    SimulatedGroup,
    is_simulated,
    node_object,
)
from atoll.cluster.nodes.simulated.others import OtherPlayers
from atoll.cluster.nodes.simulated.sources import NODE, POD, Kind, StageSource
from atoll.cluster.nodes.stages.kinds import KindFinder
from atoll.cluster.nodes.stages.model import Stage
from atoll.cluster.nodes.stages.player import Agenda, Impersonate, StagePlayer, Surroundings
from atoll.kinds.builtin import JOBS, NODES, PODS
from atoll.objects import meta
from atoll.objects.meta import controller_of, namespace, node_names
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]
USER = "system:simulated-nodes"
COMPONENT = "simulated-kubelet"
_CREATES = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Where addresses come from when nodes have no pod CIDR of their own, and nodes' own."""

    pod_cidr: str = "10.244.0.0/16"
    node_cidr: str = "172.30.0.0/16"


class SimulatedNodes:
    """`run` works until cancelled; `ready` is set once the nodes asked for exist."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        chance: Chance,
        *,
        groups: Sequence[SimulatedGroup] = (),
        network: NetworkPlan | None = None,
        impersonate: Impersonate | None = None,
        watch_stages: bool = True,
        devices: Devices | None = None,
    ) -> None:
        network = network or NetworkPlan()
        self.ready = asyncio.Event()
        self._client = client
        self._clock = clock
        self._groups = list(groups)
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._pods.add_index("node", node_names)
        self._devices = devices
        self._jobs = informers.of(JOBS)
        pod_stages = fast.pod_stages(self._saved_seconds)
        self._gate = ClaimGate(informers, self._play)
        self._addresses = Addresses(network.node_cidr, network.pod_cidr, self._node)
        self._leases = LeaseKeeper(client, clock)
        self._agenda = Agenda()
        self._managed: set[str] = set()
        self._stopped: set[str] = set()
        events = EventRecorder(client, COMPONENT, clock, chance)
        find = KindFinder(client)
        around = Surroundings(client, events, clock, chance.stream("stages"), impersonate, find)
        functions = PodFunctions(self._addresses, clock, devices)
        self.pod_player = StagePlayer(PODS, pod_stages, functions, around, self._agenda)
        self.node_player = StagePlayer(
            NODES, fast.NODE_STAGES, NodeFunctions(self._addresses, clock), around, self._agenda
        )
        self._others = OtherPlayers(informers, find, around, self._agenda)
        self._source: StageSource | None = None
        if watch_stages:
            defaults = {POD: pod_stages, NODE: fast.NODE_STAGES}
            self._source = StageSource(informers, clock, chance, events, self._stages_changed, defaults)

    async def run(self) -> None:
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        await self._gate.claims.synced.wait()
        if self._devices is not None:
            await self._devices.ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.pod_player.run(), name="simulated-pods")
                group.create_task(self.node_player.run(), name="simulated-nodes")
                group.create_task(self._leases.run(), name="simulated-leases")
                group.create_task(self._others.run(), name="simulated-others")
                if self._source is not None:
                    group.create_task(self._source.run(), name="simulated-stages")
                self._gate.start()
                self._nodes.add_handler(self._on_node)
                self._pods.add_handler(self._on_pod)
                await self._create_all()
        finally:
            self._agenda.close()

    async def _create_all(self) -> None:
        """Create the nodes asked for, however often that takes."""
        backoff, failures = Backoff(first_seconds=0.2, most_seconds=10.0), 0
        while not self.ready.is_set():
            try:
                await self.add(self._groups)
                self.ready.set()
            except AtollError as error:
                log.warning("simulated nodes: %s", error)
                await asyncio.sleep(backoff.delay(failures))
                failures += 1

    async def add(self, groups: Iterable[SimulatedGroup]) -> None:
        """Create the nodes of groups that are not there yet. Raises the first AtollError, the others being tried."""
        now = rfc3339(self._clock.wall())
        wanted = [
            node_object(group, number, self._addresses.new_node(), now)
            for group in groups
            for number in range(group.count)
            if self._nodes.get(group.name(number)) is None
        ]
        slots = asyncio.Semaphore(_CREATES)

        async def create(node: Object) -> None:
            async with slots:
                try:
                    await self._client.create(NODES, node)
                except AlreadyExists:
                    return

        results = await asyncio.gather(*(create(node) for node in wanted), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def remove(self, name: str) -> None:
        """Take a node away: the Node object goes, its pods are the pod garbage collector's."""
        try:
            await self._client.delete(NODES, name)
        except NotFound:
            return

    async def stop_heartbeats(self, name: str) -> None:
        """The node goes silent, as if its machine had lost its network."""
        await self._annotate(name, HEARTBEAT_ANNOTATION, "stopped")

    async def resume_heartbeats(self, name: str) -> None:
        await self._annotate(name, HEARTBEAT_ANNOTATION, None)

    async def fail(self, name: str, message: str) -> None:
        """The node's kubelet lives, and says that the node is not ready."""
        await self._annotate(name, FAILED_ANNOTATION, message)

    async def recover(self, name: str) -> None:
        await self._annotate(name, FAILED_ANNOTATION, None)

    async def _annotate(self, name: str, annotation: str, value: str | None) -> None:
        patch = {"metadata": {"annotations": {annotation: value}}}
        try:
            await self._client.patch(NODES, name, patch)
        except NotFound as error:
            raise AtollError(f"there is no node {name!r}") from error

    def _stages_changed(self, stages: Mapping[Kind, Sequence[Stage]]) -> None:
        self.pod_player.replace_stages(stages.get(POD, ()))
        self.node_player.replace_stages(stages.get(NODE, ()))
        self._others.replace_stages({kind: found for kind, found in stages.items() if kind not in (POD, NODE)})
        for name in sorted(self._managed - self._stopped):
            node = self._node(name)
            if node is not None:
                self._take_up(node)

    def _saved_seconds(self, pod: Object) -> float:
        """Of its Job's work, what is in the last checkpoint: there a pod that comes in place of another resumes."""
        owner = controller_of(pod)
        job = self._jobs.get(owner["name"], namespace(pod)) if owner is not None and owner["kind"] == "Job" else None
        try:
            return float(meta.annotations(job).get(SAVED_SECONDS) or 0) if job is not None else 0.0
        except ValueError:
            return 0.0

    def _node(self, name: str) -> Object | None:
        return self._nodes.get(name)

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None or not is_simulated(new):
            name = (new or old or {})["metadata"]["name"]
            if name in self._managed:
                self._managed.discard(name)
                self._stopped.discard(name)
                self.node_player.forget((None, name))
                self._addresses.forget_node(name)
                self._leases.drop(name, gone=new is None)
            return
        name = new["metadata"]["name"]
        silent = (new["metadata"].get("annotations") or {}).get(HEARTBEAT_ANNOTATION) == "stopped"
        fresh = name not in self._managed
        self._managed.add(name)
        if fresh:
            self._addresses.of_node(name)  # taken, and not to be given to another
        if silent:
            self._stopped.add(name)
            self.node_player.forget((None, name))
            for pod in self._pods.by_index("node", name):
                self.pod_player.hold((pod["metadata"].get("namespace"), pod["metadata"]["name"]))
            self._leases.stop(new)
            return
        resumed = name in self._stopped
        self._stopped.discard(name)
        self._leases.keep(new)
        if fresh or resumed:
            self._take_up(new)
        else:
            self.node_player.observe(new)

    def _take_up(self, node: Object) -> None:
        self.node_player.observe(node)
        for pod in self._pods.by_index("node", node["metadata"]["name"]):
            self._play(pod)
            self.pod_player.release((pod["metadata"].get("namespace"), pod["metadata"]["name"]))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                metadata = old["metadata"]
                self._addresses.release(metadata.get("uid") or "")
                self._gate.forget(old)
                self.pod_player.forget((metadata.get("namespace"), metadata["name"]))
            return
        name = (new.get("spec") or {}).get("nodeName")
        if name and name in self._managed and name not in self._stopped:
            self._play(new)

    def _play(self, pod: Object) -> None:
        self._addresses.learn(pod)
        if not pod["spec"].get("resourceClaims") or self._gate.admit(pod):
            self.pod_player.observe(pod)

"""What runs on a cluster's API in its process: controllers, scheduler, nodes and network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from atoll.app.api_health import check_controllers, check_informers
from atoll.app.assembly import Assembly
from atoll.app.fleetspec import ClusterSpec
from atoll.app.gpus import ExporterPages, gpu_fields, run_gpu_agents
from atoll.app.scheduling import make_scheduler
from atoll.app.tasks import Tasks
from atoll.base.addresses import load_balancer_addresses
from atoll.base.errors import AlreadyExists
from atoll.client.port import Client
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.manager import DeviceManager
from atoll.cluster.gpus.plan import TIMESTAMP_LABEL
from atoll.cluster.metrics.server import MetricsServer, Scrape
from atoll.cluster.metrics.serving import serve_metrics
from atoll.cluster.nodes.kernel.injected import InjectedKernelLogs
from atoll.cluster.nodes.lifecycle.controller import NodeLifecycleController
from atoll.cluster.nodes.lifecycle.eviction import NAME as TAINT_EVICTION
from atoll.cluster.nodes.lifecycle.eviction import TaintEvictionController
from atoll.cluster.nodes.process.podnetwork import host_address
from atoll.cluster.nodes.simulated.definition import stage_definition
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.nodes.simulated.nodes import USER as SIMULATED_USER
from atoll.cluster.nodes.simulated.nodes import NetworkPlan, SimulatedNodes
from atoll.cluster.nodes.simulated.overlay import RESOURCE as LEASES
from atoll.cluster.nodes.simulated.overlay import LeaseOverlay
from atoll.cluster.workloads.accounts.controller import TokenMaker
from atoll.cluster.workloads.all import Options, full_controllers, hub_controllers
from atoll.cluster.workloads.certificates.controller import Signer
from atoll.cluster.workloads.common.context import Runnable
from atoll.cluster.workloads.policies.controller import PolicyCheck
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, NODES
from atoll.objects.meta import condition
from atoll.runtime.controller import Controller
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers
from atoll.runtime.queue_metrics import QueueMetrics
from atoll.scheduling.plugins.registry import installed_plugins

Object = dict[str, Any]


@dataclass(slots=True)
class Running:
    """A cluster's parts at work, on shared informers."""

    assembly: Assembly
    informers: Informers
    tasks: Tasks

    async def nodes_ready(self, count: int) -> int:
        """Wait until that many nodes are Ready; returns how many are."""
        ready: set[str] = set()
        enough = asyncio.Event()

        def look(old: Object | None, new: Object | None) -> None:
            if new is not None and _is_ready(new):
                ready.add(new["metadata"]["name"])
            else:
                ready.discard((new or old or {})["metadata"]["name"])
            if len(ready) >= count:
                enough.set()

        nodes = self.informers.of(NODES)
        nodes.add_handler(look)
        try:
            if count:
                await enough.wait()
        finally:
            nodes.remove_handler(look)
        return len(ready)


def _is_ready(node: Object) -> bool:
    return (condition(node, "Ready") or {}).get("status") == "True"


def simulated_groups(spec: ClusterSpec, now: float) -> list[SimulatedGroup]:
    """The node groups of a fleet file as the simulator takes them. `now`: seconds since the epoch, when nodes begin."""
    groups = []
    for index, group in enumerate(spec.simulated):
        prefix = f"{spec.node_prefix}-sim" if len(spec.simulated) == 1 else f"{spec.node_prefix}-sim{index}"
        zone = group.zone or spec.zone
        gpus = gpu_fields(group)
        groups.append(
            SimulatedGroup(
                count=group.count,
                prefix=prefix,
                cpu=group.cpu,
                memory=group.memory,
                pods=group.pods,
                resources={**gpus.resources, **group.resources},
                labels={**gpus.labels, **({TIMESTAMP_LABEL: f"{now:.0f}"} if gpus.labels else {}), **group.labels},
                annotations={**gpus.annotations, **group.annotations},
                taints=group.taints,
                zones=(zone,) if zone else (),
                region=spec.region,
                names=group.names,
            )
        )
    return groups


@asynccontextmanager
async def running_cluster(
    assembly: Assembly,
    spec: ClusterSpec,
    root_ca: str = "",
    sign: Signer | None = None,
    scrape: Scrape | None = None,
) -> AsyncIterator[Running]:
    """Controllers, scheduler and simulated nodes of a member cluster (none of them with api_only)."""
    informers = Informers(assembly.client())
    tasks = Tasks()
    running = Running(assembly, informers, tasks)
    try:
        if not spec.api_only:
            metrics = MetricsServer(assembly.store, assembly.clock, scrape)
            serve_metrics(assembly.api, metrics)
            tasks.keep("metrics-server", metrics.run)
            _start_member(running, spec, root_ca, sign)
            if spec.batch or spec.workload_api:
                _start_batch(running, spec)
            if spec.queueing:
                _start_queueing(running, spec)
            _start_capacity(running, spec)
            informers.start()
            check_informers(assembly.health, informers)
        check_controllers(assembly.health, tasks)
        yield running
    finally:
        await tasks.stop()
        await informers.stop()


@asynccontextmanager
async def running_hub(assembly: Assembly) -> AsyncIterator[Running]:
    """The few controllers of a hub: templates do not run there."""
    informers = Informers(assembly.client())
    tasks = Tasks()
    running = Running(assembly, informers, tasks)
    try:

        def controllers() -> list[Runnable]:
            tokens = _legacy_tokens(assembly)
            clock, chance = assembly.clock, assembly.chance
            return hub_controllers(assembly.controller_client, informers, clock, chance, Options(), tokens)

        tasks.keep("controller-manager", lambda: manage(assembly, controllers))
        informers.start()
        check_informers(assembly.health, informers)
        check_controllers(assembly.health, tasks)
        yield running
    finally:
        await tasks.stop()
        await informers.stop()


async def manage(assembly: Assembly, make: Callable[[], list[Runnable]]) -> None:
    """One life of a controller-manager: as in kube-controller-manager's process, a fault of one controller ends all."""
    controllers = make()
    observe_queues(assembly, controllers)
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            group.create_task(_told(controller), name=controller.name)


async def _told(controller: Runnable) -> None:
    try:
        await controller.run()
    except Exception as error:
        error.add_note(f"in the controller {controller.name}")
        raise


def observe_queues(assembly: Assembly, controllers: Iterable[Runnable]) -> None:
    """workqueue_… of those that have a queue."""
    for controller in controllers:
        loop = getattr(controller, "loop", None)
        if isinstance(loop, Controller):
            QueueMetrics(assembly.metrics, controller.name, loop.queue, assembly.clock)


def _start_member(running: Running, spec: ClusterSpec, root_ca: str, sign: Signer | None) -> None:
    assembly, informers, tasks = running.assembly, running.informers, running.tasks
    clock, chance = assembly.clock, assembly.chance
    addresses, shared = _load_balancers(spec)
    options = Options(
        cluster_cidr=spec.pod_cidr,
        root_ca=root_ca,
        load_balancers=addresses,
        load_balancers_shared=shared,
        device_taint_rules=spec.device_previews,
    )

    def controllers() -> list[Runnable]:
        return [
            *full_controllers(
                assembly.controller_client,
                informers,
                clock,
                chance,
                options,
                _legacy_tokens(assembly),
                sign,
                _policy_check(assembly),
            ),
            *_node_controllers(assembly, informers),
        ]

    plugins = installed_plugins()  # one that can't be loaded ends the start
    profiles = {}
    if spec.scheduler_config:
        from atoll.app.scheduler_config import read_profiles  # few clusters have one

        profiles = read_profiles(Path(spec.scheduler_config), chance)

    async def schedule() -> None:
        await make_scheduler(assembly, informers, spec, plugins=plugins, profiles=profiles).run()

    tasks.keep("controller-manager", lambda: manage(assembly, controllers))
    tasks.keep("scheduler", schedule)
    assembly.api.overlay(LEASES, LeaseOverlay(clock))
    inventory = Inventory(informers)
    assembly.api.hooks.node_pages = ExporterPages(inventory, clock)
    tasks.keep("simulated-nodes", lambda: _simulate(running, spec, inventory))
    tasks.keep("gpu-node-agents", lambda: run_gpu_agents(assembly, informers, inventory))


def _node_controllers(assembly: Assembly, informers: Informers) -> list[Runnable]:
    """Nodes' health, and what follows from it."""
    clock, chance = assembly.clock, assembly.chance
    client, evictor = assembly.controller_client("node-controller"), assembly.controller_client(TAINT_EVICTION)
    kubelet = assembly.controller_client(SIMULATED_USER)
    return [
        NodeLifecycleController(client, informers, clock, EventRecorder(client, "node-controller", clock, chance)),
        TaintEvictionController(evictor, informers, clock, EventRecorder(evictor, TAINT_EVICTION, clock, chance)),
        InjectedKernelLogs(kubelet, informers, clock, EventRecorder(kubelet, "kernel-monitor", clock, chance)),
    ]


async def _simulate(running: Running, spec: ClusterSpec, inventory: Inventory) -> None:
    assembly = running.assembly
    nodes = SimulatedNodes(
        assembly.controller_client(SIMULATED_USER),
        running.informers,
        assembly.clock,
        assembly.chance,
        groups=simulated_groups(spec, assembly.clock.wall()),
        network=NetworkPlan(pod_cidr=spec.pod_cidr or "10.244.0.0/16"),
        devices=DeviceManager(inventory),
    )
    if spec.simulated:
        running.tasks.start("stage-definition", _define_stages(assembly.client(), nodes))
    await nodes.run()


def _start_queueing(running: Running, spec: ClusterSpec) -> None:
    from atoll.app.queue_visibility import serve_visibility  # few clusters have it
    from atoll.app.queueing import make_queueing
    from atoll.app.state import state_home
    from atoll.capacity.queueing.worker_access import UPSTREAM_FOLDER, worker_access
    from atoll.client.http import HttpClient

    assembly = running.assembly
    client_for, clock, chance = assembly.controller_client, assembly.clock, assembly.chance

    def make() -> list[Runnable]:
        queueing = make_queueing(
            client_for,
            running.informers,
            clock,
            chance,
            job_sets=spec.batch,
            metrics=assembly.metrics,
            connect=lambda text: HttpClient(worker_access(text), clock=clock),
            kubeconfig_folders=(UPSTREAM_FOLDER, state_home() / "multikueue"),
        )
        serve_visibility(assembly.api, queueing.queues)
        return list(queueing.runnables)

    running.tasks.keep("queueing", lambda: manage(assembly, make))


def _start_batch(running: Running, spec: ClusterSpec) -> None:
    from atoll.app.batch import make_batch

    assembly = running.assembly
    parts = (assembly.controller_client, running.informers, assembly.clock, assembly.chance, spec)
    running.tasks.keep("batch", lambda: manage(assembly, lambda: make_batch(*parts)))


def _start_capacity(running: Running, spec: ClusterSpec) -> None:
    """Controllers of nodes' health, pools and teams, each imported only where it is asked for."""
    makers: dict[str, Callable[..., list[Runnable]]] = {}
    if spec.health:
        from atoll.app.health import make_health

        # no role of RBAC lets a controller of ours through to nodes and pods
        makers["node-health"] = partial(make_health, exporters=running.assembly.client())
    if spec.autoscale:
        from atoll.app.autoscale import make_autoscale

        makers["autoscale"] = make_autoscale
    if spec.teams:
        from atoll.app.teams import make_teams

        makers["teams"] = make_teams
    for name, make in makers.items():
        running.tasks.keep(name, partial(_run_capacity, running, make))


async def _run_capacity(running: Running, make: Callable[..., list[Runnable]]) -> None:
    assembly = running.assembly
    parts = (running.informers, assembly.clock, assembly.chance, assembly.metrics)
    await manage(assembly, lambda: make(assembly.controller_client, *parts))


def _load_balancers(spec: ClusterSpec) -> tuple[list[str], bool]:
    """Addresses for load balancers: of the service range, or the machine's own where its pods have none but that."""
    if spec.process_node_count and os.geteuid() != 0:
        with suppress(OSError):
            return [host_address()], True
        return [], True
    return (load_balancer_addresses(spec.service_cidr), False) if spec.service_cidr else ([], False)


async def _define_stages(client: Client, nodes: SimulatedNodes) -> None:
    """Stage objects are served wherever there are nodes that go by them, once those are made: starting comes first."""
    await nodes.ready.wait()
    with suppress(AlreadyExists):
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, stage_definition())


def _policy_check(assembly: Assembly) -> PolicyCheck:
    """The type checker of admission policies, which is loaded by the first of them."""

    def check(policy: Object) -> list[Object]:
        from atoll.cluster.apiserver.admission.policies.typechecking import TypeChecker

        return TypeChecker(assembly.api.registry).warnings(policy)

    return check


def _legacy_tokens(assembly: Assembly) -> TokenMaker | None:
    tokens = assembly.tokens
    if tokens is None:
        return None
    return lambda account, secret: tokens.issue_legacy(account, secret["metadata"]["name"])

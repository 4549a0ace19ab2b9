"""Nodes' health and tests in a cluster: admission of new nodes, and the controllers, wired."""

from __future__ import annotations

from collections.abc import Callable

from atoll.app.stored_settings import stored_config_maps
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity.health.controller import HealthController
from atoll.capacity.health.dcgm import DcgmReadings
from atoll.capacity.health.group_controller import GroupController
from atoll.capacity.health.programmed import ProgramRemedies
from atoll.capacity.health.readings import FirstReadings, SimulatedReadings
from atoll.capacity.health.remedy import RemediesByNode, RequestedRemedies, SimulatedRemedies
from atoll.capacity.health.settings import CONFIG_MAP, KEY, HealthSettings
from atoll.capacity.parts import Parts, pods_by_node
from atoll.capacity.preflight.admission import NewNodes
from atoll.capacity.preflight.controller import PreflightController
from atoll.capacity.program import MachineProgram
from atoll.capacity.settings import Live
from atoll.client.port import Client
from atoll.cluster.store.port import Store
from atoll.cluster.workloads.common.context import Runnable
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = "atoll-node-health"  # the controllers' identity and the source of their events


def node_admission(store: Store, clock: Clock) -> NewNodes:
    """The plugin, which looks at the newest settings."""

    return NewNodes(stored_config_maps(store), clock)


def make_health(
    client_for: Callable[[str], Client],
    informers: Informers,
    clock: Clock,
    chance: Chance,
    metrics: Metrics,
    program: MachineProgram | None = None,
    exporters: Client | None = None,
) -> list[Runnable]:
    """They write as `client_for(NAME)`. GPUs of simulated nodes are read from their Nodes, others' from DCGM, through
    the proxies of `exporters` (by default the same client), whose user must be allowed to.

    `program` mends machines that are not simulated; without one, remedies are ordered by an annotation.
    """
    client = client_for(NAME)
    parts = Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), metrics)
    preflight = PreflightController(parts)
    settings = Live(informers, parts.events, CONFIG_MAP, KEY, HealthSettings)
    readings = FirstReadings(SimulatedReadings(), DcgmReadings(exporters or client, pods_by_node(informers)))
    simulated = SimulatedRemedies(client, clock, lambda: settings.value.simulated_seconds)
    remedies = RemediesByNode(simulated, RequestedRemedies() if program is None else ProgramRemedies(program))
    health = HealthController(parts, settings, readings, remedies, preflight.applies)
    return [health, preflight, GroupController(parts)]

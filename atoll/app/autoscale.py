"""Balloons, autoscaling and the simulated provider in a cluster, wired."""

from __future__ import annotations

from collections.abc import Callable

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity.autoscale.controller import AutoscaleController
from atoll.capacity.autoscale.programmed import ProgramProvider
from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY, AutoscaleSettings
from atoll.capacity.autoscale.simulated import SimulatedProvider
from atoll.capacity.balloons.controller import BalloonController
from atoll.capacity.parts import Parts
from atoll.capacity.program import MachineProgram
from atoll.capacity.settings import Live
from atoll.client.port import Client
from atoll.cluster.workloads.common.context import Runnable
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = "atoll-autoscale"  # the controllers' identity and the source of their events


def make_autoscale(
    client_for: Callable[[str], Client],
    informers: Informers,
    clock: Clock,
    chance: Chance,
    metrics: Metrics,
    program: MachineProgram | None = None,
) -> list[Runnable]:
    """They write as `client_for(NAME)`. Machines are those of `program`; without one they are simulated."""
    client = client_for(NAME)
    parts = Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), metrics)
    settings = Live(informers, parts.events, CONFIG_MAP, KEY, AutoscaleSettings)
    balloons = BalloonController(parts, settings)
    own = chance.stream(NAME)
    if program is not None:
        return [AutoscaleController(parts, settings, ProgramProvider(program, client), own), balloons]
    provider = SimulatedProvider(client, informers, clock, settings)
    return [AutoscaleController(parts, settings, provider, own), balloons, provider]

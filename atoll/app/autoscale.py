"""Balloons, autoscaling and the simulated provider in a cluster, wired."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from atoll.app.gpus import device_slices, furnished
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import UserError
from atoll.base.metrics import Metrics
from atoll.capacity.autoscale.controller import AutoscaleController
from atoll.capacity.autoscale.programmed import ProgramProvider
from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY, AutoscaleSettings, DeviceSlice, Pool
from atoll.capacity.autoscale.simulated import SimulatedProvider
from atoll.capacity.balloons.controller import BalloonController
from atoll.capacity.parts import Parts
from atoll.capacity.program import MachineProgram
from atoll.capacity.settings import Live, SettingsError
from atoll.client.port import Client
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.gpus.settings import Settings
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
    settings = Live(informers, parts.events, CONFIG_MAP, KEY, AutoscaleSettings, completed)
    balloons = BalloonController(parts, settings)
    own, selectors = chance.stream(NAME), CelSelectors()
    if program is not None:
        return [AutoscaleController(parts, settings, ProgramProvider(program, client), own, selectors), balloons]
    provider = SimulatedProvider(client, informers, clock, settings)
    return [AutoscaleController(parts, settings, provider, own, selectors), balloons, provider]


def completed(settings: AutoscaleSettings) -> AutoscaleSettings:
    """With what nodes of pools have that name a type of simulated GPUs. Raises SettingsError."""
    return replace(settings, pools=tuple(_completed(pool) for pool in settings.pools))


def _completed(pool: Pool) -> Pool:
    shape = pool.node
    if not shape.gpu:
        return pool
    try:
        labels, annotations, resources, slices = _gpus(shape.gpu, shape.gpus, tuple(sorted(shape.labels.items())))
    except UserError as error:
        raise SettingsError(f"pool {pool.name!r}: {error.message} ({error.hint or 'see atoll gpu types'})") from None
    node = replace(
        shape,
        labels={**labels, **shape.labels},
        annotations={**annotations, **shape.annotations},
        resources={**resources, **shape.resources},
        resource_slices=shape.resource_slices or slices,
    )
    return replace(pool, node=node)


@lru_cache(maxsize=256)
def _gpus(
    kind: str, count: int, labels: tuple[tuple[str, str], ...]
) -> tuple[dict[str, str], dict[str, str], dict[str, str], tuple[DeviceSlice, ...]]:
    """Labels, annotations, resources and slices. Raises UserError."""
    fields, found = furnished(kind, count, dict(labels), Settings())
    slices = tuple(msgspec.convert(item, DeviceSlice) for item in device_slices(found))
    return fields.labels, fields.annotations, fields.resources, slices

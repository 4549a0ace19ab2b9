"""Simulated GPUs of a cluster's nodes, wired: what nodes are made with, and the agents that keep it true."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import NodeGroup
from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.controller import NAME, GpuNodeAgents
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.model import ANNOTATION, annotation, parse_gpus, parse_machine
from atoll.cluster.gpus.settings import PluginConfig
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers


@dataclass(frozen=True, slots=True)
class GpuFields:
    """What a group's nodes are created with, so that their agents find nothing to add."""

    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)


def gpu_fields(group: NodeGroup) -> GpuFields:
    """Of a group with `gpus`, or whose nodes declare GPUs by their annotation. Raises UserError."""
    text = annotation(parse_machine(group.gpus)) if group.gpus else group.annotations.get(ANNOTATION, "")
    if not text:
        return GpuFields()
    found = advertise(parse_gpus(text, "node"), {}, PluginConfig())
    return GpuFields({ANNOTATION: text}, dict(found.labels), found.capacity)


async def run_gpu_agents(assembly: Assembly, informers: Informers, inventory: Inventory) -> None:
    """Until cancelled; idle as long as no node declares GPUs."""
    client = assembly.controller_client(NAME)
    events = EventRecorder(client, NAME, assembly.clock, assembly.chance)
    await GpuNodeAgents(client, informers, inventory, events).run()

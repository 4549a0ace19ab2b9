"""Simulated GPUs of a cluster's nodes, wired: what nodes are made with, and the agents that keep it true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import NodeGroup
from atoll.base.clock import Clock
from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.controller import NAME, GpuNodeAgents
from atoll.cluster.gpus.dcgm import KUBELET_PATH, PORT, metrics_text
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.model import ANNOTATION, annotation, parse_gpus, parse_machine
from atoll.cluster.gpus.settings import PluginConfig
from atoll.cluster.gpus.survey import has_gpus
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]


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


class ExporterPages:
    """The DCGM exporters of simulated nodes: at their port 9400, and beside the kubelet's own metrics."""

    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        self._inventory = inventory
        self._clock = clock

    def page(self, node: Object, port: str, path: str) -> str | None:
        """Implements `api.NodePages`."""
        if not has_gpus(node) or (port, path) not in ((PORT, "/metrics"), ("", KUBELET_PATH), ("10250", KUBELET_PATH)):
            return None
        name = node["metadata"]["name"]
        found = self._inventory.survey(name)
        return metrics_text(name, found, self._inventory.pods_on(name), self._clock.wall())

"""Simulated GPUs of a cluster's nodes, wired: what nodes are made with, and the agents that keep it true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import NodeGroup, ProcessNodeSpec
from atoll.base.clock import Clock
from atoll.base.errors import UserError
from atoll.base.names import SIMULATED_LABEL
from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.controller import NAME, GpuNodeAgents
from atoll.cluster.gpus.dcgm import KUBELET_PATH, PORT, exposition
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.manager import DeviceManager
from atoll.cluster.gpus.meters import Meters
from atoll.cluster.gpus.mig import STATE_LABEL
from atoll.cluster.gpus.model import ANNOTATION, annotation, declare_real, parse_gpus, parse_machine
from atoll.cluster.gpus.node_devices import GpuNodeDevices
from atoll.cluster.gpus.nvml import open_nvml
from atoll.cluster.gpus.plan import plan_node
from atoll.cluster.gpus.settings import PluginConfig, Settings
from atoll.cluster.gpus.simulated import SimulatedDevices
from atoll.cluster.gpus.slices import DRIVER, resource_slices
from atoll.cluster.gpus.survey import Survey, has_gpus, survey
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


def furnished(kind: str, count: int, labels: dict[str, str], settings: Settings) -> tuple[GpuFields, Survey]:
    """What a simulated node with such GPUs is once its agents have done what its labels and the cluster's
    configurations ask for: the fields that they add, and all that is known of its GPUs. Raises UserError."""
    notes = {ANNOTATION: annotation(parse_machine(f"{kind}:{count}"))}
    own = {SIMULATED_LABEL: "true", **labels}
    status: dict[str, dict[str, str]] = {}
    while True:
        node: Object = {"metadata": {"name": "node", "labels": own, "annotations": notes}, "status": status}
        found = survey(node, settings)
        plan = plan_node(node, found, settings)
        if found.problems or own.get(STATE_LABEL) == "failed" or any("MIG" in kind for kind, _ in plan.events):
            raise UserError(found.problems[0] if found.problems else plan.events[-1][1])
        if not plan.metadata and not plan.status:
            added = {key: value for key, value in own.items() if key not in labels and key != SIMULATED_LABEL}
            return GpuFields(notes, added, dict(found.advertised.capacity)), found
        notes = _merged(notes, plan.metadata.get("annotations", {}))
        own = _merged(own, plan.metadata.get("labels", {}))
        status = {name: {**status.get(name, {}), **plan.status.get(name, {})} for name in ("capacity", "allocatable")}


def _merged(values: dict[str, str], patch: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**values, **patch}.items() if value is not None}


def device_slices(found: Survey) -> list[Object]:
    """What the DRA driver of such a node will publish: driver, devices and shared counters of each slice."""
    made = resource_slices("node", found.gpus, found.layout, found.mode, found.faults)
    kept = ("devices", "sharedCounters")
    return [{"driver": DRIVER, **{key: item["spec"][key] for key in kept if key in item["spec"]}} for item in made]


def gpu_devices(
    wanted: ProcessNodeSpec, inventory: Inventory, clock: Clock
) -> tuple[GpuNodeDevices | None, dict[str, str]]:
    """A process node's devices, and the annotation that declares them where they are this machine's.

    Raises UserError where the machine's GPUs can't be had.
    """
    name = wanted.name
    if wanted.gpus:
        found, why = open_nvml(wanted.gpus)
        if found is None:
            raise UserError(f"node {name}: {why}", hint="`atoll doctor` says more")
        declared = {ANNOTATION: annotation(declare_real(gpu) for gpu in found.devices())}
        return GpuNodeDevices(name, found, inventory, DeviceManager(inventory), clock), declared
    if ANNOTATION not in wanted.annotations:
        return None, {}
    port = SimulatedDevices(lambda: inventory.survey(name))
    return GpuNodeDevices(name, port, inventory, DeviceManager(inventory), clock), {}


async def run_gpu_agents(assembly: Assembly, informers: Informers, inventory: Inventory) -> None:
    """Until cancelled; idle as long as no node declares GPUs."""
    client = assembly.controller_client(NAME)
    events = EventRecorder(client, NAME, assembly.clock, assembly.chance)
    await GpuNodeAgents(client, informers, inventory, events).run()


class ExporterPages:
    """The DCGM exporters of simulated nodes: at their port 9400, and beside the kubelet's own metrics."""

    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        self._meters = Meters(inventory, clock)

    def page(self, node: Object, port: str, path: str) -> str | None:
        """Implements `api.NodePages`."""
        if not has_gpus(node) or (port, path) not in ((PORT, "/metrics"), ("", KUBELET_PATH), ("10250", KUBELET_PATH)):
            return None
        name = node["metadata"]["name"]
        return exposition(name, self._meters.read(name))

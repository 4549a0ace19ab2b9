"""What a node's agents would write now: pure. Node and settings → patches, in the order of mig-manager and plugins.

MIG first, as mig-manager does it: a wanted layout is put in force when nothing runs on the GPUs that would change;
until then `nvidia.com/mig.config.state` says `pending` (mig-manager gives up instead), and where it can't be had
`failed`; an event says why. Then labels,
resources and slices follow from the layout in force. A resource that is no longer advertised stays with 0, as kubelet
keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import UserError
from atoll.cluster.gpus import mig
from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.allotment import held
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.settings import Settings
from atoll.cluster.gpus.slices import resource_slices
from atoll.cluster.gpus.survey import Survey

Object = dict[str, Any]

TIMESTAMP_LABEL = "nvidia.com/gfd.timestamp"
_PLUGINS_OWN = re.compile(r"nvidia\.com/(gpu$|gpu\.|mig-)")
# GPU feature discovery's own labels, which go when they no longer hold
_DISCOVERED = re.compile(
    r"nvidia\.com/(gpu\.(?!deploy\.)|mig-|mig\.(?!config)|mps\.capable$|cuda\.|gfd\.)",
)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Merge patches of a Node's metadata and status (empty: nothing to write), and what is to be told."""

    metadata: Object = field(default_factory=dict)
    status: Object = field(default_factory=dict)
    events: tuple[tuple[str, str], ...] = ()  # (reason, message) of warnings


def plan_node(
    node: Mapping[str, Any],
    found: Survey,
    settings: Settings,
    pods: Sequence[Mapping[str, Any]] = (),
    claimed: Collection[int] = (),
) -> NodePlan:
    """`pods`: those of the node. `claimed`: indices of GPUs that ResourceClaims have."""
    events = [("GPUConfiguration", problem) for problem in found.problems]
    labels = node["metadata"].get("labels") or {}
    metadata: Object = {}
    layout, state, failure = _layout(labels, found, settings, pods, claimed)
    if failure and labels.get(mig.STATE_LABEL) != state:
        events.append(("MIGConfigFailed" if state == "failed" else "MIGConfigPending", failure))
    advertised = found.advertised
    if layout is not None and layout != found.layout:
        metadata["annotations"] = {mig.ANNOTATION: mig.format_layout(layout) if layout else None}
        machine = str(labels.get("nvidia.com/gpu.machine", "simulated"))
        advertised = advertise(found.gpus, layout, found.config, found.out, machine)
    wanted = {**advertised.labels, **({mig.STATE_LABEL: state} if state else {})}
    if advertised.labels:
        wanted |= _timestamp(node["metadata"])
    changes: dict[str, str | None] = {key: value for key, value in wanted.items() if labels.get(key) != value}
    changes |= {key: None for key in labels if key not in wanted and _DISCOVERED.match(key)}
    if changes:
        metadata["labels"] = changes
    status = _status(node, advertised.capacity, advertised.allocatable(claimed))
    return NodePlan(metadata, status, tuple(events))


def _timestamp(metadata: Mapping[str, Any]) -> dict[str, str]:
    """When feature discovery began on the node: with the node itself, where no label says so yet."""
    told, created = (metadata.get("labels") or {}).get(TIMESTAMP_LABEL), metadata.get("creationTimestamp")
    if told is None and created is None:
        return {}
    return {TIMESTAMP_LABEL: told if told is not None else f"{parse_rfc3339(created):.0f}"}


def holders(pods: Iterable[Mapping[str, Any]], found: Survey) -> dict[int, str]:
    """GPU index → a pod (namespace/name) that holds something of it."""
    gpus = {unit.id: unit.gpu for unit in found.advertised.units}
    out: dict[int, str] = {}
    for pod in pods:
        for item in held(pod):
            if item in gpus:
                out.setdefault(gpus[item], f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
    return out


def plan_slices(
    name: str,
    found: Survey,
    existing: Sequence[Mapping[str, Any]],
    held_gpus: Collection[int] = (),
) -> tuple[list[Object], list[str]]:
    """(slices to write, names to delete): all or none, under the next generation where anything differs."""
    generation = max((item["spec"]["pool"].get("generation", 0) for item in existing), default=0)
    wanted = resource_slices(name, found.gpus, found.layout, found.mode, found.faults, held_gpus, max(1, generation))
    have = {item["metadata"]["name"]: item for item in existing}
    if set(have) == {item["metadata"]["name"] for item in wanted} and all(
        _written(have[item["metadata"]["name"]]["spec"]) == item["spec"] for item in wanted
    ):
        return [], []
    if existing:
        wanted = resource_slices(name, found.gpus, found.layout, found.mode, found.faults, held_gpus, generation + 1)
    return wanted, sorted(set(have) - {item["metadata"]["name"] for item in wanted})


def _written(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A slice's spec as it was written: the API server adds when a taint was."""
    if not any("taints" in device for device in spec.get("devices") or ()):
        return spec

    def plain(device: Object) -> Object:
        taints = [{key: value for key, value in taint.items() if key != "timeAdded"} for taint in device["taints"]]
        return {**device, "taints": taints}

    return {**spec, "devices": [plain(device) if "taints" in device else device for device in spec["devices"]]}


def _layout(
    labels: Mapping[str, str],
    found: Survey,
    settings: Settings,
    pods: Sequence[Mapping[str, Any]],
    claimed: Collection[int],
) -> tuple[mig.Layout | None, str, str]:
    """(the layout to put in force, the state's label, why it failed); None: as it is."""
    name = labels.get(mig.CONFIG_LABEL)
    if not name or not found.gpus:
        return None, "", ""
    if not all(gpu.simulated for gpu in found.gpus):
        return None, "failed", f"MIG configuration {name}: real GPUs are not partitioned from here; nvidia-smi mig does"
    try:
        wanted = mig.plan_layout(found.gpus, name, settings.mig)
    except UserError as error:
        return None, "failed", f"{error.message} ({error.hint})" if error.hint else error.message
    busy = holders(pods, found) | dict.fromkeys(claimed, "a ResourceClaim")
    for gpu in mig.changed(found.layout, wanted, found.gpus):
        if gpu.index in busy:
            return None, "pending", _busy(gpu, name, busy[gpu.index])
    return wanted, "success", ""


def _busy(gpu: Gpu, name: str, holder: str) -> str:
    return f"MIG configuration {name}: GPU {gpu.index} is in use by {holder}: it waits for that to end"


def _status(node: Mapping[str, Any], capacity: Mapping[str, str], allocatable: Mapping[str, str]) -> Object:
    status = node.get("status") or {}
    patch: Object = {}
    for field_name, wanted in (("capacity", capacity), ("allocatable", allocatable)):
        have = status.get(field_name) or {}
        stale = {key: "0" for key in have if _PLUGINS_OWN.match(key) and key not in wanted}
        changes = {key: value for key, value in {**stale, **wanted}.items() if have.get(key) != value}
        if changes:
            patch[field_name] = changes
    return patch

"""What an admission puts into pods: node labels and tolerations of their flavours, what checks add, the gate of those
that are placed by topology; and how it is taken out again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.capacity.queueing.model import Object
from atoll.kinds import kueue
from atoll.objects.labels import value_errors
from atoll.runtime.informer import Informer


@dataclass(slots=True)
class PodInfo:
    """Of one pod set."""

    count: int | None = None
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Object] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    gates: list[Object] = field(default_factory=list)


def pod_infos(workload: Object, flavors: Informer) -> dict[str, PodInfo] | None:
    """By pod set; None where a flavour is not known (any more)."""
    found: dict[str, PodInfo] = {}
    status = workload.get("status") or {}
    admission = status.get("admission") or {}
    for assignment in admission.get("podSetAssignments") or ():
        name_of_set = assignment.get("name") or "main"
        info = found[name_of_set] = PodInfo(assignment.get("count"))
        info.labels |= _names(admission.get("clusterQueue") or "", workload["spec"].get("queueName") or "", name_of_set)
        if assignment.get("topologyAssignment"):  # held until `ungate` gives each its place
            info.labels[kueue.TOPOLOGY_LABEL] = "true"
            info.annotations[kueue.WORKLOAD_ANNOTATION] = workload["metadata"]["name"]
            info.gates.append({"name": kueue.TOPOLOGY_GATE})
        for name in dict.fromkeys((assignment.get("flavors") or {}).values()):
            flavor = flavors.get(name)
            if flavor is None:
                return None
            spec = flavor.get("spec") or {}
            info.node_selector.update(spec.get("nodeLabels") or {})
            info.tolerations += [item for item in spec.get("tolerations") or () if item not in info.tolerations]
    for check in status.get("admissionChecks") or ():
        for update in check.get("podSetUpdates") or ():
            info = found.setdefault(update["name"], PodInfo())
            info.node_selector.update(update.get("nodeSelector") or {})
            info.tolerations += update.get("tolerations") or []
            info.labels.update(update.get("labels") or {})
            info.annotations.update(update.get("annotations") or {})
    return found


def _names(cluster_queue: str, local_queue: str, pod_set: str) -> dict[str, str]:
    """Labels by which the pods of a queue are found, as far as names of queues can be labels' values."""
    found = {kueue.CLUSTER_QUEUE_LABEL: cluster_queue, kueue.LOCAL_QUEUE_LABEL: local_queue}
    named = {label: name for label, name in found.items() if name and not value_errors(name)}
    return {**named, kueue.POD_SET_LABEL: pod_set}


def injected(template: Mapping[str, Any], info: PodInfo) -> Object:
    """A pod (template) with it."""
    spec = dict(template.get("spec") or {})
    if info.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **info.node_selector}
    if info.tolerations:
        known = spec.get("tolerations") or []
        spec["tolerations"] = [*known, *(item for item in info.tolerations if item not in known)]
    if info.gates:
        known = spec.get("schedulingGates") or []
        spec["schedulingGates"] = [*known, *(gate for gate in info.gates if gate not in known)]
    metadata = dict(template.get("metadata") or {})
    for name, added in (("labels", info.labels), ("annotations", info.annotations)):
        if added:
            metadata[name] = {**(metadata.get(name) or {}), **added}
    return {**template, "spec": spec, **({"metadata": metadata} if metadata else {})}


_INJECTED = ("nodeSelector", "tolerations", "schedulingGates")
_INJECTED_LABELS = (
    kueue.TOPOLOGY_LABEL, kueue.POD_SET_LABEL, kueue.CLUSTER_QUEUE_LABEL, kueue.LOCAL_QUEUE_LABEL,
)  # fmt: skip


def restored(template: Object, original: Object) -> Object:
    """The pod template as it was before it was admitted; `original`: that of the Workload's pod set."""
    was = original.get("spec") or {}
    spec = {name: value for name, value in template["spec"].items() if name not in _INJECTED}
    spec |= {name: was[name] for name in _INJECTED if name in was}
    metadata = dict(template.get("metadata") or {})
    for part, names in (("labels", _INJECTED_LABELS), ("annotations", (kueue.WORKLOAD_ANNOTATION,))):
        if any(name in (metadata.get(part) or {}) for name in names):
            metadata[part] = {key: value for key, value in metadata[part].items() if key not in names}
    return {**template, "spec": spec, **({"metadata": metadata} if "metadata" in template else {})}

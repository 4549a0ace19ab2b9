"""What an admission puts into pods: node labels and tolerations of their flavours, and what checks add. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.capacity.queueing.model import Object
from atoll.runtime.informer import Informer


@dataclass(slots=True)
class PodInfo:
    """Of one pod set."""

    count: int | None = None
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Object] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


def pod_infos(workload: Object, flavors: Informer) -> dict[str, PodInfo] | None:
    """By pod set; None where a flavour is not known (any more)."""
    found: dict[str, PodInfo] = {}
    status = workload.get("status") or {}
    for assignment in (status.get("admission") or {}).get("podSetAssignments") or ():
        info = found[assignment.get("name") or "main"] = PodInfo(assignment.get("count"))
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


def injected(template: Mapping[str, Any], info: PodInfo) -> Object:
    """A pod (template) with it."""
    spec = dict(template.get("spec") or {})
    if info.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **info.node_selector}
    if info.tolerations:
        known = spec.get("tolerations") or []
        spec["tolerations"] = [*known, *(item for item in info.tolerations if item not in known)]
    metadata = dict(template.get("metadata") or {})
    for name, added in (("labels", info.labels), ("annotations", info.annotations)):
        if added:
            metadata[name] = {**(metadata.get(name) or {}), **added}
    return {**template, "spec": spec, **({"metadata": metadata} if metadata else {})}

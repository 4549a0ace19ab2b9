"""In-place resize of a pod's containers (KEP 1287): what is granted, what must restart. Decisions are pure.

The node grants a resize as a whole or not at all: never what is more than it has (Infeasible), later what other pods
leave no room for (Deferred). What is granted is carried out by control groups, or by a restart where the container's
resizePolicy asks for one; a memory limit below what is in use waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.base import quantity
from atoll.cluster.nodes.process.cgroups import both, limits, pod_limits
from atoll.cluster.nodes.process.model import Slot
from atoll.cluster.nodes.process.podresources import pod_totals
from atoll.cluster.nodes.process.podspace import PodSpace

Object = dict[str, Any]
_UNITS = {"cpu": quantity.milli, "memory": quantity.units}


@dataclass(slots=True)
class ResizeState:
    """The conditions PodResizePending and PodResizeInProgress: (reason, message)."""

    pending: tuple[str, str] | None = None
    in_progress: tuple[str, str] | None = None

    def conditions(self) -> dict[str, tuple[str, str]]:
        shown = {"PodResizePending": self.pending, "PodResizeInProgress": self.in_progress}
        return {kind: value for kind, value in shown.items() if value is not None}


def granted(pod: Object, slots: Mapping[str, Slot]) -> list[Object]:
    """The pod's containers that stay, with the resources that the node has granted."""
    spec = pod["spec"]
    stay = [item for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"]
    return [{**item, "resources": slots[item["name"]].resources} for item in [*stay, *spec["containers"]]]


def asked_for(pod: Object, slots: Mapping[str, Slot]) -> dict[str, Object]:
    """Containers whose resources in the spec are not those granted."""
    spec = pod["spec"]
    out = {}
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        wanted = container.get("resources") or {}
        if wanted != slots[container["name"]].resources:
            out[container["name"]] = wanted
    return out


def refusal(pod: Object, allocatable: Mapping[str, str], others: Iterable[Mapping[str, str]]) -> tuple[str, str] | None:
    """(reason, message) where the node can't grant what the spec asks. `others`: requests of the other pods."""
    spec = pod["spec"]
    requests = pod_totals(spec, spec["containers"])["requests"]
    used = list(others)
    for name, unit in _UNITS.items():
        asked, has = unit(requests.get(name, "0")), unit(allocatable.get(name, "0"))
        if asked > has:
            return "Infeasible", f"Node didn't have enough capacity: {name}, requested: {asked}, capacity: {has}"
    for name, unit in _UNITS.items():
        asked, has = unit(requests.get(name, "0")), unit(allocatable.get(name, "0"))
        taken = sum(unit(item.get(name, "0")) for item in used)
        if asked + taken > has:
            text = f"Node didn't have enough resource: {name}, requested: {asked}, used: {taken}, capacity: {has}"
            return "Deferred", text
    return None


def needs_restart(container: Object, old: Object, new: Object) -> bool:
    """Whether a changed resource's policy is RestartContainer."""
    policies = {item["resourceName"]: item["restartPolicy"] for item in container.get("resizePolicy") or []}
    for name in ("cpu", "memory"):
        if policies.get(name) != "RestartContainer":
            continue
        if any((old.get(kind) or {}).get(name) != (new.get(kind) or {}).get(name) for kind in ("requests", "limits")):
            return True
    return False


def actuate(pod: Object, slots: Mapping[str, Slot], space: PodSpace | None) -> tuple[str, str] | None:
    """Let the kernel have the granted sizes of running containers; (reason, message) where one has to wait."""
    error: tuple[str, str] | None = None
    whole = space.group if space is not None else None
    target = pod_limits(pod["spec"], granted(pod, slots))
    try:
        if whole is not None and whole.applied is not None:
            whole.apply(both(whole.applied, target))
        for slot in slots.values():
            if slot.running and slot.state.actual != slot.resources:
                if slot.group is not None:
                    error = _apply(slot) or error
                if error is None:
                    slot.state.actual = slot.resources
        if whole is not None and error is None:
            whole.apply(target)
    except OSError as failure:
        return "Error", f"{failure.strerror}"
    return error


def _apply(slot: Slot) -> tuple[str, str] | None:
    assert slot.group is not None
    wanted = limits(slot.resources)
    used = slot.group.memory_in_use()
    if 0 <= wanted.memory < used:
        text = f"attempting to set container {slot.name} memory limit ({wanted.memory}) below current usage ({used})"
        return "Error", text
    slot.group.apply(wanted)
    return None

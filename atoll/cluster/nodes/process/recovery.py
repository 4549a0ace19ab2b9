"""A pod's containers as a (re)started node finds them in the API: what ran under an earlier node process is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atoll.base.clock import Clock, parse_rfc3339
from atoll.cluster.nodes.process.model import Slot
from atoll.cluster.nodes.process.status import ContainerState, Ended, is_sidecar

Object = dict[str, Any]


def make_slots(pod: Object, folder: Path, clock: Clock) -> dict[str, Slot]:
    """One slot a container, in the order of their start."""
    status = pod.get("status") or {}
    known = {
        item["name"]: item
        for item in [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
            *(status.get("ephemeralContainerStatuses") or []),
        ]
    }
    slots: dict[str, Slot] = {}
    spec = pod["spec"]
    for container in spec.get("initContainers") or []:
        kind = "sidecar" if is_sidecar(container) else "init"
        slots[container["name"]] = _slot(container, kind, known, folder, clock)
    for container in spec["containers"]:
        slots[container["name"]] = _slot(container, "app", known, folder, clock)
    for container in spec.get("ephemeralContainers") or []:
        slots[container["name"]] = _slot(container, "ephemeral", known, folder, clock)
    return slots


def _slot(container: Object, kind: str, known: dict[str, Object], folder: Path, clock: Clock) -> Slot:
    name = container["name"]
    slot = Slot(spec=container, kind=kind, state=ContainerState(), folder=folder / "containers" / name)
    status = known.get(name)
    if status is None or not status.get("containerID"):
        return slot
    state = slot.state
    state.restart_count = int(status.get("restartCount") or 0)
    state.image_id = status.get("imageID") or ""
    state.container_id = status["containerID"]
    slot.attempt = state.restart_count + 1
    current = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    if ended := current.get("terminated"):
        state.ended = _ended(ended, status["containerID"], clock)
        state.last = _ended(last, "", clock) if last else None
    elif running := current.get("running"):
        started = parse_rfc3339(running["startedAt"]) if running.get("startedAt") else clock.wall()
        state.ended = Ended(status["containerID"], 137, "Error", started, clock.wall())
    elif last:
        state.ended = _ended(last, status["containerID"], clock)
    return slot


def add_ephemeral(slots: dict[str, Slot], pod: Object, folder: Path) -> None:
    """Slots for ephemeral containers that have been added to the pod since (kubectl debug)."""
    for container in pod["spec"].get("ephemeralContainers") or []:
        name = container["name"]
        if name not in slots:
            slots[name] = Slot(container, "ephemeral", ContainerState(), folder / "containers" / name)


def _ended(record: Object, container_id: str, clock: Clock) -> Ended:
    def moment(field: str) -> float:
        return parse_rfc3339(record[field]) if record.get(field) else clock.wall()

    return Ended(
        record.get("containerID") or container_id, int(record.get("exitCode") or 0), record.get("reason") or "",
        moment("startedAt"), moment("finishedAt"), record.get("message") or "",
    )  # fmt: skip

"""The resize of one pod, from what its spec asks to what the kernel has: grants, conditions, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atoll.cluster.nodes.process import resize
from atoll.cluster.nodes.process.podresources import pod_totals
from atoll.cluster.nodes.process.resize import ResizeState

if TYPE_CHECKING:
    from atoll.cluster.nodes.process.worker import PodWorker

Object = dict[str, Any]
_AGAIN_SECONDS = 3.0


class PodResize:
    """Belongs to one PodWorker, whose containers it looks at in each pass."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._state = ResizeState()
        worker.context.granted[worker.uid] = self._requests()

    def conditions(self) -> dict[str, tuple[str, str]]:
        return self._state.conditions()

    def look(self) -> float | None:
        """Grant and carry out what the spec asks anew; seconds until it is to be tried again."""
        worker, state = self._worker, self._state
        asked = resize.asked_for(worker.pod, worker.slots)
        if asked:
            others = [item for uid, item in worker.context.granted.items() if uid != worker.uid]
            refused = resize.refusal(worker.pod, worker.context.allocatable, others)
            if refused is not None and refused != state.pending:
                worker.pod_event("Warning", f"Resize{refused[0]}", f"Pod resize {refused[0]}: {refused[1]}")
            state.pending = refused
            if refused is None:
                state.in_progress = ("", "")
                worker.pod_event("Normal", "ResizeStarted", "Pod resize started")
                self._grant(asked)
        else:
            state.pending = None
        if state.in_progress is not None:
            waits = resize.actuate(worker.pod, worker.slots, worker.space)
            state.in_progress = waits or ("", "")
            if waits is None and not any(slot.state.restart for slot in worker.slots.values()):
                state.in_progress = None
                worker.pod_event("Normal", "ResizeCompleted", "Pod resize completed")
        waiting = state.in_progress is not None or (state.pending is not None and state.pending[0] == "Deferred")
        return _AGAIN_SECONDS if waiting else None

    def _requests(self) -> dict[str, str]:
        worker = self._worker
        found: dict[str, str] = pod_totals(worker.pod["spec"], resize.granted(worker.pod, worker.slots))["requests"]
        return found

    def _grant(self, asked: dict[str, Object]) -> None:
        worker = self._worker
        for name, resources in asked.items():
            slot = worker.slots[name]
            anew = resize.needs_restart(slot.spec, slot.resources, resources)
            slot.state.allocated = resources
            if anew:
                worker.restart(slot, f"Container {name} resize requires restart")
        worker.context.granted[worker.uid] = self._requests()
        worker.context.admission.resized(worker.pod)

"""The table of pods."""

from __future__ import annotations

from atoll.base.clock import parse_rfc3339
from atoll.cluster.apiserver.tables.cells import Cells, Object, Printer, age, columns, condition_true, duration, name

_MESSAGES = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def _row_conditions(pod: Object) -> list[Object]:
    phase = (pod.get("status") or {}).get("phase", "")
    if phase not in _MESSAGES:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _MESSAGES[phase]}]


class _Restarts:
    """Restarts of containers and when the last was."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def add(self, container: Object) -> None:
        self.count += container.get("restartCount", 0)
        terminated = (container.get("lastState") or {}).get("terminated")
        if terminated and terminated.get("finishedAt"):
            self.last = max(self.last, parse_rfc3339(terminated["finishedAt"]))

    def text(self, now: float) -> str:
        if self.count and self.last:
            return f"{self.count} ({duration(now - self.last)} ago)"
        return str(self.count)


def _ended(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _initializing(pod: Object, restarts: _Restarts, sidecars: _Restarts) -> tuple[str | None, int]:
    """(why init is not over, or None; how many sidecars are ready)."""
    init = {item["name"]: item for item in pod["spec"].get("initContainers") or ()}
    ready = 0
    for index, container in enumerate(pod["status"].get("initContainerStatuses") or ()):
        restarts.add(container)
        restartable = init.get(container.get("name"), {}).get("restartPolicy") == "Always"
        if restartable:
            sidecars.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated and terminated.get("exitCode", 0) == 0:
            continue
        if restartable and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated:
            return "Init:" + _ended(terminated), ready
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return "Init:" + waiting["reason"], ready
        return f"Init:{index}/{len(init)}", ready
    return None, ready


def _running(pod: Object, reason: str, restarts: _Restarts) -> tuple[str, int]:
    """(the reason that the containers give, how many are ready)."""
    ready, has_running, failed = 0, False, ""
    for container in reversed(pod["status"].get("containerStatuses") or ()):
        restarts.add(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            reason = _ended(terminated)
            if terminated.get("exitCode", 0):
                failed = reason
        elif container.get("ready") and state.get("running") is not None:
            has_running = True
            ready += 1
    if reason == "Completed":
        if has_running and condition_true(pod, "Ready"):
            reason = "Running"
        elif failed:
            reason = failed
        elif has_running:
            reason = "NotReady"
    return reason, ready


def _status(pod: Object, reason: str) -> str:
    """What deletion makes of the reason."""
    if "deletionTimestamp" not in pod["metadata"]:
        return reason
    if pod["status"].get("reason") == "NodeLost":
        return "Unknown"
    return reason if pod["status"].get("phase") in ("Succeeded", "Failed") else "Terminating"


def _gates(pod: Object) -> str:
    gates = pod["spec"].get("readinessGates") or ()
    if not gates:
        return "<none>"
    return f"{sum(condition_true(pod, gate['conditionType']) for gate in gates)}/{len(gates)}"


def _cells(pod: Object, now: float) -> Cells:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    pod = {**pod, "spec": spec, "status": status}
    reason = status.get("reason") or status.get("phase") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    init = spec.get("initContainers") or ()
    total = len(spec.get("containers") or ()) + sum(item.get("restartPolicy") == "Always" for item in init)
    restarts, sidecars = _Restarts(), _Restarts()
    initializing, ready = _initializing(pod, restarts, sidecars)
    if initializing is not None:
        reason = initializing
    if initializing is None or condition_true(pod, "Initialized"):
        restarts = sidecars
        reason, more = _running(pod, reason, restarts)
        ready += more
    ips = status.get("podIPs") or ()
    return [
        name(pod), f"{ready}/{total}", _status(pod, reason), restarts.text(now), age(pod, now),
        ips[0].get("ip") if ips else "<none>", spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>", _gates(pod),
    ]  # fmt: skip


PODS = Printer(
    columns("Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*"), _cells, _row_conditions
)

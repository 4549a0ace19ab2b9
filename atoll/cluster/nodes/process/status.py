"""A pod's status from what its containers are doing: pure, with kubelet's rules for phase and conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.base.clock import rfc3339

Object = dict[str, Any]
RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
OWNED_CONDITIONS = (
    "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", *RESIZE_CONDITIONS,
)  # fmt: skip
UNKNOWN_TERMINATED = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


@dataclass(slots=True)
class Ended:
    """One finished run of a container."""

    container_id: str
    exit_code: int
    reason: str
    started_at: float
    finished_at: float
    message: str = ""

    def to_object(self) -> Object:
        out: Object = {"exitCode": self.exit_code, "reason": self.reason}
        if self.message:
            out["message"] = self.message
        out["startedAt"] = rfc3339(self.started_at) if self.started_at else None
        out["finishedAt"] = rfc3339(self.finished_at) if self.finished_at else None
        if self.container_id:
            out["containerID"] = self.container_id
        return out


@dataclass(slots=True)
class ContainerState:
    """What is known of a container: at most one of running, ended, waiting is its present state."""

    image_id: str = ""
    container_id: str = ""
    restart_count: int = 0
    running_since: float | None = None
    ended: Ended | None = None
    waiting: tuple[str, str] | None = None  # reason, message; shown while it isn't running
    last: Ended | None = None
    started: bool = False  # runs, postStart is done and the startup probe has succeeded
    ready: bool = False
    restart: bool = False  # stopped to be started anew, whatever the restart policy says
    allocated: Object | None = None  # resources granted to it
    actual: Object | None = None  # resources of the present run


@dataclass(slots=True)
class PodFacts:
    """What the node knows of a pod besides its containers."""

    host_ip: str = ""
    pod_ip: str = ""
    started_at: float | None = None
    sandbox_ready: bool = False
    terminal: bool = False  # nothing runs and nothing will be started again
    reason: str = ""
    message: str = ""
    failed: bool = False  # evicted, over its deadline, or rejected
    states: Mapping[str, ContainerState] = field(default_factory=dict)
    resize: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # condition → reason, message
    devices: Mapping[str, list[Object]] = field(default_factory=dict)  # container → its allocatedResourcesStatus


def is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def container_status(container: Object, state: ContainerState, *, kind: str, terminal: bool) -> Object:
    """One entry of containerStatuses. `kind`: init, sidecar, app or ephemeral."""
    current: Object
    if state.running_since is not None:
        current = {"running": {"startedAt": rfc3339(state.running_since)}}
    elif state.waiting is not None and not (terminal and state.ended):
        reason, message = state.waiting
        current = {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
        if terminal:
            current = {"terminated": {**UNKNOWN_TERMINATED, "startedAt": None, "finishedAt": None}}
    elif state.ended is not None:
        current = {"terminated": state.ended.to_object()}
    else:
        current = {"waiting": {"reason": "ContainerCreating"}}
    last = state.ended if state.running_since is not None or "waiting" in current else None
    last = last or state.last
    finished_well = "terminated" in current and current["terminated"]["exitCode"] == 0
    ready = finished_well if kind == "init" else state.running_since is not None and state.ready
    return {
        **_as_granted(container, state),
        "name": container["name"],
        "state": current,
        "lastState": {"terminated": last.to_object()} if last else {},
        "ready": ready,
        "restartCount": state.restart_count,
        "image": container.get("image", ""),
        "imageID": state.image_id,
        **({"containerID": state.container_id} if state.container_id else {}),
        "started": state.running_since is not None and state.started,
    }


def _as_granted(container: Object, state: ContainerState) -> Object:
    """Resources and mounts, as kubelet reports them."""
    out: Object = {}
    if state.running_since is not None:
        resources = state.actual if state.actual is not None else container.get("resources") or {}
        out["resources"] = {key: resources[key] for key in ("limits", "requests") if key in resources}
        granted = state.allocated if state.allocated is not None else container.get("resources") or {}
        if granted.get("requests"):
            out["allocatedResources"] = granted["requests"]
    mounts = []
    for mount in container.get("volumeMounts") or []:
        shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            shown |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
        mounts.append(shown)
    if mounts:
        out["volumeMounts"] = mounts
    return out


def pod_phase(spec: Object, statuses: Mapping[str, Object], *, terminal: bool) -> str:
    """Pending, Running, Succeeded or Failed (upstream's getPhase)."""
    pending_init = failed_init = 0
    policy = spec.get("restartPolicy", "Always")
    for container in spec.get("initContainers") or []:
        status = statuses.get(container["name"], {})
        current = status.get("state", {})
        if is_sidecar(container):
            if not status.get("started") and not (status.get("lastState") or {}).get("terminated"):
                pending_init += 1
            continue
        ended = current.get("terminated") or (status.get("lastState") or {}).get("terminated")
        if "running" in current or ended is None:
            pending_init += 1
        elif ended["exitCode"] != 0:
            if policy == "Never":
                failed_init += 1
            else:
                pending_init += 1
    waiting = running = stopped = succeeded = unknown = 0
    for container in spec["containers"]:
        current = statuses.get(container["name"], {}).get("state", {})
        if "running" in current:
            running += 1
        elif "terminated" in current:
            stopped += 1
            succeeded += current["terminated"]["exitCode"] == 0
        elif (statuses.get(container["name"], {}).get("lastState") or {}).get("terminated"):
            stopped += 1
        elif "waiting" in current:
            waiting += 1
        else:
            unknown += 1
    if failed_init and policy == "Never":
        return "Failed"
    if pending_init and not terminal and not running:
        return "Pending"
    if waiting:
        return "Pending"
    if running and not unknown:
        return "Running"
    if stopped and not unknown:
        if terminal:
            return "Succeeded" if stopped == succeeded else "Failed"
        if policy == "Always":
            return "Running"
        if stopped == succeeded:
            return "Succeeded"
        return "Failed" if policy == "Never" else "Running"
    return "Pending"


def _shown(names: Sequence[str]) -> str:
    return "[" + " ".join(names) + "]"


def _containers_ready(spec: Object, statuses: Mapping[str, Object], phase: str) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return "False", "PodCompleted", ""
    if phase == "Failed":
        return "False", "PodFailed", ""
    names = [item["name"] for item in spec.get("initContainers") or [] if is_sidecar(item)]
    names += [item["name"] for item in spec["containers"]]
    unready = [name for name in names if not statuses[name]["ready"]]
    if unready:
        return "False", "ContainersNotReady", f"containers with unready status: {_shown(unready)}"
    return "True", "", ""


def _ready(
    spec: Object, containers_ready: tuple[str, str, str], conditions: Mapping[str, Object]
) -> tuple[str, str, str]:
    if containers_ready[0] != "True":
        return containers_ready
    messages = []
    for gate in spec.get("readinessGates") or []:
        kind = gate["conditionType"]
        found = conditions.get(kind)
        if found is None:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif found["status"] != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {found["status"]}')
    return ("False", "ReadinessGatesNotReady", ", ".join(messages)) if messages else ("True", "", "")


def _initialized(spec: Object, statuses: Mapping[str, Object], phase: str) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return "True", "PodCompleted", ""
    for container in spec["containers"]:
        status = statuses[container["name"]]
        if "running" in status["state"] or (status["lastState"] or {}).get("terminated"):
            return "True", "", ""
    incomplete = [
        item["name"]
        for item in spec.get("initContainers") or []
        if not statuses[item["name"]]["started" if is_sidecar(item) else "ready"]
    ]
    if incomplete:
        return "False", "ContainersNotInitialized", f"containers with incomplete status: {_shown(incomplete)}"
    return "True", "", ""


def _statuses(spec: Object, facts: PodFacts) -> tuple[dict[str, Object], dict[str, Object]]:
    """Of init and of app containers, by name."""
    init: dict[str, Object] = {}
    app: dict[str, Object] = {}
    # what was never reached keeps waiting: a pod that fell over its init containers did not lose the others
    lost = facts.terminal and _past_init(spec, facts.states)
    touched = _touched(spec, facts.states) if facts.terminal else set()
    for container in spec.get("initContainers") or []:
        kind = "sidecar" if is_sidecar(container) else "init"
        state = facts.states[container["name"]]
        reached = facts.terminal and container["name"] in touched
        init[container["name"]] = container_status(container, state, kind=kind, terminal=reached)
    for container in spec["containers"]:
        state = facts.states[container["name"]]
        app[container["name"]] = container_status(container, state, kind="app", terminal=lost)
    for name, devices in facts.devices.items():
        (init if name in init else app)[name]["allocatedResourcesStatus"] = devices
    return init, app


def pod_status(pod: Object, facts: PodFacts, now: float) -> Object:
    """The status that this node would have the pod show, conditions of others left out."""
    spec, old = pod["spec"], pod.get("status") or {}
    init, app = _statuses(spec, facts)
    ephemeral = [
        container_status(container, facts.states[container["name"]], kind="ephemeral", terminal=facts.terminal)
        for container in spec.get("ephemeralContainers") or []
    ]
    statuses = {**init, **app}
    phase = "Failed" if facts.failed else pod_phase(spec, statuses, terminal=facts.terminal)
    if old.get("phase") in ("Succeeded", "Failed"):
        phase = old["phase"]
    elif facts.terminal and phase in ("Pending", "Running"):
        phase = "Failed"
    found = {item["type"]: item for item in old.get("conditions") or []}
    containers_ready = _containers_ready(spec, statuses, phase)
    values = {
        "PodReadyToStartContainers": ("True" if facts.sandbox_ready else "False", "", ""),
        "Initialized": _initialized(spec, statuses, phase),
        "Ready": _ready(spec, containers_ready, found),
        "ContainersReady": containers_ready,
        "PodScheduled": ("True", "", ""),
    }
    resizing = {kind: ("True", *value) for kind, value in facts.resize.items()}
    generation = pod["metadata"].get("generation")
    out: Object = {
        "phase": phase,
        "conditions": [
            _condition(kind, value, found.get(kind), generation, now) for kind, value in (values | resizing).items()
        ],
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "containerStatuses": list(app.values()),
    }
    if generation is not None:
        out["observedGeneration"] = generation
    if init:
        out["initContainerStatuses"] = list(init.values())
    if ephemeral:
        out["ephemeralContainerStatuses"] = ephemeral
    if facts.started_at is not None:
        out["startTime"] = rfc3339(facts.started_at)
    if facts.pod_ip:
        out["podIP"] = facts.pod_ip
        out["podIPs"] = [{"ip": facts.pod_ip}]
    if facts.reason:
        out["reason"] = facts.reason
    if facts.message:
        out["message"] = facts.message
    return out


def _touched(spec: Object, states: Mapping[str, ContainerState]) -> set[str]:
    """Init containers up to the last one that was ever started."""
    names = [container["name"] for container in spec.get("initContainers") or []]
    while names and not states[names[-1]].container_id:
        names.pop()
    return set(names)


def _past_init(spec: Object, states: Mapping[str, ContainerState]) -> bool:
    for container in spec.get("initContainers") or []:
        ended = states[container["name"]].ended
        if not is_sidecar(container) and (ended is None or ended.exit_code != 0):
            return False
    return True


def _condition(
    kind: str, value: tuple[str, str, str], old: Object | None, generation: int | None, now: float
) -> Object:
    status, reason, message = value
    changed = old is None or old.get("status") != status
    moment = rfc3339(now) if changed or old is None else old.get("lastTransitionTime")
    out: Object = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": moment}
    if generation is not None:
        out["observedGeneration"] = generation
    # null removes what an earlier write of ours left in the merged entry
    out["reason"] = reason or None
    out["message"] = message or None
    return out

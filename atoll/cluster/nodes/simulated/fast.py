"""The default stages, written out in Python: what `data/*.yaml` beside this file says, a hundred times as fast.

A node becomes Ready; a pod becomes Running and Ready; a Job's pod then succeeds; a pod that is being deleted goes.
tests/unit/test_simulated_fast.py holds them to the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atoll.base.errors import AtollError
from atoll.client.port import STRATEGIC_PATCH
from atoll.cluster.nodes.simulated.functions import NodeFunctions, PodFunctions
from atoll.cluster.nodes.simulated.model import CONDITIONS, FAILED_ANNOTATION, node_info
from atoll.cluster.nodes.stages.model import DeleteStep, Functions, PatchStep, Stage, Step

Object = dict[str, Any]

ADMISSION_ERROR = "UnexpectedAdmissionError"  # kubelet's reason where a device manager has not what was promised
_CONDITIONS = ("Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers")
HOLD_ANNOTATION = "atoll.dev/run-seconds"  # on a Job's pod: how long it runs (default: not at all)


class _Fast:
    immediate = False
    name = ""

    def weight(self, obj: Object) -> int | None:
        return 0

    def delay(self, obj: Object, wall: float) -> tuple[float, float] | None:
        return None


class PodReady(_Fast):
    """Pending and bound → Running and Ready."""

    name = "pod-ready"

    def __init__(self) -> None:
        self._alike: tuple[list[Any], list[Object], list[Object]] | None = None

    def matches(self, obj: Object) -> bool:
        if "deletionTimestamp" in obj["metadata"]:
            return False
        status = obj.get("status") or {}
        if status.get("phase") != "Pending":
            return False
        return all(
            item.get("status") != "True" for item in status.get("conditions") or () if item.get("type") == "Ready"
        )

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        assert isinstance(functions, PodFunctions)
        now = functions.now()
        spec, metadata = obj["spec"], obj["metadata"]
        try:
            devices = functions.devices(obj)
        except AtollError as error:
            failed = {"phase": "Failed", "reason": ADMISSION_ERROR, "message": error.message, "startTime": now}
            return (PatchStep(STRATEGIC_PATCH, {"status": failed}, "status"),)
        conditions, containers = self._shared(spec, now)
        status: Object = {
            "conditions": conditions,
            "containerStatuses": [_with_devices(item, devices) for item in containers] if devices else containers,
            "phase": "Running",
            "startTime": now,
        }
        if spec.get("readinessGates"):
            gates = [gate["conditionType"] for gate in spec["readinessGates"]]
            status["conditions"] = [*conditions, *_true(gates, now)]
        if spec.get("initContainers"):
            running = {"running": {"startedAt": now}}
            done = {"terminated": {"exitCode": 0, "finishedAt": now, "startedAt": now, "reason": "Completed"}}
            status["initContainerStatuses"] = [
                _with_devices(_container(item, running, True), devices)
                if item.get("restartPolicy") == "Always"
                else _container(item, done, False)
                for item in spec["initContainers"]
            ]
        host = functions.node_addresses(spec["nodeName"])
        if host:
            status |= {"hostIP": host[0], "hostIPs": [{"ip": address} for address in host]}
        own = functions.pod_addresses(spec["nodeName"], bool(spec.get("hostNetwork")), metadata.get("uid") or "")
        if own:
            status |= {"podIP": own[0], "podIPs": [{"ip": address} for address in own]}
        return (PatchStep(STRATEGIC_PATCH, {"status": status}, "status"),)

    def _shared(self, spec: Object, now: str) -> tuple[list[Object], list[Object]]:
        """Conditions and container statuses: those of the last pod where it had such containers in that second."""
        alike = [now, *((item["name"], item.get("image")) for item in spec["containers"])]
        found = self._alike
        if found is None or found[0] != alike:
            running = {"running": {"startedAt": now}}
            statuses = [_container(item, running, True) for item in spec["containers"]]
            found = self._alike = (alike, _true(_CONDITIONS, now), statuses)
        return found[1], found[2]


class PodComplete(_Fast):
    """A running pod of a Job → Succeeded."""

    name = "pod-complete"

    def __init__(self, saved: Callable[[Object], float] = lambda pod: 0.0) -> None:
        self._saved = saved

    def matches(self, obj: Object) -> bool:
        metadata = obj["metadata"]
        owners = metadata.get("ownerReferences")
        if not owners or "deletionTimestamp" in metadata:
            return False
        return (obj.get("status") or {}).get("phase") == "Running" and any(item["kind"] == "Job" for item in owners)

    def delay(self, obj: Object, wall: float) -> tuple[float, float] | None:
        text = (obj["metadata"].get("annotations") or {}).get(HOLD_ANNOTATION)
        try:
            seconds = float(text) if text else 0.0
        except ValueError:
            seconds = 0.0
        seconds = max(0.0, seconds - self._saved(obj)) if seconds > 0 else 0.0
        return (seconds, seconds) if seconds > 0 else None

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        assert isinstance(functions, PodFunctions)
        return (_ended(obj, functions.now(), "Succeeded", 0, "Completed"),)


class PodStop(_Fast):
    """A running pod that is being deleted, and that somebody will look at before it goes → Failed, as kubelets do.

    A Job with a failure policy replaces such a pod no sooner.
    """

    name = "pod-stop"

    def weight(self, obj: Object) -> int | None:
        return 1  # before pod-delete

    def matches(self, obj: Object) -> bool:
        metadata = obj["metadata"]
        if "deletionTimestamp" not in metadata or not metadata.get("finalizers"):
            return False
        return (obj.get("status") or {}).get("phase") == "Running"

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        assert isinstance(functions, PodFunctions)
        return (_ended(obj, functions.now(), "Failed", 143, "Error"), DeleteStep())


class PodDelete(_Fast):
    """A pod that is being deleted → gone."""

    name = "pod-delete"

    def matches(self, obj: Object) -> bool:
        return "deletionTimestamp" in obj["metadata"]

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        return (DeleteStep(),)


class NodeInitialize(_Fast):
    """A node that is not Ready → Ready, with what it did not say filled in."""

    name = "node-initialize"

    def matches(self, obj: Object) -> bool:
        if FAILED_ANNOTATION in (obj["metadata"].get("annotations") or {}):
            return False
        for item in (obj.get("status") or {}).get("conditions") or ():
            if item.get("type") == "Ready" and item.get("status") == "True":
                return False
        return True

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        assert isinstance(functions, NodeFunctions)
        now, status = functions.now(), obj.get("status") or {}
        name = obj["metadata"]["name"]
        changed = obj["metadata"].get("creationTimestamp") or now
        known = {item["type"] for item in status.get("addresses") or ()}
        missing = [("InternalIP", functions.address(name)), ("Hostname", name)]
        plenty = {"cpu": "1k", "memory": "1Ti", "pods": "1M"}
        patch: Object = {
            "conditions": [
                {
                    "type": kind,
                    "status": value,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": changed,
                }
                for kind, value, reason, message in CONDITIONS
            ],
            "allocatable": status.get("allocatable") or plenty,
            "capacity": status.get("capacity") or plenty,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": functions.port}},
            "phase": "Running",
            "nodeInfo": {key: (status.get("nodeInfo") or {}).get(key) or value for key, value in node_info().items()},
        }
        added = [{"type": kind, "address": address} for kind, address in missing if kind not in known]
        if added:
            patch["addresses"] = [*(status.get("addresses") or ()), *added]
        return (PatchStep(STRATEGIC_PATCH, {"status": patch}, "status"),)


class NodeFail(_Fast):
    """A node annotated `atoll.dev/not-ready: MESSAGE` → not Ready, for that reason."""

    name = "node-fail"

    def matches(self, obj: Object) -> bool:
        if FAILED_ANNOTATION not in (obj["metadata"].get("annotations") or {}):
            return False
        return all(
            item.get("status") != "False"
            for item in (obj.get("status") or {}).get("conditions") or ()
            if item.get("type") == "Ready"
        )

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        assert isinstance(functions, NodeFunctions)
        now = functions.now()
        ready = {
            "type": "Ready",
            "status": "False",
            "reason": "KubeletNotReady",
            "message": obj["metadata"]["annotations"][FAILED_ANNOTATION],
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        return (PatchStep(STRATEGIC_PATCH, {"status": {"conditions": [ready]}}, "status"),)


def pod_stages(saved: Callable[[Object], float]) -> tuple[Stage, ...]:
    """`saved(pod)`: seconds of its work that are in a checkpoint, from which it resumes."""
    return (PodReady(), PodComplete(saved), PodStop(), PodDelete())


POD_STAGES = pod_stages(lambda pod: 0.0)
NODE_STAGES = (NodeInitialize(), NodeFail())


def _true(kinds: Sequence[str], now: str) -> list[Object]:
    return [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]


def _with_devices(status: Object, devices: Mapping[str, list[Object]]) -> Object:
    allotted = devices.get(status["name"])
    return {**status, "allocatedResourcesStatus": allotted} if allotted else status


def _ended(pod: Object, now: str, phase: str, code: int, reason: str) -> PatchStep:
    started = pod["status"].get("startTime") or now
    done = {"terminated": {"exitCode": code, "finishedAt": now, "startedAt": started, "reason": reason}}
    why = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    conditions = [
        {"type": kind, "status": "False", "reason": why, "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady")
    ]
    containers = [_container(item, done, False) | {"ready": False} for item in pod["spec"]["containers"]]
    patch = {"phase": phase, "containerStatuses": containers, "conditions": conditions}
    return PatchStep(STRATEGIC_PATCH, {"status": patch}, "status")


def _container(container: Object, state: Object, started: bool) -> Object:
    return {
        "name": container["name"],
        "image": container.get("image") or "",
        "imageID": f"simulated://{container.get('image') or ''}",
        "containerID": f"simulated://{container['name']}",
        "ready": True,
        "restartCount": 0,
        "started": started,
        "state": state,
    }

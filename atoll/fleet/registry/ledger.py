"""What is free in a member, kept current from watches. Of a pod only its node and its requests are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.base import quantity
from atoll.fleet.model import NodeRoom
from atoll.kinds.builtin import NODES, PODS
from atoll.runtime.informer import Informers
from atoll.scheduling.resources import CPU, amounts, pod_requests
from atoll.scheduling.resources import PODS as POD_COUNT

Object = dict[str, Any]
_FINISHED = ("Succeeded", "Failed")


def slim_pod(pod: Object) -> Object:
    """A pod as the ledger needs it."""
    metadata, spec = pod["metadata"], pod["spec"]
    kept = {key: metadata[key] for key in ("namespace", "name", "resourceVersion")}
    return {
        "metadata": kept,
        "node": spec.get("nodeName") or "",
        "finished": (pod.get("status") or {}).get("phase") in _FINISHED,
        "requests": pod_requests(spec),
    }


def slim_node(node: Object) -> Object:
    """A node without images, addresses and heartbeat times."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    kept = {key: metadata[key] for key in ("name", "labels", "resourceVersion") if key in metadata}
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ())
    taints = list(spec.get("taints") or ())
    if spec.get("unschedulable") and not any(item["key"] == "node.kubernetes.io/unschedulable" for item in taints):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return {
        "metadata": kept,
        "taints": tuple(taints),
        "ready": ready,
        "allocatable": amounts(status.get("allocatable") or status.get("capacity")),
    }


class Ledger:
    """Nodes, what is used on each, and what waits; `changed` is called when any of it changed."""

    def __init__(self, informers: Informers, changed: Callable[[], None]) -> None:
        self._nodes = informers.of(NODES, transform=slim_node)
        self._pods = informers.of(PODS, transform=slim_pod)
        self._used: dict[str, dict[str, int]] = {}
        self._counted: dict[tuple[str, str], Object] = {}
        self._changed = changed
        self._rooms: tuple[NodeRoom, ...] | None = None
        self._pods.add_handler(self._on_pod)
        self._nodes.add_handler(self._on_node)

    @property
    def synced(self) -> bool:
        return self._nodes.synced.is_set() and self._pods.synced.is_set()

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        assert pod is not None
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        counted = self._counted.pop(key, None)  # not `old`: a deletion brings the last state, which was never counted
        if new is not None and counted is not None and counted["node"] == new["node"] and not new["finished"]:
            self._counted[key] = counted
            return
        if counted is not None:
            self._count(counted, -1)
        if new is not None and not new["finished"]:
            self._counted[key] = new
            self._count(new, 1)
        self._rooms = None
        self._changed()

    def _count(self, pod: Object, sign: int) -> None:
        used = self._used.setdefault(pod["node"], {})
        for resource, value in pod["requests"].items():
            used[resource] = used.get(resource, 0) + sign * value
        used[POD_COUNT] = used.get(POD_COUNT, 0) + sign

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            keys = ("taints", "ready", "allocatable")
            same_labels = old["metadata"].get("labels") == new["metadata"].get("labels")
            if same_labels and all(old[key] == new[key] for key in keys):
                return
        self._rooms = None
        self._changed()

    def rooms(self) -> tuple[NodeRoom, ...] | None:
        """Free room per ready node, less what pods without a node ask for; None till all has been read."""
        if not self.synced:
            return None
        if self._rooms is None:
            self._rooms = _rooms(list(self._nodes), self._used)
        return self._rooms

    def waiting(self) -> dict[str, int]:
        """What pods without a node ask for, their number included."""
        return self._used.get("", {})

    def node_summary(self) -> Object:
        return {"totalNum": len(self._nodes), "readyNum": sum(1 for node in self._nodes if node["ready"])}

    def resource_summary(self) -> Object:
        """Cluster.status.resourceSummary: allocatable of the nodes, allocated to pods on them, asked for by others."""
        allocatable: dict[str, int] = {}
        for node in self._nodes:
            if node["ready"]:
                for key, value in node["allocatable"].items():
                    allocatable[key] = allocatable.get(key, 0) + value
        allocated: dict[str, int] = {}
        for name, used in self._used.items():
            if name:
                for key, value in used.items():
                    allocated[key] = allocated.get(key, 0) + value
        waiting = self._used.get("", {})
        return {
            "allocatable": _texts(allocatable),
            "allocated": _texts({key: value for key, value in allocated.items() if value}),
            "allocating": _texts({key: value for key, value in waiting.items() if value}),
        }


def _rooms(nodes: list[Object], used: dict[str, dict[str, int]]) -> tuple[NodeRoom, ...]:
    found = []
    for node in nodes:
        if node["ready"]:
            name = node["metadata"]["name"]
            taken = used.get(name, {})
            free = {key: value - taken.get(key, 0) for key, value in node["allocatable"].items()}
            found.append(NodeRoom(free, node["metadata"].get("labels") or {}, node["taints"], name))
    return tuple(found)


def room_of(nodes: list[Object], pods: list[Object]) -> tuple[NodeRoom, ...]:
    """Free room per ready node, from slim nodes and pods."""
    used: dict[str, dict[str, int]] = {}
    for pod in pods:
        if not pod["finished"]:
            taken = used.setdefault(pod["node"], {})
            for resource, value in pod["requests"].items():
                taken[resource] = taken.get(resource, 0) + value
            taken[POD_COUNT] = taken.get(POD_COUNT, 0) + 1
    return _rooms(nodes, used)


def _texts(found: dict[str, int]) -> dict[str, str]:
    out = {}
    for key, value in sorted(found.items()):
        if key == CPU:
            out[key] = quantity.from_milli(value)
        elif key in ("memory", "ephemeral-storage") or key.startswith("hugepages-"):
            out[key] = quantity.from_units_binary(value)
        else:
            out[key] = str(value)
    return out

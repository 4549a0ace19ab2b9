"""What nodes have room for, kept from watches of nodes and pods: read by topology-aware scheduling only.

A node is usable while it is Ready and schedulable. What pods of others use is taken off; pods that were placed by
topology are not, since their workloads hold the leaves. Of nodes that did not change what was computed is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from atoll.base import quantity
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.read import amount_in_units
from atoll.capacity.queueing.topology import NodeRoom
from atoll.kinds import kueue
from atoll.kinds.builtin import NODES, PODS
from atoll.objects.meta import condition, labels
from atoll.objects.pod_resources import pod_requests

_OVER = ("Succeeded", "Failed")


class Rooms:
    """`changed()` is called when what `rooms` says may be another."""

    def __init__(self, parts: Parts, changed: Callable[[], None]) -> None:
        of = parts.informers.of
        self._nodes, self._pods = of(NODES), of(PODS)
        self._changed = changed
        self._held: Held = {}
        self._known: dict[str, tuple[Object, NodeRoom]] = {}
        self.dirty = True
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)

    async def synced(self) -> None:
        for informer in (self._nodes, self._pods):
            await informer.synced.wait()

    def rooms(self) -> tuple[NodeRoom, ...]:
        """As it is now."""
        self.dirty = False
        known, self._known = self._known, {}
        for node in self._nodes:
            name = node["metadata"]["name"]
            seen = known.get(name)
            if seen is None or seen[0] is not node:
                seen = node, _room(node, self._held.get(name, {}))
            self._known[name] = seen
        return tuple(room for _, room in self._known.values())

    def _tell(self) -> None:
        if not self.dirty:
            self.dirty = True
            self._changed()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _matters(old) != _matters(new):
            self._tell()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        if _hold(self._held, pod, gone=new is None):
            self._known.pop(pod["spec"]["nodeName"], None)
            self._tell()


Held = dict[str, dict[str, dict[str, int]]]
"""node → pod's uid → what it asks for."""


def rooms_of(nodes: Iterable[Object], pods: Iterable[Object]) -> tuple[NodeRoom, ...]:
    """The same from lists."""
    held: Held = {}
    for pod in pods:
        _hold(held, pod, gone=False)
    return tuple(_room(node, held.get(node["metadata"]["name"], {})) for node in nodes)


def _hold(held: Held, pod: Object, *, gone: bool) -> bool:
    """Take note of a pod; whether that changes anything."""
    node, uid = (pod.get("spec") or {}).get("nodeName"), pod["metadata"]["uid"]
    if not node or labels(pod).get(kueue.TOPOLOGY_LABEL):
        return False
    on_node = held.setdefault(node, {})
    if gone or (pod.get("status") or {}).get("phase") in _OVER:
        return on_node.pop(uid, None) is not None
    if uid in on_node:
        return False
    on_node[uid] = {**{name: amount_in_units(name, nano) for name, nano in pod_requests(pod).items()}, "pods": 1}
    return True


def _room(node: Object, held: dict[str, dict[str, int]]) -> NodeRoom:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    free = {resource: _units(resource, text) for resource, text in allocatable.items()}
    for asked in held.values():
        for resource, amount in asked.items():
            free[resource] = free.get(resource, 0) - amount
    taints = tuple((node.get("spec") or {}).get("taints") or ())
    return NodeRoom(node["metadata"]["name"], labels(node), taints, free, _usable(node))


def _units(resource: str, text: str) -> int:
    """Rounded down: what there is."""
    nano = quantity.parse(text)
    return int(nano // (1_000_000 if resource == "cpu" else quantity.NANO))


def _usable(node: Object) -> bool:
    ready = (condition(node, "Ready") or {}).get("status") == "True"
    return ready and not (node.get("spec") or {}).get("unschedulable")


def _matters(node: Object) -> object:
    allocatable = (node.get("status") or {}).get("allocatable")
    return labels(node), (node.get("spec") or {}).get("taints"), allocatable, _usable(node)

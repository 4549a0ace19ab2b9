"""What if: pods on nodes that are there, and on some that are not, decided by the scheduling core's own filters. Pure.

Everything that the scheduler looks at counts: requests, selectors, taints, ports, affinity between pods, topology
spread, volumes, devices by claims. Nodes that are there, and their pods, are taken in only where they can matter: where
pods look at others by a topology that is wider than a node, or where they are what is asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.base.chance import Chance
from atoll.capacity.autoscale.devices import DeviceView
from atoll.capacity.autoscale.model import Object
from atoll.capacity.nodes import is_over
from atoll.objects.resource_claims import pod_claims
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.dra.needs import DevicePlan
from atoll.scheduling.dra.state import assume_plan
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import HOSTNAME, PodInfo


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The whole cluster: what affinity, topology spread and volumes are about; `daemons`: its DaemonSets."""

    nodes: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    namespaces: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    volumes: Sequence[Object] = ()
    classes: Sequence[Object] = ()
    daemons: Sequence[Object] = ()
    devices: DeviceView = field(default_factory=DeviceView)


class Trial:
    """Nodes to which pods may be given; the first of those that fit is taken."""

    def __init__(self, around: Surroundings) -> None:
        self._planner = Planner(Chance(0), selectors=around.devices.selectors)
        self._order: dict[str, int] = {}
        self._slices: dict[str, list[str]] = {}
        for space in around.namespaces:
            metadata = space["metadata"]
            self._planner.state.templates.set_namespace(metadata["name"], metadata.get("labels") or {})
        found = self._planner.volumes
        found.claims.update({(it["metadata"]["namespace"], it["metadata"]["name"]): it for it in around.claims})
        found.volumes.update({it["metadata"]["name"]: it for it in around.volumes})
        found.classes.update({it["metadata"]["name"]: it for it in around.classes})
        found.changed()
        devices = self._planner.devices
        for item in around.devices.classes:
            devices.set_class(item, item["metadata"]["name"])
        for item in around.devices.claims:
            devices.set_claim(item, None)

    def publish(self, slices: Iterable[Object], node: str = "") -> None:
        """Devices, of one node or (by default) of several."""
        for item in slices:
            name = item["metadata"]["name"]
            self._planner.devices.set_slice(item, name)
            self._slices.setdefault(node, []).append(name)

    def stands_for(self, resource: str) -> bool:
        """Whether devices may stand for an extended resource."""
        return resource in self._planner.devices.by_resource

    def take_in(self, nodes: Iterable[Object], pods: Iterable[Object], but: Collection[str] = ()) -> None:
        """Nodes that are there, without `but`, and what runs on them. They come before those that are added later."""
        for node in nodes:
            if node["metadata"]["name"] not in but:
                self.add(node)
        for pod in pods:
            name = (pod.get("spec") or {}).get("nodeName")
            if name and name not in but and not is_over(pod):
                self.settle(pod, name)

    def settle(self, pod: Object, name: str) -> None:
        """A pod that is on a node, whether or not it fits."""
        self._planner.state.place(self._info(pod), name)

    def add(self, node: Object) -> None:
        """One more node; without pods unless they were taken in."""
        self._order[node["metadata"]["name"]] = len(self._order)
        self._planner.state.set_node(node)

    def drop(self, name: str) -> None:
        """A node to which no pod was given."""
        del self._order[name]
        self._planner.state.remove_node(name)
        for item in self._slices.pop(name, ()):
            self._planner.devices.set_slice(None, item)

    def put(self, pod: Object) -> str | None:
        """Give the pod to the first node that it fits; None where there is none."""
        info = self._info(pod)
        evaluation = self._planner.evaluation(info) if self._order else None
        if evaluation is None:
            return None
        nodes, only = self._planner.nodes, info.template.only_nodes
        fitting = [nodes.names[row] for row in evaluation.feasible().nonzero()[0].tolist()]
        allowed = [name for name in fitting if name in self._order and (only is None or name in only)]
        name = min(allowed, key=self._order.__getitem__, default=None)
        if name is None or self._give(info, name):
            return name
        others = sorted(set(allowed) - {name}, key=self._order.__getitem__)
        return next((it for it in others if self._give(info, it)), None)

    def lacks(self, pod: Object) -> str:
        """What is wrong with the pod's claims, wherever it goes; "" for nothing."""
        info = self._info(pod)
        return self._planner.devices.needs(pod, info.template.requests).error

    def _give(self, info: PodInfo, name: str) -> bool:
        """Put it there, with the devices of its claims."""
        try:
            plan = self._planner.chosen(info, name).devices
        except AllocationError:
            return False
        self._planner.assume(info, name)
        if plan is not None:
            self._allocate(info, plan)
        return True

    def _allocate(self, info: PodInfo, plan: DevicePlan) -> None:
        devices = self._planner.devices
        assume_plan(devices, plan, info.uid)
        for item in plan.claims:
            if item.claim is not None and item.allocation is not None:  # whoever shares the claim goes where it is
                status = {**(item.claim.get("status") or {}), "allocation": item.allocation}
                devices.set_claim({**item.claim, "status": status}, item.claim)

    def _info(self, pod: Object) -> PodInfo:
        return self._planner.pod(pod)


def asks_for_devices(pods: Iterable[Object]) -> bool:
    """Whether one of them has claims."""
    return any(pod_claims(pod) for pod in pods)


def looks_around(pods: Iterable[Object]) -> bool:
    """Whether where one of them may go depends on pods of other nodes: zones, racks, spread over nodes."""
    return any(_wide(pod.get("spec") or {}) for pod in pods)


def _wide(spec: Object) -> bool:
    if any(it.get("whenUnsatisfiable") != "ScheduleAnyway" for it in spec.get("topologySpreadConstraints") or ()):
        return True
    affinity = spec.get("affinity") or {}
    near, apart = (_required(affinity.get(kind) or {}) for kind in ("podAffinity", "podAntiAffinity"))
    return bool(near) or any(term.get("topologyKey") != HOSTNAME for term in apart)


def keeps_others_away(pods: Iterable[Object]) -> bool:
    """Whether one of them refuses others by a topology that is wider than its node."""
    for pod in pods:
        apart = ((pod.get("spec") or {}).get("affinity") or {}).get("podAntiAffinity")
        if apart and any(term.get("topologyKey") != HOSTNAME for term in _required(apart)):
            return True
    return False


def _required(affinity: dict[str, Any]) -> list[Any]:
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []

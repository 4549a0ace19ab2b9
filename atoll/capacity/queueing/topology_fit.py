"""Topology in the decision: which leaves are given out, and where an assignment's pods would go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from atoll.capacity.queueing.model import Flavor, PodSet, PodSetAssignment, Workload
from atoll.capacity.queueing.topology import (
    NodeRoom,
    Shape,
    TopologyAssignment,
    TopologyRequest,
    Values,
    place_pods,
)  # fmt: skip

Leaves = dict[Values, dict[str, int]]


class Given:
    """What admitted workloads hold of the leaves, by the topology's levels. `version` changes with it."""

    def __init__(self) -> None:
        self.version = 0
        self._leaves: dict[tuple[str, ...], Leaves] = {}

    def add(self, workload: Workload) -> None:
        self._change(workload, 1)

    def remove(self, workload: Workload) -> None:
        self._change(workload, -1)

    def of(self, levels: tuple[str, ...]) -> Leaves:
        return self._leaves.get(levels, {})

    def without(self, levels: tuple[str, ...], workloads: Iterable[Workload]) -> Leaves:
        """As it would be once these are gone."""
        left = {values: dict(amounts) for values, amounts in self.of(levels).items()}
        for workload in workloads:
            for topology, requests in _placed(workload):
                if topology.levels == levels:
                    take(left, topology, requests, -1)
        return left

    def _change(self, workload: Workload, sign: int) -> None:
        for topology, requests in _placed(workload):
            self.version += 1
            take(self._leaves.setdefault(topology.levels, {}), topology, requests, sign)


def take(leaves: Leaves, topology: TopologyAssignment, requests: Mapping[str, int], sign: int) -> None:
    """Add (or with -1 remove) the pods of an assignment, each of which asks for `requests`."""
    for values, count in topology.domains:
        leaf = leaves.setdefault(values, {})
        for name, amount in {**requests, "pods": 1}.items():
            leaf[name] = leaf.get(name, 0) + sign * amount * count


def _placed(workload: Workload) -> list[tuple[TopologyAssignment, Mapping[str, int]]]:
    if workload.admission is None:
        return []
    requests = {pods.name: pods.requests for pods in workload.shape.pod_sets}
    return [
        (item.topology, requests.get(item.name, {}))
        for item in workload.admission.pod_sets
        if item.topology is not None
    ]


def with_topology(
    pod_sets: Iterable[PodSet], assigned: Iterable[PodSetAssignment], flavors: Mapping[str, Flavor],
    topologies: Mapping[str, tuple[str, ...]], rooms: Iterable[NodeRoom], given: Given, gone: Iterable[Workload],
) -> list[PodSetAssignment] | str:  # fmt: skip
    """The assignments with the places of those pod sets whose flavour has a Topology; or why there are none."""
    rooms, gone = list(rooms), list(gone)
    leaves: dict[tuple[str, ...], Leaves] = {}
    found: list[PodSetAssignment] = []
    for pods, item in zip(pod_sets, assigned, strict=True):
        names = {flavors[name].topology for name in item.flavors.values() if flavors[name].topology}
        if not names:
            found.append(item)
            continue
        if len(names) > 1:
            return f"pod set {pods.name} would get flavors of several topologies: {', '.join(sorted(names))}"
        (name,) = names
        levels = topologies[name]
        used = leaves.setdefault(levels, given.without(levels, gone))
        chosen = [flavors[flavor] for flavor in dict.fromkeys(item.flavors.values())]
        shape = _shape(pods, chosen)
        places = place_pods(name, levels, rooms, used, shape, item.count, pods.topology or TopologyRequest())
        if isinstance(places, str):
            return places
        take(used, places, pods.requests, 1)
        found.append(replace(item, topology=places))
    return found


def _shape(pods: PodSet, flavors: Iterable[Flavor]) -> Shape:
    spec = pods.template.get("spec") or {}
    selector, tolerations = dict(spec.get("nodeSelector") or {}), list(spec.get("tolerations") or ())
    for flavor in flavors:
        selector.update(flavor.labels)
        tolerations += flavor.tolerations
    return Shape(pods.requests, selector, tuple(tolerations))

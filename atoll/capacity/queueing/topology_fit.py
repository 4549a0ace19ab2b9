"""Topology in the decision: which leaves are given out, and where a workload's pods would go. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from atoll.capacity.queueing.domains import Ledger, Nodes, Rows, Shape
from atoll.capacity.queueing.model import Flavor, PodSet, PodSetAssignment, Workload
from atoll.capacity.queueing.places import Ask, mistake, place
from atoll.capacity.queueing.topology import NodeRoom, NoRoom, TopologyAssignment, TopologyRequest, leaf_levels

Levels = tuple[str, ...]
Placed = tuple[TopologyAssignment, Mapping[str, int]]
"""Of one pod set, and what one pod asks for."""


class Given:
    """The nodes, and what admitted workloads hold of their leaves. `version` changes with either."""

    def __init__(self) -> None:
        self.version = 0
        self._rows: defaultdict[Levels, Rows] = defaultdict(dict)
        self.nodes = Nodes((), self._rows)
        self._ledgers: dict[Levels, Ledger] = {}

    def set_nodes(self, rooms: tuple[NodeRoom, ...]) -> None:
        self.version += 1
        self.nodes = Nodes(rooms, self._rows)

    def clear(self) -> None:
        """Nobody holds anything."""
        self.version += 1
        self._ledgers.clear()

    def add(self, placed: Iterable[Placed]) -> None:
        self._change(placed, 1)

    def remove(self, placed: Iterable[Placed]) -> None:
        self._change(placed, -1)

    def _change(self, placed: Iterable[Placed], sign: int) -> None:
        for topology, requests in placed:
            self.version += 1
            self.ledger(topology.levels).take(topology, requests, sign)

    def ledger(self, levels: Levels) -> Ledger:
        """Of the levels by which leaves are known."""
        found = self._ledgers.get(levels)
        if found is None:
            found = self._ledgers[levels] = Ledger(self._rows[levels])
        return found


def placed(pod_sets: Iterable[PodSet], assigned: Iterable[PodSetAssignment]) -> list[Placed]:
    """Those of them that have places."""
    requests = {pods.name: pods.requests for pods in pod_sets}
    return [(item.topology, requests.get(item.name, {})) for item in assigned if item.topology is not None]


def placed_of(workload: Workload) -> list[Placed]:
    return [] if workload.admission is None else placed(workload.shape.pod_sets, workload.admission.pod_sets)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """The pod sets that found no place, their flavours with a topology, and why."""

    names: tuple[str, ...]
    flavors: frozenset[str]
    why: NoRoom


class Places:
    """A workload's pods and their flavours: whether they find places, while others are taken away and put back."""

    def __init__(
        self, given: Given, pod_sets: Iterable[PodSet], assigned: Iterable[PodSetAssignment],
        flavors: Mapping[str, Flavor], topologies: Mapping[str, Levels],
    ) -> None:  # fmt: skip
        self._given = given
        self._assigned = list(assigned)
        self._units = units_of(pod_sets, self._assigned, flavors, topologies)
        self._ledgers: dict[Levels, Ledger] = {}

    def __bool__(self) -> bool:
        """Whether anything is to be placed."""
        return bool(self._units)

    def remove(self, workload: Workload) -> None:
        """Try it without this one."""
        self._change(workload, -1)

    def add(self, workload: Workload) -> None:
        """Take that back."""
        self._change(workload, 1)

    def _change(self, workload: Workload, sign: int) -> None:
        for topology, requests in placed_of(workload):
            self._trial(topology.levels).take(topology, requests, sign)

    def _trial(self, levels: Levels) -> Ledger:
        found = self._ledgers.get(levels)
        if found is None:
            found = self._ledgers[levels] = self._given.ledger(levels).copy()
        return found

    def find(self) -> list[PodSetAssignment] | Unplaced:
        """The assignments with their places, as things stand; or which of them find none."""
        found = list(self._assigned)
        taken: list[Placed] = []
        problem: Unplaced | None = None
        for unit in self._units:
            places = unit.place(self._given.nodes, self._trial(leaf_levels(unit.levels)))
            if isinstance(places, NoRoom):
                problem = Unplaced(tuple(pods.name for pods, _ in unit.pod_sets), unit.flavors, places)
                break
            for (pods, index), topology in zip(unit.pod_sets, places, strict=True):
                found[index] = replace(found[index], topology=topology)
                taken.append((topology, pods.requests))
        for topology, requests in taken:
            self._trial(topology.levels).take(topology, requests, -1)
        return problem or found


@dataclass(frozen=True, slots=True)
class Unit:
    """Pod sets that share a domain (mostly one), each with its index; `counts`: their pods."""

    topology: str
    levels: Levels
    pod_sets: list[tuple[PodSet, int]]
    counts: list[int]
    shapes: list[Shape]
    flavors: frozenset[str]
    mixed: str = ""  # the topologies of its flavours, if they are several

    def place(self, nodes: Nodes, ledger: Ledger) -> list[TopologyAssignment] | NoRoom:
        if self.mixed:
            return NoRoom(f"pod set {self.pod_sets[0][0].name} would get flavors of several topologies: {self.mixed}")
        for (pods, _), count in zip(self.pod_sets, self.counts, strict=True):
            wrong = mistake(self.topology, self.levels, _request(pods), count)
            if wrong is not None:
                return wrong
        return place(self.topology, self.asks(nodes, self.counts), ledger)

    def asks(self, nodes: Nodes, counts: Iterable[int]) -> list[Ask]:
        return [
            Ask(nodes.domains(self.levels, shape), count, pods.requests, _request(pods))
            for (pods, _), shape, count in zip(self.pod_sets, self.shapes, counts, strict=True)
        ]


def _request(pods: PodSet) -> TopologyRequest:
    return pods.topology or TopologyRequest()


def units_of(
    pod_sets: Iterable[PodSet], assigned: Iterable[PodSetAssignment], flavors: Mapping[str, Flavor],
    topologies: Mapping[str, Levels],
) -> list[Unit]:  # fmt: skip
    """Those whose flavours have a topology. A pod set without pods has no places."""
    units: dict[str, Unit] = {}
    for index, (pods, item) in enumerate(zip(pod_sets, assigned, strict=True)):
        chosen = [flavors[name] for name in dict.fromkeys(item.flavors.values()) if name in flavors]
        names = sorted({flavor.topology for flavor in chosen if flavor.topology})
        if not names or item.count == 0:
            continue
        name = f"group/{pods.topology.group}" if pods.topology and pods.topology.group else f"set/{pods.name}"
        mixed = ", ".join(names) if len(names) > 1 else ""
        of = frozenset(flavor.name for flavor in chosen if flavor.topology)
        unit = units.setdefault(name, Unit(names[0], topologies[names[0]], [], [], [], of, mixed))
        unit.pod_sets.append((pods, index))
        unit.counts.append(item.count)
        unit.shapes.append(_shape(pods, chosen))
    return list(units.values())


def _shape(pods: PodSet, flavors: Iterable[Flavor]) -> Shape:
    spec = pods.template.get("spec") or {}
    selector, tolerations = dict(spec.get("nodeSelector") or {}), list(spec.get("tolerations") or ())
    for flavor in flavors:
        selector.update(flavor.labels)
        tolerations += flavor.tolerations
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return Shape(pods.requests, selector, tuple(tolerations), required)

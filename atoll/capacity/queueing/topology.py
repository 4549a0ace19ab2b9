"""Which racks and hosts a pod set gets: topology-aware scheduling (Kueue KEP 2724), decided beside quota. Pure.

A Topology names node labels from wide to narrow; the values of all of them make a leaf, whose room is what its nodes
have left. `required`: all pods in one domain of that level, the one with the least room that will do; `preferred`: the
same, else one level wider, else over as few domains as can be; without either as if the narrowest were preferred.
Further down the domains are as few as can be too, the last one the tightest. Slices: groups of `slice_size` pods, none
of which is spread over two domains of the slice's level.

Not done: preemption for the sake of a domain (only for quota), leader and workers in one domain, replacement of nodes
that fail. Where the narrowest level is wider than a host, room is summed over a leaf's nodes, as upstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atoll.scheduling.gang import fewest_domains
from atoll.scheduling.matching import tolerates

Values = tuple[str, ...]
"""Of all levels, from wide to narrow."""


@dataclass(frozen=True, slots=True)
class TopologyRequest:
    """spec.podSets[].topologyRequest; "" where it does not say."""

    required: str = ""
    preferred: str = ""
    slice_level: str = ""
    slice_size: int = 1


@dataclass(frozen=True, slots=True)
class TopologyAssignment:
    """How many pods each leaf gets, in the order of the leaves' values: ranks follow it."""

    levels: tuple[str, ...]
    domains: tuple[tuple[Values, int], ...]


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A schedulable node: `free` is what pods that are not placed by topology leave of it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    free: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides where pods may go: requests of one pod, labels and taints that they look for."""

    requests: Mapping[str, int]
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()


Usage = Mapping[Values, Mapping[str, int]]
"""What is given out already, by leaf."""


def place_pods(
    name: str, levels: Sequence[str], nodes: Iterable[NodeRoom], used: Usage, shape: Shape, count: int,
    request: TopologyRequest,
) -> TopologyAssignment | str:  # fmt: skip
    """Where `count` pods go; or why they can't, in upstream's words. `name`: of the Topology."""
    for level in (request.required, request.preferred, request.slice_level):
        if level and level not in levels:
            return f'topology "{name}" has no level {level}; it has: {", ".join(levels)}'
    if count % request.slice_size:
        return f"{count} pods can't be divided into slices of {request.slice_size}"
    rooms = _rooms(levels, nodes, used, shape)
    tree = _Tree(levels, rooms, request)
    start = tree.start(count)
    if isinstance(start, int):
        fits = f"allows to fit only {start} out of {count} pod(s)" if start else f"doesn't allow to fit any of {count}"
        return f'topology "{name}" {fits if start else fits + " pod(s)"}'
    found = tree.descend(*start)
    return TopologyAssignment(tuple(levels), tuple(sorted(found.items())))


def _rooms(levels: Sequence[str], nodes: Iterable[NodeRoom], used: Usage, shape: Shape) -> dict[Values, int]:
    """How many pods each leaf has room for."""
    free: dict[Values, dict[str, int]] = {}
    wanted = {**shape.requests, "pods": 1}
    for node in nodes:
        values = tuple(node.labels.get(level, "") for level in levels)
        if not all(values) or not _may_go(shape, node):
            continue
        leaf = free.setdefault(values, {})
        for resource in wanted:
            leaf[resource] = leaf.get(resource, 0) + node.free.get(resource, 0)
    rooms = {}
    for values, leaf in free.items():
        taken = used.get(values, {})
        rooms[values] = max(
            0,
            min((leaf[name] - taken.get(name, 0)) // amount for name, amount in wanted.items() if amount > 0),
        )
    return rooms


def _may_go(shape: Shape, node: NodeRoom) -> bool:
    if any(node.labels.get(key) != value for key, value in shape.selector.items()):
        return False
    return all(
        taint["effect"] == "PreferNoSchedule" or any(tolerates(dict(item), dict(taint)) for item in shape.tolerations)
        for taint in node.taints
    )


class _Tree:
    """Domains of all levels with their room: above (and at) the slices' level only whole slices count."""

    def __init__(self, levels: Sequence[str], rooms: Mapping[Values, int], request: TopologyRequest) -> None:
        self._depth = len(levels)
        self._request = request
        self._levels = list(levels)
        sliced = levels.index(request.slice_level) + 1 if request.slice_level else self._depth
        self._room: dict[Values, int] = {(): 0}
        self._below: dict[Values, list[Values]] = {}
        size = request.slice_size
        raw: dict[Values, int] = {}
        for values, room in rooms.items():
            for depth in range(self._depth + 1):
                raw[values[:depth]] = raw.get(values[:depth], 0) + room
        for values in sorted(raw):
            if values:
                self._below.setdefault(values[:-1], []).append(values)
            if len(values) >= sliced:
                whole = raw[values] // size * size if len(values) == sliced else raw[values]
                self._room[values] = whole
                if len(values) == sliced:
                    for depth in range(sliced):
                        self._room[values[:depth]] = self._room.get(values[:depth], 0) + whole

    def start(self, count: int) -> tuple[list[tuple[Values, int]], int] | int:
        """([(domain, pods)], their depth) to go down from; or how many pods would fit at most."""
        wanted = self._request.required or self._request.preferred
        first = self._levels.index(wanted) + 1 if wanted else self._depth
        last = first if self._request.required else 1
        for depth in range(first, last - 1, -1):
            fitting = [values for values in self._at(depth) if self._room[values] >= count]
            if fitting and depth:
                return [(min(fitting, key=lambda values: (self._room[values], values)), count)], depth
        if self._request.required:
            return max((self._room[values] for values in self._at(first)), default=0)
        if self._room[()] < count:
            return self._room[()]
        return [((), count)], 0

    def _at(self, depth: int) -> list[Values]:
        return [values for values in self._room if len(values) == depth]

    def descend(self, parts: list[tuple[Values, int]], depth: int) -> dict[Values, int]:
        """Down to the leaves, over as few domains of each level as will do."""
        for _ in range(depth, self._depth):
            narrower: list[tuple[Values, int]] = []
            for values, number in parts:
                below = self._below[values]
                sums = np.array([self._room[child] for child in below], np.int64)
                narrower += [(below[index], share) for index, share in fewest_domains(sums, number) if share]
            parts = narrower
        return dict(parts)

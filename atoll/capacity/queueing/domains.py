"""Nodes as domains of a topology, and what is held of them: arrays by leaf, so that a trial costs little. Pure.

Leaves stand in the order of their values, so the domains of each level are ranges of leaves. Room is summed over a
leaf's nodes where the narrowest level is wider than a host, as upstream.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from atoll.capacity.queueing.topology import HOSTNAME, NodeRoom, TopologyAssignment, Values, leaf_levels
from atoll.scheduling.matching import NodeSelector, tolerates

Ints = npt.NDArray[np.int64]
_MUCH = 2**60  # more of anything counts as this much: what is told of nodes and pods may be any number

Rows = dict[Values, int]
"""A number for each leaf; it only grows, so that ledgers and domains of one set of levels share it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides where pods may go: requests of one pod, labels and taints that they look for."""

    requests: Mapping[str, int]
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    affinity: Mapping[str, Any] | None = None  # the required node affinity

    @property
    def where(self) -> bytes:
        """All but the requests."""
        return orjson.dumps([self.selector, self.tolerations, self.affinity], option=orjson.OPT_SORT_KEYS)


class Ledger:
    """What is held of the leaves, by resource."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._amounts: dict[str, Ints] = {}

    def copy(self) -> Ledger:
        """For trials."""
        twin = Ledger(self._rows)
        twin._amounts = {name: amounts.copy() for name, amounts in self._amounts.items()}
        return twin

    def take(self, found: TopologyAssignment, requests: Mapping[str, int], sign: int = 1) -> None:
        """The pods of an assignment, each of which asks for `requests` (-1: they give it back)."""
        rows = [self._rows.setdefault(values, len(self._rows)) for values, _ in found.domains]
        for name, amount in {**requests, "pods": 1}.items():
            amounts = self._of(name)
            for row, (_, count) in zip(rows, found.domains, strict=True):
                amounts[row] += sign * min(amount * count, _MUCH)

    def _of(self, resource: str) -> Ints:
        """Long enough for all rows."""
        amounts = self._amounts.get(resource)
        if amounts is None or len(amounts) < len(self._rows):
            fresh = np.zeros(2 * len(self._rows) + 1, np.int64)
            if amounts is not None:
                fresh[: len(amounts)] = amounts
            amounts = self._amounts[resource] = fresh
        return amounts

    def held(self, resource: str, rows: Ints) -> Ints:
        return self._of(resource)[rows]


class Domains:
    """Leaves that pods may use. `starts[d]`: the first leaf of each domain of depth d (0: the whole)."""

    def __init__(self, levels: tuple[str, ...], nodes: Iterable[NodeRoom], rows: Rows) -> None:
        self.levels = levels
        found: dict[Values, list[NodeRoom]] = {}
        for node in nodes:
            found.setdefault(tuple(node.labels[level] for level in levels), []).append(node)
        self.values = sorted(found)
        self._nodes = [found[values] for values in self.values]
        by_host = leaf_levels(levels) != levels
        self.leaves: list[Values] = [values[-1:] if by_host else values for values in self.values]
        self.rows = np.array([rows.setdefault(leaf, len(rows)) for leaf in self.leaves], np.int64)
        self.starts = [_starts(self.values, depth) for depth in range(len(levels) + 1)]
        self._free: dict[str, Ints] = {}

    def free(self, resource: str) -> Ints:
        """What the nodes have, by leaf; what is held of them is not taken off."""
        known = self._free.get(resource)
        if known is None:
            sums = [min(sum(node.free.get(resource, 0) for node in nodes), _MUCH) for nodes in self._nodes]
            known = self._free[resource] = np.array(sums, np.int64)
        return known

    def rooms(self, ledger: Ledger, requests: Mapping[str, int]) -> Ints:
        """How many pods each leaf has room for."""
        least = np.full(len(self.leaves), _MUCH, np.int64)
        for name, amount in {**requests, "pods": 1}.items():
            if amount > 0:
                np.minimum(least, (self.free(name) - ledger.held(name, self.rows)) // min(amount, _MUCH), out=least)
        return np.maximum(least, 0)

    def below(self, depth: int, domain: int) -> range:
        """The domains of the next depth within it."""
        starts, narrower = self.starts[depth], self.starts[depth + 1]
        end = int(starts[domain + 1]) if domain + 1 < len(starts) else len(self.leaves)
        return range(int(np.searchsorted(narrower, starts[domain])), int(np.searchsorted(narrower, end)))

    def name(self, depth: int, domain: int) -> Values:
        """The values of a domain."""
        return self.values[int(self.starts[depth][domain])][:depth]

    def find(self, name: Values) -> int | None:
        """The domain of that name; None where no leaf is in it."""
        leaf = bisect.bisect_left(self.values, name)
        if leaf == len(self.values) or self.values[leaf][: len(name)] != name:
            return None
        return int(np.searchsorted(self.starts[len(name)], leaf, side="right")) - 1


def _starts(values: Sequence[Values], depth: int) -> Ints:
    firsts = [i for i, own in enumerate(values) if i == 0 or own[:depth] != values[i - 1][:depth]]
    return np.array(firsts, np.int64)


class Nodes:
    """All nodes; their domains are remembered by topology and by where pods may go."""

    def __init__(self, rooms: tuple[NodeRoom, ...], rows: Mapping[tuple[str, ...], Rows]) -> None:
        """`rows` by leaf levels (a defaultdict that outlives the nodes)."""
        self.rooms = rooms
        self._rows = rows
        self._known: dict[tuple[tuple[str, ...], bytes], Domains] = {}
        self._hosts: dict[str, NodeRoom] = {}

    def domains(self, levels: tuple[str, ...], shape: Shape) -> Domains:
        name = levels, shape.where
        known = self._known.get(name)
        if known is None:
            may = _Filter(levels, shape)
            nodes = [node for node in self.rooms if node.usable and may.use(node)]
            known = self._known[name] = Domains(levels, nodes, self._rows[leaf_levels(levels)])
        return known

    def values_of(self, levels: tuple[str, ...], leaf: Values) -> Values | None:
        """All values of a host, which may be unusable now; None where no node has its name."""
        if not self._hosts:
            self._hosts.update((node.labels.get(HOSTNAME, ""), node) for node in self.rooms)
        node = self._hosts.get(leaf[-1])
        return None if node is None else tuple(node.labels.get(level, "") for level in levels)

    def host_of(self, name: str) -> str:
        """By which label value a node is known in topologies; its name where there is none."""
        return next((node.labels.get(HOSTNAME, name) for node in self.rooms if node.name == name), name)


class _Filter:
    """Whether a node may be used: labels of all levels, the pods' selector and affinity, taints."""

    def __init__(self, levels: tuple[str, ...], shape: Shape) -> None:
        self._levels = levels
        self._shape = shape
        self._affinity = NodeSelector(dict(shape.affinity)) if shape.affinity else None

    def use(self, node: NodeRoom) -> bool:
        labels = node.labels
        if not all(labels.get(level) for level in self._levels):
            return False
        if any(labels.get(key) != value for key, value in self._shape.selector.items()):
            return False
        if self._affinity is not None and not self._affinity(node.name, labels):
            return False
        return all(
            taint["effect"] == "PreferNoSchedule"
            or any(tolerates(dict(item), dict(taint)) for item in self._shape.tolerations)
            for taint in node.taints
        )

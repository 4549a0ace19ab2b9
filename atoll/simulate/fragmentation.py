"""How much of what is idle can't be used: GPUs that typical pods could not get, by node. Pure, vectorised.

After Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): a node's idle GPUs count as lost by the share of typical
pods that it can't host; typical pods are what the scenario's arrivals ask for, weighted by their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from atoll.base import quantity
from atoll.simulate.arrivals import Arrival
from atoll.simulate.layout import GPU_LABEL
from atoll.simulate.ledger import Node
from atoll.simulate.scenario.model import GPU

_MOST_TYPES = 64
_FIRST = ("cpu", "memory", GPU)
_ONE = 1_000_000_000


class Fragmentation:
    """Rows of free amounts, kept up to date; `share` is what is lost now."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        counts: dict[tuple[str, str, str, float, tuple[str, ...]], int] = {}
        for item in arrivals:
            if item.gpus:
                kind = (item.cpu, item.memory, item.resource, item.gpu_share, item.products)
                counts[kind] = counts.get(kind, 0) + item.pods
        self._resources = list(dict.fromkeys([*_FIRST, *(kind[2] for kind in counts)]))
        common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_TYPES]
        total = sum(count for _, count in common) or 1
        self._types = [
            (self._wanted(cpu, memory, resource, amount), set(products), count / total)
            for (cpu, memory, resource, amount, products), count in common
        ]
        self._row: dict[str, int] = {}
        self._had: dict[str, np.ndarray] = {}
        self._free = np.zeros((0, len(self._resources)))
        self._units = np.zeros((0, len(self._resources)))  # GPUs that one of each resource is
        self._usable = np.zeros(0, bool)
        self._model: list[str] = []

    def _wanted(self, cpu: str, memory: str, resource: str, amount: float) -> np.ndarray:
        found = np.zeros(len(self._resources))
        found[:2] = quantity.parse(cpu), quantity.parse(memory)
        found[self._resources.index(resource)] = amount * _ONE
        return found

    def node(self, name: str, node: Node | None) -> None:
        """A node came, changed or went."""
        row = self._row.get(name)
        if node is None:
            if row is not None:
                self._usable[row] = False
            return
        if row is None:
            row = self._row[name] = len(self._row)
            if row >= len(self._free):
                more = max(64, len(self._free))
                self._free = np.vstack([self._free, np.zeros((more, len(self._resources)))])
                self._units = np.vstack([self._units, np.zeros((more, len(self._resources)))])
                self._usable = np.concatenate([self._usable, np.zeros(more, bool)])
            self._model.append("")
        has = np.array([node.allocatable.get(resource, 0) for resource in self._resources], np.float64)
        self._free[row] += has - self._had.get(name, 0.0)
        self._had[name] = has
        self._units[row] = [node.units.get(resource, 0.0) for resource in self._resources]
        self._model[row] = node.labels.get(GPU_LABEL, "")
        self._usable[row] = node.ready and not node.unschedulable

    def take(self, name: str, requests: Mapping[str, int], sign: int) -> None:
        """A pod took (1) or gave back (-1) what it asked for."""
        row = self._row.get(name)
        if row is not None:
            for column, resource in enumerate(self._resources):
                self._free[row, column] -= sign * requests.get(resource, 0)

    def shares(self) -> tuple[float, float]:
        """GPUs that are idle on nodes that can be used, and those of them that typical pods can't get."""
        rows = np.flatnonzero(self._usable)
        free = self._free[rows]
        idle = (np.maximum(free, 0) * self._units[rows]).sum(axis=1) / _ONE
        total = float(idle.sum())
        if not total or not self._types:
            return total, 0.0
        models = np.array(self._model, dtype=object)[rows]
        lost = np.zeros(len(rows))
        for wanted, kinds, share in self._types:
            refuses = (free < wanted).any(axis=1)
            if kinds:
                refuses |= ~_among(models, kinds)
            lost += share * refuses
        return total, float((idle * lost).sum())


def _among(models: np.ndarray, kinds: Iterable[str]) -> np.ndarray:
    found = np.zeros(len(models), bool)
    for kind in sorted(kinds):
        found |= models == kind
    return found

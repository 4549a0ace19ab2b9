"""Counters of simulated GPUs: what they have used since they are first looked at, as the integral of their load.

A GPU's load is a function of who runs on it and of the time (`readings`). A meter keeps the load under which it was
turned last, and on its next turn adds up what that used meanwhile. So it is turned by whoever reads it, and where the
load changes: a pod that has come and gone between two looks is counted. After a restart counters begin at zero, as
those of a driver that was loaded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.base.clock import Clock
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.readings import Reading, Totals, readings

Object = dict[str, Any]
Load = Callable[[float], Sequence[Reading]]
"""What a node's GPUs measure at a wall time, as long as nothing on the node changes."""

_STEP_SECONDS, _MOST_STEPS = 15.0, 240


@dataclass(slots=True)
class _Used:
    """Of one GPU: joules, and bytes."""

    energy: float = 0.0
    sent: float = 0.0
    received: float = 0.0
    nvlink: float = 0.0

    def add(self, parts: Sequence[Reading], seconds: float) -> None:
        """`parts`: the GPU, or its MIG instances, which know the power of the whole."""
        self.energy += parts[0].power * seconds
        for activity in (part.activity for part in parts):
            if activity is not None:
                self.sent += activity.pcie_sent * seconds
                self.received += activity.pcie_received * seconds
                self.nvlink += activity.nvlink * seconds

    def totals(self) -> Totals:
        return Totals(
            int(self.energy * 1000), int(self.sent / 1000), int(self.received / 1000), int(self.nvlink / 1_000_000)
        )


class Meter:
    """Of one node's GPUs."""

    def __init__(self) -> None:
        self._used: dict[str, _Used] = {}  # by the GPU's UUID
        self._load: Load | None = None
        self._at = 0.0

    def turn(self, load: Load, wall: float) -> None:
        """Count until now, and go on under `load`."""
        if self._load is not None and wall > self._at:
            count = min(_MOST_STEPS, max(1, round((wall - self._at) / _STEP_SECONDS)))
            step = (wall - self._at) / count
            for number in range(count):
                self._count(self._load(self._at + (number + 0.5) * step), step)
        if self._load is None or wall > self._at:
            self._at = wall
        self._load = load

    def read(self, load: Load, wall: float) -> list[Reading]:
        """What is measured now, with what was used so far."""
        self.turn(load, wall)
        found = load(wall)
        return [replace(it, totals=self._used.setdefault(it.gpu.uuid, _Used()).totals()) for it in found]

    def _count(self, measured: Sequence[Reading], seconds: float) -> None:
        by_gpu: dict[str, list[Reading]] = {}
        for reading in measured:
            if not reading.lost:
                by_gpu.setdefault(reading.gpu.uuid, []).append(reading)
        for uuid, parts in by_gpu.items():
            self._used.setdefault(uuid, _Used()).add(parts, seconds)


class Meters:
    """Of a cluster's simulated nodes: each from the first look at it on."""

    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        self._inventory = inventory
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        inventory.pods.add_handler(self._pod_changed)
        inventory.nodes.add_handler(self._node_changed)

    def read(self, name: str) -> list[Reading]:
        """Of a node by its name."""
        return self._meters.setdefault(name, Meter()).read(self._load(name), self._clock.wall())

    def _load(self, name: str) -> Load:
        found = self._inventory.survey(name)
        pods, claimed = self._inventory.pods_on(name), self._inventory.claimed_devices(name, found)
        return lambda wall: readings(found, pods, wall, claimed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for name in {((pod or {}).get("spec") or {}).get("nodeName") for pod in (old, new)}:
            if name in self._meters:
                self._meters[name].turn(self._load(name), self._clock.wall())

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            self._meters.pop(name, None)
        elif name in self._meters:
            self._meters[name].turn(self._load(name), self._clock.wall())

"""The nodes' free amounts as arrays, and the distinct kinds of pods that are placed on them.

`Pool` changes by `take` alone. What depends on the devices of one node only, not on its CPU, is the same for all nodes
whose devices have the same amounts left; `Pool.devices_key` names that state, so that it is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.scheduling.devices.model import WHOLE, Machine, Request

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_DEVICE = -1
"""In `Pool.left`: the node has fewer devices than the array has columns. As a device: none was taken, or whole ones."""


class Kinds:
    """Distinct requests as columns, one entry a kind; `moves` are the distinct (count, milli) among them."""

    def __init__(self, requests: Sequence[Request], models: Sequence[str]) -> None:
        self.requests = list(dict.fromkeys(requests))
        self.index = {request: kind for kind, request in enumerate(self.requests)}
        self.cpu = _column([item.cpu_milli for item in self.requests])
        self.memory = _column([item.memory_mib for item in self.requests])
        self.gpu = _column([item.gpu_milli for item in self.requests])
        self.allowed: Bools = np.array([accepts(item, models) for item in self.requests], np.bool_)
        moves: dict[tuple[int, int], None] = {(item.count, item.milli): None for item in self.requests}
        self.moves = list(moves)
        self.move_count = _column([count for count, _ in moves])
        self.move_milli = _column([milli for _, milli in moves])
        places = {move: place for place, move in enumerate(self.moves)}
        self.move = _column([places[item.count, item.milli] for item in self.requests])

    def __len__(self) -> int:
        return len(self.requests)


def _column(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)


def accepts(request: Request, models: Sequence[str]) -> list[bool]:
    """Whether each of the models will do."""
    return [request.count == 0 or not request.models or model in request.models for model in models]


def could_host(machine: Machine, request: Request) -> bool:
    """Whether the empty node could; memory is not looked at."""
    enough = machine.devices >= request.count and machine.cpu_milli >= request.cpu_milli
    return enough and accepts(request, [machine.model])[0]


class Pool:
    """Free amounts per node (row)."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.machines = list(machines)
        self.models = sorted({machine.model for machine in machines})
        self.cpu = _column([machine.cpu_milli for machine in machines])
        self.memory = _column([machine.memory_mib for machine in machines])
        self.model = _column([self.models.index(machine.model) for machine in machines])
        self.count = _column([machine.devices for machine in machines])
        width = max([machine.devices for machine in machines], default=0)
        columns = np.arange(width, dtype=np.int64)
        self.left: Ints = np.where(columns < self.count[:, None], WHOLE, NO_DEVICE)
        self.idle: Ints = self.count * WHOLE

    def __len__(self) -> int:
        return len(self.machines)

    def devices_key(self, row: int) -> bytes:
        key: bytes = self.left[row].tobytes()
        return key

    def take(self, row: int, request: Request, devices: Sequence[int]) -> None:
        """Place a pod on these devices of a node."""
        self.cpu[row] -= request.cpu_milli
        self.memory[row] -= request.memory_mib
        for device in devices:
            self.left[row, device] -= request.milli
        self.idle[row] -= request.gpu_milli


def first_fitting(left: Ints, count: int, milli: int) -> list[int]:
    """The first `count` devices with so much left, by index."""
    fitting = [device for device, amount in enumerate(left.tolist()) if amount >= milli]
    return fitting[:count]


def least_left(left: Ints, count: int, milli: int) -> list[int]:
    """The `count` devices with the least left among those that fit; of equals the lowest index."""
    fitting = [(amount, device) for device, amount in enumerate(left.tolist()) if amount >= milli]
    return [device for _, device in sorted(fitting)[:count]]


def fits(left: Ints, count: Ints, milli: Ints) -> Bools:
    """For each move: have enough devices so much left?"""
    found: Bools = (left >= milli[:, None]).sum(axis=1, dtype=np.int64) >= count
    return found

"""The distinct kinds of pods that are placed on GPU nodes, as columns; and what fits on a node's devices."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Bools, Ints, np
from atoll.scheduling.devices.model import Request


class Kinds:
    """Distinct requests, one entry a kind; `moves` are the distinct (count, milli) among them."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = list(dict.fromkeys(requests))
        self.index = {request: kind for kind, request in enumerate(self.requests)}
        self.cpu = _column([item.cpu_milli for item in self.requests])
        self.gpu = _column([item.gpu_milli for item in self.requests])
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

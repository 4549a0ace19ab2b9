"""What a pod asks of a GPU node, and what a node has. Units: milli-CPU, MiB, thousandths of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WHOLE = 1000
"""The milli of one whole GPU."""
MOST_DEVICES = 63
"""Of one node."""


@dataclass(frozen=True, slots=True)
class Share:
    """`count` devices with `milli` free on each. `wrong`: why a pod's wish can't be read; it then fits nowhere.

    `memory`: bytes of each device; 0: as much of it as `milli` is of the whole.
    """

    count: int
    milli: int
    models: frozenset[str] = frozenset()
    """The GPU models that will do; empty: any."""
    wrong: str = ""
    memory: int = 0

    def takes(self, each: Any) -> Any:
        """Bytes of a device that has `each`; of numbers, or of an array of them."""
        return self.memory or each * self.milli // WHOLE


@dataclass(frozen=True, slots=True)
class Request:
    """`count` devices with `milli` free on each; count 0: a pod without GPU. Requests that are equal are one kind."""

    cpu_milli: int
    memory_mib: int
    count: int = 0
    milli: int = 0
    models: frozenset[str] = frozenset()
    """The GPU models that will do; empty: any."""

    @property
    def gpu_milli(self) -> int:
        return self.count * self.milli

    @property
    def shared(self) -> bool:
        """A part of one device, so that a device has to be chosen."""
        return self.count == 1 and self.milli < WHOLE


@dataclass(frozen=True, slots=True)
class Machine:
    """A node; `devices` whole GPUs of one model."""

    name: str
    cpu_milli: int
    memory_mib: int
    devices: int
    model: str

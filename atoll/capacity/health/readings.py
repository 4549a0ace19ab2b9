"""The port by which GPUs are read, and its implementation for simulated nodes.

The other one is `dcgm.py`. A reading is what is known now; where nothing is, it is None, and nobody takes that for
health or for a fault.
"""

from __future__ import annotations

from typing import Protocol

from atoll.capacity.health.model import GpuReading, NodeReading, Object
from atoll.capacity.nodes import gpu_count, is_simulated
from atoll.objects.gpu_faults import GpuFault, read_faults

_USUAL_CELSIUS = 45.0


class GpuReadings(Protocol):
    """Reads a node's GPUs."""

    async def read(self, node: Object) -> NodeReading | None:
        """None where there is no reading to be had. Raises nothing for a node that does not answer."""


class SimulatedReadings:
    """A function of the annotation atoll.dev/gpu-faults: no clock, no traffic."""

    async def read(self, node: Object) -> NodeReading | None:
        """None for a node that is not simulated, or whose annotation can't be read."""
        if not is_simulated(node):
            return None
        try:
            faults = read_faults(node)
        except ValueError:
            return None
        shown = [_read_gpu(index, faults) for index in range(gpu_count(node))]
        return NodeReading(tuple(gpu for gpu in shown if gpu is not None))


def _read_gpu(index: int, faults: tuple[GpuFault, ...]) -> GpuReading | None:
    own = [fault for fault in faults if fault.concerns(index)]
    if any(fault.kind == "lost" for fault in own):
        return None
    values = {fault.kind: fault.value for fault in own}
    return GpuReading(
        index,
        xid=values.get("xid", 0),
        celsius=float(values.get("thermal", _USUAL_CELSIUS)),
        uncorrected=values.get("ecc", 0),
        nvlink_errors=values.get("nvlink", 0),
    )


class FirstReadings:
    """The first implementation that knows a node."""

    def __init__(self, *readings: GpuReadings) -> None:
        self._readings = readings

    async def read(self, node: Object) -> NodeReading | None:
        for readings in self._readings:
            found = await readings.read(node)
            if found is not None:
                return found
        return None

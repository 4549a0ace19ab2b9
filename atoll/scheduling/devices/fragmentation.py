"""How much of a node's idle GPU a typical pod can't use: the fragmentation measure of the FGD paper.

Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): F(node) = Σ over typical pods, by their share, of

- all idle milli, where the node can't host the pod (CPU, GPU and model; memory is not looked at) or the pod wants none;
- else what is left on the devices that have less left than the pod wants of each.

With U(t) = what is left on devices that are large enough for type t, or 0 where too few are, this is
idle − Σ share(t)·[CPU suffices]·U(t). U depends on the devices alone and is remembered per state of the devices;
types of equal (count, milli, models) share one U, and how many of them a CPU amount suffices for is a table. Sums are
of whole numbers below 2^53 in floats, hence exact: scores that are truncated later must not depend on the order of
addition.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Floats, Ints, np
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import accepts
from atoll.scheduling.devices.model import Request
from atoll.scheduling.devices.typical import Mix


class Usable:
    """The part of idle GPU that weighted types can use: the product of a vector of the CPU with one of the devices."""

    def __init__(self, types: Sequence[Request], weights: Sequence[float], models: Sequence[str]) -> None:
        groups: dict[tuple[int, int, frozenset[str]], dict[int, float]] = {}
        for kind, weight in zip(types, weights, strict=True):
            if kind.count:
                group = groups.setdefault((kind.count, kind.milli, kind.models), {})
                group[kind.cpu_milli] = group.get(kind.cpu_milli, 0) + weight
        self._count = np.array([count for count, _, _ in groups], np.int64)
        self._milli = np.array([milli for _, milli, _ in groups], np.int64)
        self._steps = np.array(sorted({cpu for group in groups.values() for cpu in group}), np.int64)
        table = np.zeros((len(self._steps) + 1, len(groups)))
        for column, group in enumerate(groups.values()):
            for cpu, weight in group.items():
                table[int(np.searchsorted(self._steps, cpu)) + 1 :, column] += weight
        allowed = [accepts(Request(0, 0, *group), models) for group in groups]
        self._suffices = [table * [item[model] for item in allowed] for model in range(len(models))]

    @property
    def groups(self) -> int:
        return len(self._count)

    def of_cpu(self, model: int, cpu_milli: Ints | int) -> Floats:
        """For each amount of free CPU (may be below 0): per group the weight of the types that it suffices for."""
        found: Floats = self._suffices[model].take(self._steps.searchsorted(cpu_milli, "right"), axis=0)
        return found

    def of_devices(self, left: Ints) -> Floats:
        """For each line of amounts left per device: per group the milli on large enough devices, 0 where too few."""
        enough = left[:, :, None] >= self._milli
        usable = (left[:, :, None] * enough).sum(axis=1)
        return np.where(enough.sum(axis=1) >= self._count, usable, 0).astype(np.float64)


class Fragmentation:
    """F of nodes, in milli."""

    def __init__(self, gpus: Gpus, mix: Mix) -> None:
        self._gpus = gpus
        self._usable = Usable(mix.types, mix.counts, gpus.models)
        self._total = mix.total
        self._devices: dict[bytes, Floats] = {}

    def of(self, row: int) -> float:
        gpus = self._gpus
        key = gpus.devices_key(row)
        devices = self._devices.get(key)
        if devices is None:
            devices = self._devices[key] = self._usable.of_devices(gpus.left[row : row + 1])[0]
        usable = float(self._usable.of_cpu(int(gpus.model[row]), gpus.cpu(row)) @ devices)
        return float(gpus.idle[row]) - usable / self._total

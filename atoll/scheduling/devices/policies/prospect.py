"""Atoll's own policy: keep as many as possible of the pods that are to be expected placeable.

The worth of a node's state is what it could still host, averaged over the typical pods; a pod goes where the worth
falls least, down to the device. Four things are said differently from FGD, which asks only whether one more pod of a
type fits, and sums what is left on devices that are large enough (that sum is a part here, by USABLE):

- *How many* pods of a type fit, not whether one does: least of what the devices have room for and what the CPU suffices
  for, so the CPU that idle GPUs will need is kept beside them long before it runs out. Further pods on one device count
  less (RETURNS), as other types will take some of that room.
- The CPU is counted as a fraction, not by whole pods: a node near the edge is worth a little less already. Where many
  GPUs are idle a mix of pods will come, so a type's CPU per GPU is drawn towards the mix's mean (POOLING).
- Types weigh by how often they come more than by their size (SIZE): large pods are few, and to hold whole nodes for
  them costs more GPUs than they bring.

- A type that only some nodes could ever host (by model, number of GPUs, CPU) weighs the more, the fewer GPUs those
  have: what it loses, it can't find elsewhere.

docs/scheduling-openb.md has the reasons, what each part brings, and how it does on mixes other than the published.
"""

from __future__ import annotations

import numpy as np

from atoll.scheduling.devices.fragmentation import Usable
from atoll.scheduling.devices.model import WHOLE
from atoll.scheduling.devices.policies.potential import Potential, State
from atoll.scheduling.devices.pool import Floats, Ints, Kinds, Pool, accepts, could_host
from atoll.scheduling.devices.typical import Mix

COVERED_PERCENT = 99
"""How much of the pods the typical ones cover (FGD: 95)."""
RETURNS = 0.4
SIZE = -0.6
POOLING = 0.25
USABLE = 0.6
_STEPS = 1024  # of one milli: finer differences are ties


class Prospect(Potential):
    """`fleet`: the nodes that there are."""

    def __init__(self, kinds: Kinds, mix: Mix, fleet: Pool) -> None:
        super().__init__(kinds)
        found = [(item, count) for item, count in zip(mix.types, mix.counts, strict=True) if item.count]
        types, often = [item for item, _ in found], np.array([count for _, count in found], np.float64)
        self._count = np.array([item.count for item in types], np.int64)
        self._milli = np.array([item.milli for item in types], np.int64)
        self._cpu = np.array([item.cpu_milli for item in types], np.int64)
        gpus = self._count * self._milli / WHOLE
        asked = float((often * gpus).sum()) or 1.0
        self._mean_cpu = gpus * float((often * self._cpu).sum()) / asked  # at the mix's CPU per GPU
        self._own_cpu = self._cpu - self._mean_cpu
        allowed = np.array([accepts(item, fleet.models) for item in types], np.bool_).reshape(-1, len(fleet.models))
        supply = [sum(item.devices for item in fleet.machines if could_host(item, kind)) for kind in types]
        scarce = fleet.count.sum() / np.maximum(supply, 1)
        scale = WHOLE / (float((often * gpus ** (SIZE - 1)).sum()) or 1.0)
        self._weights = (scarce * often * gpus**SIZE * scale * allowed.T).astype(np.float64)
        self._usable = Usable(types, (scarce * often * (USABLE / mix.total)).tolist(), fleet.models)
        left = np.arange(WHOLE + 1)[:, None]
        fits = np.where(self._count == 1, (left // self._milli) ** RETURNS, left >= self._milli)
        self._one_device: Floats = np.concatenate((fits, 0 * fits[:1]))  # by the amount left; last: no device
        self._several = (self._count > 1).nonzero()[0]

    def tabulate(self, left: Ints) -> tuple[Floats, ...]:
        return self._room(left), self._usable.of_devices(left)

    def judge(self, state: State) -> Ints:
        trials, (room, usable) = state.trials, state.tables
        suffices = self._suffices(state.cpu, state.idle)
        weights = self._weights[state.model]
        hosted = np.minimum(room[trials.option], suffices[trials.place]) @ weights
        before = np.minimum(room[-1], suffices[-1]) @ weights
        counts = self._usable.of_cpu(state.model, state.cpu)
        served = np.einsum("pg,pg->p", counts[trials.place], usable[trials.option]) - counts[-1] @ usable[-1]
        change = hosted - before + served
        found: Ints = np.floor(change * _STEPS).astype(np.int64)
        return found

    def _room(self, left: Ints) -> Floats:
        """For each line of amounts left per device: how many pods of each type the devices take, with RETURNS."""
        room: Floats = self._one_device[left].sum(axis=1)
        room[:, self._several] //= self._count[self._several]
        return room

    def _suffices(self, cpu: Ints, idle: Ints) -> Floats:
        """For each state: for how many pods of each type its CPU suffices; 0 where not for one."""
        pooling = np.maximum(idle / WHOLE, 1.0) ** -POOLING
        need = self._own_cpu * pooling[:, None]
        need += self._mean_cpu + 1.0
        many: Floats = cpu[:, None] / need
        np.maximum(many, 1.0, out=many)
        many *= cpu[:, None] >= self._cpu
        return many

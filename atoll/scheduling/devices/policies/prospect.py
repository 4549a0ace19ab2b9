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

from atoll.scheduling.arrays import Floats, Ints, np
from atoll.scheduling.devices.fragmentation import Usable
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import Kinds, accepts
from atoll.scheduling.devices.model import WHOLE
from atoll.scheduling.devices.policies.potential import Potential, State
from atoll.scheduling.devices.typical import Mix
from atoll.scheduling.plugins.port import MAX

COVERED_PERCENT = 99
"""How much of the pods the typical ones cover (FGD: 95)."""
RETURNS = 0.4
SIZE = -0.6
POOLING = 0.25
USABLE = 0.6
STEPS = 1024  # of one milli: finer differences are ties
_PARTS = 1 << 18  # of a point: 50 points are a change of 12.8 GPUs
_CORE = 1000  # milli-CPU
_IDLE_STEP = 10  # milli: idle GPU is pooled over in hundredths of one


class Prospect(Potential):
    """`gpus`: the nodes that there are."""

    parts = _PARTS

    def __init__(self, kinds: Kinds, mix: Mix, gpus: Gpus) -> None:
        super().__init__(kinds)
        found = [(item, count) for item, count in zip(mix.types, mix.counts, strict=True) if item.count]
        types, often = [item for item, _ in found], np.array([count for _, count in found], np.float64)
        self._count = np.array([item.count for item in types], np.int64)
        self._milli = np.array([item.milli for item in types], np.int64)
        self._cpu = np.array([item.cpu_milli for item in types], np.int64)
        size = self._count * self._milli / WHOLE
        asked = float((often * size).sum()) or 1.0
        mean_cpu = size * float((often * self._cpu).sum()) / asked  # at the mix's CPU per GPU
        most = int(gpus.count.max(initial=1)) * WHOLE
        pooling = np.maximum(np.arange(0, most + 1, _IDLE_STEP) / WHOLE, 1.0) ** -POOLING
        self._per_cpu: Floats = 1.0 / ((self._cpu - mean_cpu) * pooling[:, None] + mean_cpu + 1.0)  # by idle GPU
        allowed = np.array([accepts(item, gpus.models) for item in types], np.bool_).reshape(-1, len(gpus.models))
        scarce = gpus.count.sum() / np.maximum([gpus.supply(item) for item in types], 1)
        scale = WHOLE / (float((often * size ** (SIZE - 1)).sum()) or 1.0)
        self._weights = (scarce * often * size**SIZE * scale * allowed.T).astype(np.float64)
        self._usable = Usable(types, (scarce * often * (USABLE / mix.total)).tolist(), gpus.models)
        self._ones = np.ones(self._usable.groups)
        left = np.arange(WHOLE + 1)[:, None]
        fits = np.where(self._count == 1, (left // self._milli) ** RETURNS, left >= self._milli)
        self._one_device: Floats = np.concatenate((fits, 0 * fits[:1]))  # by the amount left; last: no device
        self._several = (self._count > 1).nonzero()[0]

    def alike(self, cpu_milli: int) -> int:
        """By whole cores, rounded up: a pod that fits is not taken for one that does not."""
        return -(-cpu_milli // _CORE) * _CORE

    def tabulate(self, left: Ints) -> tuple[Floats, ...]:
        return self._room(left), self._usable.of_devices(left)

    def judge(self, state: State) -> Ints:
        trials, (room, usable) = state.trials, state.tables
        suffices = self._suffices(state.cpu, state.idle)
        weights = self._weights[state.model]
        hosts = suffices.take(trials.place, axis=0)
        np.minimum(hosts, room.take(trials.option, axis=0), out=hosts)
        counts = self._usable.of_cpu(state.model, state.cpu)
        serves = counts.take(trials.place, axis=0)
        serves *= usable.take(trials.option, axis=0)
        before = np.minimum(room[-1], suffices[-1]) @ weights + counts[-1] @ usable[-1]
        change = hosts @ weights
        change += serves @ self._ones
        change -= before
        change *= STEPS
        change += MAX * _PARTS // 2
        np.maximum(change, 0, out=change)
        np.minimum(change, MAX * _PARTS, out=change)
        found: Ints = change.astype(np.int64)
        return found

    def _room(self, left: Ints) -> Floats:
        """For each line of amounts left per device: how many pods of each type the devices take, with RETURNS."""
        room: Floats = self._one_device[left].sum(axis=1)
        room[:, self._several] //= self._count[self._several]
        return room

    def _suffices(self, cpu: Ints, idle: Ints) -> Floats:
        """For each state: for how many pods of each type its CPU suffices; 0 where not for one."""
        many: Floats = self._per_cpu.take(idle // _IDLE_STEP, axis=0)
        many *= cpu[:, None]
        np.maximum(many, 1.0, out=many)
        many *= cpu[:, None] >= self._cpu
        return many

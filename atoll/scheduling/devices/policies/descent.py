"""FGD, fragmentation gradient descent: place each pod where fragmentation grows least.

Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): the score is int(100·sigmoid((F before − F after)/1000)), and
a shared pod goes to the best device by that integer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from atoll.scheduling.arrays import Floats, Ints, np
from atoll.scheduling.devices.fragmentation import Usable
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.policies.potential import Potential, State
from atoll.scheduling.devices.typical import Mix


class Descent(Potential):
    def __init__(self, kinds: Kinds, mix: Mix, models: Sequence[str]) -> None:
        super().__init__(kinds)
        self._usable = Usable(mix.types, mix.counts, models)
        needs = {item.cpu_milli for item in mix.types if item.count}
        taken = {*self._demands.cpu.tolist(), 0}
        self._edges = sorted({need + cpu for need in needs for cpu in taken})
        self._total = mix.total

    def alike(self, cpu_milli: int) -> int:
        """What is judged is which types the CPU suffices for, now and when one more pod is there."""
        place = bisect_right(self._edges, cpu_milli)
        return self._edges[place - 1] if place else 0

    def tabulate(self, left: Ints) -> tuple[Floats, ...]:
        return (self._usable.of_devices(left),)

    def judge(self, state: State) -> Ints:
        trials, usable = state.trials, self._usable
        suffices = usable.of_cpu(state.model, state.cpu)
        devices = state.tables[0]
        served = np.einsum("pg,pg->p", suffices[trials.place], devices[trials.option])
        less = trials.gpu[trials.place] + (served - suffices[-1] @ devices[-1]) / self._total  # F before − F after
        found: Ints = (100 / (1 + np.exp(less * -1e-3))).astype(np.int64)
        return found

"""Policies that give a node's state a worth and place each pod where the least is lost.

For one node the states after each kind of pod on each sensible device are judged at once: of devices with equal amounts
left only the first is tried. What depends on the devices alone is remembered per state of the devices, and scores per
state of the node, also from one pool to the next.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.base.chance import Chance
from atoll.scheduling.devices.model import WHOLE, Request
from atoll.scheduling.devices.policies.port import Policy
from atoll.scheduling.devices.pool import Floats, Ints, Kinds, Pool, first_fitting, least_left

_DEVICES = 64  # more than any node has: ranks by score first, then by the lowest device
_REMEMBERED = 20_000  # states; all are forgotten when there are more


@dataclass(frozen=True, slots=True)
class Trials:
    """What may be tried on one state of the devices: pairs (demand, option), ordered by demand.

    `left[option]` are the devices afterwards, in the order of what was left before; its last line is the state before.
    `device[pair]` is the device of a shared pod, else 0. `demands` are those that the devices have room for, `starts`
    their first pairs, and `demands[place[pair]]` is the pair's demand.
    """

    left: Ints
    option: NDArray[np.intp]
    device: Ints
    demands: NDArray[np.intp]
    starts: NDArray[np.intp]
    place: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class State:
    """What one judgement is about. `tables` are the policy's own, made by `tabulate` of `trials.left`.

    Of each of `trials.demands` and, last, of the state before: the milli-CPU left (below 0: it does not fit) and the
    GPU milli left. `gpu` is what each of the demands asks for.
    """

    model: int
    trials: Trials
    tables: tuple[Floats, ...]
    cpu: Ints
    idle: Ints
    gpu: Ints


@dataclass(slots=True)
class _Memory:
    trials: dict[bytes, tuple[Trials, tuple[Floats, ...]]] = field(default_factory=dict)
    scores: dict[tuple[bytes, int, int], tuple[Ints, Ints]] = field(default_factory=dict)


class Potential(Policy):
    """`judge` says how good the pairs are, as integers; the best device is the best integer's, lowest index first.

    Demands are kinds but for memory and models, which no such policy here looks at.
    """

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        plain = [Request(item.cpu_milli, 0, item.count, item.milli) for item in kinds.requests]
        self._demands = Kinds(plain, [])
        self._of_kind = np.array([self._demands.index[item] for item in plain], np.intp)
        self._memory = _Memory()

    def begin(self, pool: Pool, chance: Chance) -> None:
        super().begin(pool, chance)
        self._device: Ints = np.zeros((len(pool), len(self._demands)), np.int64)

    @abstractmethod
    def tabulate(self, left: Ints) -> tuple[Floats, ...]:
        """What is worth remembering about lines of amounts left per device."""
        ...

    @abstractmethod
    def judge(self, state: State) -> Ints:
        """One integer per pair of `state.trials`; greater is better."""
        ...

    def scores(self, row: int) -> Ints:
        pool = self.pool
        key = pool.devices_key(row), int(pool.model[row]), int(pool.cpu[row])
        known = self._memory.scores
        found = known.get(key)
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[key] = self._judged(row)
        scores, self._device[row] = found
        return scores

    def devices(self, row: int, kind: int) -> list[int]:
        if self.kinds.requests[kind].shared:
            return [int(self._device[row, self._of_kind[kind]])]
        return super().devices(row, kind)

    def _judged(self, row: int) -> tuple[Ints, Ints]:
        """Score per kind and device per demand, in a new state."""
        pool, demands = self.pool, self._demands
        order = pool.left[row].argsort(kind="stable")  # devices in another order are the same state
        left = pool.left[row, order]
        known, devices = self._memory.trials, left.tobytes()
        entry = known.get(devices)
        if entry is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            made = trials_of(left, demands)
            entry = known[devices] = made, self.tabulate(made.left)
        trials, tables = entry
        gpu = demands.gpu[trials.demands]
        cpu_left = int(pool.cpu[row]) - _and_none(demands.cpu[trials.demands])
        idle_left = int(pool.idle[row]) - _and_none(gpu)
        judged = self.judge(State(int(pool.model[row]), trials, tables, cpu_left, idle_left, gpu))
        best = np.maximum.reduceat(judged * _DEVICES - order[trials.device], trials.starts)
        scores, chosen = np.zeros((2, len(demands)), np.int64)
        scores[trials.demands] = -(-best // _DEVICES)
        chosen[trials.demands] = -best % _DEVICES
        return scores[self._of_kind], chosen


def _and_none(amounts: Ints) -> Ints:
    found = np.zeros(len(amounts) + 1, np.int64)
    found[:-1] = amounts
    return found


def trials_of(left: Ints, demands: Kinds) -> Trials:
    """What may be tried on these devices: for a share one device of each amount left, else one set of devices."""
    amounts, first_of = np.unique(left, return_index=True)
    count, milli = demands.move_count, demands.move_milli
    shares = (count == 1) & (milli < WHOLE)
    move, amount = (shares[:, None] & (amounts >= milli[:, None])).nonzero()
    states = np.repeat(left[None, :], len(move), axis=0)
    device = first_of[amount]
    states[np.arange(len(move)), device] -= milli[move]
    starts, numbers = move.searchsorted(np.arange(len(count))), np.bincount(move, minlength=len(count))
    others: list[Ints] = []
    for other in (~shares).nonzero()[0].tolist():
        pick = first_fitting if milli[other] == WHOLE else least_left
        taken = pick(left, int(count[other]), int(milli[other]))
        if len(taken) == count[other]:
            starts[other], numbers[other] = len(move) + len(others), 1
            state = left.copy()
            state[taken] -= milli[other]
            others.append(state)
    several = numbers[demands.move]
    there = several.nonzero()[0]
    several = several[there]
    firsts = several.cumsum() - several  # of the pairs
    place = np.arange(len(there)).repeat(several)
    option = (starts[demands.move[there]] - firsts)[place] + np.arange(len(place))
    device = np.concatenate((device, np.zeros(len(others), np.int64)))[option]
    return Trials(np.vstack((states, *others, left)), option, device, there, firsts, place)

"""Policies that give a node's state a worth and place each pod where the least is lost.

For one node the states after each kind of pod on each sensible device are judged at once: of devices with equal amounts
left only the first is tried. What depends on the devices alone is remembered per state of the devices, and scores per
state of the node, also from one snapshot to the next.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from dataclasses import dataclass

from atoll.scheduling.arrays import Floats, Ints, NDArray, np
from atoll.scheduling.devices.gpus import Gpus
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.model import WHOLE, Request
from atoll.scheduling.devices.policies.port import Policy

_BITS = 6
_DEVICES = 1 << _BITS  # more than any node has: ranks by score first, then by the lowest device
_SAID, _JUDGED = 50_000, 60_000  # states that are remembered, a kilobyte each; all are forgotten when there are more


@dataclass(frozen=True, slots=True)
class Trials:
    """What may be tried on one state of the devices: pairs (demand, option), ordered by demand.

    `left[option]` are the devices afterwards, in the order of what was left before; its last line is the state before.
    `device[pair]` is the device of a shared pod, else 0. `demands` are those that the devices have room for, `starts`
    their first pairs, and `demands[place[pair]]` is the pair's demand. `cpu` and `gpu` are the milli that each of the
    demands takes and, last, 0. `of_kind[kind]` is the place of its demand, any where that is not among them.
    """

    left: Ints
    option: NDArray[np.intp]
    device: Ints
    demands: NDArray[np.intp]
    starts: NDArray[np.intp]
    place: NDArray[np.intp]
    cpu: Ints
    gpu: Ints
    of_kind: NDArray[np.intp]


@dataclass(slots=True)
class State:
    """What one judgement is about. `tables` are the policy's own, made by `tabulate` of `trials.left`.

    Of each of `trials.demands` and, last, of the state before: the milli-CPU left (below 0: it does not fit) and the
    GPU milli left.
    """

    model: int
    trials: Trials
    tables: tuple[Floats, ...]
    cpu: Ints
    idle: Ints


class Potential(Policy):
    """`judge` says how good the pairs are, as integers; the best device is the best integer's, lowest index first.

    Demands are kinds but for memory and models, which no such policy here looks at.
    """

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        plain = [Request(item.cpu_milli, 0, item.count, item.milli) for item in kinds.requests]
        self._demands = Kinds(plain)
        self._of_kind = np.array([self._demands.index[item] for item in plain], np.intp)
        self._trials: dict[bytes, tuple[Trials, tuple[Floats, ...]]] = {}
        self._judged: dict[tuple[bytes, int, int], Ints] = {}  # by devices in order of what is left, model and CPU
        self._said: dict[tuple[bytes, int, int], Ints] = {}  # by kind the score, and the device in its last digit

    @abstractmethod
    def tabulate(self, left: Ints) -> tuple[Floats, ...]:
        """What is worth remembering about lines of amounts left per device."""
        ...

    @abstractmethod
    def judge(self, state: State) -> Ints:
        """One integer per pair of `state.trials`; greater is better."""
        ...

    def alike(self, cpu_milli: int) -> int:
        """Free CPU as far as the judgement goes: amounts for which this is equal are judged by it."""
        return cpu_milli

    def scores(self, gpus: Gpus, row: int) -> Ints:
        said = self._say(gpus, row) + (_DEVICES - 1)
        said >>= _BITS
        return said

    def devices(self, gpus: Gpus, row: int, kind: int) -> list[int]:
        if self.kinds.requests[kind].shared:
            return [-int(self._say(gpus, row)[kind]) % _DEVICES]
        return super().devices(gpus, row, kind)

    def _say(self, gpus: Gpus, row: int) -> Ints:
        key = gpus.left[row].tobytes(), int(gpus.model[row]), self.alike(gpus.cpu(row))
        found = self._said.get(key)
        if found is None:
            if len(self._said) >= _SAID:
                self._said.clear()
            found = self._said[key] = self._new(gpus.left[row], *key[1:])
        return found

    def _new(self, devices: Ints, model: int, cpu: int) -> Ints:
        """What is said of a new state."""
        order = devices.argsort(kind="stable")  # devices in another order are judged alike
        left = devices.take(order)
        key = left.tobytes()
        entry = self._trials.get(key)
        if entry is None:
            if len(self._trials) >= _SAID:
                self._trials.clear()
            made = trials_of(left, self._demands, self._of_kind)
            entry = self._trials[key] = made, self.tabulate(made.left)
        trials, tables = entry
        if not len(trials.starts):  # nobody fits
            return np.zeros(len(self.kinds), np.int64)
        judged = self._judged.get((key, model, cpu))
        if judged is None:
            if len(self._judged) >= _JUDGED:
                self._judged.clear()
            idle = int(left[left.searchsorted(0) :].sum())
            state = State(model, trials, tables, cpu - trials.cpu, idle - trials.gpu)
            judged = self._judged[key, model, cpu] = self.judge(state) * _DEVICES
        best: Ints = np.maximum.reduceat(judged - order.take(trials.device), trials.starts)
        return best.take(trials.of_kind)


def _and_none(amounts: Ints) -> Ints:
    found = np.zeros(len(amounts) + 1, np.int64)
    found[:-1] = amounts
    return found


def trials_of(left: Ints, demands: Kinds, of_kind: NDArray[np.intp]) -> Trials:
    """What may be tried on these devices: for a share one device of each amount left, else one set of devices."""
    first_of = np.append(True, left[1:] != left[:-1]).nonzero()[0]
    amounts = left[first_of]
    count, milli = demands.move_count, demands.move_milli
    shares = (count == 1) & (milli < WHOLE)
    move, amount = (shares[:, None] & (amounts >= milli[:, None])).nonzero()
    states = np.repeat(left[None, :], len(move), axis=0)
    device = first_of[amount]
    states[np.arange(len(move)), device] -= milli[move]
    starts, numbers = move.searchsorted(np.arange(len(count))), np.bincount(move, minlength=len(count))
    others: list[Ints] = []
    whole = left.tolist()
    for other in (~shares).nonzero()[0].tolist():
        size, part = int(count[other]), int(milli[other])
        first = bisect_left(whole, part)  # they are in order: the first that fits has the least left
        if first + size <= len(whole):
            starts[other], numbers[other] = len(move) + len(others), 1
            state = left.copy()
            state[first : first + size] -= part
            others.append(state)
    several = numbers[demands.move]
    there = several.nonzero()[0]
    several = several[there]
    firsts = several.cumsum() - several  # of the pairs
    place = np.arange(len(there)).repeat(several)
    option = (starts[demands.move[there]] - firsts)[place] + np.arange(len(place))
    device = np.concatenate((device, np.zeros(len(others), np.int64)))[option]
    lines = np.vstack((states, *others, left))
    cpu, gpu = _and_none(demands.cpu[there]), _and_none(demands.gpu[there])
    places = there.searchsorted(of_kind).clip(max=max(len(there) - 1, 0))
    return Trials(lines, option, device, there, firsts, place, cpu, gpu, places)

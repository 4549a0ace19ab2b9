"""Open-Gpu-Share: pods that ask for GPUs in parts, or by number and model, go where that is free on a node's devices.

As the plugin of that name in Alibaba's open-simulator; `devices/annotations.py` has the words. It refuses nodes and,
where no score plugin does, chooses the devices: for a part of a GPU the fitting device with the least left, for whole
ones the first free. Memory counts where pods or nodes name it: the fitting device with the least memory left. A pod
that another scheduler has bound without `gpu-index` takes no device here.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.devices.annotations import COUNT, MEMORY, MILLI, MODEL
from atoll.scheduling.devices.gpus import NO_DEVICE, Gpus, gpus_of, memory_left
from atoll.scheduling.devices.kinds import first_fitting, fits, least_left
from atoll.scheduling.devices.model import MOST_DEVICES, WHOLE, Share
from atoll.scheduling.plugins.port import Devices, Filter, Many, Plugin
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

NAME = "Open-Gpu-Share"
_OTHER_MODEL = Status(("node(s) had no GPU of a model that will do",))


class GpuShare(Plugin):
    name = NAME

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        share = shape.template.share
        return None if share is None else _Filter(share, gpus_of(nodes))

    def devices(self, shape: Shape, nodes: Snapshot) -> Devices | None:
        share = shape.template.share
        return None if share is None else ShareDevices(share, gpus_of(nodes))

    def many(self, shapes: Sequence[Shape], nodes: Snapshot) -> Many | None:
        return _Many([shape.template.share for shape in shapes], gpus_of(nodes))


class _Filter(Filter):
    def __init__(self, share: Share, gpus: Gpus) -> None:
        self._share = share
        self._gpus = gpus

    def allowed(self, rows: Rows) -> Bools:
        enough: Bools = self._gpus.fitting(rows, self._share).sum(axis=1) >= self._share.count
        enough &= _accepts([self._share], self._gpus)[0, self._gpus.model[rows]]
        return enough

    def why(self, node: NodeState) -> Status | None:
        share = self._share
        if share.wrong:
            return Status((share.wrong,))
        count = min(node.allocatable.get(COUNT, 0), MOST_DEVICES)
        if count < share.count:
            return Status((f"Insufficient {COUNT}",))
        if share.models and node.labels.get(MODEL, "") not in share.models:
            return _OTHER_MODEL
        free = [WHOLE - node.devices.get(device, 0) >= share.milli for device in range(count)]
        if sum(free) < share.count:
            return Status((f"Insufficient {MILLI}",), True)
        each, memory = memory_left(node, count)
        need = share.takes(each)
        if need > each:
            return Status((f"Insufficient {MEMORY}",))
        free = [fits and left >= need for fits, left in zip(free, memory, strict=True)]
        return None if sum(free) >= share.count else Status((f"Insufficient {MEMORY}",), True)

    def room(self, rows: Rows) -> Ints:
        left = np.maximum(self._gpus.left[rows], 0)
        on_each = left // self._share.milli if self._share.count == 1 else np.minimum(left // self._share.milli, 1)
        if self._share.memory:
            on_each = np.minimum(on_each, self._gpus.memory[rows] // self._share.memory)
        room: Ints = on_each.sum(axis=1) // self._share.count
        return np.where(self.allowed(rows), room, 0)


class ShareDevices(Devices):
    """The plugin's own choice."""

    def __init__(self, share: Share, gpus: Gpus) -> None:
        self._share = share
        self._gpus = gpus

    def of(self, row: int) -> tuple[int, ...]:
        share, gpus = self._share, self._gpus
        fitting = gpus.fitting(np.array([row]), share)[0]
        if share.memory:
            return tuple(least_left(np.where(fitting, gpus.memory[row], NO_DEVICE), share.count, share.memory))
        pick = first_fitting if share.milli == WHOLE else least_left
        return tuple(pick(np.where(fitting, gpus.left[row], NO_DEVICE), share.count, share.milli))


class _Many(Many):
    """Answers are remembered by the state of the node's devices and its model."""

    filters = True

    def __init__(self, shares: Sequence[Share | None], gpus: Gpus) -> None:
        self._gpus = gpus
        self._shares = shares
        moves = [(0, 0) if share is None else (share.count, share.milli) for share in shares]
        distinct = list(dict.fromkeys(moves))
        self._count, self._milli = np.array(distinct, np.int64).reshape(-1, 2).T
        self._move = np.array([distinct.index(move) for move in moves], np.intp)
        self._accepts = _accepts(shares, gpus)
        self._memory = any(share is not None and share.memory for share in shares)
        self._known: dict[tuple[bytes, int], Bools] = {}

    def allowed(self, row: int) -> Bools:
        gpus = self._gpus
        model = int(gpus.model[row])
        if self._memory or gpus.each[row]:
            return self._by_memory(row) & self._accepts[:, model]
        key = gpus.left[row].tobytes(), model
        found = self._known.get(key)
        if found is None:
            found = fits(gpus.left[row], self._count, self._milli).take(self._move) & self._accepts[:, model]
            self._known[key] = found
        return found

    def _by_memory(self, row: int) -> Bools:
        rows = np.array([row])
        fitting = [share is None or self._gpus.fitting(rows, share).sum() >= share.count for share in self._shares]
        return np.array(fitting, np.bool_)


def _accepts(shares: Sequence[Share | None], gpus: Gpus) -> Bools:
    """Share × model: will it do?"""
    models = gpus.models or [""]
    lines = [
        [share is None or (not share.wrong and (not share.models or model in share.models)) for model in models]
        for share in shares
    ]
    return np.array(lines, np.bool_).reshape(len(shares), len(models))

"""The GPUs of all nodes as arrays, a column beside the core's snapshot.

It follows the pods on the nodes (which devices each was given). Where there are no pod objects, `charge` counts in the
arrays alone, as `Snapshot.charge` does. What depends on the devices of one node only is the same for all nodes whose
devices have the same amounts left; `devices_key` names that state, so that it is computed once.

Policies weigh by the pods that are to be expected and by the fleet that there is. Where nobody declares the pods, those
that run are taken; both are looked at again, and all answers given up, when either has doubled or halved.
"""

from __future__ import annotations

from atoll.scheduling.arrays import Bools, Ints, Rows, grown, np
from atoll.scheduling.devices.annotations import COUNT, MEMORY, MODEL
from atoll.scheduling.devices.kinds import accepts
from atoll.scheduling.devices.model import MOST_DEVICES, WHOLE, Request, Share
from atoll.scheduling.devices.typical import Mix, typical
from atoll.scheduling.pod import Template
from atoll.scheduling.resources import CPU
from atoll.scheduling.snapshot import Column, Snapshot
from atoll.scheduling.state import NodeState

NO_DEVICE = -1
"""In `Gpus.left`: the node has fewer devices than the array has columns."""
_KEY = "gpus"
_BITS = 62  # of a sort
_MOST_MEMORY = 1 << 50
_FEW = 16  # pods or devices: below that no doubling is looked at


def gpus_of(nodes: Snapshot) -> Gpus:
    """The snapshot's column, attached when first asked for."""
    column = nodes.attached(_KEY)
    if not isinstance(column, Gpus):
        column = Gpus(nodes)
        nodes.attach(_KEY, column)
    return column


def request_of(template: Template) -> Request:
    """What policies see of a pod; memory is not looked at."""
    share = template.share
    cpu = template.requests.get(CPU, 0)
    return Request(cpu, 0) if share is None else Request(cpu, 0, share.count, share.milli, share.models)


def sort_of(asked: Share | Request) -> int:
    """One bit for parts of a GPU, and one for each number of whole ones; 0 for pods without."""
    if not asked.count:
        return 0
    return 1 if asked.count == 1 and asked.milli < WHOLE else 1 << min(asked.count, _BITS)


def memory_left(node: NodeState, count: int) -> tuple[int, list[int]]:
    """(bytes of each device, what is left of each); a node that does not say its GPUs' memory has none."""
    each = min(node.allocatable.get(MEMORY, 0), _MOST_MEMORY) // count if count else 0
    left = [each] * count
    for pod in node.pods.values() if each else ():
        share = pod.template.share
        if share is not None:
            for device in pod.devices:
                if device < count:
                    left[device] -= share.takes(each)
    return each, [max(0, amount) for amount in left]


class Gpus(Column):
    """By row: `left` on each device, `count` of devices, `idle` milli in all, `model` as a place in `models`.

    `each`: bytes of one device, `memory`: what is left of each; both 0 on nodes that do not say their GPUs' memory.
    `sorts`: which sorts of GPU pods are there (`sort_of`).
    """

    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self.models: list[str] = []
        self.left: Ints = np.full((0, 1), NO_DEVICE, np.int64)
        self.memory: Ints = np.zeros((0, 1), np.int64)
        self.each: Ints = np.zeros(0, np.int64)
        self.count: Ints = np.zeros(0, np.int64)
        self.idle: Ints = np.zeros(0, np.int64)
        self.model: Ints = np.zeros(0, np.int64)
        self.sorts: Ints = np.zeros(0, np.int64)
        self._tenants: Ints = np.zeros(0, np.int64)
        self._total = self._expected = (0, 0)  # devices, pods; and when they were last looked at

    def cpu(self, row: int) -> int:
        """The free milli-CPU."""
        return int(self._nodes.free[1, row])

    def devices_key(self, row: int) -> bytes:
        key: bytes = self.left[row].tobytes()
        return key

    def fitting(self, rows: Rows, share: Share) -> Bools:
        """Row × device: is as much left as the share takes?"""
        found: Bools = self.left[rows] >= share.milli
        each = self.each[rows]
        if share.memory or each.any():
            found &= self.memory[rows] >= np.reshape(share.takes(each), (-1, 1))
        return found

    # staying up to date

    def grow(self, rows: int) -> None:
        self.left = np.ascontiguousarray(grown(self.left.T, rows, NO_DEVICE).T)
        self.memory = np.ascontiguousarray(grown(self.memory.T, rows, 0).T)
        self.each = grown(self.each, rows, 0)
        self.count, self.idle = grown(self.count, rows, 0), grown(self.idle, rows, 0)
        self.model, self.sorts = grown(self.model, rows, 0), grown(self.sorts, rows, 0)
        self._tenants = grown(self._tenants, rows, 0)

    def write(self, row: int, node: NodeState | None) -> None:
        count = 0 if node is None else min(node.allocatable.get(COUNT, 0), MOST_DEVICES)
        pods = 0 if node is None else len(node.pods)
        self._total = (
            self._total[0] + count - int(self.count[row]),
            self._total[1] + pods - int(self._tenants[row]),
        )
        self.count[row], self._tenants[row] = count, pods
        if count > self.left.shape[1]:
            self.left, self.memory = grown(self.left, count, NO_DEVICE), grown(self.memory, count, 0)
        self.each[row], self.memory[row] = 0, 0
        left = [WHOLE] * count + [NO_DEVICE] * (self.left.shape[1] - count)
        sorts = 0
        if node is not None and count:
            self.model[row] = self._model(node.labels.get(MODEL, ""))
            for device, used in node.devices.items():
                if device < count:
                    left[device] = max(0, WHOLE - used)
            for pod in node.pods.values():
                if pod.template.share is not None:
                    sorts |= sort_of(pod.template.share)
            self.each[row], self.memory[row, :count] = memory_left(node, count)
        self.left[row], self.sorts[row] = left, sorts
        self.idle[row] = sum(amount for amount in left if amount > 0)
        if any(_drifted(now, before) for now, before in zip(self._total, self._expected, strict=True)):
            self._expected = self._total
            self._nodes.epoch += 1

    def _model(self, name: str) -> int:
        if name not in self.models:
            self.models.append(name)
            self._nodes.epoch += 1  # what is known by model is too short now
        return self.models.index(name)

    def charge(self, row: int, request: Request, devices: tuple[int, ...]) -> None:
        """Place a pod on these devices of a node, in the arrays alone."""
        for device in devices:
            self.left[row, device] -= request.milli
        self.idle[row] -= request.gpu_milli
        self.sorts[row] |= sort_of(request)

    # the fleet, and who is to be expected

    def fleet_key(self) -> tuple[bytes, ...]:
        """Equal for fleets of equal nodes in the same rows, whatever is on them."""
        return self.count.tobytes(), self.model.tobytes(), self._nodes.allocatable[1].tobytes()

    def supply(self, request: Request) -> int:
        """The devices of those nodes that could host such a pod when empty; memory is not looked at."""
        able: Bools = (self.count >= request.count) & (self._nodes.allocatable[1] >= request.cpu_milli)
        able &= np.array([*accepts(request, self.models), False], np.bool_)[self.model]
        return int(self.count[able].sum())

    def running(self, percent: int, fallback: Request) -> Mix:
        """The typical ones of the pods on GPU nodes; the fallback alone where there are none."""
        there = [node for row, node in enumerate(self._nodes.nodes) if node is not None and self.count[row]]
        found = [request_of(pod.template) for node in there for pod in node.pods.values()]
        return typical(found or [fallback], percent)


def _drifted(now: int, before: int) -> bool:
    return max(now, before) > _FEW and not before < 2 * now < 4 * before

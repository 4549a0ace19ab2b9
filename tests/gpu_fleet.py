"""Empty GPU nodes as the core's snapshot has them, and pods as shapes, for tests of placement on devices."""

from __future__ import annotations

from atoll.base.chance import Chance
from atoll.scheduling.board import Board
from atoll.scheduling.devices.gpus import Gpus, gpus_of
from atoll.scheduling.devices.model import Machine, Request
from atoll.scheduling.plugins.chosen import Chosen
from atoll.scheduling.plugins.gpu_scores import PolicyScore
from atoll.scheduling.plugins.gpu_share import GpuShare
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.pod import Templates
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.simulate.openb.replay import fleet, pod_object

FILTERS = (*(Chosen(plugin, scores=False) for plugin in default_plugins()), GpuShare())


def gpus(machines: list[Machine], seed: int = 1) -> tuple[Snapshot, Gpus]:
    nodes = fleet(machines, Chance(seed))
    return nodes, gpus_of(nodes)


def shape(request: Request) -> Shape:
    template = Templates().pod(pod_object(request, "pod")).template
    return Shape((template,), template)


def scored(make) -> tuple:
    """The default filters, Open-Gpu-Share's, and the policy that `make(kinds, mix, gpus)` gives."""
    return (*FILTERS, PolicyScore("policy", make, 95, None))


class Placing:
    """Pods placed one after the other by a board, without pod objects."""

    def __init__(self, nodes: Snapshot, requests: list[Request], plugins) -> None:
        self.nodes, self.gpus = nodes, gpus_of(nodes)
        self.kinds = list(dict.fromkeys(requests))
        self.shapes = [shape(request) for request in self.kinds]
        self.lines = [nodes.line(item.template.requests) for item in self.shapes]
        self.board = Board(nodes, self.shapes, plugins)

    def place(self, request: Request):
        """(row, devices), or None."""
        self.board.sync()
        place = self.kinds.index(request)
        row = self.board.best(place)
        if row is None:
            return None
        devices = self.board.devices(place, row)
        self.gpus.charge(row, request, devices)
        self.nodes.charge(row, self.lines[place])
        return row, list(devices)

"""A board of many shapes decides as an evaluation of each does, with the default plugins, whatever is charged."""

from __future__ import annotations

import random

import pytest
from scheduling_reference import ZONE
from test_scheduling_core import a_node, a_spec

from atoll.base.chance import Chance
from atoll.scheduling.arrays import np
from atoll.scheduling.board import Board
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.matching import label_selector
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.pod import HOSTNAME, SpreadConstraint
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import ClusterState


def a_shape(draw, state, number):
    spec = a_spec(draw)
    if draw.random() < 0.2:
        spec["containers"][0]["ports"] = [{"hostPort": 80}]
    metadata = {"name": f"p{number}", "uid": f"u{number}", "namespace": "d", "labels": {"app": draw.choice("ab")}}
    template = state.templates.pod({"metadata": metadata, "spec": spec}).template
    soft = []
    if draw.random() < 0.2:
        selection = state.templates.selection("a", "d", label_selector({"matchLabels": {"app": "a"}}))
        soft = [SpreadConstraint(3, draw.choice([HOSTNAME, ZONE]), selection)]
    return Shape((template, len(soft)), template, soft=soft, require_all=False)


@pytest.mark.parametrize("seed", range(30))
def test_a_board_decides_as_evaluations_do(seed):
    draw = random.Random(seed)
    state = ClusterState(Chance(seed))
    for number in range(draw.randint(1, 20)):
        state.set_node(a_node(draw, number))
    snapshot = Snapshot(state)
    snapshot.follow()
    shapes = [a_shape(draw, state, number) for number in range(6)]
    board = Board(snapshot, shapes, default_plugins())
    alone = [Evaluation(snapshot, shape, default_plugins()) for shape in shapes]
    placed = 0
    for step in range(60):
        place = draw.randrange(len(shapes))
        board.sync()
        alone[place].sync()
        row = board.best(place)
        assert row == alone[place].best()
        assert board.feasible(place).tolist() == alone[place].feasible().tolist()
        if row is not None and draw.random() < 0.9:
            template = shapes[place].template
            nonzero = np.array([template.nonzero_cpu, template.nonzero_memory], np.int64)
            line = snapshot.line(template.requests)
            snapshot.charge(row, line, nonzero)
            placed += 1
            if draw.random() < 0.2:
                snapshot.charge(row, -line, -nonzero)
        if step % 20 == 19:  # a node that joins or changes
            node = a_node(draw, draw.randrange(24))
            if node["metadata"]["name"] not in snapshot.rows:
                state.set_node(node)
                snapshot.follow()
    assert placed or not any(evaluation.feasible().any() for evaluation in alone)

"""Nodes on which pods came or went, taken up line by line, are as those of a snapshot that is made anew."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling import snapshot
from atoll.scheduling.arrays import np
from atoll.scheduling.plan import Planner
from atoll.scheduling.snapshot import Column, Snapshot


class Pods(Column):
    """What a plugin keeps of a node: who is on it."""

    def __init__(self):
        self.on = {}

    def grow(self, rows):
        pass

    def write(self, row, node):
        self.on[row] = None if node is None else set(node.pods)


def a_node(draw, number):
    allocatable = {"cpu": draw.choice("248"), "memory": draw.choice(["0", "8Gi"]), "pods": "9", "example.com/gpu": "1"}
    return {"metadata": {"name": f"n{number}", "labels": {}}, "spec": {}, "status": {"allocatable": allocatable}}


def a_pod(draw, number):
    requests = draw.choice([{}, {"cpu": "1"}, {"memory": "1Gi"}, {"example.com/gpu": "1"}, {f"x/r{number % 7}": "2"}])
    spec = {"containers": [{"name": "c", "resources": {"requests": requests}}]}
    return {"metadata": {"name": f"p{number}", "uid": f"u{number}", "namespace": "d"}, "spec": spec}


@pytest.mark.parametrize("seed", range(60))
def test_lines_of_many_nodes_are_those_of_a_fresh_snapshot(seed, monkeypatch):
    draw = random.Random(seed)
    monkeypatch.setattr(snapshot, "_MANY", draw.choice([2, 4, 64]))
    planner = Planner(Chance(seed))
    state, nodes, pods, made = planner.state, planner.nodes, Pods(), 0
    for number in range(12):
        state.set_node(a_node(draw, number))
    nodes.follow()
    nodes.attach("pods", pods)
    for _ in range(40):
        before = nodes.placed.end
        changed = set()
        for _ in range(draw.randrange(12)):
            deed, node = draw.random(), f"n{draw.randrange(14)}"
            if deed < 0.6:
                made += 1
                state.place(planner.pod(a_pod(draw, made)), node)
                changed.add(node)
            elif deed < 0.85 and state.pod_nodes:
                changed.add(state.lift(draw.choice(sorted(state.pod_nodes))))
            elif deed < 0.95:
                state.set_node(a_node(draw, int(node[1:])))
            elif len(state.nodes) > 1:
                state.remove_node(node)
        nodes.follow()
        fresh = Snapshot(state)
        fresh.follow()
        assert set(nodes.rows) == set(fresh.rows)
        rows = [nodes.rows[name] for name in fresh.names]
        for mine, theirs in ((nodes.allocatable, fresh.allocatable), (nodes.requested, fresh.requested)):
            lines = {name: mine[line, rows].tolist() for name, line in nodes.columns.items()}
            for name, line in fresh.columns.items():
                assert lines[name] == theirs[line, : fresh.size].tolist(), name
        assert (nodes.free == nodes.allocatable - nodes.requested).all()
        for mine, theirs in ((nodes.nonzero, fresh.nonzero), (nodes.spare, fresh.spare)):
            assert (mine[:, rows] == theirs[:, : fresh.size]).all()
        assert np.array_equal(nodes.balance[rows], fresh.balance[: fresh.size])
        assert {name: pods.on[nodes.rows[name]] for name in state.nodes} == {
            name: set(node.pods) for name, node in state.nodes.items()
        }
        told = nodes.placed.since(before)
        assert told is None or {nodes.rows[name] for name in changed if name in state.nodes} <= set(told)

"""What is remembered of room that was promised to other pods decides as looking at it anew does."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.plan import Planner


def _node(draw, number):
    allocatable = {"cpu": draw.choice(["1", "2"]), "memory": "8Gi", "pods": draw.choice(["1", "3"])}
    return {"metadata": {"name": f"n{number}", "labels": {}}, "spec": {}, "status": {"allocatable": allocatable}}


def _kinds(draw):
    for cpu, priority in (("1", 0), ("1", 10), ("500m", 10), ("2", 5)):
        spec = {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}
        if draw.random() < 0.15:
            term = {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}
            spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        yield spec


def _decided_anew(planner, pod):
    kept, planner._evaluations = planner._evaluations, OrderedDict()
    decision = planner.decide(pod)
    planner._evaluations = kept
    return decision.node


@pytest.mark.parametrize("seed", range(150))
def test_remembered_promises_decide_as_those_looked_at_anew(seed):
    draw = random.Random(seed)
    planner = Planner(Chance(seed))
    state = planner.state
    nodes = [f"n{number}" for number in range(draw.randint(1, 12))]
    for number in range(len(nodes)):
        state.set_node(_node(draw, number))
    kinds = list(_kinds(draw))
    waiting, placed = [], []
    for step in range(150):
        metadata = {"name": f"p{step}", "uid": f"u{step}", "namespace": "d", "labels": {"app": draw.choice("ab")}}
        pod = planner.pod({"metadata": metadata, "spec": draw.choice(kinds)})
        if waiting and draw.random() < 0.2:
            pod = draw.choice(waiting)
        chosen = planner.decide(pod).node
        assert chosen == _decided_anew(planner, pod)
        deed = draw.random()
        if deed < 0.4:
            state.nominate(pod, draw.choice(nodes))
            waiting.append(pod)
        elif deed < 0.6 and chosen is not None:
            state.withdraw(pod.uid)
            waiting = [other for other in waiting if other.uid != pod.uid]
            state.place(pod, chosen)
            placed.append(pod)
        elif deed < 0.75 and waiting:
            state.withdraw(waiting.pop(draw.randrange(len(waiting))).uid)
        elif deed < 0.9 and placed:
            state.lift(placed.pop(draw.randrange(len(placed))).uid)
        else:
            state.set_node(_node(draw, draw.randrange(len(nodes))))

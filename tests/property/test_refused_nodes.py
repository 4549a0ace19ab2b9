"""Why nodes refuse a pod, kept as numbers between decisions, is what asking every node anew says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from atoll.base.chance import Chance
from atoll.scheduling import preemption, status
from atoll.scheduling.evaluation import Refusals
from atoll.scheduling.plan import Planner, with_pods
from atoll.scheduling.reservation import Reservation

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def a_node(draw, number):
    labels = {HOST: f"n{number}", "disk": draw.choice(["ssd", "hdd"])}
    if draw.random() < 0.8:
        labels[ZONE] = draw.choice("xy")
    taints = [{"key": "t", "effect": "NoSchedule"}] if draw.random() < 0.15 else []
    allocatable = {"cpu": draw.choice("12"), "memory": "4Gi", "pods": draw.choice("23")}
    spec = {"taints": taints, "unschedulable": draw.random() < 0.1}
    return {"metadata": {"name": f"n{number}", "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def a_spec(draw):
    requests = draw.choice([{"cpu": "1"}, {"cpu": "2"}, {"cpu": "3"}, {"cpu": "500m", "memory": "2Gi"}])
    spec = {"priority": draw.choice([0, 0, 5]), "containers": [{"name": "c", "resources": {"requests": requests}}]}
    if draw.random() < 0.3:
        spec["nodeSelector"] = {"disk": "ssd"}
    if draw.random() < 0.2:
        spec["containers"][0]["ports"] = [{"hostPort": 80}]
    selector = {"labelSelector": {"matchLabels": {"app": "a"}}}
    if draw.random() < 0.2:
        term = {**selector, "topologyKey": draw.choice([HOST, ZONE])}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    if draw.random() < 0.3:
        rule = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", **selector}
        spec["topologySpreadConstraints"] = [rule]
    return spec


def asked_anew(planner, pod):
    """Name → reason: by the plain rules, node after node."""
    evaluation = planner.evaluation(pod)
    refusals = Refusals(planner.nodes, evaluation.shape, planner.plugins)
    for part in refusals.around:
        part.sync()
    found = {}
    for name, node in planner.state.nodes.items():
        why = refusals.why(node)
        rivals = planner.state.rivals(name, pod)
        if why is None and rivals:
            why = refusals.why(with_pods(node, rivals))
        if why is not None:
            found[name] = why
    kept = planner.reservation
    if kept is not None and kept.concerns(pod.priority):
        needs = evaluation.shape.devices.demanding
        for row in kept.barred(planner.nodes, pod.template.requests, needs):
            found[planner.nodes.names[row]] = kept.status
    return found


@pytest.mark.parametrize("seed", range(80))
def test_reasons_that_are_kept_are_those_asked_for_anew(seed):
    draw = random.Random(seed)
    planner = Planner(Chance(seed))
    state = planner.state
    nodes = [f"n{number}" for number in range(draw.randint(3, 10))]
    for number in range(len(nodes)):
        state.set_node(a_node(draw, number))
    specs = [a_spec(draw) for _ in range(3)]
    placed, failed = [], 0
    for step in range(120):
        metadata = {"name": f"p{step}", "uid": f"u{step}", "namespace": "d", "labels": {"app": draw.choice("ab")}}
        pod = planner.pod({"metadata": metadata, "spec": draw.choice(specs)})
        decision = planner.decide(pod)
        if decision.node is not None:
            state.place(pod, decision.node)
            placed.append(pod)
        else:
            failed += 1
            expected, told = asked_anew(planner, pod), decision.failure.statuses
            assert dict(told) == expected
            assert {name: told[name] for name in told} == expected and len(told) == len(expected)
            assert all((name in told) == (name in expected) for name in nodes)
            assert told.counted() == Counter(why.reasons for why in expected.values())
            rows = preemption._potential(planner, told)
            helped = [] if rows is None else [planner.nodes.names[row] for row in rows.tolist()]
            assert helped == [name for name in told if expected[name].resolvable]
        for _ in range(draw.randrange(4)):
            deed = draw.random()
            if deed < 0.5 and placed:
                state.lift(placed.pop(draw.randrange(len(placed))).uid)
            elif deed < 0.7:
                state.nominate(pod, draw.choice(nodes)) if pod.uid not in state.pod_nodes else None
            elif deed < 0.8 and len(state.nodes) > 2:
                state.remove_node(draw.choice(nodes))
            elif deed < 0.9:
                kept = Reservation("g", 3, {draw.choice(nodes): {"pods": 1, "cpu": 1000}}, 1)
                planner.reservation = draw.choice([kept, replace(kept, gang="h"), None])
            else:
                state.set_node(a_node(draw, draw.randrange(len(nodes))))
    assert failed > 5


def test_few_nodes_are_told_by_name():
    told = status.Told({"a": status.PORTS, "b": status.NODE_AFFINITY, "c": status.PORTS})
    assert told.counted() == {status.PORTS.reasons: 2, status.NODE_AFFINITY.reasons: 1}

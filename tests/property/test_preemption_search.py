"""Preemption looked for on arrays takes the node and the victims that looking at node after node would."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling import candidates, preemption
from atoll.scheduling.plan import Planner

HOST = "kubernetes.io/hostname"


def a_node(draw, number):
    allocatable = {
        "cpu": draw.choice(["2", "4"]),
        "memory": draw.choice(["4Gi", "8Gi"]),
        "pods": draw.choice(["3", "6"]),
    }
    allocatable["example.com/gpu"] = draw.choice("012")
    taints = [{"key": "t", "effect": "NoSchedule"}] if draw.random() < 0.1 else []
    metadata = {"name": f"n{number}", "labels": {HOST: f"n{number}", "disk": draw.choice(["ssd", "hdd"])}}
    return {"metadata": metadata, "spec": {"taints": taints}, "status": {"allocatable": allocatable}}


def a_pod(draw, number, priorities):
    requests = draw.choice(
        [{"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}, {"example.com/gpu": "1"}, {"memory": "3Gi"}, {}]
    )
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    spec["priority"] = draw.choice(priorities)
    if draw.random() < 0.1:
        spec["containers"][0]["ports"] = [{"hostPort": 80}]
    if draw.random() < 0.1:
        spec["nodeSelector"] = {"disk": "ssd"}
    labels = {"app": draw.choice("abc")}
    metadata = {"name": f"p{number}", "uid": f"u{number}", "namespace": "d", "labels": labels}
    status = {"startTime": f"2026-01-01T00:00:{draw.randrange(4):02}Z"} if draw.random() < 0.8 else {}
    return {"metadata": metadata, "spec": spec, "status": status}


def a_budget(draw, number):
    return {
        "metadata": {"name": f"b{number}", "namespace": draw.choice("dx")},
        "spec": {"selector": {"matchLabels": {"app": draw.choice("abc")}}},
        "status": {"disruptionsAllowed": draw.randrange(3)},
    }


def plans(planner, pod, budgets, monkeypatch):
    """By arrays, and node by node."""
    failure = planner.decide(pod).failure
    fast = preemption.plan_preemption(planner, pod, failure, budgets)
    with monkeypatch.context() as patch:
        patch.setattr(preemption, "search", lambda *_: None)
        slow = preemption.plan_preemption(planner, pod, failure, budgets)
    return fast, slow


@pytest.mark.parametrize("seed", range(60))
def test_the_search_on_arrays_equals_looking_at_each_node(seed, monkeypatch):
    draw = random.Random(seed)
    monkeypatch.setattr(candidates, "_CHUNK", draw.choice([2, 512]))
    monkeypatch.setattr(preemption, "_MIN_CANDIDATES", draw.choice([1, 3, 100]))
    planner = Planner(Chance(seed))
    for number in range(draw.randint(2, 14)):
        planner.state.set_node(a_node(draw, number))
    placed, compared, searched = {}, 0, 0
    for number in range(150):
        pod = planner.pod(a_pod(draw, number, [-5, 0, 0, 7, 10] if number < 60 else [0, 7, 10, 50]))
        decision = planner.decide(pod)
        if decision.node is not None:
            planner.state.place(pod, decision.node)
            placed[pod.uid] = pod, decision.node
            continue
        budgets = [a_budget(draw, item) for item in range(draw.randrange(3))]
        fast, slow = plans(planner, pod, budgets, monkeypatch)
        assert (fast.message, fast.clear) == (slow.message, slow.clear)
        compared += 1
        if slow.victims is not None:
            searched += 1
            assert fast.victims.node == slow.victims.node
            assert [item.uid for item in fast.victims.pods] == [item.uid for item in slow.victims.pods]
            assert fast.victims.violations == slow.victims.violations
            if draw.random() < 0.5:
                planner.state.nominate(pod, slow.victims.node)
            if draw.random() < 0.5:
                for item in slow.victims.pods:
                    planner.state.lift(item.uid)
                    placed.pop(item.uid)
        if placed and draw.random() < 0.3:  # a pod is told to have started at another time
            old, node = placed[draw.choice(sorted(placed))]
            planner.state.place(planner.pod({**old.obj, "status": {"startTime": "2026-01-01T00:00:09Z"}}), node)
    assert compared > 10 and searched


def test_pods_with_ports_are_looked_at_node_by_node_and_others_are_not(monkeypatch):
    planner = Planner(Chance(1))
    planner.state.set_node(
        {"metadata": {"name": "n", "labels": {}}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}
    )
    planner.state.set_node(
        {"metadata": {"name": "m", "labels": {}}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}
    )
    looked = []
    one_node = preemption._victims
    monkeypatch.setattr(preemption, "_victims", lambda *given: looked.append(given[3].name) or one_node(*given))

    def pod(name, priority, **container):
        requests = {"requests": {"cpu": "1"}}
        spec = {"priority": priority, "containers": [{"name": "c", "resources": requests, **container}]}
        return planner.pod({"metadata": {"name": name, "uid": name, "namespace": "d"}, "spec": spec})

    for node in "nm":
        planner.state.place(pod(f"low-{node}", 0), node)
    plain, ported = pod("plain", 5), pod("ported", 5, ports=[{"hostPort": 80}])
    first = preemption.plan_preemption(planner, plain, planner.decide(plain).failure, [])
    assert first.victims is not None and looked == [first.victims.node]
    looked.clear()
    second = preemption.plan_preemption(planner, ported, planner.decide(ported).failure, [])
    assert second.victims is not None and sorted(looked) == ["m", "n"]

"""The arrays say of every node what a plain evaluation of it says, whatever happens in between."""

from __future__ import annotations

import random

import pytest
from scheduling_reference import HOST, ZONE, Reference

from atoll.base.chance import Chance
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import ClusterState


def a_node(draw, number):
    labels = {HOST: f"h{number}", "disk": draw.choice(["ssd", "hdd"]), "cores": str(draw.randint(1, 20))}
    if draw.random() < 0.8:
        labels[ZONE] = draw.choice(["z1", "z2"])
    spec = {"unschedulable": draw.random() < 0.1}
    if draw.random() < 0.3:
        spec["taints"] = [{"key": draw.choice("tu"), "effect": draw.choice(["NoSchedule", "PreferNoSchedule"])}]
    allocatable = {"cpu": draw.choice(["2", "4"]), "memory": draw.choice(["8Gi", "6Gi", "0"]), "pods": "6"}
    allocatable["example.com/gpu"] = draw.choice("012")
    return {"metadata": {"name": f"n{number}", "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def a_spec(draw):
    requests = draw.choice([{}, {"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}, {"example.com/gpu": "1"}])
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    if draw.random() < 0.3:
        spec["tolerations"] = [{"key": "t", "operator": "Exists"}]
    if draw.random() < 0.2:
        spec["nodeSelector"] = {"disk": "ssd"}
    items = [
        {"key": "disk", "operator": "In", "values": ["ssd"]},
        {"key": ZONE, "operator": "DoesNotExist"},
        {"key": ZONE, "operator": "NotIn", "values": ["z1"]},
        {"key": "cores", "operator": "Gt", "values": ["8"]},
    ]
    if draw.random() < 0.5:
        terms = [{"matchExpressions": draw.sample(items, draw.randint(0, 2))} for _ in range(draw.randint(1, 2))]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        weighted = [{"weight": draw.randint(1, 100), "preference": term} for term in terms]
        preferred = {"preferredDuringSchedulingIgnoredDuringExecution": weighted}
        spec["affinity"] = {"nodeAffinity": draw.choice([required, preferred])}
    return spec


@pytest.mark.parametrize("seed", range(40))
def test_local_plugins_equal_plain_evaluation(seed):
    draw = random.Random(seed)
    state = ClusterState(Chance(seed))
    nodes, placed, where = {}, {}, {}
    snapshot = Snapshot(state)

    def set_node(number):
        obj = a_node(draw, number)
        nodes[obj["metadata"]["name"]] = obj
        placed.setdefault(obj["metadata"]["name"], [])
        state.set_node(obj)

    for number in range(80 if seed % 10 == 0 else draw.randint(1, 30)):
        set_node(number)
    specs = [a_spec(draw) for _ in range(4)]
    evaluations = {}
    for step in range(60):
        spec = draw.choice(specs)
        obj = {"metadata": {"name": f"p{step}", "uid": f"u{step}", "namespace": "d"}, "spec": spec}
        pod = state.templates.pod(obj)
        snapshot.follow()
        evaluation = evaluations.get(pod.template.key)
        if evaluation is None:
            evaluation = Evaluation(snapshot, Shape((pod.template,), pod.template), default_plugins())
            evaluations[pod.template.key] = evaluation
        evaluation.sync()
        reference = Reference(list(nodes.values()), placed)
        reasons = {name: reference.why_not(obj, node) for name, node in nodes.items()}
        told = {name: evaluation.refusals.why(state.nodes[name]) for name in nodes}
        assert {name: why and why.reasons for name, why in told.items()} == reasons
        totals = reference.totals(obj)
        # spread and affinity of pods, which nothing here has, count the same on every node
        assert evaluation.totals() == totals
        row = evaluation.best()
        chosen = None if row is None else snapshot.names[row]
        best = max(totals.values(), default=0)
        equals = [name for name in totals if totals[name] == best]
        assert chosen == min(equals, key=lambda n: (len(placed[n]), state.nodes[n].order), default=None)
        if chosen is not None:
            placed[chosen].append(obj)
            where[pod.uid] = (chosen, obj)
            state.place(pod, chosen)
        action = draw.random()
        if action < 0.2 and where:
            uid = draw.choice(sorted(where))
            name, old = where.pop(uid)
            placed[name].remove(old)
            state.lift(uid)
        elif action < 0.4:
            set_node(draw.randint(0, len(nodes) + 2))
        elif action < 0.5:
            empty = [name for name in nodes if not placed[name]]
            if empty:
                state.remove_node(empty[0])
                del nodes[empty[0]], placed[empty[0]]


def test_many_changed_nodes_are_no_reason_to_look_at_all_anew():
    """Readers follow by the journals; only nodes that are new in bulk make them start over."""
    draw = random.Random(1)
    state = ClusterState(Chance(1))
    snapshot = Snapshot(state)
    for number in range(100):
        state.set_node(a_node(draw, number))
    snapshot.follow()
    changed, placed = snapshot.changed.end, snapshot.placed.end
    for number in range(100):
        state.touch(f"n{number}")
    snapshot.follow()
    assert list(snapshot.changed.since(changed)) == list(range(100))
    assert list(snapshot.placed.since(placed)) == list(range(100))

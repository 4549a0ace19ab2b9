"""An evaluation that goes on from its last decision decides as one that is made anew, and one row as many do."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.arrays import np
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.matching import label_selector
from atoll.scheduling.plan import Planner
from atoll.scheduling.plugins.registry import default_plugins

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def a_node(draw, number, zones):
    labels = {HOST: f"h{number}"}
    if zones and draw.random() < 0.8:
        labels[ZONE] = draw.choice(["z1", "z2"])
    spec = {"unschedulable": draw.random() < 0.1}
    if draw.random() < 0.2:
        spec["taints"] = [{"key": "t", "effect": draw.choice(["NoSchedule", "PreferNoSchedule"])}]
    allocatable = {
        "cpu": draw.choice(["2", "4", "0"]),
        "memory": draw.choice(["8Gi", "6Gi", "0"]),
        "pods": draw.choice(["1", "5", "40"]),
    }
    return {"metadata": {"name": f"n{number}", "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def a_spec(draw):
    requests = draw.choice([{}, {"cpu": "100m"}, {"cpu": "250m", "memory": "100Mi"}])
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    if draw.random() < 0.3:
        selector = {"matchLabels": {"app": "a"}}
        keys = draw.sample([HOST, ZONE], draw.randint(1, 2))
        when = draw.choice(["ScheduleAnyway", "ScheduleAnyway", "DoNotSchedule"])
        spec["topologySpreadConstraints"] = [
            {"maxSkew": draw.randint(1, 3), "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector}
            for key in keys
        ]
    if draw.random() < 0.2:
        term = {"labelSelector": {"matchLabels": {"app": "b"}}, "topologyKey": HOST}
        preferred = [{"weight": 10, "podAffinityTerm": term}]
        kind = draw.choice(["podAffinity", "podAntiAffinity"])
        spec["affinity"] = {kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return spec


def by_app(obj):
    """Every pod is spread by its own label, as a ReplicaSet's are by its selector."""
    selector = {"matchLabels": obj["metadata"]["labels"]}
    return repr(selector), label_selector(selector)


@pytest.mark.parametrize("seed", range(150))
def test_kept_decisions_equal_fresh_ones(seed):
    draw = random.Random(seed)
    planner = Planner(Chance(seed), by_app)
    zones = draw.random() < 0.3
    count = draw.randint(1, 25)
    for number in range(count):
        planner.state.set_node(a_node(draw, number, zones))
    kinds = [(draw.choice("ab"), a_spec(draw)) for _ in range(draw.randint(1, 3))]
    where = {}
    for step in range(120):
        if draw.random() < 0.2 or not step:  # a run of one kind: the others then have many rows to look at
            app, spec = draw.choice(kinds)
        metadata = {"name": f"p{step}", "uid": f"u{step}", "namespace": "d", "labels": {"app": app}}
        pod = planner.pod({"metadata": metadata, "spec": spec})
        kept = planner.evaluation(pod)
        fresh = Evaluation(planner.nodes, kept.shape, default_plugins())
        barred = draw.sample(range(count), 1) if draw.random() < 0.1 else ()
        row = kept.best(barred)
        assert row == fresh.best(barred)
        if row is not None:
            planner.state.place(pod, planner.nodes.names[row])
            where[pod.uid] = pod
        action = draw.random()
        if action < 0.15 and where:
            planner.state.lift(where.pop(draw.choice(sorted(where))).uid)
        elif action < 0.2:
            planner.state.set_node(a_node(draw, draw.randint(0, count), zones))
            count = len(planner.state.nodes)
        elif action < 0.25:
            kept = planner.evaluation(pod)
            assert kept.totals() == Evaluation(planner.nodes, kept.shape, default_plugins()).totals()


@pytest.mark.parametrize("seed", range(20))
def test_one_row_is_judged_as_in_an_array(seed):
    draw = random.Random(seed)
    planner = Planner(Chance(seed))
    for number in range(12):
        planner.state.set_node(a_node(draw, number, True))
    pods = [
        planner.pod({"metadata": {"name": f"p{n}", "uid": f"u{n}", "namespace": "d"}, "spec": a_spec(draw)})
        for n in range(30)
    ]
    for pod in pods:
        planner.state.place(pod, f"n{draw.randint(0, 11)}")
    evaluation = planner.evaluation(pods[0])
    rows = planner.nodes.all_rows()
    for plugin in default_plugins():
        filtered = plugin.filter(evaluation.shape, planner.nodes)
        scored = plugin.score(evaluation.shape, planner.nodes)
        if filtered is not None:
            assert [filtered.allows(row) for row in rows.tolist()] == filtered.allowed(rows).tolist()
        if scored is not None:
            values = scored.values(rows)
            assert [scored.value(row) for row in rows.tolist()] == np.asarray(values).tolist()

"""What is kept for a gang suffices once the work on it has ended, whatever small work came meanwhile."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.gang import Gang, Placement, plan_gang
from atoll.scheduling.gang_reservation import plan_reservation
from atoll.scheduling.plan import Planner

BLOCK, RACK, HOST = "example.com/block", "example.com/rack", "kubernetes.io/hostname"
LEVELS = (BLOCK, RACK, HOST)


def a_pod(planner, name, gpus, policy="Never", priority=0):
    spec = {"containers": [{"resources": {"requests": {"gpu": str(gpus), "cpu": "1"}}}], "restartPolicy": policy}
    metadata = {"name": name, "namespace": "d", "uid": name}
    return planner.pod({"metadata": metadata, "spec": {**spec, "priority": priority}})


def a_busy_world(draw):
    """Some pods end by themselves, some do not."""
    planner = Planner(Chance(draw.random()))
    for number in range(draw.randint(4, 24)):
        name = f"h{number:02}"
        labels = {BLOCK: f"b{number // 8}", RACK: f"r{number // 4}", HOST: name}
        have = {"cpu": "20", "pods": "12", "gpu": "8"}
        spec = {"unschedulable": draw.random() < 0.1}
        planner.state.set_node(
            {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": have}}
        )
        for place in range(draw.randint(0, 7)):
            policy = draw.choice(["Never", "OnFailure", "Never", "Always"])
            planner.state.place(a_pod(planner, f"{name}-{place}", 1, policy), name)
    return planner


def lift_all_that_ends(planner, before, names):
    """Of what was there before."""
    for name in names:
        for pod in list(planner.state.nodes[name].pods.values()):
            if pod.obj["spec"]["restartPolicy"] != "Always" and pod.uid in before[name]:
                planner.state.lift(pod.uid)


@pytest.mark.parametrize("seed", range(80))
def test_what_is_kept_suffices(seed):
    draw = random.Random(seed)
    planner = a_busy_world(draw)
    sizes = [draw.choice([1, 2, 4, 8])] * draw.randint(1, 24) + [draw.choice([1, 2])] * draw.choice([0, 0, 3])
    pods = [a_pod(planner, f"g-{number}", gpus) for number, gpus in enumerate(sizes)]
    gang = Gang("d/g", pods, LEVELS, draw.choice(["", RACK, BLOCK]))
    if isinstance(plan_gang(planner, gang), Placement):
        return
    before = {name: sorted(node.pods) for name, node in planner.state.nodes.items()}
    kept = plan_reservation(planner, gang)
    assert {name: sorted(node.pods) for name, node in planner.state.nodes.items()} == before
    if kept is None:
        lift_all_that_ends(planner, before, before)
        assert not isinstance(plan_gang(planner, gang), Placement) or len(set(sizes)) > 1
        return
    planner.reservation = kept
    other = Gang("d/other", [a_pod(planner, f"o-{number}", 1) for number in range(4)], LEVELS)
    found = plan_gang(planner, other)
    if isinstance(found, Placement):
        assert not set(found.nodes) & set(kept.amounts)
    for number in range(60):  # small work that keeps coming
        pod = a_pod(planner, f"small-{number}", draw.choice([0, 1]))
        decision = planner.decide(pod)
        if decision.node is not None:
            planner.state.place(pod, decision.node)
    lift_all_that_ends(planner, before, kept.amounts)
    assert isinstance(plan_gang(planner, gang), Placement)


def test_the_only_node_is_kept_for_a_gang_too():
    planner = Planner(Chance(1))
    have = {"cpu": "20", "pods": "12", "gpu": "8"}
    planner.state.set_node({"metadata": {"name": "only"}, "spec": {}, "status": {"allocatable": have}})
    planner.state.place(a_pod(planner, "there", 4), "only")
    gang = Gang("d/g", [a_pod(planner, f"g-{number}", 4) for number in range(2)], LEVELS)
    assert not isinstance(plan_gang(planner, gang), Placement)
    planner.reservation = plan_reservation(planner, gang)
    decision = planner.decide(a_pod(planner, "small", 1))
    assert decision.node is None and "kept for gang d/g" in str(decision.failure.message)

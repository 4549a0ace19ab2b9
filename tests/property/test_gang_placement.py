"""Gangs on random data centres: what is placed fits and shares what it must; what is refused fits nowhere."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.gang import Gang, Placement, plan_gang
from atoll.scheduling.plan import Planner

BLOCK, RACK, HOST = "example.com/block", "example.com/rack", "kubernetes.io/hostname"
LEVELS = (BLOCK, RACK, HOST)


def a_world(draw):
    planner = Planner(Chance(draw.random()))
    for number in range(draw.randint(1, 24)):
        name = f"h{number:02}"
        labels = {BLOCK: f"b{number // 8}", RACK: f"r{number // 4}", HOST: name}
        if draw.random() < 0.1:
            del labels[draw.choice([BLOCK, RACK])]
        have = {"cpu": "64", "pods": "9", "gpu": str(draw.choice([0, 4, 8]))}
        spec = {"unschedulable": draw.random() < 0.1}
        planner.state.set_node(
            {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": have}}
        )
    return planner


def a_pod(planner, name, gpus):
    spec = {"containers": [{"resources": {"requests": {"gpu": str(gpus)}}}]}
    return planner.pod({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": spec})


def holds(node, gpus):
    """How many pods of so many GPUs a node takes, by hand."""
    if node.unschedulable:
        return 0
    return min(
        (node.allocatable["gpu"] - node.requested.get("gpu", 0)) // gpus, node.allocatable["pods"] - len(node.pods)
    )


@pytest.mark.parametrize("seed", range(60))
def test_gangs(seed):
    draw = random.Random(seed)
    planner = a_world(draw)
    for number in range(20):
        gpus, size = draw.choice([1, 2, 4]), draw.randint(1, 20)
        required, least = draw.choice(["", BLOCK, RACK, HOST]), draw.choice([0, 0, draw.randint(1, size)])
        pods = [a_pod(planner, f"g{number}-{member}", gpus) for member in range(size)]
        room = {}
        for node in planner.state.nodes.values():
            if not required or required in node.labels:
                domain = node.labels[required] if required else ""
                room[domain] = room.get(domain, 0) + holds(node, gpus)
        most = max(room.values(), default=0)
        found = plan_gang(planner, Gang(f"g{number}", pods, LEVELS, required, least=least))
        assert not any(pod.uid in planner.state.pod_nodes for pod in pods)
        if not isinstance(found, Placement):
            assert most < (least or size)
            assert found.most == most if required else found.most <= most
            continue
        assert len(found.nodes) == (size if least == 0 else min(size, most))
        if required:
            assert {planner.state.nodes[name].labels.get(required) for name in found.nodes} == {found.domain}
            enough = [value for value in room.values() if value >= len(found.nodes)]
            assert room[found.domain] == min(enough)  # the smallest hole that will do
        for pod, name in zip(pods, found.nodes, strict=False):
            node = planner.state.nodes[name]
            assert holds(node, gpus) >= 1
            planner.state.place(pod, name)
        if draw.random() < 0.3 and planner.state.pod_nodes:
            planner.state.lift(draw.choice(sorted(planner.state.pod_nodes)))


@pytest.mark.parametrize("seed", range(20))
def test_gangs_of_two_shapes_fit_where_they_are_put(seed):
    draw = random.Random(seed)
    planner = a_world(draw)
    for number in range(8):
        sizes = [draw.choice([1, 2, 4]) for _ in range(draw.randint(2, 9))]
        pods = [a_pod(planner, f"g{number}-{member}", gpus) for member, gpus in enumerate(sizes)]
        before = {name: sorted(node.pods) for name, node in planner.state.nodes.items()}
        found = plan_gang(planner, Gang(f"g{number}", pods, LEVELS, draw.choice(["", RACK])))
        assert {name: sorted(node.pods) for name, node in planner.state.nodes.items()} == before
        if isinstance(found, Placement):
            for pod, name, gpus in zip(pods, found.nodes, sizes, strict=True):
                assert holds(planner.state.nodes[name], gpus) >= 1
                planner.state.place(pod, name)

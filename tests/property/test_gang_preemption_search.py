"""Preemption for gangs finds in few tries what trying unit by unit finds, on random data centres."""

from __future__ import annotations

import random

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.gang import Gang, Placement, plan_gang
from atoll.scheduling.gang_preemption import plan_gang_preemption
from atoll.scheduling.plan import Planner
from atoll.scheduling.trial import lift
from atoll.scheduling.units import Unit, Work

RACK, HOST = "example.com/rack", "kubernetes.io/hostname"


def a_world(draw):
    """Nodes full of gangs and single pods of several priorities."""
    planner = Planner(Chance(draw.random()))
    count = draw.randint(2, 12)
    for number in range(count):
        name = f"h{number:02}"
        have = {"pods": "20", "gpu": "8"}
        labels = {RACK: f"r{number // 4}", HOST: name}
        planner.state.set_node({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": have}})
    for number in range(count * 8):
        node = f"h{draw.randrange(count):02}"
        state = planner.state.nodes[node]
        if state.requested.get("gpu", 0) < state.allocatable["gpu"]:
            app = draw.choice(["", "", *(f"g{name}" for name in range(count))])
            priority = sum(map(ord, app)) % 5 if app else draw.randrange(6)
            planner.state.place(a_pod(planner, f"p{number}", 1, priority, app), node)
    return planner


def a_pod(planner, name, gpus, priority=0, app=""):
    spec = {"priority": priority, "containers": [{"resources": {"requests": {"gpu": str(gpus)}}}]}
    metadata = {"name": name, "namespace": "d", "uid": name, "labels": {"app": app}}
    return planner.pod({"metadata": metadata, "spec": spec})


def gang_of(pod):
    return pod.pods.labels["app"]


def units_of(planner, gang):
    found = {}
    for node in planner.state.nodes.values():
        for pod in node.pods.values():
            key = gang_of(pod) or f"d/{pod.name}"
            found.setdefault(key, Unit(key, [])).pods.append((pod, node.name))
    return sorted((unit for unit in found.values() if unit.priority < gang.priority), key=lambda unit: unit.rank)


def one_by_one(planner, gang):
    """The victims: the least important go until the gang fits, then the most important stay where that is possible."""
    gone = {}

    def fits():
        return isinstance(plan_gang(planner, gang), Placement)

    for unit in units_of(planner, gang):
        if fits():
            break
        gone[unit.name] = (unit, [lift(planner.state, pod) for pod, _ in unit.pods])
    found = None
    if fits():
        for unit, undos in sorted(gone.values(), key=lambda item: item[0].rank, reverse=True):
            for undo in reversed(undos):
                undo()
            del gone[unit.name]
            if not fits():
                gone[unit.name] = (unit, [lift(planner.state, pod) for pod, _ in unit.pods])
        found = set(gone)
    for _, undos in gone.values():
        for undo in reversed(undos):
            undo()
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_same_victims(seed):
    """Of one `Work`, while pods come, go and move."""
    draw = random.Random(seed)
    planner = a_world(draw)
    work = Work(planner.state, gang_of)
    for number in range(6):
        size, gpus, priority = draw.randint(1, 12), draw.choice([1, 1, 2]), draw.randrange(7)
        gang = Gang(
            f"vip{number}", [a_pod(planner, f"v{number}-{n}", gpus, priority) for n in range(size)], (RACK, HOST)
        )
        before = {name: sorted(node.pods) for name, node in planner.state.nodes.items()}
        expected = one_by_one(planner, gang)
        found = plan_gang_preemption(planner, gang, work, [])
        assert (found is None) == (not expected)
        if found is not None:
            assert {unit.name for unit in found.units} == expected
            assert len(found.placement.nodes) == size
        assert before == {name: sorted(node.pods) for name, node in planner.state.nodes.items()}
        changes(draw, planner, number)


def changes(draw, planner, number):
    state = planner.state
    for uid in draw.sample(sorted(state.pod_nodes), min(4, len(state.pod_nodes))):
        pod, node = state.placed(uid), f"h{draw.randrange(len(state.nodes)):02}"
        what = draw.randrange(4)
        if what == 0:
            state.lift(uid)
        elif what == 1:  # it moves
            state.place(pod, node)
        elif what == 2:  # and starts: who started late goes first
            status = {"startTime": f"2026-01-01T00:00:{draw.randrange(60):02}Z"}
            state.place(planner.pod({**pod.obj, "status": status}), state.pod_nodes[uid])
        else:
            state.place(a_pod(planner, f"n{number}-{uid}", 1, draw.randrange(6)), node)

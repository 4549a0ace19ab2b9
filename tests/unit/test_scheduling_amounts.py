"""Amounts that no machine has: they are counted as very much, and decisions go on."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.plan import Planner
from atoll.scheduling.preemption import plan_preemption

HUGE = ["9223372036854775807", "9e99", "100000Ei", "-9e99"]


@pytest.mark.parametrize("have", HUGE)
@pytest.mark.parametrize("want", HUGE)
def test_huge_amounts(have, want):
    planner = Planner(Chance(1))
    for number, amount in enumerate((have, "1")):
        allocatable = {"cpu": amount, "memory": amount, "x.io/a": amount, "pods": "110"}
        metadata = {"name": f"n{number}", "labels": {"kubernetes.io/hostname": f"n{number}"}}
        planner.state.set_node({"metadata": metadata, "status": {"allocatable": allocatable}})
    for number in range(4):
        requests = {"cpu": want, "memory": want, "x.io/a": want}
        container = {"name": "c", "resources": {"requests": requests}}
        spec = {"containers": [container, {**container, "name": "d"}], "priority": number, "overhead": {"cpu": want}}
        pod = planner.pod({"metadata": {"name": f"p{number}", "uid": f"p{number}", "namespace": "d"}, "spec": spec})
        decision = planner.decide(pod)
        assert (decision.node is not None) == (want == "-9e99" or (have != "-9e99" and number == 0))
        if decision.node is None:
            assert "Insufficient cpu" in decision.failure.message
            found = plan_preemption(planner, pod, decision.failure, [])
            assert (found.victims is not None) == (have != "-9e99")
        else:
            planner.assume(pod, decision.node)
        small = planner.pod(
            {"metadata": {"name": "s", "uid": "s", "namespace": "d"}, "spec": {"containers": [{"name": "c"}]}}
        )
        assert planner.decide(small).node is not None

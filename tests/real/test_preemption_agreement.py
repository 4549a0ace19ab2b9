"""Whom the real kube-scheduler pushes out, against our plan: the same node, as many victims, of the same priorities."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import available, control_plane
from test_scheduler_agreement import Real

from atoll.base.chance import Chance
from atoll.scheduling.plan import Planner
from atoll.scheduling.preemption import plan_preemption

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="tests/real/build.py was not run")]

PRIORITIES = {"p5": 5, "p6": 6, "p10": 10, "p20": 20, "p100": 100}
# Pods on each four-CPU node: (name, priority class, CPU, labels); made so that nothing is left to chance.
FULL = {
    "n0": [("a1", "p10", "2", {}), ("a2", "p10", "2", {})],
    "n1": [("b1", "p5", "4", {"app": "guarded"})],
    "n2": [("c1", "p6", "3", {}), ("c2", "p6", "1", {})],
    "n3": [("d1", "p100", "4", {})],
}
# What comes: (CPU, priority class, is there a budget for app=guarded)
CASES = [("4", "p20", False), ("2", "p20", False), ("4", "p20", True), ("2", "p20", True), ("4", "p10", True)]


def pod(name, priority, cpu, labels, node=None):
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "priorityClassName": priority,
        "containers": [container],
    }
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def left(real):
    items = real.send("GET", "/api/v1/namespaces/default/pods")["items"]
    return {item["metadata"]["name"]: item for item in items if "deletionTimestamp" not in item["metadata"]}


def bound(real, name):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = real.send("GET", f"/api/v1/namespaces/default/pods/{name}")
        if found["spec"].get("nodeName"):
            return found["spec"]["nodeName"]
        time.sleep(0.05)
    raise AssertionError(f"{name} was not bound")


def expected(real, planner_pods, nodes, coming, budgets):
    planner = Planner(Chance(1))
    for node in nodes:
        planner.state.set_node(node)
    for item in planner_pods.values():
        planner.state.place(planner.pod(item), item["spec"]["nodeName"])
    info = planner.pod(coming)
    victims = plan_preemption(planner, info, planner.decide(info).failure, budgets).victims
    return victims.node, sorted(victim.priority for victim in victims.pods)


@pytest.mark.parametrize(("cpu", "priority", "guarded"), CASES)
def test_the_same_victims(cpu, priority, guarded):
    with control_plane("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition") as plane:
        real = Real(plane)
        for name, value in PRIORITIES.items():
            body = {"metadata": {"name": name}, "value": value}
            real.send("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)
        amounts = {"cpu": "4", "memory": "8Gi", "pods": "10"}
        nodes = [
            real.send("POST", "/api/v1/nodes", {"metadata": {"name": name}, "status": {"allocatable": amounts}})
            for name in FULL
        ]
        path = "/api/v1/namespaces/default/pods"
        for node, there in FULL.items():
            for one in there:
                real.send("POST", path, pod(*one, node=node))
        budgets = []
        if guarded:
            spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}
            budget = {"metadata": {"name": "guard"}, "spec": spec}
            budgets.append(real.send("POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget))
        before = left(real)
        coming = real.send("POST", path, pod("new", priority, cpu, {}))
        node, priorities = expected(real, before, nodes, coming, budgets)
        plane.start_scheduler()
        assert bound(real, "new") == node
        gone = [before[name] for name in before if name not in left(real)]
        assert sorted(item["spec"]["priority"] for item in gone) == priorities
        assert {item["spec"]["nodeName"] for item in gone} == {node}

"""What a node's conditions demand: taints, Unknown conditions, the pace of evictions."""

from __future__ import annotations

import pytest

from atoll.cluster.nodes.lifecycle import plan
from atoll.scheduling.matching import tolerates


def node(ready=None, taints=(), unschedulable=False, **conditions):
    found = [{"type": kind, "status": status} for kind, status in conditions.items()]
    if ready:
        found.append({"type": "Ready", "status": ready, "lastTransitionTime": "t"})
    spec = {"taints": list(taints), "unschedulable": unschedulable}
    return {"metadata": {"name": "n", "creationTimestamp": "c"}, "spec": spec, "status": {"conditions": found}}


def taint(key, effect="NoSchedule"):
    return {"key": f"node.kubernetes.io/{key}" if "/" not in key else key, "effect": effect}


def shown(obj, evict=True):
    wanted = plan.wanted_taints(obj, plan.ready_status(obj), evict, "now")
    return None if wanted is None else sorted((item["key"].rpartition("/")[2], item["effect"]) for item in wanted)


MINE = taint("example.com/mine", "NoExecute")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (node("True"), None),
        (node("False"), [("not-ready", "NoExecute"), ("not-ready", "NoSchedule")]),
        (node("Unknown"), [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]),
        (node("True", [taint("not-ready"), MINE]), [("mine", "NoExecute")]),
        (node("True", MemoryPressure="True", DiskPressure="False"), [("memory-pressure", "NoSchedule")]),
        (node("True", unschedulable=True), [("unschedulable", "NoSchedule")]),
        (node("True", [taint("unschedulable")]), []),
    ],
)
def test_taints(obj, expected):
    assert shown(obj) == expected


def test_no_execute_waits_for_leave_but_is_swapped_without():
    assert shown(node("False"), evict=False) == [("not-ready", "NoSchedule")]
    began = node("Unknown", [taint("not-ready"), taint("not-ready", "NoExecute")])
    assert shown(began, evict=False) == [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]
    assert plan.wants_eviction(node("False"), "False")
    assert not plan.wants_eviction(began, "Unknown")


def test_silent_conditions():
    changed = plan.silent_conditions(node("True", MemoryPressure="False"), "now")
    assert {item["type"]: (item["status"], item["reason"]) for item in changed} == {
        "Ready": ("Unknown", "NodeStatusUnknown"),
        "MemoryPressure": ("Unknown", "NodeStatusUnknown"),
        "DiskPressure": ("Unknown", "NodeStatusNeverUpdated"),
        "PIDPressure": ("Unknown", "NodeStatusNeverUpdated"),
    }
    gone = node("Unknown", MemoryPressure="Unknown", DiskPressure="Unknown", PIDPressure="Unknown")
    assert plan.silent_conditions(gone, "now") == []


@pytest.mark.parametrize(
    ("ready", "not_ready", "everywhere", "rate"),
    [
        (5, 1, False, 0.1),
        (0, 6, True, 0.0),
        (0, 6, False, 0.1),
        (4, 6, False, 0.0),
        (40, 60, False, 0.01),
        (1, 2, False, 0.1),
    ],
)
def test_eviction_rates(ready, not_ready, everywhere, rate):
    assert plan.eviction_rate(ready, not_ready, everywhere) == rate


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 30}], 30.0),
        ([{"key": "a", "operator": "Exists", "tolerationSeconds": 60}, {"key": "b", "operator": "Exists"}], 60.0),
        ([{"key": "a", "operator": "Exists", "tolerationSeconds": -5}, {"key": "b", "operator": "Exists"}], 0.0),
        ([{"key": "a", "operator": "Exists"}], 0.0),
    ],
)
def test_how_long_a_pod_may_stay(tolerations, seconds):
    taints = [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]
    assert plan.min_toleration_seconds(taints, tolerations, tolerates) == seconds

"""Requests, selectors, tolerations, ports and scores, by example."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.matching import label_selector, node_selector, tolerates, topology_selector
from atoll.scheduling.plan import Planner
from atoll.scheduling.plugins.balanced import BalancedAllocation
from atoll.scheduling.plugins.resources import NodeResourcesFit
from atoll.scheduling.pod import ports_conflict
from atoll.scheduling.resources import DEFAULT_NONZERO, pod_requests
from atoll.scheduling.status import Status, counted, fit_error


def container(cpu=None, memory=None, **more):
    requests = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"resources": {"requests": requests}, **more}


def test_requests_of_init_containers_sidecars_overhead_and_pod_level():
    assert pod_requests({"containers": [container("100m", "1Mi"), container("200m")]}) == {
        "cpu": 300,
        "memory": 1 << 20,
    }
    spec = {
        "containers": [container("100m")],
        "initContainers": [container("50m", restartPolicy="Always"), container("1"), container("10m")],
    }
    assert pod_requests(spec) == {"cpu": 1050}  # the second init container beside the sidecar
    assert pod_requests({**spec, "overhead": {"cpu": "5m"}}) == {"cpu": 1055}
    assert pod_requests({**spec, "resources": {"requests": {"cpu": "2", "example.com/x": "1"}}}) == {"cpu": 2000}
    assert pod_requests({"containers": [{}]}, DEFAULT_NONZERO) == {"cpu": 100, "memory": 200 << 20}
    assert pod_requests({"containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}]}) == {"nvidia.com/gpu": 2}


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (None, {}, False),
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"b": ""}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"b": ""}, True),
    ],
)
def test_label_selectors(selector, labels, matches):
    assert label_selector(selector)(labels) is matches


def test_node_selectors_are_alternatives_of_terms():
    def gt(key, value):
        return {"matchExpressions": [{"key": key, "operator": "Gt", "values": [value]}]}

    selector = node_selector({"nodeSelectorTerms": [gt("cores", "8"), {"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n"]}]}, {}]})  # fmt: skip
    assert selector("x", {"cores": "16"})
    assert not selector("x", {"cores": "8"})
    assert not selector("x", {"cores": "many"})
    assert selector("n", {})
    assert node_selector(None) is None
    assert topology_selector([]) is None
    zones = topology_selector([{"matchLabelExpressions": [{"key": "z", "values": ["a", "b"]}]}])
    assert zones("n", {"z": "b"}) and not zones("n", {"z": "c"})


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        ({"operator": "Exists"}, {"key": "k", "effect": "NoExecute"}, True),
        ({"key": "k", "operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, {"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "w"}, {"key": "k", "value": "v", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, {"key": "k", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Gt", "value": "5"}, {"key": "k", "value": "7", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Lt", "value": "5"}, {"key": "k", "value": "7", "effect": "NoSchedule"}, False),
    ],
)
def test_tolerations(toleration, taint, tolerated):
    assert tolerates(toleration, taint) is tolerated


@pytest.mark.parametrize(
    ("wanted", "used", "conflict"),
    [
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("127.0.0.1", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("127.0.0.1", "TCP", 80), ("127.0.0.2", "TCP", 80), False),
        (("0.0.0.0", "UDP", 80), ("0.0.0.0", "TCP", 80), False),
        (("0.0.0.0", "TCP", 81), ("0.0.0.0", "TCP", 80), False),
    ],
)
def test_host_ports(wanted, used, conflict):
    assert ports_conflict([wanted], {used: 1}) is conflict


def test_fit_errors_count_and_sort_as_text():
    statuses = [Status(("b",)), Status(("a", "b")), Status(("a",))] + [Status(("c",))] * 10
    assert fit_error(13, counted(statuses)) == "0/13 nodes are available: 10 c, 2 a, 2 b."
    assert fit_error(2, {}, "why not", "more") == "0/2 nodes are available: why not. more"


def planner(**allocatable):
    found = Planner(Chance(1))
    have = {"cpu": "4", "memory": "8Gi", "pods": "10", **allocatable}
    found.state.set_node({"metadata": {"name": "n"}, "status": {"allocatable": have}})
    return found


def pod(found, number=0, **requests):
    spec = {"containers": [{"resources": {"requests": requests}}]}
    return found.pod({"metadata": {"name": f"p{number}", "namespace": "d", "uid": f"u{number}"}, "spec": spec})


def score(found, plugin, scored):
    evaluation = found.evaluation(scored)
    part = plugin.score(evaluation.shape, found.nodes)
    return None if part is None else part.values(found.nodes.all_rows()).tolist()


def test_scores():
    found = planner()
    half = pod(found, cpu="2", memory="4Gi")
    assert score(found, NodeResourcesFit(), half) == [50]
    assert score(found, BalancedAllocation(), half) == [75]
    assert score(found, BalancedAllocation(), pod(found, cpu="4")) == [50]
    assert score(found, BalancedAllocation(), pod(found)) is None


def test_a_state_that_saw_pods_before_their_node():
    found = planner()
    waiting = pod(found, 1, cpu="3")
    found.state.place(waiting, "late")
    found.state.set_node({"metadata": {"name": "late"}, "status": {"allocatable": {"cpu": "4", "pods": "10"}}})
    assert found.state.nodes["late"].requested == {"cpu": 3000}
    found.state.remove_node("n")
    decision = found.decide(pod(found, 2, cpu="2"))
    assert decision.failure.message == "0/1 nodes are available: 1 Insufficient cpu."
    found.state.lift(waiting.uid)
    assert found.decide(pod(found, 2, cpu="2")).node == "late"


def test_no_nodes_at_all():
    assert Planner(Chance(1)).decide(pod(planner())).failure.message == "no nodes available to schedule pods"


def test_nominated_pods_keep_the_room_that_was_made_for_them():
    found = planner()
    asked = {"resources": {"requests": {"cpu": "3"}}}
    metadata = {"name": "i", "namespace": "d", "uid": "i"}
    important = found.pod({"metadata": metadata, "spec": {"priority": 10, "containers": [asked]}})
    found.state.nominate(important, "n")
    small = pod(found, cpu="2")
    assert found.decide(small).failure.message == "0/1 nodes are available: 1 Insufficient cpu."
    assert found.decide(important).node == "n"
    found.state.withdraw("i")
    assert found.decide(small).node == "n"


def test_label_keys_narrow_affinity_terms():
    found = Planner(Chance(1))
    for name in ("a", "b"):
        labels = {"kubernetes.io/hostname": name}
        have = {"cpu": "4", "pods": "10"}
        found.state.set_node({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": have}})
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "x"}},
        "matchLabelKeys": ["revision"],
    }
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}

    def revision(number, name):
        metadata = {"name": name, "namespace": "d", "uid": name, "labels": {"app": "x", "revision": number}}
        return found.pod({"metadata": metadata, "spec": {"affinity": apart, "containers": []}})

    for number, name in (("1", "p"), ("1", "q"), ("2", "r"), ("2", "s")):
        one = revision(number, name)
        found.state.place(one, found.decide(one).node)
    assert found.decide(revision("1", "t")).node is None
    assert found.decide(revision("3", "u")).node is not None


def test_the_first_pod_of_all_may_be_for_one_node_and_name_labels():
    """A daemon's pod with a node selector, before anything else was scheduled: it is judged alone, without arrays."""
    planner = Planner(Chance(1))
    node = {"metadata": {"name": "n", "labels": {"a": "b"}}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}
    planner.state.set_node(node)
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    spec = {
        "containers": [{"name": "c"}],
        "nodeSelector": {"a": "b"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
    }
    found = planner.pod({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec})
    assert planner.decide(found).node == "n"

"""Room in a topology as the queues decide about it: who goes for it, which flavour has it, and how it is explained."""

from __future__ import annotations

import pytest
from queueing_centre import HOST, RACK, Centre, queue

from atoll.capacity.queueing.asked import slice_layers, template_problems, topology_request
from atoll.capacity.queueing.explain import explain
from atoll.capacity.queueing.model import (
    NEVER,
    ClusterQueue,
    FairSharing,
    Fungibility,
    PodSet,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)
from atoll.capacity.queueing.topology import NodeRoom, TopologyRequest
from atoll.kinds import kueue


def two_racks_in_use(**more) -> Centre:
    """Six of the eight GPUs of each rack are given out, in threes."""
    centre = Centre(queue("q", 100, **more))
    for number, priority in enumerate((0, 1, 2, 3)):
        centre.run(f"w{number}", "q", 3, priority)
    assert [centre.where(f"w{number}") for number in range(4)] == [{"a0"}, {"a1"}, {"b0"}, {"b1"}]
    return centre


def test_for_a_domain_the_fewest_and_lowest_go_though_there_is_quota() -> None:
    assert two_racks_in_use().victims("needs5", "q", 5, 9) == ["w0"], "3 and 2 of rack a"
    assert two_racks_in_use().victims("needs8", "q", 8, 9) == ["w0", "w1"], "one whole rack, not one of each"
    assert two_racks_in_use().victims("needs2", "q", 2, 9) == [], "two hosts have one each: it runs"
    assert two_racks_in_use(policy=NEVER).victims("needs8", "q", 8, 9) == []
    assert two_racks_in_use().victims("needs9", "q", 9, 9) == [], "no rack has nine: nobody goes in vain"
    assert two_racks_in_use().victims("low", "q", 8, 1) == [], "w1 is not lower than it"
    assert two_racks_in_use().victims("level", "q", 8, 4, TopologyRequest(required="zone")) == []


def test_while_the_victims_go_nobody_takes_the_room_that_is_made() -> None:
    centre = two_racks_in_use()
    assert centre.victims("needs8", "q", 8, 9) == ["w0", "w1"]
    centre.go("w0", "w1")
    assert centre.victims("late", "q", 2, 5) == [] and not centre.plan().admit, "the line waits for its head"
    for name in ("w0", "w1"):
        centre.state.drop(("ns", name))
    plan = centre.plan()
    assert [it.workload.key[1] for it in plan.admit] == ["needs8", "late"]
    assert (centre.where("needs8"), centre.where("late")) == ({"a0", "a1"}, {"b0", "b1"})


def test_of_the_cohort_those_go_who_borrow() -> None:
    centre = Centre(queue("mine", 8, "all"), queue("other", 8, "all"), queue("spare", 8, "all"))
    centre.run("borrows", "other", 4)
    centre.run("borrows-too", "other", 8)
    assert centre.victims("needs5", "mine", 5, 9) == ["borrows-too"], (
        "the latest of a queue that uses twelve of its eight"
    )
    centre = Centre(queue("mine", 8, "all"), queue("other", 12, "all"))
    centre.run("owns", "other", 12, request=TopologyRequest())
    assert centre.victims("needs5", "mine", 5, 9) == [], "other does not borrow"


def test_fair_sharing_makes_room_too() -> None:
    fair = FairSharing(True)
    centre = Centre(queue("mine", 4, "all"), queue("other", 4, "all"), queue("spare", 12, "all"), fair=fair)
    centre.run("one", "other", 4)
    centre.run("two", "other", 8)
    assert centre.victims("needs5", "mine", 5, 9) == ["one"]


def test_a_flavour_with_room_comes_before_preemption_in_another() -> None:
    for fungibility, expected in ((Fungibility(), []), (Fungibility(stop_at_preempt=True), ["w0", "w1"])):
        centre = two_racks_in_use(flavors=("f", "g"), fungibility=fungibility)
        assert centre.victims("needs8", "q", 8, 9) == expected
        if not expected:
            assert centre.where("needs8") == {"c0", "c1"}


def test_pod_sets_of_one_group_get_one_flavour() -> None:
    quotas = {("f", "cpu"): Quota(2000), ("g", "cpu"): Quota(9000)}
    one = ClusterQueue("q", "", (ResourceGroup(("cpu",), ("f", "g")),), quotas, selector={})
    for group, expected in (("", ["f", "g"]), ("pipeline", ["g", "g"])):
        centre = Centre(one)
        request = TopologyRequest(preferred=RACK, group=group)
        sets = (
            PodSet("leader", 1, None, {"cpu": 1}, {}, request),
            PodSet("workers", 4, None, {"cpu": 2000}, {}, request),
        )
        centre.state.set_rooms(
            tuple(
                NodeRoom(r, {RACK: r, HOST: r, "pool": p}, (), {"cpu": 10000, "pods": 9})
                for r, p in (("a", "f"), ("c", "g"))
            )
        )
        centre.state.put(Workload(("ns", "w"), "w", "q", 0, 0.0, 0.0, Shape(sets)))
        (admit,) = centre.plan().admit
        assert [item.flavors["cpu"] for item in admit.workload.admission.pod_sets] == expected


def test_who_waits_for_room_gets_what_another_tree_gives_back() -> None:
    centre = Centre(queue("one", 8), queue("two", 8), racks="a")
    centre.run("holds", "one", 8)
    centre.add("waits", "two", 8)
    assert not centre.plan().admit
    centre.state.drop(("ns", "holds"))
    assert [it.workload.key[1] for it in centre.plan().admit] == ["waits"]


# -- why


def said(centre: Centre, name: str) -> tuple[str, str]:
    row = explain(centre.state, centre.state.workloads["ns", name])
    return row.why, row.cheapest


def test_why_says_what_one_domain_lacks_and_who_would_make_room() -> None:
    centre = two_racks_in_use()
    centre.add("train", "q", 8, 9)
    assert said(centre, "train") == (
        "needs 8 free nvidia.com/gpu in one rack; 2 racks have 2",
        "preempting ns/w0 (priority 0), ns/w1 (priority 1) would do",
    )
    centre.add("meek", "q", 5)
    assert said(centre, "meek") == (
        "needs 5 free nvidia.com/gpu in one rack; 2 racks have 2",
        "the end of ns/w0 (priority 0) would do",
    )
    centre.add("big", "q", 6, gpus=2)
    why, cheapest = said(centre, "big")
    assert why == "needs 12 free nvidia.com/gpu in one rack; 2 racks have 0"
    assert cheapest == "no rack has as much even when it is empty: ask for a wider level, or add nodes"
    centre.add("anywhere", "q", 17, request=TopologyRequest())
    assert said(centre, "anywhere")[0] == "needs 17 free nvidia.com/gpu on nodes of its topology; there is room for 4"
    centre.add("wrong", "q", 1, request=TopologyRequest(required="zone"))
    assert said(centre, "wrong")[0].startswith('topology "t" has no level zone')
    centre.add("eight", "q", 8)
    assert said(centre, "eight")[1] == "the end of several workloads of one rack, or a wider level"


def test_why_says_what_quota_lacks_and_whose_end_would_do() -> None:
    centre = Centre(queue("q", 8, policy=NEVER))
    centre.run("runs", "q", 6)
    centre.add("next", "q", 2)
    assert said(centre, "next") == ("it fits: it is its turn next", "nothing is to be done")
    centre.add("waits", "q", 3)
    why, cheapest = said(centre, "waits")
    assert "insufficient unused quota for nvidia.com/gpu in flavor f, 1 more needed" in why
    assert cheapest == "1 more nvidia.com/gpu of f: the end of ns/runs (priority 0) would do"
    centre.add("huge", "q", 9)
    assert said(centre, "huge")[1].endswith("raise the quota of ClusterQueue q, or its borrowing")
    centre.add("lost", "none", 1)
    why, cheapest = said(centre, "lost")
    assert why == "LocalQueue none doesn't exist" and "there are: q" in cheapest


# -- annotations


def test_annotations_become_a_request() -> None:
    layers = '[{"topology": "block", "size": 32}, {"topology": "rack", "size": "16"}]'
    notes = {kueue.PREFERRED_TOPOLOGY: "block", kueue.SLICE_LAYERS: layers, kueue.POD_SET_GROUP: "g"}
    assert topology_request({"metadata": {"annotations": notes}}, "index") == {
        "preferred": "block",
        "podsetSliceRequiredTopologyConstraints": [{"topology": "block", "size": 32}, {"topology": "rack", "size": 16}],
        "podSetGroupName": "g",
        "podIndexLabel": "index",
    }
    sliced = {"metadata": {"annotations": {kueue.SLICE_TOPOLOGY: "rack"}}}
    assert topology_request(sliced, "", slice_size=4) == {"podSetSliceRequiredTopology": "rack", "podSetSliceSize": 4}


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ({kueue.REQUIRED_TOPOLOGY: "a", kueue.PREFERRED_TOPOLOGY: "b"}, "can't be together with"),
        ({kueue.SLICE_TOPOLOGY: "a", kueue.SLICE_SIZE: "none"}, "1 or more, not 'none'"),
        ({kueue.SLICE_SIZE: "2"}, "has no meaning without"),
        ({kueue.SLICE_TOPOLOGY: "a", kueue.SLICE_LAYERS: '[{"topology": "a", "size": 1}]'}, "can't be together"),
        ({kueue.SLICE_LAYERS: "[1]"}, "must be a JSON list"),
        ({kueue.SLICE_LAYERS: "[]"}, "1 to 3 layers"),
        ({kueue.SLICE_LAYERS: '[{"topology": "a", "size": 3}, {"topology": "b", "size": 2}]'}, "must divide"),
        ({kueue.SLICE_LAYERS: '[{"topology": "a", "size": 2}, {"topology": "a", "size": 2}]'}, "a level of its own"),
        ({kueue.POD_SET_GROUP: "g"}, "needs"),
    ],
)
def test_annotations_that_can_t_be_meant_are_refused(notes, why) -> None:
    job = {"spec": {"template": {"metadata": {"annotations": notes}}}}
    ((path, text), *_) = template_problems("Job", job)
    assert path.startswith("spec.template.metadata.annotations[") and why in text


def test_a_group_asks_for_one_level() -> None:
    def replicated(level: str) -> dict:
        notes = {kueue.REQUIRED_TOPOLOGY: level, kueue.POD_SET_GROUP: "g"}
        return {"template": {"spec": {"template": {"metadata": {"annotations": notes}}}}}

    jobset = {"spec": {"replicatedJobs": [replicated("rack"), replicated("block")]}}
    ((path, text),) = template_problems("JobSet", jobset)
    assert path.startswith("spec.replicatedJobs[1].template.spec.template.metadata") and "the same level" in text
    assert not template_problems("JobSet", {"spec": {"replicatedJobs": [replicated("rack"), replicated("rack")]}})


def test_layers_are_read_in_order() -> None:
    assert slice_layers('[{"topology": "a", "size": 4}]') == [{"topology": "a", "size": 4}]


def test_a_job_without_a_spec_asks_for_nothing() -> None:
    assert template_problems("JobSet", {"spec": {"replicatedJobs": [{"name": "a", "template": {}}]}}) == []

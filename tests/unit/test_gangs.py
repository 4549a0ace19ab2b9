"""Gangs on a small data centre: two blocks of two racks of four hosts with four GPUs each."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.cluster.scheduler.gangs.reserve import kept_until
from atoll.scheduling.explain import why_gang, why_pod
from atoll.scheduling.gang import Gang, Placement, Shortage, plan_gang
from atoll.scheduling.gang_preemption import plan_gang_preemption
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import Templates
from atoll.scheduling.units import Work

BLOCK, RACK, HOST = "example.com/block", "example.com/rack", "kubernetes.io/hostname"
LEVELS = (BLOCK, RACK, HOST)


def data_centre():
    planner = Planner(Chance(3))
    for number in range(16):
        name = f"h{number:02}"
        labels = {BLOCK: f"b{number // 8}", RACK: f"r{number // 4}", HOST: name}
        have = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "4"}
        planner.state.set_node({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": have}})
    return planner


def a_pod(planner, name, gpus=1, priority=0, app="", **spec):
    requests = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "1"}
    metadata = {"name": name, "namespace": "d", "uid": name, "labels": {"app": app}}
    body = {"priority": priority, "containers": [{"resources": {"requests": requests}}], **spec}
    return planner.pod({"metadata": metadata, "spec": body})


def a_gang(planner, name, size, **more):
    options = {key: more.pop(key) for key in ("required", "preferred", "least") if key in more}
    pods = [a_pod(planner, f"{name}-{number}", app=name, **more) for number in range(size)]
    return Gang(name, pods, LEVELS, **options)


def start(planner, gang):
    found = plan_gang(planner, gang)
    assert isinstance(found, Placement), found
    for pod, node in zip(gang.pods, found.nodes, strict=False):
        planner.state.place(pod, node)
    return found


def gang_of(pod):
    return pod.pods.labels["app"]


def state_of(planner):
    used = {name: {key: value for key, value in node.requested.items() if value} for name, node in nodes_of(planner)}
    return {name: (sorted(node.pods), used[name]) for name, node in nodes_of(planner)}


def nodes_of(planner):
    return planner.state.nodes.items()


def test_neighbours_in_rank_are_neighbours_in_the_network():
    planner = data_centre()
    found = start(planner, a_gang(planner, "g", 10, required=RACK))
    assert (found.level, found.domain) == (RACK, "r0")
    assert found.nodes == ["h00"] * 4 + ["h01"] * 4 + ["h02"] * 2


def test_small_holes_are_used_before_large_ones():
    planner = data_centre()
    start(planner, a_gang(planner, "first", 10, required=RACK))  # r0 has six left
    assert start(planner, a_gang(planner, "second", 6, required=RACK)).domain == "r0"
    assert start(planner, a_gang(planner, "third", 16, required=RACK)).domain == "r1"


def test_the_last_host_is_the_tightest():
    planner = data_centre()
    for host, taken in (("h00", 3), ("h01", 1)):
        planner.state.place(a_pod(planner, f"x{host}", taken), host)
    found = plan_gang(planner, a_gang(planner, "g", 9, required=RACK))
    assert found.domain == "r0"  # 4 + 4 + 3 + 1: two whole hosts, and the last pod on the one with a single place
    assert sorted(found.nodes) == ["h00", *["h02"] * 4, *["h03"] * 4]


def test_required_preferred_and_no_level():
    planner = data_centre()
    too_large = plan_gang(planner, a_gang(planner, "g", 17, required=RACK))
    assert isinstance(too_large, Shortage)
    assert (too_large.level, too_large.wanted, too_large.most, too_large.best) == (
        RACK,
        17,
        16,
        ["r0", "r1", "r2", "r3"],
    )
    assert plan_gang(planner, a_gang(planner, "g", 17, preferred=RACK)).level == BLOCK
    assert plan_gang(planner, a_gang(planner, "g", 33, preferred=RACK)).level == ""
    assert plan_gang(planner, a_gang(planner, "g", 64)).level == ""
    assert isinstance(plan_gang(planner, a_gang(planner, "g", 33, required=BLOCK, preferred=RACK)), Shortage)
    with pytest.raises(ValueError, match="none of"):
        Gang("g", [a_pod(planner, "p")], LEVELS, required="nowhere")


def test_all_or_none_and_nothing_is_held():
    planner = data_centre()
    start(planner, a_gang(planner, "one", 40))
    before = state_of(planner)
    assert isinstance(plan_gang(planner, a_gang(planner, "two", 40)), Shortage)
    assert state_of(planner) == before


def test_an_elastic_gang_takes_as_many_as_fit():
    planner = data_centre()
    start(planner, a_gang(planner, "one", 54))
    assert len(plan_gang(planner, a_gang(planner, "two", 40, least=4)).nodes) == 10
    assert isinstance(plan_gang(planner, a_gang(planner, "two", 40, least=11)), Shortage)


def test_members_of_several_shapes():
    planner = data_centre()
    workers = [a_pod(planner, f"w{number}", 2) for number in range(7)]
    leader = a_pod(planner, "leader", 1)
    before = state_of(planner)
    found = plan_gang(planner, Gang("g", [leader, *workers], LEVELS, required=RACK))
    assert found.domain == "r0" and len(found.nodes) == 8
    assert state_of(planner) == before
    assert isinstance(
        plan_gang(planner, Gang("g", [leader, *workers, a_pod(planner, "w7", 2)], LEVELS, RACK)), Shortage
    )


def test_members_that_keep_apart_are_placed_one_by_one():
    planner = data_centre()
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "g"}}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    before = state_of(planner)
    found = plan_gang(planner, a_gang(planner, "g", 4, required=RACK, affinity=apart))
    assert len(set(found.nodes)) == 4 and len({name for name in found.nodes if name < "h04"}) in (0, 4)
    assert isinstance(plan_gang(planner, a_gang(planner, "g", 5, required=RACK, affinity=apart)), Shortage)
    assert state_of(planner) == before


def near(app, key):
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_members_that_want_each_other_get_the_tightest_domain_that_holds_all_of_them():
    """A leader and its workers: neither the rack with the emptiest host nor the one that holds the leader alone."""
    planner = data_centre()
    for host in (0, 1, 2, 4, 5, 8, 9, 10, 11):
        planner.state.place(a_pod(planner, f"x{host}", 4), f"h{host:02}")
    planner.state.place(a_pod(planner, "y", 1), "h12")  # r0 has 4 left, r1 8, r2 none, r3 15
    pods = [a_pod(planner, "g-0", 2, app="g", affinity=near("g", RACK))]
    pods += [a_pod(planner, f"g-{number}", 1, app="g", affinity=near("g", RACK)) for number in range(1, 6)]
    found = start(planner, Gang("g", pods, LEVELS))
    assert {int(name[1:]) // 4 for name in found.nodes} == {1}
    late = [a_pod(planner, f"h-{number}", 4, app="h", affinity=near("h", RACK)) for number in range(3)]
    assert {int(name[1:]) // 4 for name in plan_gang(planner, Gang("h", late, LEVELS)).nodes} == {3}
    more = Gang("i", [*late, a_pod(planner, "h-3", 4, app="h", affinity=near("h", RACK))], LEVELS)
    assert why_gang(planner, more, Work(planner.state, gang_of)) == (
        "needs room for 4 pods of 4 nvidia.com/gpu; there is as much, but not as their affinity, topology spread or"
        " shared claims ask; no removal of less important work would do"
    )


def test_room_made_for_others_is_taken():
    planner = data_centre()
    planner.state.nominate(a_pod(planner, "soon", 4, priority=5), "h00")
    assert isinstance(plan_gang(planner, a_gang(planner, "g", 61, priority=5)), Shortage)
    assert isinstance(plan_gang(planner, a_gang(planner, "g", 61, priority=6)), Placement)


def test_preemption_takes_whole_gangs_and_the_cheapest():
    planner = data_centre()
    start(planner, a_gang(planner, "low", 16, required=RACK, priority=1))  # r0
    start(planner, a_gang(planner, "wide", 32, priority=0))  # two racks
    start(planner, a_gang(planner, "high", 16, priority=50))
    before = state_of(planner)
    found = plan_gang_preemption(
        planner, a_gang(planner, "new", 12, required=RACK, priority=9), Work(planner.state, gang_of), []
    )
    assert [unit.name for unit in found.units] == ["wide"] and len(found.units[0].pods) == 32
    assert state_of(planner) == before
    assert (
        plan_gang_preemption(planner, a_gang(planner, "new", 12, required=RACK), Work(planner.state, gang_of), [])
        is None
    )
    equal = plan_gang_preemption(planner, a_gang(planner, "new", 32, priority=9), Work(planner.state, gang_of), [])
    assert [unit.name for unit in equal.units] == ["wide"]  # not more than it takes


def test_preemption_prefers_to_keep_budgets():
    planner = data_centre()
    for number in range(4):
        start(planner, a_gang(planner, f"g{number}", 16, required=RACK))
    budget = {
        "metadata": {"namespace": "d", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "g0"}}},
        "status": {"disruptionsAllowed": 0},
    }
    found = plan_gang_preemption(
        planner, a_gang(planner, "new", 2, required=RACK, priority=1), Work(planner.state, gang_of), [budget]
    )
    assert [unit.name for unit in found.units] == ["g1"] and found.violations == 0


def test_why_a_gang_waits():
    planner = data_centre()
    for number in range(16):
        gang = a_gang(planner, f"batch-{number}", 2)
        for pod in gang.pods:
            planner.state.place(pod, f"h{number:02}")
    asked = "needs room for 12 pods of 1 nvidia.com/gpu in one rack; 4 racks have 8; "
    wanting = a_gang(planner, "g", 12, required=RACK, priority=5)
    assert (
        why_gang(planner, wanting, Work(planner.state, gang_of))
        == f"{asked}preempting batch-0, batch-1 (priority 0) would do"
    )
    assert (
        why_gang(planner, a_gang(planner, "g", 12, required=RACK), Work(planner.state, gang_of))
        == f"{asked}leave to span racks would do"
    )
    assert why_gang(planner, a_gang(planner, "g", 33), Work(planner.state, gang_of)) == (
        "needs room for 33 pods of 1 nvidia.com/gpu; there is room for 32; a minimum of 32 members would do"
    )
    assert why_gang(planner, a_gang(planner, "g", 8, required=RACK), Work(planner.state, gang_of)) == "fits in rack r0"


def test_why_a_pod_waits():
    planner = data_centre()
    gang = a_gang(planner, "old", 64)
    start(planner, gang)
    asked = "needs 2 nvidia.com/gpu free on one node; of 16 nodes that suit it otherwise, h00 lacks least: "
    asked += "2 nvidia.com/gpu; "
    assert why_pod(planner, a_pod(planner, "p", 2)) == f"{asked}freeing 2 nvidia.com/gpu on h00 would do"
    important = why_pod(planner, a_pod(planner, "p", 2, priority=3))
    assert important.startswith(f"{asked}preempting d/old-") and important.endswith(" (priority 0) would do")
    assert "no node is large enough: one with 8 nvidia.com/gpu would do" in why_pod(planner, a_pod(planner, "p", 8))
    assert why_pod(planner, a_pod(planner, "p", 0, nodeSelector={"disk": "ssd"})) == (
        "no node of 16 suits it: 16 node(s) didn't match Pod's node affinity/selector; "
        "labels on h00 that its node selector or affinity asks for would do"
    )
    assert why_pod(planner, a_pod(planner, "p", 0)).startswith("fits on h")


def test_a_gang_stays_in_the_domain_of_those_that_run():
    planner = data_centre()
    gang = a_gang(planner, "g", 4)
    bound = Gang("g", gang.pods, LEVELS, RACK, within=(RACK, "r2"))
    assert plan_gang(planner, bound).domain == "r2"
    for host in ("h08", "h09", "h10", "h11"):
        planner.state.place(a_pod(planner, f"x{host}", 4), host)
    assert isinstance(plan_gang(planner, bound), Shortage)


def test_parts_are_placed_all_or_none():
    planner = data_centre()
    narrow = a_gang(planner, "narrow", 16, required=RACK)
    free = a_gang(planner, "free", 48)
    both = Gang("g", [*narrow.pods, *free.pods], parts=[narrow, free])
    found = plan_gang(planner, both)
    assert len({int(name[1:]) // 4 for name in found.nodes[:16]}) == 1
    planner.state.place(a_pod(planner, "x", 1), "h15")
    before = state_of(planner)
    assert isinstance(plan_gang(planner, both), Shortage)
    assert state_of(planner) == before


def test_victims_among_thousands_are_found_in_few_tries():
    planner = Planner(Chance(3))
    for number in range(300):
        have = {"cpu": "4", "memory": "64Gi", "pods": "110"}
        planner.state.set_node({"metadata": {"name": f"n{number:03}", "labels": {}}, "status": {"allocatable": have}})
        for place in range(4):
            planner.state.place(a_pod(planner, f"x{number:03}-{place}", 0, priority=number), f"n{number:03}")
    gang = a_gang(planner, "vip", 40, gpus=0, priority=1000)
    before = state_of(planner)
    found = plan_gang_preemption(planner, gang, Work(planner.state, lambda pod: ""), [])
    assert len(found.units) == 40
    assert max(unit.priority for unit in found.units) < 10  # four pods of each priority, the least important first
    assert state_of(planner) == before


def test_slices_have_a_rack_each_and_a_block_together():
    planner = data_centre()
    planner.state.place(a_pod(planner, "x", 1), "h00")  # b0's first rack has 15 left: two slices of 8 do not fit there
    gang = a_gang(planner, "g", 24)
    slices = [Gang("g", gang.pods[start : start + 8], LEVELS, RACK) for start in (0, 8, 16)]
    found = plan_gang(planner, Gang("g", gang.pods, LEVELS, BLOCK, parts=slices))
    assert (found.level, found.domain) == (BLOCK, "b0")
    racks = [{int(name[1:]) // 4 for name in found.nodes[start : start + 8]} for start in (0, 8, 16)]
    assert [len(rack) for rack in racks] == [1, 1, 1]
    many = a_gang(planner, "h", 32)
    slices = [Gang("h", many.pods[start : start + 8], LEVELS, RACK) for start in (0, 8, 16, 24)]
    found = plan_gang(planner, Gang("h", many.pods, LEVELS, BLOCK, parts=slices))
    assert found.domain == "b1"
    for host in ("h00", "h01", "h08", "h09"):
        planner.state.place(a_pod(planner, f"y{host}", 3), host)
    assert isinstance(plan_gang(planner, Gang("h", many.pods, LEVELS, BLOCK, parts=slices)), Shortage)


def test_what_pods_were_told_is_read_with_doubt():
    def pod(message):
        obj = {"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": []}}
        told = {"type": "PodScheduled", "status": "False", "message": message}
        return Templates().pod({**obj, "status": {"conditions": [told]}})

    assert kept_until([pod("room on 2 nodes is kept for it until 2023-11-14T22:13:20Z")]) == 1_700_000_000
    assert kept_until([pod("is kept for it until tomorrow"), pod("is kept for it until 9999-99-99T00:00:00Z")]) == 0

"""Pods whose host failed: when it has failed, and where they go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from queueing_centre import GPU, HOST, RACK, Centre, queue

from atoll.capacity.queueing import status
from atoll.capacity.queueing.model import PodSet, Shape, Workload
from atoll.capacity.queueing.topology import TopologyRequest
from atoll.capacity.queueing.ungate import places_of
from atoll.capacity.queueing.unhealthy import fails_in
from atoll.kinds import kueue


def broken(centre: Centre, name: str, *hosts: str, gone: bool = False) -> tuple[list[tuple[str, int]], str]:
    """Its places once these hosts have failed; or why it has to go."""
    kept = [it for it in centre.state.given.nodes.rooms if not (gone and it.name in hosts)]
    centre.state.set_rooms(tuple(replace(it, usable=it.name not in hosts) for it in kept))
    centre.state.put(structs.replace(centre.state.workloads["ns", name], unhealthy=hosts))
    (found,) = centre.plan().broken
    assert found.workload.admission is not None
    parts = [part for item in found.workload.admission.pod_sets for part in item.topology.domains]
    return [(values[-1], count) for values, count in parts], found.why


def wide_rack(hosts: int = 4) -> Centre:
    centre = Centre(queue("q", 100))
    centre.state.set_rooms(tuple(centre.host(rack, number) for rack in "ab" for number in range(hosts)))
    return centre


def test_the_others_stay_and_the_lost_get_a_host_of_their_rack_in_their_ranks() -> None:
    centre = wide_rack()
    centre.run("w", "q", 11)
    assert centre.where("w") == {"a0", "a1", "a2"}
    assert broken(centre, "w", "a1") == ([("a0", 4), ("a3", 4), ("a2", 3)], "")
    assert not centre.plan().broken, "it is mended once"
    centre.add("other", "q", 4)
    assert [it.workload.key[1] for it in centre.plan().admit] == ["other"]
    assert centre.where("other") == {"b0"}, "a3 is taken, a1 is out"


def test_a_host_that_is_gone_and_several_at_once() -> None:
    centre = wide_rack()
    centre.run("w", "q", 8)
    assert broken(centre, "w", "a0", "a1", gone=True) == ([("a2", 4), ("a3", 4)], ""), "nobody is left: placed anew"
    centre = wide_rack(5)
    centre.run("w", "q", 12)
    assert broken(centre, "w", "a0", "a2") == ([("a3", 4), ("a1", 4), ("a4", 4)], "")


def test_without_room_in_the_rack_it_goes_and_nobody_is_preempted_for_it() -> None:
    centre = wide_rack(2)
    centre.run("low", "q", 3)
    centre.run("w", "q", 5, 9)
    assert centre.where("w") == {"a0", "a1"}
    _, why = broken(centre, "w", "a1")
    assert why == "there is no replacement for a1 within the domain of the other pods"
    assert not centre.plan().evict and centre.state.workloads["ns", "w"].evicted


def test_what_is_only_preferred_or_not_asked_may_go_further() -> None:
    for request in (TopologyRequest(preferred=RACK), TopologyRequest()):
        centre = wide_rack(2)
        centre.run("w", "q", 8, request=request)
        assert broken(centre, "w", "a0") == ([("b0", 4), ("a1", 4)], "")


def test_a_slice_that_is_not_whole_stays_where_its_others_are() -> None:
    request = TopologyRequest(slices=((RACK, 6),))
    centre = wide_rack(4)
    centre.run("w", "q", 12, request=request)
    assert broken(centre, "w", "a0") == ([("a3", 4), ("a1", 4), ("a2", 4)], "")
    centre = wide_rack(3)
    centre.run("w", "q", 12, request=request)
    assert "no replacement for a0" in broken(centre, "w", "a0")[1]
    by_host = TopologyRequest(slices=((HOST, 4),))
    centre = wide_rack(2)
    centre.run("w", "q", 8, request=by_host)
    assert broken(centre, "w", "a1") == ([("a0", 4), ("b0", 4)], ""), "a whole slice may go anywhere"


def test_a_leader_goes_where_its_workers_are() -> None:
    together = TopologyRequest(required=RACK, group="g")
    sets = tuple(PodSet(name, count, None, {GPU: 1}, {}, together) for name, count in (("leader", 1), ("workers", 7)))
    centre = wide_rack(3)
    centre.state.put(Workload(("ns", "w"), "w", "q", 0, 0.0, 0.0, Shape(sets)))
    assert centre.plan().admit
    places, why = broken(centre, "w", "a0")
    assert not why and {host[0] for host, _ in places} == {"a"} and "a0" not in dict(places)


def test_the_new_pod_of_a_rank_gets_the_new_host() -> None:
    centre = wide_rack()
    centre.run("w", "q", 5)
    centre.run("x", "q", 3)
    broken(centre, "w", "a0")
    admission = centre.state.workloads["ns", "w"].admission
    assert admission is not None and admission.pod_sets[0].topology is not None
    assert [part[0][0] for part in admission.pod_sets[0].topology.domains] == ["a2", "a1"]

    def pod(rank: int, host: str = "") -> dict[str, Any]:
        gates = [] if host else [{"name": kueue.TOPOLOGY_GATE}]
        selector = {HOST: host} if host else {}
        metadata = {"name": f"p{rank}", "labels": {"index": str(rank)}}
        return {"metadata": metadata, "spec": {"schedulingGates": gates, "nodeSelector": selector}}

    pods = [pod(4, "a1"), pod(0), pod(2)]
    found = {
        p["metadata"]["name"]: at[HOST]
        for p, at in places_of(pods, admission.pod_sets[0].topology, {"podIndexLabel": "index"})
    }
    assert found == {"p0": "a2", "p2": "a2"}


# -- when a host has failed

READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def node(ready: str = "True", *taints: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "h"}, "spec": {"taints": list(taints), **spec},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}  # fmt: skip


def pod(phase: str = "Running", *, leaving: bool = False, bound: bool = True) -> dict[str, Any]:
    metadata = {"name": "p", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})}
    return {"metadata": metadata, "spec": {"nodeName": "h"} if bound else {}, "status": {"phase": phase}}


SLOW = {"key": "maintenance", "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:10Z"}
TAINT = {"key": "maintenance", "effect": "NoSchedule"}
TOLERANT = [{"key": "maintenance", "operator": "Exists"}]
PATIENT = [{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 60}]


@pytest.mark.parametrize(
    ("given", "pods", "tolerations", "expected"),
    [
        (node(), [pod()], [], None),
        (None, [pod()], [], 0.0),
        (None, [pod("Succeeded")], [], None),
        (node("Unknown"), [pod()], [], None),
        (node("False"), [pod(leaving=True), pod("Failed")], [], 0.0),
        (node("False"), [pod(leaving=True), pod()], [], None),
        (node("Unknown", {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}), [pod()], [], None),
        (node("True", SLOW), [pod()], [], 0.0),
        (node("True", SLOW), [pod()], TOLERANT, None),
        (node("True", SLOW), [pod()], PATIENT, 50.0),
        (node("True", TAINT), [pod()], [], None),
        (node("True", TAINT), [pod("Pending", bound=False)], [], 0.0),
        (node("True", TAINT), [pod("Pending", bound=False)], TOLERANT, None),
        (node(unschedulable=True), [pod("Failed")], [], 0.0),
        (node(unschedulable=True), [pod("Succeeded")], [], None),
    ],
)
def test_a_host_has_failed_when_no_pod_can_run_there_that_must(given, pods, tolerations, expected) -> None:
    assert fails_in(given, pods, False, tolerations, 20.0) == expected


def test_a_pod_that_has_no_place_yet_must_not_come_to_a_failed_host() -> None:
    assert fails_in(None, [], False, [], 0.0) is None
    assert fails_in(None, [], True, [], 0.0) == 0.0
    assert fails_in(node("False"), [pod("Succeeded")], True, [], 0.0) == 0.0


def test_the_status_keeps_all_but_the_places() -> None:
    assigned = {"name": "main", "flavors": {"cpu": "f"}, "resourceUsage": {"cpu": "1000m"}, "count": 2}
    obj = {"metadata": {}, "status": {"admission": {"clusterQueue": "q", "podSetAssignments": [assigned]}}}
    marked = status.with_unhealthy_nodes(obj, ["a0"])
    assert marked["status"]["unhealthyNodes"] == [{"name": "a0"}]
    assert "unhealthyNodes" not in status.with_unhealthy_nodes(marked, [])["status"]
    centre = wide_rack()
    centre.run("w", "q", 2)
    admission = centre.state.workloads["ns", "w"].admission
    assert admission is not None
    (item,) = status.mended(marked, admission)["status"]["admission"]["podSetAssignments"]
    assert item["topologyAssignment"]["levels"] == [HOST]
    assert item == {**assigned, "topologyAssignment": item["topologyAssignment"]}

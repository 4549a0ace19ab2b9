"""Where a pod set goes among blocks, racks and hosts, by what Kueue documents of topology-aware scheduling."""

from __future__ import annotations

import pytest

from atoll.capacity.queueing.topology import NodeRoom, Shape, TopologyAssignment, TopologyRequest, place_pods
from atoll.capacity.queueing.ungate import places_of, rank_of
from atoll.kinds import kueue

LEVELS = ("block", "rack", "host")


def nodes(spec: dict[str, int], taints: tuple[dict[str, str], ...] = ()) -> list[NodeRoom]:
    """{"b1/r1/h1": free gpus}."""
    made = []
    for path, free in spec.items():
        values = path.split("/")
        made.append(NodeRoom(values[-1], dict(zip(LEVELS, values, strict=True)), taints, {"gpu": free, "pods": 100}))
    return made


TWO_BLOCKS = {"b1/r1/h1": 4, "b1/r1/h2": 4, "b1/r2/h3": 2, "b2/r3/h4": 4, "b2/r3/h5": 1, "b2/r4/h6": 6}


def placed(count: int, request: TopologyRequest, spec: dict[str, int] | None = None, **more) -> dict[str, int] | str:
    used = more.pop("used", {})
    found = place_pods("t", LEVELS, nodes(spec or TWO_BLOCKS, **more), used, Shape({"gpu": 1}), count, request)
    if isinstance(found, str):
        return found
    return {values[-1]: pods for values, pods in found.domains}


@pytest.mark.parametrize(
    ("count", "request_", "expected"),
    [
        (6, TopologyRequest(required="rack"), {"h6": 6}),
        (5, TopologyRequest(required="rack"), {"h4": 4, "h5": 1}),
        (7, TopologyRequest(required="rack"), {"h1": 4, "h2": 3}),
        (4, TopologyRequest(required="host"), {"h1": 4}),
        (9, TopologyRequest(required="block"), {"h1": 4, "h2": 4, "h3": 1}),
        (9, TopologyRequest(preferred="rack"), {"h1": 4, "h2": 4, "h3": 1}),
        (12, TopologyRequest(preferred="rack"), {"h3": 1, "h4": 4, "h5": 1, "h6": 6}),
        (6, TopologyRequest(), {"h6": 6}),
        (21, TopologyRequest(), {"h1": 4, "h2": 4, "h3": 2, "h4": 4, "h5": 1, "h6": 6}),
    ],
)
def test_as_few_domains_as_can_be_and_the_tightest_that_will_do(count, request_, expected) -> None:
    assert placed(count, request_) == expected


def test_what_does_not_fit_is_said_in_numbers() -> None:
    assert placed(9, TopologyRequest(required="rack")) == 'topology "t" allows to fit only 8 out of 9 pod(s)'
    assert placed(22, TopologyRequest(preferred="rack")) == 'topology "t" allows to fit only 21 out of 22 pod(s)'
    full = {"b/r/h": 0}
    assert placed(1, TopologyRequest(required="rack"), full) == 'topology "t" doesn\'t allow to fit any of 1 pod(s)'
    assert "has no level zone" in placed(1, TopologyRequest(required="zone"))


def test_slices_are_not_spread_over_two_domains_of_their_level() -> None:
    request = TopologyRequest(required="block", slice_level="host", slice_size=2)
    assert placed(8, request) == {"h1": 4, "h2": 4}
    spread = TopologyRequest(slice_level="host", slice_size=2)
    everywhere = 'topology "t" allows to fit only 20 out of 22 pod(s)'
    assert placed(22, spread) == everywhere, "h5 has room for half a slice"
    by_rack = TopologyRequest(preferred="block", slice_level="rack", slice_size=5)
    assert placed(10, by_rack) == {"h4": 4, "h5": 1, "h6": 5}
    assert "slices of 5" in placed(7, by_rack)


def test_what_is_given_out_tainted_or_unlabelled_has_no_room() -> None:
    used = {("b2", "r4", "h6"): {"gpu": 3, "pods": 3}}
    assert placed(6, TopologyRequest(required="rack"), used=used) == {"h1": 4, "h2": 2}
    taint = {"key": "gpu", "effect": "NoSchedule"}
    assert "any of 1" in placed(1, TopologyRequest(), taints=(taint,))
    bare = [NodeRoom("h", {"block": "b", "rack": "r"}, (), {"gpu": 8, "pods": 9})]
    assert isinstance(place_pods("t", LEVELS, bare, {}, Shape({"gpu": 1}), 1, TopologyRequest()), str)


def pod(name: str, *, gated: bool = True, host: str = "", **labels: str) -> dict:
    gates = [{"name": kueue.TOPOLOGY_GATE}] if gated else []
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"schedulingGates": gates, "nodeSelector": {"host": host}},
    }


def test_ranks_follow_the_network() -> None:
    topology = TopologyAssignment(("host",), ((("h1",), 2), (("h2",), 1)))
    pods = [pod("c", index="2"), pod("a", index="0"), pod("b", index="1")]
    found = {
        p["metadata"]["name"]: places["host"] for p, places in places_of(pods, topology, {"podIndexLabel": "index"})
    }
    assert found == {"a": "h1", "b": "h1", "c": "h2"}


def test_pods_without_a_rank_fill_what_is_left() -> None:
    topology = TopologyAssignment(("host",), ((("h1",), 2), (("h2",), 2)))
    pods = [pod("a", gated=False, host="h1"), pod("b"), pod("c"), pod("d"), pod("e")]
    found = {p["metadata"]["name"]: places["host"] for p, places in places_of(pods, topology, {})}
    assert found == {"b": "h1", "c": "h2", "d": "h2"}, "e has no place: it waits until one is free"


def test_the_rank_of_a_job_sets_pod_counts_its_jobs() -> None:
    request = {"podIndexLabel": "index", "subGroupIndexLabel": "job", "subGroupCount": 2}
    assert rank_of(pod("a", index="1", job="1"), request, 4) == 3
    assert rank_of(pod("a", index="1"), request, 4) is None
    assert rank_of(pod("a", index="7", job="1"), request, 4) is None

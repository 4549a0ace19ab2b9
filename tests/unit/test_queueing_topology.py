"""Where pod sets go among blocks, racks and hosts, by what Kueue documents of topology-aware scheduling."""

from __future__ import annotations

import pytest

from atoll.capacity.queueing.model import Flavor, PodSet, PodSetAssignment
from atoll.capacity.queueing.read import topology_assignment
from atoll.capacity.queueing.topology import HOSTNAME, NodeRoom, TopologyAssignment, TopologyRequest
from atoll.capacity.queueing.topology_fit import Given, Places, Unplaced
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


def find(rooms: list[NodeRoom], *pod_sets: PodSet, used=(), levels=LEVELS) -> list[PodSetAssignment] | Unplaced:
    """`used`: assignments of pods that ask for one gpu."""
    given = Given()
    given.set_nodes(tuple(rooms))
    given.add([(item, {"gpu": 1}) for item in used])
    flavors = {"f": Flavor("f", topology="t")}
    assigned = [PodSetAssignment(pods.name, {"gpu": "f"}, {}, pods.count) for pods in pod_sets]
    return Places(given, pod_sets, assigned, flavors, {"t": levels}).find()


def hosts(found: list[PodSetAssignment] | Unplaced) -> list[dict[str, int]] | str:
    if isinstance(found, Unplaced):
        return str(found.why)
    return [{values[-1]: pods for values, pods in item.topology.domains} for item in found]


def asked(count: int, request: TopologyRequest | None = None, name: str = "main", **more) -> PodSet:
    return PodSet(name, count, None, {"gpu": more.pop("gpu", 1)}, more, request)


def placed(count: int, request: TopologyRequest, spec: dict[str, int] | None = None, **more) -> dict[str, int] | str:
    found = hosts(find(nodes(spec or TWO_BLOCKS, more.pop("taints", ())), asked(count, request), **more))
    return found if isinstance(found, str) else found[0]


def slices(level: str, size: int, **more: str) -> TopologyRequest:
    return TopologyRequest(slices=((level, size),), **more)


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


def test_without_a_wish_the_tightest_hosts_are_filled_first() -> None:
    rack = {"b/r/h1": 3, "b/r/h2": 3, "b/r/h3": 2, "b/r/h4": 1}
    assert placed(7, TopologyRequest(), rack) == {"h1": 3, "h2": 1, "h3": 2, "h4": 1}
    assert placed(7, TopologyRequest(required="rack"), rack) == {"h1": 3, "h2": 3, "h4": 1}


def test_what_does_not_fit_is_said_in_numbers() -> None:
    assert placed(9, TopologyRequest(required="rack")) == 'topology "t" allows to fit only 8 out of 9 pod(s)'
    assert placed(22, TopologyRequest(preferred="rack")) == 'topology "t" allows to fit only 21 out of 22 pod(s)'
    full = {"b/r/h": 0}
    assert placed(1, TopologyRequest(required="rack"), full) == 'topology "t" doesn\'t allow to fit any of 1 pod(s)'
    assert "has no level zone" in placed(1, TopologyRequest(required="zone"))
    found = find(nodes(TWO_BLOCKS), asked(7, TopologyRequest(required="rack"), gpu=2))
    assert isinstance(found, Unplaced)
    assert (found.why.count, found.why.level, found.why.most, found.why.domains) == (7, "rack", 4, 1)
    assert found.flavors == {"f"} and found.names == ("main",)


def test_slices_are_not_spread_over_two_domains_of_their_level() -> None:
    assert placed(8, slices("host", 2, required="block")) == {"h1": 4, "h2": 4}
    everywhere = 'topology "t" allows to fit only 20 out of 22 pod(s)'
    assert placed(22, slices("host", 2)) == everywhere, "h5 has room for half a slice"
    by_rack = slices("rack", 5, preferred="block")
    assert placed(10, by_rack) == {"h4": 4, "h5": 1, "h6": 5}
    assert "slices of 5" in placed(7, by_rack)
    assert "name a narrower level" in placed(4, slices("block", 2, required="rack"))


def test_of_hosts_with_room_for_as_many_slices_the_tightest_is_taken() -> None:
    rack = {f"b/r/h{room}": room for room in (6, 5, 4, 3, 2)}
    assert placed(12, slices("host", 2, required="rack"), rack) == {"h6": 6, "h4": 4, "h2": 2}


def test_slices_in_layers() -> None:
    centre = {f"b{block}/r{rack}/h{host}": 8 - (host == 0) for block in "12" for rack in "12" for host in range(4)}
    layers = TopologyRequest(preferred="block", slices=(("block", 32), ("rack", 16)))
    (found,) = find(nodes(centre), asked(64, layers))
    racks: dict[tuple[str, ...], int] = {}
    for values, pods in found.topology.domains:
        racks[values[:2]] = racks.get(values[:2], 0) + pods
    assert racks == {(f"b{b}", f"r{r}"): 16 for b in "12" for r in "12"}, "a rack of 31 holds one slice of 16"
    uneven = TopologyRequest(slices=(("block", 10), ("rack", 4)))
    assert "10 pods can't be divided into slices of 4" in placed(10, uneven, centre)


def test_a_leader_and_its_workers_share_a_domain() -> None:
    together = TopologyRequest(required="rack", group="pipeline")
    leader, workers = asked(1, together, "leader"), asked(7, together, "workers")
    assert hosts(find(nodes(TWO_BLOCKS), leader, workers)) == [{"h1": 1}, {"h1": 3, "h2": 4}]
    seven = asked(6, together, "workers")
    assert hosts(find(nodes({"b/r1/h1": 6, "b/r2/h2": 7}), leader, seven)) == [{"h2": 1}, {"h2": 6}], "not h1, alone"
    apart = [
        asked(1, TopologyRequest(required="rack"), "leader"),
        asked(6, TopologyRequest(required="rack"), "workers"),
    ]
    assert hosts(find(nodes({"b/r1/h1": 6, "b/r2/h2": 1}), *apart)) == [{"h2": 1}, {"h1": 6}]
    found = find(nodes(TWO_BLOCKS), leader, asked(8, together, "workers"))
    assert isinstance(found, Unplaced) and found.names == ("leader", "workers")
    nearby = TopologyRequest(preferred="rack", group="pipeline")
    wide = find(nodes(TWO_BLOCKS), asked(1, nearby, "leader"), asked(9, nearby, "workers"))
    assert {values[0] for item in wide for values, _ in item.topology.domains} == {"b1"}, "no rack has ten, a block has"


def test_what_is_given_out_tainted_or_unlabelled_has_no_room() -> None:
    used = [TopologyAssignment(LEVELS, ((("b2", "r4", "h6"), 3),))]
    assert placed(6, TopologyRequest(required="rack"), used=used) == {"h1": 4, "h2": 2}
    taint = {"key": "gpu", "effect": "NoSchedule"}
    assert "any of 1" in placed(1, TopologyRequest(), taints=(taint,))
    bare = [NodeRoom("h", {"block": "b", "rack": "r"}, (), {"gpu": 8, "pods": 9})]
    assert isinstance(find(bare, asked(1)), Unplaced)
    gone = [NodeRoom("h", dict(zip(LEVELS, "brh", strict=True)), (), {"gpu": 8, "pods": 9}, usable=False)]
    assert isinstance(find(gone, asked(1)), Unplaced)


def test_amounts_that_no_machine_has_stop_nobody() -> None:
    boast = {"b1/r1/h1": 2**70, "b1/r1/h2": 2**70}
    assert placed(5, TopologyRequest(required="rack"), boast) == {"h1": 5}
    used = [TopologyAssignment(LEVELS, ((("b1", "r1", "h1"), 2**65),))]
    assert placed(5, TopologyRequest(required="rack"), boast, used=used) == {"h2": 5}
    assert "any of 1" in hosts(find(nodes(TWO_BLOCKS), asked(1, gpu=2**70)))


def test_node_affinity_counts() -> None:
    terms = [{"matchExpressions": [{"key": "rack", "operator": "NotIn", "values": ["r4"]}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    pods = asked(6, TopologyRequest(required="rack"), spec={"affinity": affinity})
    assert hosts(find(nodes(TWO_BLOCKS), pods)) == [{"h1": 4, "h2": 2}]


def test_a_host_is_known_by_its_name_alone_in_every_topology() -> None:
    levels = ("rack", HOSTNAME)
    rooms = [NodeRoom(n, {"rack": r, HOSTNAME: n}, (), {"gpu": 2, "pods": 9}) for n, r in (("a", "r1"), ("b", "r0"))]
    (found,) = find(rooms, asked(4), levels=levels)
    assert found.topology == TopologyAssignment((HOSTNAME,), ((("b",), 2), (("a",), 2))), "in the order of the racks"
    stored = {
        "levels": ["rack", HOSTNAME],
        "slices": [
            {
                "domainCount": 1,
                "podCounts": {"universal": 2},
                "valuesPerLevel": [{"universal": "r1"}, {"individual": {"roots": ["a"]}}],
            }
        ],
    }
    older = topology_assignment(stored)
    assert older == TopologyAssignment((HOSTNAME,), ((("a",), 2),)), "what was written with all levels counts too"
    assert hosts(find(rooms, asked(2), used=[older], levels=levels)) == [{"b": 2}]


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

"""Laws of topology-aware placement, on random data centres, against counting by hand."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atoll.capacity.queueing.topology import NodeRoom, Shape, TopologyRequest, place_pods

LEVELS = ("block", "rack", "host")
PLACES = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3))
CENTRES = st.dictionaries(PLACES, st.integers(0, 6), min_size=1, max_size=14)
REQUESTS = st.builds(
    lambda mode, level, slice_level, size: TopologyRequest(
        required=level if mode == "required" else "",
        preferred=level if mode == "preferred" else "",
        slice_level=slice_level,
        slice_size=size if slice_level else 1,
    ),
    st.sampled_from(["required", "preferred", ""]),
    st.sampled_from(LEVELS),
    st.sampled_from(["", *LEVELS]),
    st.integers(1, 3),
)


def nodes_of(centre: dict[tuple[int, int, int], int]) -> list[NodeRoom]:
    made = []
    for (block, rack, host), free in centre.items():
        values = (f"b{block}", f"b{block}r{rack}", f"b{block}r{rack}h{host}")
        made.append(NodeRoom(values[-1], dict(zip(LEVELS, values, strict=True)), (), {"gpu": free, "pods": 100}))
    return made


def within(centre: dict[tuple[int, int, int], int], depth: int) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for place, free in centre.items():
        found[place[:depth]] += free
    return found


@given(CENTRES, REQUESTS, st.integers(1, 20))
def test_places_keep_to_room_topology_and_slices(centre, request, slices) -> None:
    count = slices * request.slice_size
    found = place_pods("t", LEVELS, nodes_of(centre), {}, Shape({"gpu": 1}), count, request)
    if isinstance(found, str):
        return
    given_out = dict(found.domains)
    assert sum(given_out.values()) == count
    room = {node.labels["host"]: node.free["gpu"] for node in nodes_of(centre)}
    assert all(0 < pods <= room[values[-1]] for values, pods in given_out.items())
    assert list(given_out) == sorted(given_out), "ranks follow the network"
    if request.required:
        assert len({values[LEVELS.index(request.required)] for values in given_out}) == 1
    if request.slice_level:
        by_domain: Counter[str] = Counter()
        for values, pods in given_out.items():
            by_domain[values[LEVELS.index(request.slice_level)]] += pods
        assert all(pods % request.slice_size == 0 for pods in by_domain.values())


@given(CENTRES, REQUESTS, st.integers(1, 20))
def test_what_is_refused_has_no_room_by_a_count_by_hand(centre, request, slices) -> None:
    count = slices * request.slice_size
    found = place_pods("t", LEVELS, nodes_of(centre), {}, Shape({"gpu": 1}), count, request)
    size, sliced = request.slice_size, LEVELS.index(request.slice_level) + 1 if request.slice_level else 3
    whole: Counter[tuple[int, ...]] = Counter()
    for place, free in within(centre, sliced).items():
        whole[place] += free // size * size
    if not request.required:
        fits = sum(whole.values()) >= count
    else:
        depth = LEVELS.index(request.required) + 1
        rooms: Counter[tuple[int, ...]] = Counter()
        for place, free in (whole if depth <= sliced else within(centre, depth)).items():
            rooms[place[:depth]] += free
        fits = max(rooms.values()) >= count
    assert isinstance(found, str) is not fits


@given(CENTRES, st.integers(1, 20))
def test_one_domain_is_enough_where_one_will_do_and_it_is_the_tightest(centre, count) -> None:
    found = place_pods("t", LEVELS, nodes_of(centre), {}, Shape({"gpu": 1}), count, TopologyRequest(preferred="rack"))
    fitting = [free for free in within(centre, 2).values() if free >= count]
    if fitting:
        assert not isinstance(found, str)
        racks = {values[1] for values, _ in found.domains}
        (chosen,) = racks
        rooms = {f"b{b}r{r}": free for (b, r), free in within(centre, 2).items()}
        assert rooms[chosen] == min(fitting)

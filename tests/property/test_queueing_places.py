"""Laws of topology-aware placement and of preemption for room, on random data centres, against counting by hand."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from atoll.capacity.queueing.model import (
    LOWER,
    Admission,
    ClusterQueue,
    Flavor,
    LocalQueue,
    PodSet,
    PodSetAssignment,
    PreemptionPolicy,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)  # fmt: skip
from atoll.capacity.queueing.plan import plan_cycle
from atoll.capacity.queueing.state import Setup, State
from atoll.capacity.queueing.topology import NodeRoom, TopologyAssignment, TopologyRequest
from atoll.capacity.queueing.topology_fit import Given, Places, Unplaced

LEVELS = ("block", "rack", "host")
PLACES = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3))
CENTRES = st.dictionaries(PLACES, st.integers(0, 6), min_size=1, max_size=14)


@st.composite
def requests(draw) -> TopologyRequest:
    """Slices of none to two layers, at or below the level that is wanted."""
    mode, level = draw(st.sampled_from(["required", "preferred", ""])), draw(st.sampled_from(LEVELS))
    narrower = LEVELS[LEVELS.index(level) :] if mode else LEVELS
    layers = sorted(draw(st.sets(st.sampled_from(narrower), max_size=2)), key=LEVELS.index)
    sizes, slices = draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)), []
    for index, name in enumerate(layers):
        whole = sizes[0] * sizes[1] if len(layers) == 2 and index == 0 else sizes[0]
        slices.append((name, whole))
    return TopologyRequest(
        required=level if mode == "required" else "", preferred=level if mode == "preferred" else "",
        slices=tuple(slices),
    )  # fmt: skip


def nodes_of(centre: dict[tuple[int, int, int], int]) -> tuple[NodeRoom, ...]:
    made = []
    for (block, rack, host), free in centre.items():
        values = (f"b{block}", f"b{block}r{rack}", f"b{block}r{rack}h{host}")
        made.append(NodeRoom(values[-1], dict(zip(LEVELS, values, strict=True)), (), {"gpu": free, "pods": 100}))
    return tuple(made)


def within(centre: dict[tuple[int, int, int], int], depth: int) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for place, free in centre.items():
        found[place[:depth]] += free
    return found


def place(centre, request: TopologyRequest, count: int) -> TopologyAssignment | None:
    given = Given()
    given.set_nodes(nodes_of(centre))
    pods = PodSet("main", count, None, {"gpu": 1}, {}, request)
    assigned = PodSetAssignment("main", {"gpu": "f"}, {}, count)
    found = Places(given, [pods], [assigned], {"f": Flavor("f", topology="t")}, {"t": LEVELS}).find()
    return None if isinstance(found, Unplaced) else found[0].topology


def whole_slices(centre, request: TopologyRequest, depth: int) -> Counter[tuple[int, ...]]:
    """What the domains of that depth hold, counted from the hosts up."""
    sizes = {LEVELS.index(level) + 1: size for level, size in request.slices}
    rooms, size = Counter(centre), sizes.get(3, 1)
    for at in range(3, depth - 1, -1):
        size = sizes.get(at, size)
        summed: Counter[tuple[int, ...]] = Counter()
        for domain, room in rooms.items():
            summed[domain[:at]] += room
        rooms = Counter({domain: room // size * size for domain, room in summed.items()})
    return rooms


@given(CENTRES, requests(), st.integers(1, 20))
def test_places_keep_to_room_topology_and_slices(centre, request, slices) -> None:
    count = slices * (request.slices[0][1] if request.slices else 1)
    found = place(centre, request, count)
    if found is None:
        return
    given_out = dict(found.domains)
    assert sum(given_out.values()) == count
    room = {node.labels["host"]: node.free["gpu"] for node in nodes_of(centre)}
    assert all(0 < pods <= room[values[-1]] for values, pods in given_out.items())
    assert list(given_out) == sorted(given_out), "ranks follow the network"
    if request.required:
        assert len({values[LEVELS.index(request.required)] for values in given_out}) == 1
    for level, size in request.slices:
        by_domain: Counter[str] = Counter()
        for values, pods in given_out.items():
            by_domain[values[LEVELS.index(level)]] += pods
        assert all(pods % size == 0 for pods in by_domain.values())


@given(CENTRES, requests(), st.integers(1, 20))
def test_what_is_refused_has_no_room_by_a_count_by_hand(centre, request, slices) -> None:
    count = slices * (request.slices[0][1] if request.slices else 1)
    depth = LEVELS.index(request.required) + 1 if request.required else 0
    fits = max(whole_slices(centre, request, depth).values()) >= count
    assert (place(centre, request, count) is not None) is fits


@given(CENTRES, st.integers(1, 20))
def test_one_domain_is_enough_where_one_will_do_and_it_is_the_tightest(centre, count) -> None:
    found = place(centre, TopologyRequest(preferred="rack"), count)
    fitting = [free for free in within(centre, 2).values() if free >= count]
    if fitting:
        assert found is not None
        racks = {values[1] for values, _ in found.domains}
        (chosen,) = racks
        rooms = {f"b{b}r{r}": free for (b, r), free in within(centre, 2).items()}
        assert rooms[chosen] == min(fitting)


def in_rack(name: str, priority: int, count: int, request: TopologyRequest) -> Workload:
    shape = Shape((PodSet("main", count, None, {"gpu": 1}, {}, request),))
    return Workload(("ns", name), name, "q", priority, 0.0, 0.0, shape)


@given(
    st.lists(st.tuples(PLACES, st.integers(1, 3), st.integers(0, 2)), max_size=12),
    st.integers(1, 8),
    st.sampled_from(["rack", "block"]),
)
def test_who_goes_for_room_is_lower_enough_and_needed(running, count, level) -> None:
    """Hosts of six; each running workload is on one host. The quota is never short."""
    hosts = {(block, rack, host): 6 for block in range(2) for rack in range(2) for host in range(2)}
    state = State()
    group = ResourceGroup(("gpu",), ("f",))
    queue = ClusterQueue(
        "q", "", (group,), {("f", "gpu"): Quota(1000)}, PreemptionPolicy(LOWER), selector={}
    )  # fmt: skip
    state.configure(
        Setup({"q": queue}, {}, {"f": Flavor("f", topology="t")}, {("ns", "q"): LocalQueue("ns", "q", "q")}, {"ns": {}},
              topologies={"t": LEVELS})
    )  # fmt: skip
    state.set_rooms(nodes_of(hosts))
    left = dict(hosts)
    where: dict[str, tuple[int, int, int]] = {}
    for number, (place_, pods, priority) in enumerate(running):
        at = (place_[0] % 2, place_[1] % 2, place_[2] % 2)
        if left[at] < pods:
            continue
        left[at] -= pods
        values = (f"b{at[0]}", f"b{at[0]}r{at[1]}", f"b{at[0]}r{at[1]}h{at[2]}")
        topology = TopologyAssignment(LEVELS, ((values, pods),))
        admission = Admission("q", (PodSetAssignment("main", {"gpu": "f"}, {"gpu": pods}, pods, topology),))
        plain = in_rack(f"w{number}", priority, pods, TopologyRequest())
        state.put(structs.replace(plain, admission=admission, usage=admission.usage(), reserved_at=1.0, admitted=True))
        where[f"w{number}"] = at
    wants = in_rack("wants", 1, count, TopologyRequest(required=level))
    state.put(wants)
    plan = plan_cycle(state, 100.0)
    depth = LEVELS.index(level) + 1
    victims = {item.victim.key[1]: item.victim for item in plan.evict}
    fits = max(within(left, depth).values()) >= count
    assert bool(plan.admit) is fits
    if fits:
        assert not victims
        return
    assert all(victim.priority < 1 for victim in victims.values())

    def room_without(names: set[str]) -> int:
        free = dict(left)
        for name in names:
            free[where[name]] += state.workloads["ns", name].usage["f", "gpu"]
        return max(within(free, depth).values())

    lower = {name for name in where if state.workloads["ns", name].priority < 1}
    assert bool(victims) is (room_without(lower) >= count)
    if victims:
        assert room_without(set(victims)) >= count
        assert all(room_without(set(victims) - {name}) < count for name in victims), "each is needed"

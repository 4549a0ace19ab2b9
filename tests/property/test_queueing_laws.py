"""Laws of the queues over random cohorts and workloads: no use beyond quota and declared borrowing, nothing admitted
twice, victims that are all needed, and books that balance."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from atoll.capacity.queueing import preemption
from atoll.capacity.queueing.model import (
    ANY,
    LOWER,
    NEVER,
    ClusterQueue,
    Cohort,
    FairSharing,
    Flavor,
    LocalQueue,
    PodSet,
    PreemptionPolicy,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)
from atoll.capacity.queueing.plan import plan_cycle
from atoll.capacity.queueing.state import Setup, State

KEY = ("f", "gpu")
SHAPES = {units: Shape((PodSet("main", 1, None, {"gpu": units}),)) for units in range(1, 7)}
limits = st.none() | st.integers(0, 6)
lower = st.sampled_from([NEVER, LOWER])
policies = st.builds(PreemptionPolicy, lower, st.sampled_from([NEVER, LOWER, ANY]), lower)


@st.composite
def setups(draw) -> Setup:
    cohorts = {
        f"c{index}": Cohort(
            f"c{index}",
            f"c{draw(st.integers(0, index - 1))}" if index else "",
            {KEY: Quota(draw(st.integers(0, 3)), draw(limits) if index else None, draw(limits))},
        )
        for index in range(draw(st.integers(1, 3)))
    }
    queues = {}
    for index in range(draw(st.integers(1, 4))):
        quota = Quota(draw(st.integers(0, 6)), draw(limits), draw(limits))
        queues[f"q{index}"] = ClusterQueue(
            f"q{index}",
            draw(st.sampled_from(sorted(cohorts))),
            (ResourceGroup(("gpu",), ("f",)),),
            {KEY: quota},
            draw(policies),
            strict=draw(st.booleans()),
            selector={},
        )
    local = {("n", name): LocalQueue("n", name, name) for name in queues}
    fair = FairSharing(draw(st.booleans()))
    return Setup(queues, cohorts, {"f": Flavor("f")}, local, {"n": {}}, fair=fair)


acts = st.sampled_from(["add", "add", "add", "finish", "evict"])
actions = st.lists(st.tuples(acts, st.integers(0, 3), st.integers(1, 6), st.integers(0, 2)), max_size=25)


def within(state: State) -> None:
    """Every level: use above its own part at most by what may be borrowed; the root no more than there is."""
    for node in [*state.nodes.values(), *state.cohorts.values()]:
        used, own = node.usage.get(KEY, 0), node.subtree.get(KEY, 0)
        if node.parent is None:
            assert used <= own
            continue
        borrowing = node.quotas[KEY].borrowing
        if borrowing is not None:
            assert used <= own + borrowing
        assert used <= node.potential(KEY)


def balanced(state: State) -> None:
    """A tree that is made anew from what is admitted is the tree that we have."""
    fresh = State()
    fresh.configure(state.setup)
    for workload in state.workloads.values():
        fresh.put(workload)
    for name, node in state.nodes.items():
        assert node.workloads.keys() == fresh.nodes[name].workloads.keys()
    for name, node in [*state.nodes.items(), *state.cohorts.items()]:
        other = (fresh.nodes if name in fresh.nodes else fresh.cohorts)[name]
        assert {k: v for k, v in node.usage.items() if v} == {k: v for k, v in other.usage.items() if v}


@settings(max_examples=150, deadline=None)
@given(setups(), actions)
def test_books_and_quota(setup: Setup, steps: list[tuple[str, int, int, int]]) -> None:
    state = State()
    state.configure(setup)
    for number, (what, queue, units, priority) in enumerate(steps):
        now = float(number + 1)
        running = sorted(key for key, item in state.workloads.items() if item.admission)
        if what == "add":
            name = f"q{queue % len(setup.queues)}"
            key = ("n", f"w{number}")
            state.put(Workload(key, key[1], name, priority, now, now, SHAPES[units]))
        elif running and what == "finish":
            state.drop(running[units % len(running)])
        elif running:
            victim = state.workloads[running[units % len(running)]]
            state.put(structs.replace(victim, admission=None, usage={}))
        before = {key for key, item in state.workloads.items() if item.admission}
        plan = plan_cycle(state, now)
        admitted = [item.workload.key for item in plan.admit]
        assert len(set(admitted)) == len(admitted)
        assert before.isdisjoint(admitted)
        within(state)
        balanced(state)
        needed(state, plan.evict)
        for item in plan.evict:
            state.put(structs.replace(state.workloads[item.victim.key], admission=None, usage={}))
        within(state)
        balanced(state)


def needed(state: State, evictions) -> None:
    """No victim could have been spared while the others go."""
    by: dict[tuple[str, str], list] = {}
    for item in evictions:
        by.setdefault(item.by.key, []).append(item)
    if len(by) != 1:  # two preemptors share what becomes free: each was alone when its victims were chosen
        return
    (items,) = by.values()
    node = state.nodes[items[0].queue]
    asked = {KEY: items[0].by.asked()["gpu"]}
    wish = preemption.Wish(items[0].by, node, asked, frozenset((KEY,)))
    victims = [(state.nodes[item.victim.admission.queue], item.victim) for item in items]
    for home, victim in victims:
        home.remove_all(victim.usage)
    assert preemption.fits(wish, True)
    for home, victim in victims:
        home.add_all(victim.usage)
        spare = preemption.fits(wish, node.borrows(KEY, asked[KEY]))
        home.remove_all(victim.usage)
        assert not spare
    for home, victim in victims:
        home.add_all(victim.usage)

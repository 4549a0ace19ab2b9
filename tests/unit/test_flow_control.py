"""Priority and fairness: classification, shares, borrowing, fair queues, refusals; all with time as a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atoll.base.chance import Chance
from atoll.cluster.apiserver.flowcontrol import defaults, ensure
from atoll.cluster.apiserver.flowcontrol.allocation import Share, allocate
from atoll.cluster.apiserver.flowcontrol.keeper import dangling
from atoll.cluster.apiserver.flowcontrol.levels import Levels
from atoll.cluster.apiserver.flowcontrol.model import read_level, read_schema
from atoll.cluster.apiserver.flowcontrol.queues import EXEMPT, QueueSet, Queuing, Request
from atoll.cluster.apiserver.flowcontrol.retry import RetryAfter
from atoll.cluster.apiserver.flowcontrol.shuffle import deal, flow_hash, is_dealable
from atoll.cluster.apiserver.flowcontrol.work import ONE, Listing, Stored, WatchCounts, Work, list_work, write_work
from atoll.cluster.apiserver.ports import Attributes, User

ALL_LEVELS = (*defaults.SUGGESTED_LEVELS, *defaults.MANDATORY_LEVELS)
ALL_FLOWS = (*defaults.SUGGESTED_FLOWS, *defaults.MANDATORY_FLOWS)


def levels_of(extra_levels: tuple[Any, ...] = (), extra_flows: tuple[Any, ...] = (), limit: int = 600) -> Levels:
    levels = Levels(0.0, limit)
    read = [level for obj in (*ALL_LEVELS, *extra_levels) if (level := read_level(obj)) is not None]
    levels.digest(0.0, read, [read_schema(obj) for obj in (*ALL_FLOWS, *extra_flows)])
    return levels


def person(name: str, *groups: str) -> User:
    return User(name, (*groups, "system:authenticated"))


POD = {"group": "", "resource": "pods", "namespace": "default"}


@pytest.mark.parametrize(
    ("user", "verb", "what", "schema", "level"),
    [
        (person("admin", "system:masters"), "list", POD, "exempt", "exempt"),
        (person("jane"), "get", {"path": "/livez"}, "probes", "exempt"),
        (person("jane"), "get", {"path": "/livez/ping"}, "probes", "exempt"),
        (person("jane"), "get", {"path": "/version"}, "global-default", "global-default"),
        (person("jane"), "list", POD, "global-default", "global-default"),
        (person("system:node:a", "system:nodes"), "list", POD, "system-nodes", "system"),
        (person("system:node:a", "system:nodes"), "update", {"resource": "nodes", "subresource": "status"},
         "system-node-high", "node-high"),
        (person("system:kube-scheduler"), "get",
         {"group": "coordination.k8s.io", "resource": "leases", "namespace": "kube-system"},
         "system-leader-election", "leader-election"),
        (person("system:kube-scheduler"), "list", POD, "kube-scheduler", "workload-high"),
        (person("system:serviceaccount:kube-system:x", "system:serviceaccounts"), "list", POD,
         "kube-system-service-accounts", "workload-high"),
        (person("system:serviceaccount:kube-systems:x", "system:serviceaccounts"), "list", POD, "service-accounts",
         "workload-low"),
        (User("nobody"), "list", POD, "catch-all", "catch-all"),
    ],
)  # fmt: skip
def test_default_classification(user: User, verb: str, what: dict[str, str], schema: str, level: str) -> None:
    lane = levels_of().flow(Attributes(user, verb, **what)).lane
    assert (lane.schema.name, lane.state.level.name) == (schema, level)


def test_nominal_seats_are_those_of_the_real_server() -> None:
    """apiserver_flowcontrol_nominal_limit_seats, _lower_limit_seats of a kube-apiserver 1.36 with its defaults."""
    found = {name: (state.nominal, state.least) for name, state in levels_of().states.items()}
    assert found == {
        "catch-all": (13, 13),
        "exempt": (0, 0),
        "global-default": (49, 24),
        "leader-election": (25, 25),
        "node-high": (98, 73),
        "system": (74, 50),
        "workload-high": (98, 49),
        "workload-low": (245, 24),
    }


def test_precedence_then_name_decides_and_what_dangles_takes_nobody() -> None:
    def flow(name: str, precedence: int, level: str) -> dict[str, Any]:
        return defaults._flow(name, level, precedence, "ByUser", defaults._rule(defaults._groups("team")))

    asked = Attributes(person("jane", "team"), "list", **POD)
    flows = (flow("b", 50, "system"), flow("a", 50, "workload-low"), flow("dangles", 10, "nothing"))
    assert levels_of(extra_flows=flows).flow(asked).lane.schema.name == "a"
    condition = dangling(flows[2], frozenset({"system"}), 0.0)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("True", "NotFound")
    assert dangling({**flows[2], "status": {"conditions": [condition]}}, frozenset({"system"}), 9.0) is None


def test_a_hand_is_distinct_queues_and_the_same_again() -> None:
    chance = Chance(4).stream("hands")
    for _ in range(500):
        hand = deal(flow_hash("s", f"{chance.random()}"), 128, 6)
        assert len(set(hand)) == 6
        assert all(0 <= card < 128 for card in hand)
    assert flow_hash("global-default", "jane") == flow_hash("global-default", "jane")
    assert is_dealable(128, 6)
    assert not is_dealable(1 << 12, 6)  # 72 bits


def test_allocation_keeps_bounds_and_the_sum() -> None:
    shares = [Share(10, 5, 100), Share(40, 20, 60), Share(0, 0, 1000)]
    given, _ = allocate(100, shares)
    assert sum(given) == pytest.approx(100)
    assert all(share.lower <= seats <= share.upper for share, seats in zip(shares, given, strict=True))
    assert given[1] / given[0] == pytest.approx(4) or given[1] == 60
    with pytest.raises(ValueError, match="can't be divided"):
        allocate(10, [Share(20, 15, 30)])


def test_seats_are_borrowed_by_who_needs_them_and_come_back() -> None:
    levels = levels_of()
    busy = levels.states["global-default"]
    for second in range(1, 31):
        busy.queues.demand.set(float(second), 200)
    levels.borrow(30.0)
    assert busy.current > 150
    assert levels.states["workload-low"].current >= levels.states["workload-low"].least
    busy.queues.demand.set(30.0, 0)
    for step in range(1, 200):
        levels.borrow(30.0 + 10 * step)
    assert busy.current < 100


def test_a_level_that_is_gone_stays_until_it_is_empty() -> None:
    team = defaults._limited("team", 10, 0, 8, 2)
    levels = levels_of((team,))
    request = Request("s", "f", ONE)
    queues = levels.states["team"].queues
    assert queues.start(0.0, request, (0, 1))
    assert request.dispatched
    levels.digest(1.0, [level for obj in ALL_LEVELS if (level := read_level(obj))], [])
    assert levels.states["team"].quiescing
    queues.finish(2.0, request)
    levels.borrow(3.0)
    assert "team" not in levels.states


class World:
    """Clients that always have as many requests open as they may, served in virtual time."""

    def __init__(self, queuing: Queuing, limit: int) -> None:
        self.now = 0.0
        self.queues = QueueSet(0.0, queuing, limit)
        self.running: list[tuple[float, Request]] = []
        self.done: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def ask(self, flow: str, seconds: float) -> bool:
        queuing = self.queues.queuing
        hand = deal(flow_hash("s", flow), queuing.queues, queuing.hand_size) if queuing.queues > 0 else (0,)
        request = Request("s", flow, ONE)
        request.on_dispatch = lambda: self.running.append((self.now + seconds, request))
        if not self.queues.start(self.now, request, hand):
            self.refused[flow] = self.refused.get(flow, 0) + 1
            return False
        return True

    def finish_one(self) -> str:
        self.running.sort(key=lambda item: item[0])
        self.now, request = self.running.pop(0)
        self.done[request.flow] = self.done.get(request.flow, 0) + 1
        self.queues.finish(self.now, request)
        return request.flow


@pytest.mark.parametrize("seed", range(8))
def test_a_flood_leaves_the_polite_their_share(seed: int) -> None:
    """One client with 400 requests open, ten with two each, 10 seats: the polite wait little, the flood is refused."""
    world = World(Queuing(64, 6, 20), 10)
    chance = Chance(seed).stream("times")
    polite = [f"polite-{seed}-{index}" for index in range(10)]

    def seconds() -> float:
        return chance.uniform(0.001, 0.01)

    for _ in range(400):
        world.ask("greedy", seconds())
    for name in polite:
        world.ask(name, seconds())
        world.ask(name, seconds())
    for _ in range(4000):
        flow = world.finish_one()
        world.ask(flow, seconds())
        if flow == "greedy":  # whose refused requests come again
            for _ in range(5):
                world.ask("greedy", seconds())
    served = sum(world.done.values())
    assert world.refused["greedy"] > 1000
    assert not any(name in world.refused for name in polite)
    fair = served / 11
    assert all(world.done[name] > 0.6 * fair for name in polite)  # two open requests each can use no more than that
    assert world.done["greedy"] < 6.5 * fair  # six queues of its hand, and not four hundred clients' worth


def test_a_level_without_queues_refuses_at_its_limit() -> None:
    world = World(Queuing(0), 3)
    assert [world.ask("a", 1.0) for _ in range(5)] == [True, True, True, False, False]
    world.finish_one()
    assert world.ask("a", 1.0)


def test_an_exempt_level_refuses_nobody() -> None:
    world = World(Queuing(EXEMPT), 0)
    assert all(world.ask("a", 1.0) for _ in range(1000))
    assert world.queues.executing == 1000


def test_wide_requests_wait_for_room_and_keep_seats_after_their_answer() -> None:
    queues = QueueSet(0.0, Queuing(1, 1, 10), 4)
    wide, narrow = Request("s", "a", Work(1, 4, 0.5)), Request("s", "a", ONE)
    assert queues.start(0.0, wide, (0,))
    assert queues.start(0.0, narrow, (0,))
    assert wide.dispatched
    assert not narrow.dispatched
    assert queues.finish(0.1, wide) == 0.5
    assert not narrow.dispatched
    queues.release(0.6, wide)
    assert narrow.dispatched


def test_a_request_that_asks_more_than_there_is_runs_alone() -> None:
    queues = QueueSet(0.0, Queuing(1, 1, 10), 2)
    huge, next_one = Request("s", "a", Work(10)), Request("s", "a", ONE)
    queues.start(0.0, huge, (0,))
    queues.start(0.0, next_one, (0,))
    assert huge.dispatched
    assert not next_one.dispatched
    queues.finish(1.0, huge)
    assert next_one.dispatched


def test_who_gives_up_leaves_the_queue() -> None:
    queues = QueueSet(0.0, Queuing(2, 1, 10), 1)
    first, second, third = (Request("s", "a", ONE) for _ in range(3))
    for request in (first, second, third):
        queues.start(0.0, request, (0,))
    queues.cancel(1.0, second)
    queues.finish(2.0, first)
    assert third.dispatched
    assert not second.dispatched
    queues.finish(3.0, third)
    assert queues.idle
    assert queues.seats_in_use == queues.seats_waiting == 0


def test_the_work_of_lists_and_writes() -> None:
    assert list_work(None, Listing(), 0).seats == 1
    assert list_work(Stored(16000, 2000), Listing(), 0).seats == 10  # never more than 1 MB at once: it is streamed
    assert list_work(Stored(16000, 2000), Listing(), 4).seats == 4
    assert list_work(Stored(16000, 2000), Listing(limit=100), 0).seats == 2
    assert list_work(Stored(16000, 2000), Listing(single=True), 0).seats == 1
    assert write_work(999, 0) == ONE
    assert write_work(10_000, 0) == Work(1, 10, 0.005)
    assert write_work(100_000, 5) == Work(1, 5, 0.1)


def test_watches_are_counted_where_they_look() -> None:
    counts = WatchCounts()
    everywhere = counts.add("", "pods", "", "")
    counts.add("", "pods", "a", "")
    counts.add("", "pods", "b", "")
    assert counts.interested("", "pods", "a", "x") == 2
    counts.remove(everywhere)
    assert counts.interested("", "pods", "a", "x") == 1
    assert counts.interested("apps", "pods", "a", "x") == 0


def test_retry_after_grows_with_refusals_and_shrinks_without() -> None:
    retry = RetryAfter()
    told = [retry.refused(second) for second in range(100, 140) for _ in range(200)]
    assert max(told) == 32
    later = [retry.refused(second) for second in range(300, 400, 2)]
    assert later[-1] < 32


def test_defaults_are_mended() -> None:
    default = defaults.SUGGESTED_LEVELS[0]
    stored = {**default, "metadata": {**default["metadata"], "generation": 2}}
    assert ensure.revised(stored, default) is None
    changed = {**stored, "spec": {**stored["spec"], "limited": {**stored["spec"]["limited"], "lendablePercent": 1}}}
    mended = ensure.revised(changed, default)
    assert mended is not None
    assert mended["spec"] == default["spec"]
    own = {**changed, "metadata": {**changed["metadata"], "annotations": {defaults.AUTO_UPDATE: "false"}}}
    assert ensure.revised(own, default) is None
    bare = {**changed, "metadata": {"name": "system", "generation": 2}}
    marked = ensure.revised(bare, default)
    assert marked is not None
    assert marked["metadata"]["annotations"] == {defaults.AUTO_UPDATE: "false"}
    assert marked["spec"] == changed["spec"]


def test_the_mandatory_are_mended_whatever_they_say() -> None:
    default = defaults.MANDATORY_FLOWS[1]
    own = {
        **default,
        "metadata": {"name": "catch-all", "annotations": {defaults.AUTO_UPDATE: "false"}},
        "spec": {**default["spec"], "matchingPrecedence": 5},
    }
    mended = ensure.revised(own, default)
    assert mended is not None
    assert mended["spec"] == default["spec"]
    assert mended["metadata"]["annotations"] == {defaults.AUTO_UPDATE: "true"}
    exempt = defaults.MANDATORY_LEVELS[1]
    lent = {**exempt, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 5, "lendablePercent": 50}}}
    assert ensure.revised(lent, exempt) is None


def test_what_an_older_version_made_goes() -> None:
    old = defaults._flow("endpoint-controller", "workload-high", 150, "", defaults._rule(defaults._groups("x")))
    own = {**old, "metadata": {"name": "mine"}}
    assert ensure.unwanted([old, own, *ALL_FLOWS]) == [old]


def test_the_defaults_are_those_of_the_real_server() -> None:
    """Read from a kube-apiserver 1.36.3 in the way of tests/real."""
    path = Path(__file__).parent / "data" / "flowcontrol_of_real.json"
    real = json.loads(path.read_text())
    ours = {(obj["kind"], obj["metadata"]["name"]): obj for obj in (*ALL_LEVELS, *ALL_FLOWS)}
    assert len(real["fs"]) + len(real["plc"]) == len(ours)
    names = frozenset(obj["metadata"]["name"] for obj in real["plc"])
    for kind, objects in (("FlowSchema", real["fs"]), ("PriorityLevelConfiguration", real["plc"])):
        for obj in objects:
            own = ours[kind, obj["metadata"]["name"]]
            assert own["spec"] == obj["spec"]
            assert own["metadata"]["annotations"] == obj["metadata"]["annotations"]
            if kind == "FlowSchema":
                condition = dangling(own, names, 0.0) or {}
                condition.pop("lastTransitionTime")
                assert [condition] == obj["status"]["conditions"]

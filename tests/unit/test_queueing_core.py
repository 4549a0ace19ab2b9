"""The queues' decisions, by the semantics that Kueue documents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from atoll.capacity.queueing.fair import FINAL, INITIAL
from atoll.capacity.queueing.model import (
    ANY,
    LOWER,
    LOWER_OR_NEWER,
    NEVER,
    ClusterQueue,
    Cohort,
    FairSharing,
    Flavor,
    Fungibility,
    LocalQueue,
    PastUsage,
    PodSet,
    PreemptionPolicy,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)
from atoll.capacity.queueing.plan import Plan, plan_cycle
from atoll.capacity.queueing.state import Setup, State
from atoll.capacity.queueing.tree import find_cycle


def queue(name: str, nominal: int | dict[str, int], cohort: str = "", **more) -> ClusterQueue:
    """Of cpu; `nominal`: units, of one flavour or of several."""
    quotas = nominal if isinstance(nominal, dict) else {"f": nominal}
    borrowing, lending = more.pop("borrowing", None), more.pop("lending", None)

    def milli(units):
        return None if units is None else units * 1000

    return ClusterQueue(
        name,
        cohort,
        (ResourceGroup(("cpu",), tuple(quotas)),),
        {(f, "cpu"): Quota(units * 1000, milli(borrowing), milli(lending)) for f, units in quotas.items()},
        selector={},
        **more,
    )


class Lab:
    """A state whose local queues are named as their cluster queues are."""

    def __init__(self, *queues: ClusterQueue, cohorts=(), flavors=("f", "g"), **setup) -> None:
        self.state = State()
        flavors = {item.name: item for item in (Flavor(f) if isinstance(f, str) else f for f in flavors)}
        locals_ = setup.pop("local_queues", None) or {("ns", q.name): LocalQueue("ns", q.name, q.name) for q in queues}
        self.state.configure(
            Setup({q.name: q for q in queues}, {c.name: c for c in cohorts}, flavors, locals_, {"ns": {}}, **setup)
        )
        self.now = 0.0

    def add(self, name, where, units, priority=0, count=1, least=None, template=None) -> None:
        shape = Shape((PodSet("main", count, least, {"cpu": units * 1000}, template or {}),))
        self.now += 1
        self.state.put(Workload(("ns", name), name, where, priority, self.now, self.now, shape))

    def plan(self) -> Plan:
        self.now += 1
        return plan_cycle(self.state, self.now)

    def admitted(self) -> list[str]:
        return sorted(w.key[1] for w in self.state.workloads.values() if w.admission)

    def run(self, name, where, units, priority=0) -> None:
        """Add one and see it admitted."""
        self.add(name, where, units, priority)
        self.plan()
        assert name in self.admitted(), self.plan().waiting

    def victims(self, *add) -> list[str]:
        self.add(*add)
        return sorted(item.victim.key[1] for item in self.plan().evict)


def names(plan: Plan) -> list[str]:
    return [item.workload.key[1] for item in plan.admit]


def test_several_heads_are_admitted_at_once_in_order_of_priority_and_age() -> None:
    lab = Lab(queue("a", 5))
    lab.add("old", "a", 2)
    lab.add("high", "a", 2, 10)
    lab.add("late", "a", 2)
    assert names(lab.plan()) == ["high", "old"]
    assert "1 more needed" in next(iter(lab.state.lines["a"].parked.values())).message


def test_best_effort_passes_over_who_does_not_fit_and_strict_does_not() -> None:
    for strict, expected in ((False, ["small"]), (True, [])):
        lab = Lab(queue("a", 3, strict=strict))
        lab.run("first", "a", 2)
        lab.add("big", "a", 2)
        lab.add("small", "a", 1)
        assert names(lab.plan()) == expected


def test_parked_ones_are_looked_at_again_when_quota_is_free() -> None:
    lab = Lab(queue("a", 2))
    lab.run("one", "a", 2)
    lab.add("two", "a", 2)
    assert names(lab.plan()) == []
    lab.state.drop(("ns", "one"))
    assert names(lab.plan()) == ["two"]


def test_borrowing_up_to_the_limit_and_no_further_than_is_lent() -> None:
    lab = Lab(queue("a", 2, "all", borrowing=2), queue("b", 10, "all", lending=1))
    lab.add("three", "a", 3)
    lab.add("four", "a", 4)
    assert names(lab.plan()) == ["three"]
    lab = Lab(queue("a", 2, "all", borrowing=2), queue("b", 10, "all"))
    lab.add("five", "a", 5)
    assert "maximum capacity (4)" in next(iter(lab.plan().waiting.values()))
    lab.add("four", "a", 4)
    assert names(lab.plan()) == ["four"]


def test_who_does_not_borrow_goes_first() -> None:
    lab = Lab(queue("a", 1, "all"), queue("b", 3, "all"))
    lab.add("borrower", "a", 2, 100)
    lab.add("owner", "b", 3)
    assert names(lab.plan()) == ["owner"]


def test_quota_of_a_cohort_tree_with_limits_at_each_level() -> None:
    def cpu(nominal, borrowing=None, lending=None):
        def milli(units):
            return None if units is None else units * 1000

        return {("f", "cpu"): Quota(nominal * 1000, milli(borrowing), milli(lending))}

    cohorts = [Cohort("root", "", cpu(4)), Cohort("left", "root", cpu(2, borrowing=3)), Cohort("right", "root")]
    lab = Lab(queue("l", 1, "left"), queue("r", 6, "right", lending=2), cohorts=cohorts)
    node = lab.state.nodes["l"]
    assert node.available(("f", "cpu")) == 6000  # 1 own, 2 of the cohort, 3 that it may borrow of 4 + 2
    assert node.potential(("f", "cpu")) == 6000
    lab.run("six", "l", 6)
    assert lab.state.nodes["r"].available(("f", "cpu")) == 7000  # 4 that it keeps, and what 6 leave of 9
    assert lab.state.cohorts["root"].usage[("f", "cpu")] == 6000


def test_a_cycle_of_cohorts_is_named_and_admits_nothing() -> None:
    cohorts = [Cohort("x", "y"), Cohort("y", "z"), Cohort("z", "x")]
    lab = Lab(queue("a", 5, "x"), cohorts=cohorts)
    assert lab.state.inactive["a"][0] == "CohortCycle"
    assert "x → y → z → x" in lab.state.inactive["a"][1]
    lab.add("w", "a", 1)
    assert names(lab.plan()) == []
    assert find_cycle({"a": "b", "b": "b"}, "a") == ["b", "b"]


@pytest.mark.parametrize(("policy", "expected"), [(NEVER, []), (LOWER, ["low"]), (LOWER_OR_NEWER, ["low"])], ids=str)
def test_preemption_within_the_queue(policy, expected) -> None:
    lab = Lab(queue("a", 4, preemption=PreemptionPolicy(policy)))
    lab.run("low", "a", 2, 1)
    lab.run("same", "a", 2, 5)
    assert lab.victims("new", "a", 2, 5) == expected


def test_a_newer_one_of_equal_priority_makes_room_for_an_older() -> None:
    lab = Lab(queue("a", 2, preemption=PreemptionPolicy(LOWER_OR_NEWER)))
    lab.add("older", "a", 2, 5)
    lab.run("small", "a", 1, 9)
    lab.state.drop(("ns", "older"))
    lab.run("newer", "a", 1, 5)
    shape = Shape((PodSet("main", 1, None, {"cpu": 1000}),))
    lab.state.put(Workload(("ns", "older"), "older", "a", 5, 0.5, 0.5, shape))
    assert [item.victim.key[1] for item in lab.plan().evict] == ["newer"]


def test_the_fewest_victims_the_lowest_and_latest_first() -> None:
    lab = Lab(queue("a", 6, preemption=PreemptionPolicy(LOWER)))
    lab.run("one", "a", 1, 1)
    lab.run("two", "a", 2, 2)
    lab.run("three", "a", 3, 3)
    assert lab.victims("needs3", "a", 3, 9) == ["one", "two"]
    lab = Lab(queue("a", 6, preemption=PreemptionPolicy(LOWER)))
    for number in range(3):
        lab.run(f"w{number}", "a", 2, 1)
    assert lab.victims("needs2", "a", 2, 9) == ["w2"]
    lab = Lab(queue("a", 6, preemption=PreemptionPolicy(LOWER)))
    lab.run("small", "a", 1, 1)
    lab.run("big", "a", 5, 2)
    assert lab.victims("needs5", "a", 5, 9) == ["big"], "the small one is put back"


def test_reclaim_takes_only_what_is_borrowed() -> None:
    lab = Lab(queue("a", 2, "all", preemption=PreemptionPolicy(reclaim=ANY)), queue("b", 2, "all"))
    lab.run("own", "b", 2, 0)
    lab.run("borrowed", "b", 2, 50)
    assert lab.victims("mine", "a", 2, 1) == ["own"], "the lower one, while the queue borrows"
    lab = Lab(queue("a", 2, "all", preemption=PreemptionPolicy(reclaim=LOWER)), queue("b", 2, "all"))
    lab.run("high", "b", 4, 50)
    assert lab.victims("mine", "a", 2, 1) == []
    lab = Lab(queue("a", 1, "all", preemption=PreemptionPolicy(reclaim=ANY)), queue("b", 2, "all"))
    lab.run("b2", "b", 2)
    assert lab.victims("needs2", "a", 2, 9) == [], "b uses no more than its own"


def test_preempting_while_borrowing_is_by_priority_and_threshold() -> None:
    for threshold, expected in ((None, ["b4"]), (3, [])):
        policy = PreemptionPolicy(NEVER, LOWER, LOWER, threshold)
        lab = Lab(queue("a", 1, "all", preemption=policy), queue("b", 1, "all"), queue("c", 4, "all"))
        lab.run("b4", "b", 4, 5)
        assert lab.victims("needs3", "a", 3, 9) == expected


def test_while_the_victims_go_nobody_else_gets_their_quota() -> None:
    lab = Lab(queue("a", 4, preemption=PreemptionPolicy(LOWER)))
    lab.run("low", "a", 4, 1)
    assert lab.victims("high", "a", 2, 9) == ["low"]
    lab.add("other", "a", 2, 1)
    assert names(lab.plan()) == []


def test_flavours_are_tried_in_order_and_fungibility_says_when_to_stop() -> None:
    both = {"f": 2, "g": 4}
    lab = Lab(queue("a", both))
    lab.add("w", "a", 3)
    assert lab.plan().admit[0].workload.usage == {("g", "cpu"): 3000}
    for fungibility, flavor in ((Fungibility(), "f"), (Fungibility(stop_at_borrow=False), "g")):
        lab = Lab(queue("a", both, "all", fungibility=fungibility), queue("b", both, "all"))
        lab.add("w", "a", 3)
        assert lab.plan().admit[0].workload.usage == {(flavor, "cpu"): 3000}
    for fungibility, expected in ((Fungibility(), []), (Fungibility(stop_at_preempt=True), ["low"])):
        lab = Lab(queue("a", both, preemption=PreemptionPolicy(LOWER), fungibility=fungibility))
        lab.run("low", "a", 2)
        assert lab.victims("high", "a", 2, 5) == expected


def test_preference_between_borrowing_and_preemption() -> None:
    for rather, expected in ((True, []), (False, ["low"])):
        fungibility = Fungibility(False, False, rather)
        lab = Lab(
            queue("a", {"f": 2, "g": 1}, "all", preemption=PreemptionPolicy(LOWER), fungibility=fungibility),
            queue("b", {"f": 0, "g": 3}, "all"),
        )
        lab.run("low", "a", 2)
        assert lab.victims("high", "a", 2, 5) == expected


def test_taints_and_affinity_rule_flavours_out() -> None:
    taint = {"key": "spot", "value": "true", "effect": "NoSchedule"}
    flavors = [Flavor("f", {"type": "spot"}, (taint,)), Flavor("g", {"type": "reserved"})]
    lab = Lab(queue("a", {"f": 5, "g": 1}), flavors=flavors)
    lab.add("plain", "a", 2)
    why = next(iter(lab.plan().waiting.values()))
    assert "untolerated taint spot=true:NoSchedule in flavor f" in why
    assert "flavor g" in why
    spec = {"tolerations": [{"key": "spot", "operator": "Exists"}], "nodeSelector": {"type": "spot", "other": "x"}}
    lab.add("tolerant", "a", 2, template={"spec": spec})
    assert lab.plan().admit[0].workload.usage == {("f", "cpu"): 2000}
    terms = [{"matchExpressions": [{"key": "type", "operator": "In", "values": ["reserved"]}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    lab.add("affine", "a", 1, template={"spec": {"affinity": affinity}})
    assert lab.plan().admit[0].workload.usage == {("g", "cpu"): 1000}


def test_partial_admission_takes_the_most_pods_that_fit() -> None:
    lab = Lab(queue("a", 7))
    lab.add("w", "a", 1, count=10, least=3)
    (admit,) = lab.plan().admit
    assert admit.workload.admission.pod_sets[0].count == 7
    assert admit.workload.usage == {("f", "cpu"): 7000}
    lab = Lab(queue("a", 2))
    lab.add("w", "a", 1, count=10, least=3)
    assert lab.plan().admit == []


def share_lab(strategies=(FINAL, INITIAL), **policy) -> Lab:
    preemption = PreemptionPolicy(**({"within_queue": LOWER, "reclaim": ANY} | policy))
    queues = [queue(name, 3, "all", preemption=preemption) for name in ("a", "b", "c")]
    return Lab(*queues, fair=FairSharing(True, strategies))


def test_fair_sharing_admits_first_who_has_the_least_share() -> None:
    lab = share_lab()
    lab.run("a4", "a", 4)
    lab.add("more", "a", 1, 100)
    lab.add("b4", "b", 4, 0)
    assert names(lab.plan()) == ["b4", "more"]
    assert lab.state.nodes["a"].share() == pytest.approx(2 / 9 * 1000)


def test_fair_preemption_takes_from_the_largest_share_until_even() -> None:
    lab = share_lab()
    for number in range(6):
        lab.run(f"a{number}", "a", 1)
    for number in range(3):
        lab.run(f"b{number}", "b", 1)
    assert lab.victims("c3", "c", 3) == ["a3", "a4", "a5"]
    lab = share_lab()
    for number in range(9):
        lab.run(f"a{number}", "a", 1)
    assert len(lab.victims("b4", "b", 4)) == 4, "a keeps 5 of 9: 2 borrowed, b borrows 1"


def test_the_two_fair_strategies_differ_for_one_big_victim() -> None:
    for strategies, expected in (((FINAL,), []), ((FINAL, INITIAL), ["big"])):
        lab = share_lab(strategies)
        lab.run("big", "a", 9)
        assert lab.victims("b4", "b", 4) == expected


def test_a_weight_counts_and_a_weight_of_nothing_comes_last() -> None:
    lab = Lab(
        queue("a", 1, "all", weight=2.0), queue("b", 1, "all"), queue("c", 8, "all"), queue("d", 0, "all", weight=0)
    )
    lab.run("a3", "a", 3)
    lab.run("b3", "b", 3)
    lab.run("d1", "d", 1)
    shares = {name: lab.state.nodes[name].share() for name in "abcd"}
    assert shares["b"] == 2 * shares["a"] > shares["c"] == 0
    assert shares["d"] == float("inf")


def test_past_usage_decides_between_local_queues() -> None:
    locals_ = {("ns", name): LocalQueue("ns", name, "q") for name in ("x", "y")}
    past = PastUsage(600, 300)
    lab = Lab(queue("q", 3, by_past_usage=True), local_queues=locals_, past=past)
    lab.state.consumption.restore(("ns", "x"), {"cpu": 5000.0})
    lab.add("x1", "x", 1)
    lab.add("y1", "y", 1)
    lab.add("x2", "x", 1)
    assert names(lab.plan()) == ["y1", "x1", "x2"]
    sampled = lab.state.consumption.sample(("ns", "x"), {"cpu": 2000})
    assert sampled["cpu"] == pytest.approx(5000 * 0.5**0.5 + 2000 * (1 - 0.5**0.5))


def test_queues_that_can_t_admit_say_why() -> None:
    lab = Lab(queue("a", {"nowhere": 1}), queue("b", 1, stop="Hold"), queue("c", 1, checks=(("look", frozenset()),)))
    assert {name: why[0] for name, why in lab.state.inactive.items()} == {
        "a": "FlavorNotFound",
        "b": "Stopped",
        "c": "AdmissionCheckNotFound",
    }
    lab.add("w", "none", 1)
    assert lab.state.not_queued(lab.state.workloads["ns", "w"]) == "LocalQueue none doesn't exist"


def test_who_waits_for_a_queue_is_pending_though_it_is_inactive_or_rests() -> None:
    locals_ = {("ns", name): LocalQueue("ns", name, "a", stop) for name, stop in (("a", "None"), ("s", "Hold"))}
    lab = Lab(queue("a", 9, stop="Hold"), local_queues=locals_)
    lab.add("w", "a", 1)
    lab.add("stopped", "s", 1)
    assert lab.state.pending_count("a") == 1
    lab.state.configure(replace(lab.state.setup, queues={"a": queue("a", 9)}))
    assert lab.state.pending_count("a") == 1
    lab.plan()
    assert lab.admitted() == ["w"] and lab.state.pending_count("a") == 0
    rests = structs.replace(lab.state.workloads["ns", "w"], admission=None, usage={}, requeue_at=lab.now + 10)
    lab.state.put(rests)
    assert lab.state.pending_count("a") == 1 and not lab.plan().admit
    lab.now += 10
    lab.plan()
    assert lab.admitted() == ["w"] and lab.state.pending_count("a") == 0


def test_one_at_a_time_while_pods_are_not_ready() -> None:
    lab = Lab(queue("a", 5), one_at_a_time=True)
    lab.add("one", "a", 1)
    lab.add("two", "a", 1)
    assert names(lab.plan()) == ["one"]
    assert names(lab.plan()) == []

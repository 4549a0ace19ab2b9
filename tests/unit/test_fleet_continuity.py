"""Who is lost, what may be destroyed, what waits for its replacement: on plain values."""

from typing import Any

from atoll.base.clock import ManualClock
from atoll.fleet.continuity import evictions, tolerance
from atoll.fleet.continuity.budget import Budget, Limits
from atoll.fleet.continuity.suspicion import Suspicion
from atoll.fleet.model import ClusterView

Object = dict[str, Any]
NOT_READY = "cluster.karmada.io/not-ready"


def three_ready() -> Suspicion:
    found = Suspicion(stall_seconds=2.0, failure_threshold=2)
    for name in ("a", "b", "c"):
        found.answered(name)
    found.tick(0.0, 1000.0)
    return found


def test_a_refusal_is_asked_twice_and_a_time_out_once() -> None:
    seen = three_ready()
    assert not seen.failed("a", 1.0, timed_out=False)
    assert seen.failed("a", 1.1, timed_out=False)
    assert seen.failed("b", 1.0, timed_out=True)
    assert seen.lost_for("a", 4.0) == 3.0
    assert seen.lost_for("c", 4.0) is None


def test_a_success_forgives() -> None:
    seen = three_ready()
    seen.failed("a", 1.0, timed_out=True)
    assert seen.answered("a")
    assert seen.lost_for("a", 9.0) is None


def test_all_at_once_makes_the_hub_the_suspect_till_one_is_back() -> None:
    seen = three_ready()
    for name in ("a", "b", "c"):
        seen.failed(name, 1.0, timed_out=True)
    assert seen.judge(1.5)
    assert seen.lost_for("a", 100.0) is None
    assert seen.judge(100.0)
    seen.answered("a")
    assert not seen.judge(100.5)
    assert seen.lost_for("b", 101.0) == 0.5


def test_a_hub_that_stood_still_has_observed_nothing() -> None:
    seen = three_ready()
    seen.failed("a", 0.5, timed_out=True)
    assert not seen.tick(1.0, 1001.0)
    assert seen.tick(60.0, 1060.0)
    assert seen.lost_for("a", 61.0) == 1.0
    assert seen.tick(61.0, 5000.0)  # the machine slept: only the wall clock went on


def test_a_single_cluster_is_never_the_hubs_fault() -> None:
    seen = Suspicion(stall_seconds=2.0, failure_threshold=1)
    seen.answered("only")
    seen.failed("only", 1.0, timed_out=True)
    assert not seen.judge(2.0)
    assert seen.lost_for("only", 3.0) == 2.0


def test_how_long_a_policy_waits() -> None:
    def limit(*tolerations: Object) -> float | None:
        return tolerance.not_ready_seconds({"clusterTolerations": list(tolerations)}, 30.0)

    key = {"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"}
    assert limit() == 30.0
    assert limit({**key, "tolerationSeconds": 1}) == 1.0
    assert limit(key) is None
    assert limit({"operator": "Exists", "tolerationSeconds": 5}, {**key, "tolerationSeconds": 9}) == 5.0
    assert limit({"key": "mine", "operator": "Exists", "effect": "NoExecute"}) == 30.0


def test_a_persons_taint_evicts_at_once_or_when_tolerated_no_longer() -> None:
    tainted = ClusterView("a", taints=({"key": "drain", "effect": "NoExecute", "timeAdded": "2026-11-23T16:00:00Z"},))
    at = 1795449600.0  # 2026-11-23T16:00:00Z
    assert tolerance.evicted({}, tainted, at)[0]
    patient = {"clusterTolerations": [{"key": "drain", "operator": "Exists", "tolerationSeconds": 60}]}
    assert tolerance.evicted(patient, tainted, at + 20) == ("", 40.0)
    assert tolerance.evicted(patient, tainted, at + 61)[0]


def budget(clock: ManualClock, total: int, **limits: Any) -> Budget:
    return Budget(clock, Limits(**limits), lambda kind: total, lambda: None)


def test_a_budget_lets_a_fifth_and_at_least_twenty_go() -> None:
    clock = ManualClock()
    few = budget(clock, 30)
    assert sum(few.take("Deployment", f"m/{number}", "why") for number in range(50)) == 20
    many = budget(clock, 1000)
    assert many.limit("Deployment") == 200
    assert few.held["Deployment"].objects == {f"m/{number}" for number in range(20, 50)}
    assert "kubectl annotate" in few.held["Deployment"].how


def test_kinds_have_budgets_of_their_own_and_the_window_moves_on() -> None:
    clock = ManualClock()
    found = budget(clock, 0, at_least=1)
    assert found.take("Deployment", "a", "")
    assert not found.take("Deployment", "b", "")
    assert found.take("ConfigMap", "a", "")
    assert found.next_grant("Deployment") == 600.0
    clock.advance(601)
    assert found.take("Deployment", "b", "")
    assert found.held == {}


def test_asking_again_for_the_same_object_costs_nothing() -> None:
    found = budget(ManualClock(), 0, at_least=1)
    assert found.take("Deployment", "a", "")
    assert found.take("Deployment", "a", "")


def test_a_person_confirms_what_is_held_then_and_nothing_later() -> None:
    found = budget(ManualClock(), 0, at_least=0, percent=0)
    assert not found.take("Deployment", "a", "")
    assert found.confirm("Deployment") == 1
    assert found.take("Deployment", "a", "")
    assert not found.take("Deployment", "b", "")
    found.withdraw("Deployment", "b")
    assert found.held == {}


def test_what_was_confirmed_may_be_tried_again_until_it_is_gone() -> None:
    """The deletion may fail, or the copy still be seen; once it is gone a namesake needs a person again."""
    clock = ManualClock()
    found = budget(clock, 0, at_least=0, percent=0)
    assert not found.take("Deployment", "a", "") and not found.take("Deployment", "b", "")
    assert found.confirm("Deployment") == 2
    assert found.take("Deployment", "a", "") and found.take("Deployment", "a", "") and found.held == {}
    found.withdraw("Deployment", "a")
    assert not found.take("Deployment", "a", "")
    assert found.take("Deployment", "b", "")
    clock.advance(601)
    assert not found.take("Deployment", "b", ""), "a window later it is another deletion"


def binding(ready: dict[str, int], given: dict[str, int], tasks: list[Object] | None = None) -> Object:
    items = [
        {"clusterName": name, "applied": True, "health": "Healthy",
         "status": {"replicas": count, "readyReplicas": count, "availableReplicas": count}}
        for name, count in ready.items()
    ]  # fmt: skip
    spec: Object = {"clusters": [{"name": name, "replicas": count} for name, count in given.items()]}
    if tasks:
        spec["gracefulEvictionTasks"] = tasks
    return {"spec": spec, "status": {"aggregatedStatus": items}}


def test_a_replacement_is_ready_only_when_all_targets_run_what_they_were_given() -> None:
    known = {"a", "b"}.__contains__
    assert evictions.replaced(binding({"a": 5, "b": 4}, {"a": 5, "b": 4}), known)
    assert not evictions.replaced(binding({"a": 5, "b": 3}, {"a": 5, "b": 4}), known)
    assert not evictions.replaced(binding({"a": 5, "c": 4}, {"a": 5, "c": 4}), known)
    assert not evictions.replaced(binding({}, {}), known)


def revise(one: Object, new: dict[str, int], **more: Any) -> list[Object]:
    given: dict[str, Any] = {"lost": {}, "evicted": {}, "shifting": True, "present": {"a", "b", "c"}, "done": False,
                             "counts": {}, **more}  # fmt: skip
    return evictions.revise(one["spec"], new, now="now", **given)


def test_a_lost_cluster_keeps_its_copy_till_it_is_replaced() -> None:
    before = binding({}, {"a": 3, "b": 3, "c": 3})
    found = revise(before, {"a": 5, "b": 4}, lost={"c": "gone"})
    assert [(one["fromCluster"], one["reason"], "replicas" in one) for one in found] == [
        ("c", "ClusterNotReady", False)
    ]
    again = binding({}, {"a": 5, "b": 4}, found)
    assert revise(again, {"a": 5, "b": 4}) == found
    assert revise(again, {"a": 5, "b": 4}, present={"a", "b"}) == []


def test_going_back_keeps_the_surplus_till_the_replacement_is_ready_and_gone() -> None:
    before = binding({}, {"a": 5, "b": 4})
    found = revise(before, {"a": 3, "b": 3, "c": 3})
    assert {one["fromCluster"]: one["replicas"] for one in found} == {"a": 2, "b": 1}
    after = binding({}, {"a": 3, "b": 3, "c": 3}, found)
    assert evictions.extra_replicas(after["spec"]) == {"a": 2, "b": 1}
    draining = revise(after, {"a": 3, "b": 3, "c": 3}, done=True, counts={"a": 5, "b": 3})
    assert [(one["fromCluster"], one["replicas"]) for one in draining] == [("a", 0)]
    left = binding({}, {"a": 3, "b": 3, "c": 3}, draining)
    assert revise(left, {"a": 3, "b": 3, "c": 3}, counts={"a": 3, "b": 3}) == []


def test_a_change_that_a_person_made_is_direct() -> None:
    before = binding({}, {"a": 3, "b": 3, "c": 3})
    assert revise(before, {"a": 9}, shifting=False) == []
    assert revise(before, {"a": 1, "b": 1, "c": 1}) == []  # scaled down: nobody gained

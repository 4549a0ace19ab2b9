"""What is done about a node: budget, drain with checkpoints, the ladder of remedies, return; and what tests say."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.health import changes, checkpoint, plan
from atoll.capacity.health.drain import plan_drain
from atoll.capacity.health.fleet import Fleet
from atoll.capacity.health.model import Finding, Past, Repair, past_of, repair_of, text_of
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.health.summary import coverage, state_of
from atoll.capacity.preflight.manifests import cron_job
from atoll.capacity.preflight.plan import due_in, is_new, is_testable, stale, verdict
from atoll.capacity.preflight.settings import Periodic, PreflightSettings
from atoll.objects.meta import labels

NOW = 1_700_000_000.0
SETTINGS = HealthSettings()
XID = Finding("gpu", "XID48", "GPU 0: bad", "reset")
LOST = Finding("gpu", "GPULost", "gone", "reboot", urgent=True)
NOTICE = Finding("maintenance", "Maintenance", "soon", "wait")


def node(name: str = "n", *, ready: bool = True, taints: Any = (), **metadata: Any) -> Any:
    labels = {"atoll.dev/simulated": "true", "nvidia.com/gpu.count": "8", **metadata.pop("labels", {})}
    return {
        "metadata": {"name": name, "resourceVersion": "7", "labels": labels, **metadata},
        "spec": {"taints": list(taints)},
        "status": {
            "capacity": {"nvidia.com/gpu": "8"},
            "nodeInfo": {"bootID": "b1"},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def repairing(phase: Any, remedy: Any = "reset", ago: float = 0, **more: Any) -> Any:
    repair = Repair(remedy, phase, rfc3339(NOW - ago), "XID48", "bad", cordoned=True, **more)
    taint = {"key": names.UNHEALTHY_TAINT, "effect": "NoSchedule"}
    return node(taints=[taint], annotations={names.REPAIR: text_of(repair)})


def view(obj: Any, *findings: Finding, read: bool = True, pods: Any = ()) -> plan.View:
    return plan.View(obj, list(findings), read, list(pods), NOW, SETTINGS)


def pod(name: str = "p", *, ago: float = 1000.0, every: str = "", last: float | None = None, **spec: Any) -> Any:
    told = ({names.CHECKPOINT_EVERY: every} if every else {}) | (
        {names.LAST_CHECKPOINT: rfc3339(last)} if last is not None else {}
    )
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "annotations": told},
        "spec": spec,
        "status": {"phase": "Running", "startTime": rfc3339(NOW - ago)},
    }


def test_a_fault_takes_a_node_out_and_a_cured_one_rests() -> None:
    step = plan.plan_node(view(node(), XID, LOST))
    assert isinstance(step, plan.TakeOut)
    assert (step.repair.remedy, step.repair.reason, step.repair.urgent) == ("reboot", "GPULost", True)
    assert plan.plan_node(view(node())) == plan.Rest()
    assert plan.plan_node(view(node(), Finding("gpu", "XID31", "app", "none"))) == plan.Rest()


def test_what_others_do_with_a_node_is_left_to_them() -> None:
    by_hand = node(taints=[{"key": names.UNHEALTHY_TAINT, "effect": "NoSchedule"}])
    leaving = node(taints=[{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}])
    assert plan.plan_node(view(by_hand, LOST)) == plan.plan_node(view(leaving, LOST)) == plan.Rest()


def test_the_same_again_within_a_day_takes_the_next_remedy() -> None:
    past = [Past("reset", "XID48", rfc3339(NOW - 3600))]
    assert plan.begin_at(XID, past, NOW, SETTINGS) == "reboot"
    assert plan.begin_at(XID, [Past("reset", "XID48", rfc3339(NOW - 90_000))], NOW, SETTINGS) == "reset"
    assert plan.begin_at(LOST, past, NOW, SETTINGS) == "reboot", "another reason"
    assert plan.begin_at(NOTICE, [Past("wait", "Maintenance", rfc3339(NOW))], NOW, SETTINGS) == "wait"


def test_the_way_of_a_repair() -> None:
    drained = plan.plan_node(view(repairing("draining"), XID))
    assert isinstance(drained, plan.Move) and (drained.repair.phase, drained.repair.boot_id) == ("repairing", "b1")
    mending = repairing("repairing")
    assert plan.plan_node(view(mending, XID)) == plan.Mend(repair_of(mending))
    assert plan.after_remedy(view(mending, XID), repair_of(mending), done=False) is None
    tested = plan.after_remedy(view(mending, XID), repair_of(mending), done=True)
    assert tested is not None and tested.phase == "testing"
    assert isinstance(plan.plan_node(view(repairing("testing"))), plan.Return)


@pytest.mark.parametrize("tests", ["pending", "failed"])
def test_no_return_before_preflight(tests: str) -> None:
    waiting = repairing("testing")
    waiting["metadata"]["labels"][names.PREFLIGHT] = tests
    step = plan.plan_node(view(waiting))
    if tests == "pending":
        assert isinstance(step, plan.Rest)
    else:
        assert isinstance(step, plan.Move) and (step.repair.remedy, step.repair.number) == ("reboot", 2)


def test_no_return_on_doubt() -> None:
    assert isinstance(plan.plan_node(view(repairing("testing"), read=False)), plan.Rest)
    down = repairing("testing")
    down["status"]["conditions"][0]["status"] = "False"
    assert isinstance(plan.plan_node(view(down)), plan.Rest)


def test_a_fault_that_stays_climbs_the_ladder_to_its_end() -> None:
    assert isinstance(plan.plan_node(view(repairing("testing", ago=10), XID)), plan.Rest), "conditions need a while"
    step = plan.plan_node(view(repairing("testing", ago=300), XID))
    assert isinstance(step, plan.Move) and (step.repair.remedy, step.repair.phase) == ("reboot", "repairing")
    last = plan.plan_node(view(repairing("testing", "replace", ago=300), XID))
    assert isinstance(last, plan.Move) and last.repair.phase == "given-up"
    assert plan.plan_node(view(repairing("given-up", "replace"), XID)) == plan.Rest()


def test_a_worse_fault_changes_the_remedy_and_a_slow_one_the_next() -> None:
    step = plan.plan_node(view(repairing("repairing"), XID, LOST))
    assert isinstance(step, plan.Move) and (step.repair.remedy, step.repair.urgent) == ("reboot", True)
    slow = repairing("repairing", ago=4000)
    following = plan.after_remedy(view(slow, XID), repair_of(slow), done=False)
    assert following is not None and following.remedy == "reboot"


def test_heat_and_maintenance_are_waited_out() -> None:
    hot = Finding("gpu", "Overheated", "hot", "wait")
    assert isinstance(plan.plan_node(view(repairing("repairing", "wait"), hot)), plan.Rest)
    cooled = plan.plan_node(view(repairing("repairing", "wait")))
    assert isinstance(cooled, plan.Move) and cooled.repair.phase == "testing"
    never = plan.plan_node(view(repairing("repairing", "wait", ago=4000), hot))
    assert isinstance(never, plan.Move) and never.repair.remedy == "replace"
    assert isinstance(plan.plan_node(view(repairing("repairing", "wait", ago=90_000), NOTICE)), plan.Rest)


def test_patches_carry_the_version_and_undo_only_what_was_ours() -> None:
    out = changes.taken_out(node(taints=[{"key": "x", "effect": "NoSchedule"}]), repair_of(repairing("draining")), NOW)
    assert out["metadata"]["resourceVersion"] == "7" and out["spec"]["unschedulable"] is True
    assert [taint["key"] for taint in out["spec"]["taints"]] == ["x", names.UNHEALTHY_TAINT]
    back = changes.returned(repairing("testing"), repair_of(repairing("testing")), NOW)
    assert (
        back["spec"] == {"taints": [], "unschedulable": None} and back["metadata"]["annotations"][names.REPAIR] is None
    )
    by_hand = Repair("reset", "testing", rfc3339(NOW), "XID48", cordoned=False)
    assert "unschedulable" not in changes.returned(repairing("testing"), by_hand, NOW)["spec"]
    made = {"metadata": {"annotations": back["metadata"]["annotations"]}}
    assert past_of(made) == [Past("reset", "XID48", rfc3339(NOW))]


def test_conditions_are_written_when_they_change() -> None:
    (made,) = changes.conditions(node(), [XID], True, NOW)
    assert (made["type"], made["status"], made["reason"]) == ("GPUHealthy", "False", "XID48")
    told = node()
    told["status"]["conditions"].append(made)
    assert changes.conditions(told, [XID], True, NOW + 60) == []
    (unknown,) = changes.conditions(told, [], False, NOW + 60)
    assert (unknown["status"], unknown["reason"]) == ("Unknown", "NoReading")
    plain = {"metadata": {"name": "cpu"}, "status": {}}
    assert changes.conditions(plain, [], False, NOW) == [], "nothing is said of a healthy host without GPUs"


# -- the budget


def test_the_budget_holds_in_all_and_per_pool_also_for_writes_on_their_way() -> None:
    fleet, settings = Fleet(), HealthSettings(budget=3, pool_budget=2)
    for number in range(10):
        fleet.put(node(f"a{number}", labels={names.POOL_LABEL: "a"}))
        fleet.put(node(f"b{number}", labels={names.POOL_LABEL: "b"}))
    assert [fleet.take(f"a{number}", settings) for number in range(3)] == [True, True, False]
    assert [fleet.take(f"b{number}", settings) for number in range(2)] == [True, False]
    fleet.release("a0")
    assert fleet.take("b1", settings)
    tainted = node(
        "b1", labels={names.POOL_LABEL: "b"}, taints=[{"key": names.UNHEALTHY_TAINT, "effect": "NoSchedule"}]
    )
    fleet.put(tainted)
    fleet.release("b1")
    assert not fleet.take("a0", settings) and fleet.out == {"a1", "b0", "b1"}


def test_nodes_that_are_down_anyway_use_the_budget_up() -> None:
    fleet, settings = Fleet(), HealthSettings(budget=2, pool_budget="100%")
    for number in range(5):
        fleet.put(node(f"n{number}", ready=number > 2))
    assert not fleet.take("n4", settings), "three are down: rather the observer errs"
    assert not fleet.take("n0", settings)
    fleet.put(node("n0"))
    assert fleet.take("n1", settings), "it is one of the two that are missing"


# -- draining


def drain(*pods: Any, since: float = NOW, urgent: bool = False, obj: Any = None) -> Any:
    return plan_drain(obj or node(), pods, since, NOW, SETTINGS, urgent=urgent)


def test_what_declares_checkpoints_may_reach_the_next_one() -> None:
    plain, saving = pod("a"), pod("b", ago=1000, every="300")
    found = drain(plain, saving)
    assert ([it["metadata"]["name"] for it in found.evict], found.remaining) == (["a"], 2)
    assert found.again_seconds == 200.0, "1,000 s in, the next of every 300 is due after 1,200"
    assert len(drain(plain, saving, urgent=True).evict) == 2
    assert drain(pod(ago=1300, every="300"), since=NOW - 300).evict, "one was complete after the node was taken out"


def test_a_checkpoint_that_would_come_too_late_is_not_waited_for() -> None:
    assert drain(pod(ago=10, every="7200")).evict
    real = node()
    del real["metadata"]["labels"]["atoll.dev/simulated"]
    waiting = drain(pod(every="300", last=NOW - 200), since=NOW - 100, obj=real)
    assert not waiting.evict and waiting.again_seconds == 500.0
    assert drain(pod(every="300", last=NOW - 200), since=NOW - 601, obj=real).evict, "the grace is over"
    assert drain(pod(every="300", last=NOW - 50), since=NOW - 100, obj=real).evict, "it has written one since"


def test_daemons_and_ended_pods_stay_and_what_hangs_in_termination_holds_up_nothing() -> None:
    daemon = pod("d")
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "controller": True}]
    ended = pod("e") | {"status": {"phase": "Succeeded"}}
    tolerant = pod("t", tolerations=[{"key": names.UNHEALTHY_TAINT, "operator": "Exists"}])
    assert drain(daemon, ended, tolerant).remaining == 0
    going = pod("g")
    going["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert (drain(going).remaining, drain(going).evict) == (1, ())
    going["metadata"]["deletionTimestamp"] = rfc3339(NOW - 121)
    assert drain(going).remaining == 0


def test_lost_work_is_what_came_after_the_last_checkpoint() -> None:
    assert checkpoint.lost_seconds(pod(ago=1000, every="300"), NOW, simulated=True) == 100.0
    assert checkpoint.lost_seconds(pod(ago=100, every="300"), NOW, simulated=True) == 100.0
    assert checkpoint.lost_seconds(pod(every="300", last=NOW - 7), NOW, simulated=False) == 7.0
    assert checkpoint.lost_seconds(pod(), NOW, simulated=True) == 0.0, "nothing was declared"
    assert checkpoint.interval(pod(every="nonsense")) is None


# -- tests


def joining(**more: Any) -> Any:
    found = node(labels={names.PREFLIGHT: "pending"}, annotations={names.PREFLIGHT_SINCE: rfc3339(NOW - 60)}, **more)
    found["status"]["conditions"].append({"type": names.GPU_HEALTHY, "status": "True"})
    return found


def test_pod(**status: Any) -> Any:
    return {
        "metadata": {
            "name": "t", "namespace": "s", "labels": {names.TEST_LABEL: "preflight"},
            "creationTimestamp": rfc3339(NOW - 30),
        },
        "status": status,
    }  # fmt: skip


test_pod.__test__ = False  # type: ignore[attr-defined]
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
TESTS = PreflightSettings()


def test_only_a_pass_since_it_joined_opens_a_node() -> None:
    assert verdict(joining(), [test_pod(**READY)], NOW, TESTS).passed is True
    assert verdict(joining(), [], NOW, TESTS).passed is None
    assert verdict(joining(), [test_pod()], NOW, TESTS).passed is None
    old = test_pod(**READY)
    old["metadata"]["creationTimestamp"] = rfc3339(NOW - 61)
    assert verdict(joining(), [old], NOW, TESTS).passed is None, "of before it joined"
    assert stale(joining(), [old, test_pod(**READY)]) == [old]
    faulty = joining()
    faulty["status"]["conditions"][-1]["status"] = "False"
    assert verdict(faulty, [test_pod(**READY)], NOW, TESTS).passed is None, "a fault is known all the same"
    assert verdict(joining(ready=False), [test_pod(**READY)], NOW, TESTS).passed is None


def test_a_test_that_fails_or_hangs_is_a_failure_and_a_missing_image_is_none() -> None:
    def status(tries: int, **state: Any) -> Any:
        return {"initContainerStatuses": [{"name": "test", "restartCount": tries, **state}]}

    ended = {"terminated": {"exitCode": 3, "message": "memory"}}
    assert verdict(joining(), [test_pod(**status(0, state=ended))], NOW, TESTS).passed is None, "it may try again"
    failed = verdict(joining(), [test_pod(**status(1, state=ended))], NOW, TESTS)
    assert (failed.passed, failed.reason) == (False, "test test failed 2 times, exit code 3: memory")
    hanging = status(0, state={"running": {"startedAt": rfc3339(NOW - 1801)}})
    assert verdict(joining(), [test_pod(**hanging)], NOW, TESTS).passed is False
    running = status(0, state={"running": {"startedAt": rfc3339(NOW - 1700)}})
    assert verdict(joining(), [test_pod(**running)], NOW, TESTS).again_seconds == 100.0
    no_image = status(9, state={"waiting": {"reason": "ImagePullBackOff"}})
    assert verdict(joining(), [test_pod(**no_image)], NOW, TESTS).passed is None


def test_only_young_nodes_without_work_are_new() -> None:
    young = node(creationTimestamp=rfc3339(NOW - 10))
    assert is_new(young, [], NOW, TESTS)
    assert not is_new(young, [pod()], NOW, TESTS), "it works already: it is left as it is"
    assert not is_new(node(creationTimestamp=rfc3339(NOW - 900)), [], NOW, TESTS)
    assert not is_new(joining(creationTimestamp=rfc3339(NOW)), [], NOW, TESTS)
    assert not is_new(young, [], NOW, PreflightSettings(node_selector={"a": "b"}))
    assert not is_new(young, [], NOW, PreflightSettings(enabled=False))


def test_periodic_tests_are_due_where_the_node_is_in_service() -> None:
    assert due_in(node(), None, NOW, 100.0) == 0.0
    assert due_in(node(), NOW - 60, NOW, 100.0) == 40.0
    assert due_in(joining(), None, NOW, 100.0) is None
    assert due_in(repairing("draining"), None, NOW, 100.0) is None


def test_a_periodic_test_waits_for_an_open_node_with_free_gpus() -> None:
    def due(**more: Any) -> Any:
        made = node(**{"labels": {names.TEST_DUE: "true"}, **more})
        made["status"]["allocatable"] = {"nvidia.com/gpu": "8"}
        return made

    def holding(gpus: str) -> Any:
        return pod(containers=[{"name": "c", "resources": {"requests": {"nvidia.com/gpu": gpus}}}])

    team = {"key": names.TEAM, "effect": "NoSchedule"}
    closed = {"key": names.UNHEALTHY_TAINT, "effect": "NoSchedule"}
    assert is_testable(due(taints=[team]), [holding("7")], 1)
    assert not is_testable(due(), [holding("7")], 2), "too few are free"
    assert not is_testable(due(labels={}), [], 1) and not is_testable(due(ready=False), [], 1)
    assert not is_testable(due(taints=[closed]), [], 1)
    cordoned = due()
    cordoned["spec"]["unschedulable"] = True
    assert not is_testable(cordoned, [], 1)


def test_periodic_tests_are_suspended_where_no_node_can_be_tested() -> None:
    found = [cron_job(TESTS, 10, testable)["spec"] for testable in (0, 2, 9)]
    jobs = [spec["jobTemplate"]["spec"] for spec in found]
    assert [spec["suspend"] for spec in found] == [True, False, False]
    assert [job["parallelism"] for job in jobs] == [job["completions"] for job in jobs] == [1, 2, 4]


def test_a_large_fleet_tests_more_nodes_at_once() -> None:
    def at_once(parallelism: int | str | None) -> int:
        settings = PreflightSettings(periodic=Periodic(parallelism=parallelism))
        found: int = cron_job(settings, 7_500, 7_000)["spec"]["jobTemplate"]["spec"]["parallelism"]
        return found

    assert [at_once(it) for it in (None, 4, "2%")] == [75, 4, 150]


def test_states_and_coverage_are_told_from_the_nodes_alone() -> None:
    assert [state_of(it) for it in (joining(), repairing("draining"), node(), node(ready=False))] == [
        "preflight", "draining", "unknown", "not-ready",
    ]  # fmt: skip
    tested = node(annotations={names.TESTED: rfc3339(NOW - 50)})
    found = coverage([tested, node(annotations={names.TESTED: rfc3339(NOW - 500)}), node()], NOW, 100.0)
    assert (found.nodes, found.tested) == (3, 1) and labels(tested)

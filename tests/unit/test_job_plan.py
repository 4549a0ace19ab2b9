"""Jobs: indexes, policies, back-off, and counting each pod once."""

from typing import Any

import pytest

from atoll.base.clock import rfc3339
from atoll.client.port import Object
from atoll.cluster.workloads.job import indexes
from atoll.cluster.workloads.job.objects import FINALIZER, new_pod
from atoll.cluster.workloads.job.plan import JobSync
from atoll.cluster.workloads.job.policies import Failures, remaining, rule_failure, success_message

NOW = 1_700_000_000.0


def job(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work", "namespace": "default", "uid": "j"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template, **spec},
        "status": {"startTime": rfc3339(NOW - 100)},
    }


def pod(
    uid: str, phase: str, *, index: int | None = None, code: int | None = None, ago: float = 0, **notes: str
) -> Object:
    annotations = dict(notes)
    if index is not None:
        annotations[indexes.INDEX] = str(index)
    state: Object = {}
    if phase in ("Succeeded", "Failed"):
        ended = {"exitCode": code if code is not None else int(phase == "Failed"), "finishedAt": rfc3339(NOW - ago)}
        state = {"terminated": ended}
    ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
    return {
        "metadata": {
            "name": uid,
            "namespace": "default",
            "uid": uid,
            "annotations": annotations,
            "finalizers": [FINALIZER],
            "creationTimestamp": rfc3339(NOW - 50),
        },
        "spec": {},
        "status": {"phase": phase, "conditions": [ready], "containerStatuses": [{"name": "c", "state": state}]},
    }


def sync(
    obj: Object, pods: list[Object], failures: Failures | None = None, removed: frozenset[str] = frozenset()
) -> JobSync:
    return JobSync(obj, pods, failures or Failures(), removed, NOW)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([0], "0"), ([0, 1], "0,1"), ([0, 1, 2, 5, 7, 8], "0-2,5,7,8")]
)
def test_indexes_as_text(numbers: list[int], text: str) -> None:
    assert indexes.write(numbers) == text
    assert indexes.parse(text, 100) == set(numbers)


def test_indexes_beyond_the_completions_and_nonsense_are_left_out() -> None:
    assert indexes.parse("0-10,x,12", 5) == {0, 1, 2, 3, 4}


def test_backoff_doubles_from_ten_seconds() -> None:
    assert [remaining(count, NOW, NOW) for count in (0, 1, 2, 3, 9)] == [0, 10, 20, 40, 600]
    assert remaining(2, NOW - 15, NOW) == 5
    assert remaining(2, NOW - 25, NOW) == 0
    failed = [pod("a", "Failed", ago=30), pod("b", "Failed", ago=10)]
    assert Failures().after([], failed) == Failures(2, NOW - 10)
    assert Failures(5, NOW - 90).after([pod("s", "Succeeded", ago=20)], failed) == Failures(1, NOW - 10)


def test_pod_failure_policy_takes_the_first_rule_that_matches() -> None:
    rules: Object = {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}},
        ]
    }
    ruled = rule_failure(rules, pod("a", "Failed", code=42))
    message = "Container c for pod default/a failed with exit code 42 matching FailJob rule at index 1"
    assert ruled.fails_job == message
    disrupted = pod("b", "Failed", code=42)
    disrupted["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    assert not rule_failure(rules, disrupted).counts
    assert rule_failure(rules, pod("c", "Failed", code=7)).action == "FailIndex"
    assert rule_failure(rules, pod("d", "Failed", code=1)) == (None, True, None)


def test_success_policy() -> None:
    policy: Object = {"rules": [{"succeededIndexes": "0-2", "succeededCount": 2}, {"succeededCount": 5}]}
    assert success_message(policy, {1}, 10) is None
    assert success_message(policy, {1, 2}, 10) == "Matched rules at index 0"
    assert success_message(policy, {3, 4, 5, 6, 7}, 10) == "Matched rules at index 1"
    assert success_message(None, {1}, 10) is None


def test_what_is_missing_is_created_and_what_is_too_much_deleted() -> None:
    wanting = sync(job(parallelism=3, completions=5), [pod("a", "Running")])
    assert wanting.decide(may_act=True).create == [None, None]
    assert wanting.decide(may_act=False).create == []
    almost = job(parallelism=3, completions=5)
    almost["status"]["succeeded"] = 4
    assert sync(almost, []).decide(may_act=True).create == [None]
    surplus = sync(job(parallelism=1, completions=5), [pod("a", "Running"), pod("b", "Pending")]).decide(may_act=True)
    assert [item["metadata"]["uid"] for item in surplus.delete] == ["b"]
    assert surplus.untrack


def test_a_failure_waits_before_the_next_try() -> None:
    decision = sync(job(), [pod("a", "Failed", ago=4)]).decide(may_act=True)
    assert decision.create == []
    assert decision.again_seconds == 6


def test_ended_pods_are_written_down_before_they_are_counted() -> None:
    work = sync(job(completions=2), [pod("a", "Succeeded"), pod("b", "Failed")])
    decision = work.decide(may_act=True)
    released, all_seen = work.track(decision, active=0)
    assert all_seen
    assert {item["metadata"]["uid"] for item in released} == {"a", "b"}
    assert work.status["uncountedTerminatedPods"] == {"succeeded": ["a"], "failed": ["b"]}
    assert "succeeded" not in work.status
    work.settle({"b"})  # a has lost its finalizer, b not yet
    assert work.status["succeeded"] == 1
    assert work.status["uncountedTerminatedPods"] == {"failed": ["b"]}
    # after a crash, the next pass finds both where they were left and counts neither twice
    again = job(completions=2)
    again["status"] = work.status
    after = sync(again, [pod("b", "Failed")])
    after.track(after.decide(may_act=True), active=0)
    assert after.status["uncountedTerminatedPods"] == {"failed": ["b"]}
    after.settle(set())
    assert (after.status["succeeded"], after.status["failed"]) == (1, 1)


def test_a_pod_whose_finalizer_was_just_removed_is_not_counted_again() -> None:
    work = sync(job(completions=2), [pod("a", "Succeeded")], removed=frozenset({"a"}))
    released, _ = work.track(work.decide(may_act=True), active=0)
    assert released == []
    assert work.status["uncountedTerminatedPods"] == {}


def test_complete_only_when_nothing_is_uncounted_or_ending() -> None:
    work = sync(job(), [pod("a", "Succeeded")])
    decision = work.decide(may_act=True)
    work.conclude(decision, active=0)
    work.track(decision, active=0)
    assert not work.finish(decision)
    work.settle(set())
    assert work.finish(decision)
    kinds = [item["type"] for item in work.status["conditions"]]
    assert kinds == ["SuccessCriteriaMet", "Complete"]
    assert work.status["completionTime"]


def test_limits_fail_the_job() -> None:
    over = sync(job(backoffLimit=1), [pod("a", "Failed"), pod("b", "Failed"), pod("c", "Running")])
    decision = over.decide(may_act=True)
    assert decision.finished is not None
    assert decision.finished["reason"] == "BackoffLimitExceeded"
    assert [item["metadata"]["uid"] for item in decision.delete] == ["c"]
    late = sync(job(activeDeadlineSeconds=60), []).decide(may_act=True)
    assert late.finished is not None
    assert late.finished["reason"] == "DeadlineExceeded"
    soon = sync(job(activeDeadlineSeconds=160), [pod("a", "Running")]).decide(may_act=True)
    assert soon.again_seconds == 60


def test_indexed_fills_the_first_free_indexes() -> None:
    obj = job(completionMode="Indexed", completions=6, parallelism=3)
    obj["status"]["completedIndexes"] = "0"
    pods = [pod("a", "Running", index=2), pod("b", "Succeeded", index=1), pod("c", "Running", index=2)]
    first = sync(obj, pods).decide(may_act=True)
    assert [item["metadata"]["uid"] for item in first.delete] == ["a"]  # two of one index: one goes
    assert sync(obj, pods[:2]).decide(may_act=True).create == [3, 4]


def test_an_index_has_a_limit_of_its_own() -> None:
    obj = job(completionMode="Indexed", completions=2, parallelism=2, backoffLimitPerIndex=1)
    once = pod("a", "Failed", index=0, ago=30)
    decision = sync(obj, [once, pod("b", "Running", index=1)]).decide(may_act=True)
    assert decision.create == [0]
    assert decision.replaces[0] is once
    made = new_pod(obj, 0, once)
    assert made["metadata"]["annotations"][indexes.FAILURES] == "1"
    assert made["metadata"]["generateName"] == "work-0-"
    assert made["spec"]["hostname"] == "work-0"
    assert made["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
    assert made["metadata"]["finalizers"] == [FINALIZER]
    twice = pod("c", "Failed", index=0, **{indexes.FAILURES: "1"})
    done = sync(obj, [twice, pod("b", "Succeeded", index=1)]).decide(may_act=True)
    assert done.finished is not None
    assert done.finished["reason"] == "FailedIndexes"


def test_suspend_takes_the_pods_and_the_start_time() -> None:
    work = sync(job(suspend=True), [pod("a", "Running")])
    decision = work.decide(may_act=True)
    assert decision.untrack
    assert [item["metadata"]["uid"] for item in decision.delete] == ["a"]
    assert work.conclude(decision, active=0) == [("Normal", "Suspended", "Job suspended")]
    assert "startTime" not in work.status

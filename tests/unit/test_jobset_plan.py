"""The next step of a JobSet, of values: what is made, deleted, changed, and said."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.capacity.groups.jobset import model
from atoll.capacity.groups.jobset.admission import changes_of, problems_of, set_defaults
from atoll.capacity.groups.jobset.plan import plan_jobset

NOW = 1_700_000_000.0
TIME = "2023-11-14T22:13:20Z"


def jobset(*names: str, status: Any = None, replicas: int = 1, **spec: Any) -> Any:
    def replicated(name: str) -> Any:
        job = {"parallelism": 1, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}
        return {"name": name, "replicas": replicas, "template": {"spec": job}}

    obj = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "s", "namespace": "d", "uid": "u1"},
        "spec": {"replicatedJobs": [replicated(name) for name in names], **spec},
        "status": status or {},
    }
    set_defaults(obj)
    return obj


def made(obj: Any, *over: tuple[str, str], **status: Any) -> list[Any]:
    """Its Jobs, as a plan makes them; `over`: (name, condition) of those that ended."""
    ends = dict(over)
    found = []
    for job in plan_jobset(obj, [], NOW).create:
        kind = ends.get(job["metadata"]["name"])
        reason = {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": TIME}
        found.append({**job, "status": {**status, "conditions": [reason] if kind else []}})
    return found


def test_what_is_missing_is_made_and_nothing_twice() -> None:
    obj = jobset("a", "b")
    jobs = made(obj)
    assert [job["metadata"]["name"] for job in jobs] == ["s-a-0", "s-b-0"]
    assert [job["metadata"]["name"] for job in plan_jobset(obj, jobs[:1], NOW).create] == ["s-b-0"]
    again = plan_jobset(obj, jobs, NOW)
    assert (again.create, again.delete, again.update, again.events) == ([], [], [], [])
    settled = {**obj, "status": again.status}
    assert plan_jobset(settled, jobs, NOW).status == again.status


def test_the_first_failure_in_time_is_told() -> None:
    obj = jobset("a", "b")
    jobs = made(obj, ("s-a-0", "Failed"), ("s-b-0", "Failed"))
    jobs[0]["status"]["conditions"][0]["lastTransitionTime"] = "2023-11-14T22:13:25Z"
    plan = plan_jobset(obj, jobs, NOW)
    assert plan.events == [
        ("Warning", "FailedJobs", "jobset failed due to one or more job failures (first failed job: s-b-0)")
    ]
    assert plan.status["terminalState"] == "Failed"


def test_a_restart_gives_up_the_old_jobs_and_blocks_where_it_is_told_to() -> None:
    for strategy, early in (("Recreate", 1), ("BlockingRecreate", 0)):
        obj = jobset("a", "b", failurePolicy={"maxRestarts": 1, "restartStrategy": strategy})
        jobs = made(obj, ("s-a-0", "Failed"))
        plan = plan_jobset(obj, jobs, NOW)
        assert (plan.status["restarts"], plan.create, plan.delete) == (1, [], [])
        obj = {**obj, "status": plan.status}
        plan = plan_jobset(obj, jobs, NOW)
        assert plan.delete == jobs
        assert plan.create == []
        assert len(plan_jobset(obj, jobs[1:], NOW).create) == early
        fresh = plan_jobset(obj, [], NOW).create
        assert {job["metadata"]["labels"][model.RESTARTS] for job in fresh} == {"1"}
        failed = made(obj, ("s-b-0", "Failed"))
        assert plan_jobset(obj, failed, NOW).status["terminalState"] == "Failed"


def test_rules_are_tried_in_order_by_reason_target_and_message() -> None:
    rules = [
        {"name": "r0", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
        {"name": "r1", "action": "FailJobSet", "targetReplicatedJobs": ["b"]},
        {"name": "r2", "action": "FailJobSet", "onJobFailureMessagePatterns": ["^disk"]},
        {"name": "r3", "action": "RestartJobSetAndIgnoreMaxRestarts"},
    ]
    obj = jobset("a", "b", failurePolicy={"maxRestarts": 0, "rules": rules})
    jobs = made(obj, ("s-a-0", "Failed"))
    assert plan_jobset(obj, jobs, NOW).status["restarts"] == 1
    for field, value in (("reason", "PodFailurePolicy"), ("message", "disk full")):
        jobs = made(obj, ("s-a-0", "Failed"))
        jobs[0]["status"]["conditions"][0][field] = value
        assert plan_jobset(obj, jobs, NOW).status["terminalState"] == "Failed"
    jobs = made(obj, ("s-b-0", "Failed"))
    assert plan_jobset(obj, jobs, NOW).status["terminalState"] == "Failed"


@pytest.mark.parametrize(
    ("policy", "ends", "done"),
    [
        ({"operator": "All"}, ["s-a-0"], False),
        ({"operator": "All"}, ["s-a-0", "s-b-0"], True),
        ({"operator": "Any"}, ["s-b-0"], True),
        ({"operator": "Any", "targetReplicatedJobs": ["a"]}, ["s-b-0"], False),
        ({"operator": "All", "targetReplicatedJobs": ["b"]}, ["s-b-0"], True),
    ],
)
def test_success(policy: Any, ends: list[str], done: bool) -> None:
    obj = jobset("a", "b", successPolicy=policy)
    plan = plan_jobset(obj, made(obj, *((name, "Complete") for name in ends)), NOW)
    assert (plan.status.get("terminalState") == "Completed") is done


def test_its_time_to_live() -> None:
    ended = {"type": "Completed", "status": "True", "lastTransitionTime": TIME}
    obj = jobset("a", ttlSecondsAfterFinished=30, status={"conditions": [ended]})
    assert plan_jobset(obj, [], NOW + 10).again_seconds == 20
    assert plan_jobset(obj, [], NOW + 30).remove


def test_good_ones_have_no_problems_and_queues_may_change_suspended_ones() -> None:
    obj = jobset("a", "b")
    assert list(problems_of(obj)) == []
    chosen = jobset("a", "b", suspend=True)
    chosen["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["nodeSelector"] = {"x": "y"}
    assert list(changes_of(chosen, jobset("a", "b", suspend=True))) == []
    assert list(changes_of({**chosen, "spec": {**chosen["spec"], "suspend": False}}, obj))
    obj["spec"]["replicatedJobs"][0]["dependsOn"] = [{"name": "b", "status": "Ready"}]
    assert [path for path, _ in problems_of(obj)] == ["spec.replicatedJobs[0].dependsOn"]


def test_a_huge_number_of_jobs_is_made_by_and_by() -> None:
    obj = jobset("a", "b", replicas=1_000_000_000)
    first = plan_jobset(obj, [], NOW).create
    names = [job["metadata"]["name"] for job in plan_jobset(obj, first[1:], NOW).create]
    assert (len(first), first[-1]["metadata"]["name"]) == (500, "s-a-499")
    assert (len(names), names[:2], names[-1]) == (500, ["s-a-0", "s-a-500"], "s-a-998")


def test_a_job_without_a_spec_is_refused() -> None:
    obj = jobset("a")
    del obj["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert list(problems_of(obj)) == [("spec.replicatedJobs[0].template.spec", "is missing")]

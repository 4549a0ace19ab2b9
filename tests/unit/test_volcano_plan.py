"""Volcano's Job and queues, of values: which groups a cycle lets in, which it takes back, what a Job does next."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.capacity.groups.volcano import construct
from atoll.capacity.groups.volcano.admission import problems_of, set_defaults
from atoll.capacity.groups.volcano.plan import plan_job
from atoll.capacity.groups.volcano.policies import wanted
from atoll.capacity.groups.volcano.queues import Group, plan_cycle

NOW = 1_700_000_000.0
TIME = "2023-11-14T22:13:20Z"
TOTAL = {"cpu": 16_000}


def group(name: str, cpu: int, queue: str = "default", phase: str = "Pending", priority: int = 0) -> Group:
    metadata = {"name": name, "namespace": "d", "creationTimestamp": TIME}
    spec = {"minMember": 1, "queue": queue, "minResources": {"cpu": str(cpu)}}
    found = Group({"metadata": metadata, "spec": spec, "status": {"phase": phase}}, priority=priority)
    found.running = int(phase == "Running")
    return found


def queue(name: str, state: str = "Open", **spec: Any) -> Any:
    return {"metadata": {"name": name}, "spec": spec, "status": {"state": state}}


def phases(groups: list[Group], *queues: Any) -> dict[str, str]:
    cycle = plan_cycle(groups, {it["metadata"]["name"]: it for it in queues}, TOTAL, {})
    return {name: status["phase"] for (_, name), status in cycle.groups.items()}


def test_what_fits_is_let_in_and_the_rest_says_why() -> None:
    groups = [group("a", 10), group("b", 10), group("c", 4)]
    cycle = plan_cycle(groups, {"default": queue("default")}, TOTAL, {})
    assert {name: status["phase"] for (_, name), status in cycle.groups.items()} == {
        "a": "Inqueue", "b": "Pending", "c": "Inqueue",
    }  # fmt: skip
    assert cycle.groups["d", "b"]["conditions"][0]["message"] == "the cluster lacks 4 cpu"
    assert cycle.queues["default"]["pending"] == 1


def test_the_important_come_first() -> None:
    assert phases([group("a", 10), group("b", 10, priority=5)], queue("default"))["b"] == "Inqueue"


@pytest.mark.parametrize(
    ("queues", "why"),
    [
        ([], "queue default does not exist"),
        ([queue("default", "Closed")], "queue default is closed"),
        ([queue("default", capability={"cpu": "4"})], "queue default would exceed its capability by 6 cpu"),
    ],
)
def test_why_one_is_not_let_in(queues: list[Any], why: str) -> None:
    cycle = plan_cycle([group("a", 10)], {it["metadata"]["name"]: it for it in queues}, TOTAL, {})
    assert cycle.groups["d", "a"]["conditions"][0]["message"] == why


def test_weights_decide_who_is_next() -> None:
    groups = [group(f"{name}{n}", 4, name) for name in ("one", "three") for n in range(4)]
    found = phases(groups, queue("one", weight=1), queue("three", weight=3))
    counts = [
        sum(phase == "Inqueue" for name, phase in found.items() if name.startswith(it)) for it in ("one", "three")
    ]
    assert counts == [1, 3]


def test_a_queue_s_priority_comes_before_shares_and_gives_back_last() -> None:
    found = phases([group("a", 10, "batch"), group("b", 10, "serving")], queue("batch"), queue("serving", priority=9))
    assert (found["a"], found["b"]) == ("Pending", "Inqueue")
    groups = [group("z", 8, "one", "Running"), group("c", 8, "two", "Running"), group("b", 5, "poor")]
    for one, two, gives in ((0, 0, "z"), (9, 0, "c"), (0, 9, "z")):
        queues = {"one": queue("one", priority=one), "two": queue("two", priority=two), "poor": queue("poor")}
        assert [it.key[1] for it in plan_cycle(groups, queues, TOTAL, {}).reclaimed] == [gives]


def test_a_share_is_taken_back_from_reclaimable_queues_only() -> None:
    for reclaimable, expected in ((True, "Inqueue"), (False, "Pending")):
        groups = [group(f"a{n}", 4, "rich", "Running", priority=n) for n in range(4)] + [group("b", 8, "poor")]
        queues = {"rich": queue("rich", reclaimable=reclaimable), "poor": queue("poor")}
        cycle = plan_cycle(groups, queues, TOTAL, {})
        assert cycle.groups["d", "b"]["phase"] == expected
        assert [it.key[1] for it in cycle.reclaimed] == (["a0", "a1"] if reclaimable else [])
        assert (cycle.groups["d", "a0"]["phase"] == "Pending") is reclaimable


def test_a_queue_does_not_take_more_than_its_share() -> None:
    groups = [group(f"a{n}", 4, "rich", "Running") for n in range(4)] + [group("b", 12, "poor")]
    assert plan_cycle(groups, {"rich": queue("rich"), "poor": queue("poor")}, TOTAL, {}).reclaimed == []


def job(**spec: Any) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    tasks = [{"name": "w", "replicas": 2, "template": {"spec": {"containers": [container]}}}]
    metadata = {"name": "j", "namespace": "d", "uid": "u"}
    obj = {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"tasks": tasks, **spec},
    }
    set_defaults(obj)
    return obj


def pods(obj: Any, *phases: str) -> list[Any]:
    found = []
    for index, phase in enumerate(phases):
        pod = construct.new_pod(obj, obj["spec"]["tasks"][0], "w", index)
        pod["metadata"]["creationTimestamp"] = TIME
        found.append({**pod, "status": {"phase": phase}})
    return found


def test_pods_are_made_once_the_group_is_let_in() -> None:
    obj = job()
    assert plan_job(obj, [], None, NOW).create == []
    assert [it["kind"] for it in plan_job(obj, [], None, NOW).objects] == ["PodGroup"]
    waiting, let_in = {"status": {"phase": "Pending"}}, {"status": {"phase": "Inqueue"}}
    assert plan_job(obj, [], waiting, NOW).create == []
    assert [it["metadata"]["name"] for it in plan_job(obj, [], let_in, NOW).create] == ["j-w-0", "j-w-1"]


def test_huge_numbers_of_pods() -> None:
    obj = job(plugins={"svc": []})
    obj["spec"]["tasks"][0]["replicas"] = 100_000
    assert len(plan_job(obj, [], {"status": {"phase": "Inqueue"}}, NOW).create) == 500
    assert list(problems_of(obj)) == []
    obj["spec"]["tasks"][0]["replicas"] = 2_000_000_000
    assert [field for field, _ in problems_of(obj)] == ["spec.tasks"]


def test_plugins_that_are_not_made_are_named_once() -> None:
    obj = job(plugins={"ssh": [], "svc": []})
    told = plan_job(obj, [], None, NOW)
    assert [(reason, message.split(" are")[0]) for _, reason, message in told.events] == [
        ("PluginNotMade", "plugins ssh")
    ]
    assert plan_job({**obj, "status": told.status}, [], None, NOW).events == []


def test_limits_count_where_a_task_has_no_requests() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}}
    made = job(tasks=[{"name": "w", "replicas": 3, "template": template}])
    assert construct.least_resources(made) == {"nvidia.com/gpu": "6"}


def test_states() -> None:
    obj, group = job(), {"status": {"phase": "Running"}}
    for phases, state in (
        (("Running", "Pending"), "Pending"),
        (("Running", "Running"), "Running"),
        (("Succeeded", "Succeeded"), "Completed"),
        (("Succeeded", "Failed"), "Failed"),
    ):
        assert plan_job(obj, pods(obj, *phases), group, NOW).status["state"]["phase"] == state
    enough = job(minSuccess=1)
    plan = plan_job(enough, pods(enough, "Succeeded", "Running"), group, NOW)
    assert plan.status["state"]["phase"] == "Completed"


def test_a_task_s_policy_comes_before_the_job_s_and_codes_must_match() -> None:
    obj = job(policies=[{"event": "*", "action": "RestartJob"}])
    failed = pods(obj, "Failed", "Running")
    failed[0]["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": 7}}}]
    assert wanted(obj, failed, NOW)[0].action == "RestartJob"
    obj["spec"]["tasks"][0]["policies"] = [{"exitCode": 9, "action": "AbortJob"}]
    assert wanted(obj, failed, NOW)[0].action == "RestartJob"
    obj["spec"]["tasks"][0]["policies"] = [{"exitCode": 7, "action": "AbortJob"}]
    assert wanted(obj, failed, NOW)[0].action == "AbortJob"


def test_a_time_out_is_waited_for() -> None:
    obj = job(policies=[{"event": "PodPending", "action": "AbortJob", "timeout": "1m30s"}])
    assert wanted(obj, pods(obj, "Pending"), NOW + 30) == (None, 60.0)
    assert wanted(obj, pods(obj, "Pending"), NOW + 90)[0].action == "AbortJob"

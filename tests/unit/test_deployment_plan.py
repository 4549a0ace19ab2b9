"""One pass over a Deployment: which replica sets it makes and resizes, and what it says."""

from typing import Any

import pytest

from atoll.base.clock import rfc3339
from atoll.client.port import Object
from atoll.cluster.workloads.common.counts import fenceposts, scaled
from atoll.cluster.workloads.deployment import revisions
from atoll.cluster.workloads.deployment.plan import Create, Delete, Plan, Update, plan_deployment

NOW = 1_700_000_000.0


def template(image: str) -> Object:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}}


def deployment(image: str = "web:2", *, replicas: int = 10, **spec: Any) -> Object:
    rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 2, "annotations": {"team": "x"}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": template(image),
            **spec,
        },
        "status": {},
    }


def replica_set(name: str, image: str, replicas: int, *, available: int | None = None, desired: int = 10) -> Object:
    ready = replicas if available is None else available
    number = name.rpartition("-")[2]
    made = template(image)
    made["metadata"] = {"labels": {"app": "web", "pod-template-hash": number}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "generation": 1,
            "creationTimestamp": rfc3339(NOW - 1000 + int(number)),
            "annotations": {
                revisions.REVISION: number,
                revisions.DESIRED: str(desired),
                revisions.MOST: str(desired + 3),
                "team": "x",
            },
        },
        "spec": {"replicas": replicas, "template": made},
        "status": {
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": 1,
            "terminatingReplicas": 0,
        },
    }


def plan(obj: Object, sets: list[Object], *, old_pods: bool = False, now: float = NOW) -> Plan:
    return plan_deployment(obj, sets, lambda _: old_pods, now)


def sizes(made: Plan) -> dict[str, int]:
    return {
        step.replica_set["metadata"]["name"]: step.replica_set["spec"]["replicas"]
        for step in made.steps
        if not isinstance(step, Delete)
    }


def condition(made: Plan, kind: str) -> tuple[str, str]:
    assert made.status is not None
    found = next(item for item in made.status["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def test_the_first_replica_set() -> None:
    made = plan(deployment(), [])
    (step,) = made.steps
    assert isinstance(step, Create)
    created = step.replica_set
    code = created["metadata"]["labels"]["pod-template-hash"]
    assert created["metadata"]["name"] == f"web-{code}"
    assert created["spec"]["replicas"] == 10
    assert created["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": code}
    assert created["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": code}
    assert created["metadata"]["annotations"] == {
        "team": "x",
        revisions.REVISION: "1",
        revisions.DESIRED: "10",
        revisions.MOST: "13",
    }
    assert made.revision == "1"
    assert condition(made, "Progressing") == ("True", "NewReplicaSetCreated")
    assert condition(made, "Available") == ("False", "MinimumReplicasUnavailable")
    assert made.again_seconds == 601


def test_a_rollout_surges_up_and_gives_up_what_it_may() -> None:
    made = plan(deployment(), [replica_set("web-1", "web:1", 10)])
    (create, update) = made.steps
    assert isinstance(create, Create)
    assert create.replica_set["spec"]["replicas"] == 3  # 25 % of 10, rounded up
    assert isinstance(update, Update)
    assert update.replica_set["spec"]["replicas"] == 8  # 25 % of 10, rounded down
    assert update.told == "Scaled down replica set web-1 from 10 to 8"


def test_unavailable_old_pods_go_first_and_unavailable_new_ones_hold_the_rest() -> None:
    old = [replica_set("web-1", "web:1", 6, available=6), replica_set("web-2", "web:1b", 4, available=1)]
    new = replica_set("web-3", "web:2", 3, available=0)
    assert sizes(plan(deployment(), [*old, new])) == {"web-2": 2}
    new = replica_set("web-3", "web:2", 3, available=3)
    assert sizes(plan(deployment(), [*old, new])) == {"web-1": 4, "web-2": 1}


def test_done_and_history_is_cut() -> None:
    obj = deployment(revisionHistoryLimit=1)
    sets = [replica_set(f"web-{number}", f"web:old{number}", 0) for number in (1, 2, 3)]
    sets.append(replica_set("web-4", "web:2", 10))
    made = plan(obj, sets)
    assert condition(made, "Progressing") == ("True", "NewReplicaSetAvailable")
    assert condition(made, "Available") == ("True", "MinimumReplicasAvailable")
    assert not made.steps
    obj["status"] = made.status
    made = plan(obj, sets)
    assert [step.replica_set["metadata"]["name"] for step in made.steps] == ["web-1", "web-2"]


def test_going_back_renumbers_the_old_replica_set() -> None:
    old, new = replica_set("web-1", "web:1", 0), replica_set("web-2", "web:2", 10)
    made = plan(deployment("web:1"), [old, new])
    first = made.steps[0]
    assert isinstance(first, Update)
    notes = first.replica_set["metadata"]["annotations"]
    assert notes[revisions.REVISION] == "3"
    assert notes[revisions.HISTORY] == "1"
    assert made.revision == "3"
    assert sizes(made) == {"web-1": 3}  # the other shrinks in the next pass


def test_scaling_during_a_rollout_is_in_proportion() -> None:
    sets = [replica_set("web-1", "web:1", 8), replica_set("web-2", "web:2", 5, available=0)]
    made = plan(deployment(replicas=20), sets)  # 13 of 13 become 25 of 25
    assert sizes(made) == {"web-1": 15, "web-2": 10}
    made = plan(deployment(replicas=0), sets)
    assert sizes(made) == {"web-1": 0, "web-2": 0}


def test_scaling_outside_of_a_rollout() -> None:
    made = plan(deployment(replicas=12), [replica_set("web-1", "web:1", 0), replica_set("web-2", "web:2", 10)])
    assert sizes(made) == {"web-2": 12}
    (step,) = made.steps
    assert isinstance(step, Update)
    assert step.told == "Scaled up replica set web-2 from 10 to 12"
    assert step.replica_set["metadata"]["annotations"][revisions.MOST] == "15"


def test_a_paused_rollout_scales_but_does_not_go_on() -> None:
    obj = deployment(paused=True)
    made = plan(obj, [replica_set("web-1", "web:1", 10)])
    assert not made.steps
    assert condition(made, "Progressing") == ("Unknown", "DeploymentPaused")
    obj["status"] = made.status
    obj["spec"]["paused"] = False
    assert condition(plan(obj, [replica_set("web-1", "web:1", 10)]), "Progressing") == ("True", "NewReplicaSetCreated")


def test_a_deadline_that_passes() -> None:
    obj = deployment(progressDeadlineSeconds=60)
    sets = [replica_set("web-1", "web:2", 10, available=4)]
    made = plan(obj, sets)
    assert condition(made, "Progressing") == ("True", "ReplicaSetUpdated")
    obj["status"] = made.status
    assert plan(obj, sets, now=NOW + 59).again_seconds == 2
    late = plan(obj, sets, now=NOW + 61)
    assert condition(late, "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert late.again_seconds is None
    obj["status"] = late.status
    obj["spec"]["progressDeadlineSeconds"] = 2**31 - 1
    assert late.status is not None
    assert plan(obj, sets).status is not None
    assert [item["type"] for item in (plan(obj, sets).status or {})["conditions"]] == ["Available"]


def test_recreate_waits_for_the_last_old_pod() -> None:
    obj = deployment(strategy={"type": "Recreate"})
    assert sizes(plan(obj, [replica_set("web-1", "web:1", 10)])) == {"web-1": 0}
    assert not plan(obj, [replica_set("web-1", "web:1", 0)], old_pods=True).steps
    (step,) = plan(obj, [replica_set("web-1", "web:1", 0)]).steps
    assert isinstance(step, Create)
    assert step.replica_set["spec"]["replicas"] == 10


def test_a_failure_to_create_pods_is_told() -> None:
    broken = replica_set("web-1", "web:2", 10, available=0)
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    broken["status"]["conditions"] = [failure]
    assert condition(plan(deployment(), [broken]), "ReplicaFailure") == ("True", "FailedCreate")


def test_a_deployment_that_selects_everything_or_is_going() -> None:
    made = plan(deployment(selector={}), [])
    assert made.selects_all
    assert not made.steps
    assert made.status == {"observedGeneration": 2}
    obj = deployment(replicas=3)
    obj["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert not plan(obj, [replica_set("web-1", "web:1", 10)]).steps


@pytest.mark.parametrize(
    ("surge", "unavailable", "desired", "expected"),
    [
        ("25%", "25%", 10, (3, 2)),
        (0, 0, 10, (0, 1)),
        ("0%", "5%", 10, (0, 1)),
        (2, "50%", 3, (2, 1)),
        (None, 1, 5, (0, 1)),
    ],
)
def test_fenceposts(surge: Any, unavailable: Any, desired: int, expected: tuple[int, int]) -> None:
    assert fenceposts(surge, unavailable, desired) == expected


def test_scaled_refuses_other_text() -> None:
    with pytest.raises(ValueError, match="some"):
        scaled("some", 10, round_up=True)

"""ProvisioningRequests: what is asked for, and what their conditions come to."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.capacity.queueing import status
from atoll.capacity.queueing.podinfo import PodInfo
from atoll.capacity.queueing.provisioning import Retries, verdict_of, wanted_of

CONFIG: Any = {
    "spec": {
        "provisioningClassName": "queued",
        "managedResources": ["nvidia.com/gpu"],
        "retryStrategy": {"backoffLimitCount": 2, "backoffBaseSeconds": 10, "backoffMaxSeconds": 15},
    }
}


def workload(*, admitted: bool = False) -> Any:
    pod_sets = [
        {"name": name, "count": count, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}
        for name, count in (("leader", 1), ("workers", 4))
    ]
    assigned = [
        {"name": "leader", "count": 1, "resourceUsage": {"cpu": "1"}},
        {"name": "workers", "count": 3, "resourceUsage": {"cpu": "3", "nvidia.com/gpu": "24"}},
    ]
    conditions = [{"type": "Admitted", "status": "True"}] if admitted else []
    notes = {"provreq.kueue.x-k8s.io/maxRunDuration": "1h", "other": "x"}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "job-train", "namespace": "ns", "uid": "u", "annotations": notes},
        "spec": {"podSets": pod_sets},
        "status": {"admission": {"podSetAssignments": assigned}, "conditions": conditions},
    }


def request(**conditions: str) -> Any:
    said = [{"type": kind, "status": state, "message": f"says {kind}"} for kind, state in conditions.items()]
    spec = {"provisioningClassName": "queued"}
    return {"metadata": {"name": "job-train-check-1"}, "spec": spec, "status": {"conditions": said}}


def test_only_pod_sets_of_managed_resources_are_asked_for_as_admitted() -> None:
    wanted = wanted_of(workload(), "check", CONFIG, 2, {})
    assert wanted is not None
    assert wanted.request["metadata"]["name"] == "job-train-check-2"
    assert wanted.request["spec"] == {
        "provisioningClassName": "queued",
        "podSets": [{"podTemplateRef": {"name": "ppt-job-train-check-2-workers"}, "count": 3}],
        "parameters": {"maxRunDuration": "1h"},
    }
    assert [item["metadata"]["name"] for item in wanted.templates] == ["ppt-job-train-check-2-workers"]


@pytest.mark.parametrize(
    ("conditions", "attempt", "admitted", "expected"),
    [
        ({}, 1, False, ("Pending", None)),
        ({"Accepted": "True"}, 1, False, ("Pending", None)),
        ({"Accepted": "True", "Provisioned": "True"}, 1, False, ("Ready", None)),
        ({"Failed": "True"}, 1, False, ("Retry", 10)),
        ({"Failed": "True"}, 2, False, ("Retry", 15)),
        ({"Failed": "True"}, 3, False, ("Rejected", None)),
        ({"Provisioned": "True", "BookingExpired": "True"}, 1, False, ("Retry", 10)),
        ({"Provisioned": "True", "BookingExpired": "True"}, 1, True, ("Ready", None)),
        ({"Provisioned": "True", "CapacityRevoked": "True"}, 1, True, ("Rejected", None)),
        ({"Failed": "False", "Provisioned": "True"}, 1, False, ("Ready", None)),
    ],
)
def test_conditions_become_the_checks_state(conditions, attempt, admitted, expected) -> None:
    found = verdict_of(request(**conditions), CONFIG, workload(admitted=admitted), attempt)
    assert (found.state, found.requeue_seconds) == expected


def test_the_pause_grows_to_its_limit() -> None:
    assert [Retries(5, 60, 200).pause(attempt) for attempt in (1, 2, 3, 40)] == [60, 120, 200, 200]


def test_how_often_a_check_was_tried_outlives_the_eviction() -> None:
    obj = workload()
    tried = {"name": "check", "state": "Retry", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    obj["status"]["admissionChecks"] = [tried]
    again = status.released(obj, 0.0)["status"]["admissionChecks"]
    assert [(item["state"], item["retryCount"]) for item in again] == [("Pending", 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("IdenticalPodTemplates", {"a": 3, "c": 3, "d": 4}),
        ("IdenticalWorkloadSchedulingRequirements", {"a": 6, "d": 4}),
    ],
)
def test_pod_sets_that_are_alike_are_asked_for_together(policy, expected) -> None:
    """b is as a; c has another image; d another flavour."""

    def template(image: str) -> Any:
        container = {"name": "c", "image": image, "resources": {"requests": {"cpu": "1"}}}
        return {"spec": {"containers": [container]}}

    sets = [{"name": n, "count": i + 1, "template": template("j" if n == "c" else "i")} for i, n in enumerate("abcd")]
    work = {**workload(), "spec": {"podSets": sets}}
    work["status"] = {"admission": {"podSetAssignments": [{"name": n, "resourceUsage": {"cpu": "1"}} for n in "abcd"]}}
    config = {"spec": {"provisioningClassName": "queued", **({"podSetMergePolicy": policy} if policy else {})}}
    infos = {n: PodInfo(node_selector={"pool": "spot" if n == "d" else "plain"}) for n in "abcd"}
    wanted = wanted_of(work, "check", config, 1, infos)
    assert wanted is not None
    listed = wanted.request["spec"]["podSets"]
    assert {it["podTemplateRef"]["name"][-1]: it["count"] for it in listed} == expected
    names = [it["podTemplateRef"]["name"] for it in listed]
    assert [it["metadata"]["name"] for it in wanted.templates] == names
    assert wanted.templates[-1]["template"]["spec"]["nodeSelector"] == {"pool": "spot"}

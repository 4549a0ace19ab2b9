"""The arithmetic of autoscalers, with upstream's rules for pods that are not ready or not measured."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.base.clock import rfc3339
from atoll.cluster.metrics.usage import between, parse
from atoll.cluster.workloads.autoscaling.behaviour import History, normalise
from atoll.cluster.workloads.autoscaling.replicas import (
    Proposal,
    Sample,
    Tolerances,
    Uncomputable,
    by_average,
    by_utilisation,
    by_value,
    by_value_per_pod,
)

NOW = 10_000.0
UP, DOWN = "scaleUp", "scaleDown"


def pod(name: str, *, phase: str = "Running", ready: bool = True, started: float = 0.0) -> dict[str, Any]:
    changed = rfc3339(started + 100)
    status = {
        "phase": phase, "startTime": rfc3339(started),
        "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": changed}],
    }  # fmt: skip
    container = {"name": "c", "resources": {"requests": {"cpu": "1"}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}, "status": status}


def utilisation(pods: list[dict[str, Any]], used: dict[str, int], target: int = 50) -> Proposal:
    samples = {name: Sample(value, NOW, 30) for name, value in used.items()}
    return by_utilisation(pods, samples, len(pods), target, "cpu", "", Tolerances(), NOW)


def test_by_utilisation() -> None:
    three = [pod("a"), pod("b"), pod("c")]
    assert utilisation(three, {"a": 1000, "b": 1000, "c": 1000}) == Proposal(6, 1000, 100)
    assert utilisation(three, {"a": 540, "b": 540, "c": 540}).replicas == 3  # within the tolerance
    assert utilisation(three, {"a": 100, "b": 100, "c": 100}).replicas == 1


def test_a_missing_sample_never_makes_the_change_larger() -> None:
    three = [pod("a"), pod("b"), pod("c")]
    assert utilisation(three, {"a": 1000, "b": 1000}).replicas == 4  # the third counts as 0 on the way up
    assert utilisation(three, {"a": 100, "b": 100}).replicas == 3  # and as the whole request on the way down
    assert utilisation(three, {"a": 700, "b": 700}).replicas == 3  # 70 % up would turn into 46 % down: nothing


def test_pods_that_start_do_not_count_on_the_way_up() -> None:
    fresh = pod("c", ready=False, started=NOW - 10)
    assert utilisation([pod("a"), pod("b"), fresh], {"a": 1000, "b": 1000, "c": 2000}).replicas == 4
    pending = pod("c", phase="Pending")
    assert utilisation([pod("a"), pod("b"), pending], {"a": 1000, "b": 1000}).replicas == 4
    assert utilisation([pod("a"), pod("b"), pod("c", phase="Failed")], {"a": 1000, "b": 1000}).replicas == 4


def test_what_can_not_be_computed() -> None:
    with pytest.raises(Uncomputable, match="no pods returned by selector"):
        utilisation([], {})
    with pytest.raises(Uncomputable, match="did not receive metrics for targeted pods"):
        utilisation([pod("a")], {})
    bare = pod("a")
    del bare["spec"]["containers"][0]["resources"]
    with pytest.raises(Uncomputable, match="missing request for cpu in container c of Pod a"):
        utilisation([bare], {"a": 5})


def test_other_targets() -> None:
    pods = [pod("a"), pod("b")]
    samples = {"a": Sample(20_000), "b": Sample(20_000)}
    assert by_average(pods, samples, 2, 10_000, "", Tolerances(), NOW) == Proposal(4, 20_000)
    assert by_value(pods, 30_000, 2, 10_000, Tolerances()) == Proposal(6, 30_000)
    assert by_value(pods, 10_500, 2, 10_000, Tolerances()).replicas == 2
    assert by_value_per_pod(90_000, 2, 10_000, Tolerances()) == Proposal(9, 45_000)
    assert by_value([], 3_000, 0, 1_000, Tolerances()).replicas == 3


def rules(kind: str, value: int, window: int = 0, select: str = "Max", period: int = 60) -> dict[str, Any]:
    policies = [{"type": kind, "value": value, "periodSeconds": period}]
    return {"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": policies}


def test_policies() -> None:
    history = History()
    behaviour = {UP: rules("Pods", 2), DOWN: rules("Percent", 10)}
    found = normalise(history, behaviour, 10, 20, 1, 100, NOW)
    assert (found.replicas, found.limited, found.limit[0]) == (12, True, "ScaleUpLimit")
    history.scaled(10, 12, behaviour, NOW)
    assert normalise(history, behaviour, 12, 20, 1, 100, NOW + 30).replicas == 12  # two in this minute already
    assert normalise(history, behaviour, 12, 20, 1, 100, NOW + 61).replicas == 14
    found = normalise(History(), behaviour, 100, 1, 1, 100, NOW)
    assert (found.replicas, found.limit[0]) == (90, "ScaleDownLimit")
    disabled = {UP: rules("Pods", 2), DOWN: rules("Pods", 5, select="Disabled")}
    assert normalise(History(), disabled, 10, 1, 1, 100, NOW).replicas == 10
    both = {UP: rules("Pods", 2, select="Min"), DOWN: rules("Pods", 5)}
    both[UP]["policies"].append({"type": "Percent", "value": 100, "periodSeconds": 60})
    assert normalise(History(), both, 10, 50, 1, 100, NOW).replicas == 12
    assert normalise(History(), {**both, UP: {**both[UP], "selectPolicy": "Max"}}, 10, 50, 1, 100, NOW).replicas == 20


def test_windows() -> None:
    history = History()
    behaviour = {UP: rules("Percent", 1000, window=60), DOWN: rules("Percent", 100, window=120)}
    history.begin(5, NOW)
    found = normalise(history, behaviour, 5, 20, 1, 100, NOW + 10)
    assert (found.replicas, found.able[0]) == (5, "ScaleUpStabilized")
    assert normalise(history, behaviour, 5, 20, 1, 100, NOW + 71).replicas == 20
    found = normalise(history, behaviour, 20, 2, 1, 100, NOW + 90)
    assert (found.replicas, found.able[0]) == (20, "ScaleDownStabilized")
    assert normalise(history, behaviour, 20, 2, 1, 100, NOW + 200).replicas == 2
    found = normalise(History(), None, 3, 0, 2, 10, NOW)
    assert (found.replicas, found.limited, found.limit[0]) == (2, True, "TooFewReplicas")


TEXT = """# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="c",namespace="d",pod="p"}} {cpu} {at}
container_memory_working_set_bytes{{container="c",namespace="d",pod="p"}} 2048 {at}
container_start_time_seconds{{container="c",namespace="d",pod="p"}} {start}
node_cpu_usage_seconds_total {cpu} {at}
junk line
"""


def test_rates_of_counters() -> None:
    key = ("d", "p", "c")
    first = parse(TEXT.format(cpu=10.0, at=100_000, start=50.0), 0)
    second = parse(TEXT.format(cpu=13.0, at=115_000, start=50.0), 0)
    begun = between(None, first.containers[key])
    assert begun is not None and (begun.window, begun.cpu_nano) == (50.0, 200_000_000)  # from its start
    used = between(first.containers[key], second.containers[key])
    assert used is not None and (used.window, used.cpu_nano, used.memory_bytes) == (15.0, 200_000_000, 2048)
    again = parse(TEXT.format(cpu=1.0, at=115_000, start=110.0), 0)
    restarted = between(first.containers[key], again.containers[key])
    assert restarted is not None and (restarted.window, restarted.cpu_nano) == (5.0, 200_000_000)
    assert between(None, first.node) is None

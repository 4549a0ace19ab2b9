"""What pods that are yet to be made will ask for, and what quota counts of it."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.capacity.queueing.config import ConfigError, parse
from atoll.capacity.queueing.read import Shapes
from atoll.capacity.queueing.requests import Counting, Surroundings, surroundings_of

HEAD = "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\n"
CREDITS = """
resources:
  excludeResourcePrefixes: [rdma.example.com/]
  transformations:
  - {input: nvidia.com/mig-1g.10gb, strategy: Replace, outputs: {example.com/gpu-memory: 10Gi, credits: 3}}
  - {input: cpu, outputs: {credits: 1}}
  - {input: nvidia.com/gpucores, strategy: Replace, multiplyBy: nvidia.com/gpu, outputs: {nvidia.com/total-gpucores: 1}}
"""


def container(name: str = "c", *, requests: dict[str, str] | None = None, **limits: str) -> Any:
    return {"name": name, "image": "x", "resources": {"requests": requests or {}, "limits": limits}}


def limit_range(*limits: Any) -> Any:
    return {"metadata": {"name": "lr", "namespace": "a"}, "spec": {"limits": list(limits)}}


def shape(spec: Any, around: Surroundings, namespace: str = "a") -> Any:
    return Shapes(around).of([{"name": "main", "count": 1, "template": {"spec": spec}}], namespace)


def asked(spec: Any, around: Surroundings | None = None, namespace: str = "a") -> dict[str, int]:
    return dict(shape(spec, around or Surroundings(), namespace).pod_sets[0].charged)


def test_limits_are_requests_where_a_template_has_none() -> None:
    spec = {
        "containers": [container(cpu="3", memory="1Gi"), container("d", requests={"cpu": "1"}, cpu="2")],
        "initContainers": [container("i", cpu="5")],
    }
    assert asked(spec) == {"cpu": 5000, "memory": 1 << 30}
    assert asked({"containers": [container()], "resources": {"limits": {"cpu": "2"}}}) == {"cpu": 2000}
    both = {"containers": [container(requests={"cpu": "1"})], "resources": {"limits": {"cpu": "2"}}}
    assert asked(both) == {"cpu": 1000}


def test_a_limit_range_and_a_runtime_class_add_what_pods_will_have() -> None:
    ranges = [
        limit_range({"type": "Container", "defaultRequest": {"cpu": "1", "memory": "1Gi"}, "default": {"cpu": "2"}})
    ]
    kata = [{"metadata": {"name": "kata"}, "overhead": {"podFixed": {"cpu": "250m"}}}, {"metadata": {"name": "runc"}}]
    around = surroundings_of(ranges, kata, Counting())
    assert asked({"containers": [container(cpu="3")]}, around) == {"cpu": 3000, "memory": 1 << 30}
    assert asked({"containers": [container()]}, around, "elsewhere") == {}
    assert asked({"runtimeClassName": "kata", "containers": [container()]}, around)["cpu"] == 1250
    assert asked({"runtimeClassName": "runc", "containers": [container()]}, around)["cpu"] == 1000


def test_pods_that_a_limit_range_refuses_are_no_candidates() -> None:
    limits = [
        {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Gi"}},
        {"type": "Pod", "max": {"cpu": "3"}},
    ]
    around = surroundings_of([limit_range(*limits)], [], Counting())
    two = {"containers": [container(cpu="2", memory="2Gi"), container("d", cpu="2", memory="1Mi")]}
    found = shape(two, around).problem
    assert found == (
        "didn't satisfy LimitRange constraints: podSets[main] container d: memory is below the minimum of 1Gi; "
        "podSets[main]: cpu is above the maximum of 3"
    )
    assert not shape({"containers": [container(cpu="2", memory="2Gi")]}, around).problem
    assert not shape(two, around, "elsewhere").problem


def test_the_configuration_leaves_out_and_transforms() -> None:
    counting = parse(HEAD + CREDITS).counting
    around = surroundings_of([], [], counting)
    spec = {"containers": [container(**{"cpu": "1500m", "nvidia.com/mig-1g.10gb": "2", "rdma.example.com/nic": "1"})]}
    assert asked(spec, around) == {"cpu": 1500, "example.com/gpu-memory": 20 << 30, "credits": 8}
    assert shape(spec, around).pod_sets[0].requests["nvidia.com/mig-1g.10gb"] == 2  # what a node must have
    hami = {"containers": [container(**{"nvidia.com/gpu": "2", "nvidia.com/gpucores": "30"})]}
    assert asked(hami, around) == {"nvidia.com/gpu": 2, "nvidia.com/total-gpucores": 60}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resources: {excludeResourcePrefixes: gpu}", "resources.excludeResourcePrefixes: must be a list"),
        ("resources: {transformations: [{outputs: {a: 1}}]}", r"transformations\[0\].input: must name a resource"),
        ("resources: {transformations: [{input: a}, {input: a}]}", r"transformations\[1\].input: must name a resource"),
        ("resources: {transformations: [{input: a, strategy: Double}]}", "'Double' is not Retain or Replace"),
        ("resources: {transformations: [{input: a, outputs: {b: much}}]}", r"transformations\[0\].outputs: quantities"),
        ("resources: {deviceClassMappings: [{name: a}]}", r"deviceClassMappings\[0\]: must have a name and"),
        ("resources: {deviceClassMappings: [{name: a, deviceClassNames: [b, b]}]}", "'b' is mapped already"),
        ("resources: {deviceClassMappings: [{name: a, deviceClassNames: [b], sources: []}]}", "sources: counters are"),
    ],
)
def test_a_mistake_in_resources_names_its_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(HEAD + text)


MAPPED = """
resources:
  deviceClassMappings:
  - {name: example.com/gpu, deviceClassNames: [gpu-a100.example.com, gpu-h100.example.com]}
"""


def claim_template(*requests: Any) -> Any:
    return {"spec": {"spec": {"devices": {"requests": list(requests)}}}}


def test_devices_of_claims_count_as_the_resource_of_their_class() -> None:
    alternatives = [
        {"name": "big", "deviceClassName": "gpu-h100.example.com", "count": 1},
        {"name": "small", "deviceClassName": "gpu-a100.example.com", "count": 4},
    ]
    known = {
        "two": claim_template({"name": "g", "exactly": {"deviceClassName": "gpu-a100.example.com", "count": 2}}),
        "either": claim_template({"name": "g", "firstAvailable": alternatives}),
        "all": claim_template(
            {"name": "g", "exactly": {"deviceClassName": "gpu-a100.example.com", "allocationMode": "All"}}
        ),
        "nic": claim_template({"name": "n", "exactly": {"deviceClassName": "nic.example.com"}}),
    }

    def around(text: str) -> Surroundings:
        return surroundings_of([], [], parse(HEAD + text).counting, lambda name, namespace: known.get(name))

    def pod(*names: str) -> Any:
        claims = [{"name": f"c{index}", "resourceClaimTemplateName": name} for index, name in enumerate(names)]
        return {
            "containers": [container(cpu="1")],
            "resourceClaims": [*claims, {"name": "s", "resourceClaimName": "x"}],
        }

    assert asked(pod("two", "either"), around(MAPPED)) == {"cpu": 1000, "example.com/gpu": 6}
    assert asked(pod("two", "nic"), around("")) == {"cpu": 1000}  # nothing says as what they count
    for name, why in (("all", "all devices of a node can't be counted"), ("nic", "nic.example.com is not mapped"),
                      ("gone", "there is no ResourceClaimTemplate gone")):  # fmt: skip
        assert why in shape(pod(name), around(MAPPED)).problem
